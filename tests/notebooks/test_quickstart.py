"""The quickstart from top to bottom, as ``make demo`` runs it: real model, real kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from notebook_demo import Demo, run_demo
from real_kernels import make_desk


@pytest.fixture(scope="module")
def demo(repository: Path, tmp_path_factory: pytest.TempPathFactory, models_folder: Path) -> Demo:
    """Run it once."""
    root = tmp_path_factory.mktemp("demo")
    return run_demo(repository, "quickstart", root / "into", make_desk(root, models_folder).env)


def test_a_real_answer_and_a_hit(demo: Demo) -> None:
    assert "from the model" in demo.shown("%%prompt -n 60 -s explain")
    assert "from the cache" in demo.shown("%%prompt -n 60 --into answer")
    assert "Hit" in demo.shown("%cache why")
    assert "1 from the model" in demo.printed
    assert "1 from the cache" in demo.printed


def test_a_device_table(demo: Demo) -> None:
    assert "RAM" in demo.shown("%gpus") or "cpu" in demo.shown("%gpus").lower()
    assert "Traceback" not in demo.shown("%gpus")


def test_a_cascade_whose_stages_differ_on_50_rows_or_more(demo: Demo) -> None:
    counted = demo.shown("import pandas")
    rows = int(counted.split("learn from, ")[1].split()[0])
    assert rows >= 50
    report = demo.shown("texts, labels")
    accuracies = {
        name: next(line for line in report.splitlines() if line.startswith(name)).split("%")[0].split()[-1]
        for name in ("classifier", "smollm2-135m-instruct")
    }
    assert accuracies["classifier"] != accuracies["smollm2-135m-instruct"], report


def test_a_reproduced_run_and_a_verified_trail(demo: Demo) -> None:
    assert "identical" in demo.shown("%reproduce")
    assert "verified" in demo.shown("%audit verify")
    assert "identical" in demo.printed
    assert "Traceback" not in demo.printed
