"""Two people on one catalog, from top to bottom: real models, two real kernels."""

from __future__ import annotations

from pathlib import Path

import pytest

from notebook_demo import Demo, run_demo
from real_kernels import make_desk


@pytest.fixture(scope="module")
def demo(repository: Path, tmp_path_factory: pytest.TempPathFactory, models_folder: Path) -> Demo:
    """Run it once."""
    root = tmp_path_factory.mktemp("two-people")
    return run_demo(repository, "02_catalog", root / "into", make_desk(root, models_folder).env)


def test_a_prompt_goes_from_one_to_the_other_and_back(demo: Demo) -> None:
    found = demo.shown("%%ben\n%prompts find")
    assert "answer-complaint" in found
    assert "meaning 0." in found
    assert "answer-complaint@2, a new version" in demo.shown("%%ben\n%%prompt -s")
    assert "+ {{ complaint }}" in demo.shown("%prompts diff")
    assert "from the cache" in demo.shown("%prompt answer-complaint@prod")


def test_a_model_is_pushed_found_by_meaning_and_pulled(demo: Demo) -> None:
    assert "storage:sha256:" in demo.shown("%models push")
    assert "mood" in demo.shown("%%ben\n%models find")
    assert "ben-laptop: folder:" in demo.shown("%%ben\n%models pull")


def test_an_answer_has_its_sources_and_is_reproduced(demo: Demo) -> None:
    assert "Helmets are never taken back" in demo.shown("%%ben\n%search handbook")
    answer = demo.shown("%%prompt --context handbook")
    assert "100 euros" in answer
    assert "[1] handbook.md · characters" in answer
    assert "identical" in demo.shown("%reproduce")
    assert "Traceback" not in demo.printed
