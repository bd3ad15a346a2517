"""What inference costs, from top to bottom: the real model, 200 rows, twice."""

from __future__ import annotations

from pathlib import Path

import pytest

from notebook_demo import Demo, run_demo
from real_kernels import make_desk


@pytest.fixture(scope="module")
def demo(repository: Path, tmp_path_factory: pytest.TempPathFactory, models_folder: Path) -> Demo:
    """Run it once."""
    root = tmp_path_factory.mktemp("cost")
    return run_demo(repository, "03_cost", root / "into", make_desk(root, models_folder).env)


def test_the_second_pass_computes_nothing(demo: Demo) -> None:
    assert "200 computed" in demo.shown("%%prompt --map messages --column verdict")
    again = demo.shown("%%prompt --map messages --column again")
    assert "200 from the cache" in again
    assert "cost 0 USD" in again
    assert "20 computed" in demo.shown("%%prompt --map more")
    assert "computed this answer" in demo.shown("second = _")


def test_money_is_said(demo: Demo) -> None:
    assert "saved by reuse" in demo.shown("%budget")
    assert "second pass" in demo.shown("from jupyter_llmops.display.savings")


def test_data_and_functions(demo: Demo) -> None:
    assert "'urgent':" in demo.shown("_.data")
    assert "computing" in demo.shown("import jupyter_llmops")
    assert "computing" not in demo.shown("words(messages.text)")
    assert "auto" in demo.shown("%%prompt --dry-run")
