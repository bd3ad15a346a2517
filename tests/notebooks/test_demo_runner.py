"""`make demo`'s runner says what really happened, and fails when something did not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import nbformat
from nbformat.v4 import new_code_cell, new_markdown_cell, new_notebook


def run(repository: Path, folder: Path, *sources: str) -> tuple[int, str]:
    notebook = new_notebook(cells=[new_markdown_cell("# Title"), *map(new_code_cell, sources)])
    path = folder / "small.ipynb"
    nbformat.write(notebook, str(path))
    environment = {
        **os.environ,
        "LLMOPS_HOME": str(folder / "home"),
        "LLMOPS_CATALOG": str(folder / "catalog"),
        "IPYTHONDIR": str(folder / "ipython"),
    }
    done = subprocess.run(
        [sys.executable, "example_notebooks/run.py", str(path), "--into", str(folder / "out")],
        cwd=repository,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=200,
    )
    return done.returncode, done.stdout + done.stderr


def line(shown: str, name: str) -> str:
    return next(line for line in shown.splitlines() if line.strip().startswith(name))


def test_a_run_is_counted_from_the_trail_and_needs_it_whole(repository: Path, tmp_path: Path) -> None:
    status, shown = run(repository, tmp_path, "%load_ext jupyter_llmops", "6 * 7", "1 / 0 if False else 1")
    assert status == 0, shown
    assert "small.ipynb ran to the end" in shown
    assert "100%" in shown
    assert "3 in " in line(shown, "cells run")
    assert "3 cell" in line(shown, "runs stamped")
    assert "0 from the model, 0 from the cache" in line(shown, "answers")
    assert "verified" in line(shown, "trail")
    assert float(line(shown, "peak memory").split()[2]) > 0.05
    page = (tmp_path / "out" / "small.html").read_text("utf-8")
    assert "42" in page

    # A changed byte in that trail fails the next run.
    (journal,) = (tmp_path / "home" / "audit" / "journal").glob("*.jsonl")
    journal.write_bytes(journal.read_bytes().replace(b'"ok"', b'"no"', 1))
    status, shown = run(repository, tmp_path, "%load_ext jupyter_llmops", "6 * 7")
    assert status == 1, shown
    assert "NOT VERIFIED" in line(shown, "trail")


def test_a_failing_cell_is_shown_once_and_fails_the_run(repository: Path, tmp_path: Path) -> None:
    status, shown = run(repository, tmp_path, "%load_ext jupyter_llmops", "missing + 1", "print('never')")
    assert status == 1
    assert "small.ipynb stopped at an error" in shown
    assert "Code cell 2 failed:" in shown
    assert shown.count("NameError: name 'missing' is not defined") == 1
    assert "Traceback (most recent call last):\n  File" not in shown
    executed = nbformat.read(str(tmp_path / "out" / "small.ipynb"), as_version=4)
    assert executed.cells[-1].outputs == []


def test_a_missing_notebook_is_one_line(repository: Path, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "example_notebooks/run.py", str(tmp_path / "none.ipynb"), "--into", str(tmp_path)],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode == 2
    assert "there is no notebook" in done.stderr
