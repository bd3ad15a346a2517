"""The trail, from top to bottom: a witness, a proof checked by others, tampering found, a run forgotten."""

from __future__ import annotations

from pathlib import Path

import pytest

from notebook_demo import Demo, run_demo
from real_kernels import make_desk


@pytest.fixture(scope="module")
def demo(repository: Path, tmp_path_factory: pytest.TempPathFactory, models_folder: Path) -> Demo:
    """Run it once."""
    root = tmp_path_factory.mktemp("trail")
    desk = make_desk(root, models_folder)
    # The agents are who publish heads and countersign them.
    (root / "config" / "jupyter_llmops_config.py").unlink()
    return run_demo(repository, "04_trail", root / "into", desk.env)


def test_it_is_witnessed_and_proven_to_others(demo: Demo) -> None:
    assert "witnessed by ben@ben-laptop" in demo.shown("import time")
    assert "witnessed by: jupyter-llmops/ben@ben-laptop" in demo.shown("keys = ")
    assert "It proves nothing" in demo.shown("from pathlib")


def test_tampering_is_found(demo: Demo) -> None:
    assert "remembers another digest" in demo.shown("import shutil")
    forged = demo.shown("import json")
    assert "its records were rewritten" in forged
    assert "ben@ben-laptop has witnessed" in forged or "a published head" in forged


def test_a_forgotten_run_is_gone_and_the_log_verifies(demo: Demo) -> None:
    assert "No run was found" in demo.shown("%runs find Quillfeather")
    last = demo.cells["%audit verify"]  # of the two the later one
    assert "verified" in last
    assert "forgotten by ana" in last
    assert "prompt" in demo.shown("pd.read_csv")
