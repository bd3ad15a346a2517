"""Runs an example notebook as ``make demo`` does, and keeps what its cells showed."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

import nbformat


@dataclass
class Demo:
    """What came of a run of a notebook."""

    printed: str
    cells: dict[str, str]

    def shown(self, beginning: str) -> str:
        """Return what the first cell that begins so showed."""
        return next(text for source, text in self.cells.items() if source.startswith(beginning))


def run_demo(repository: Path, name: str, into: Path, env: dict[str, str]) -> Demo:
    """Run the notebook of that name in a real kernel; it must come to its end."""
    done = subprocess.run(
        [
            sys.executable,
            "example_notebooks/run.py",
            f"example_notebooks/{name}.ipynb",
            "--into",
            str(into),
        ],
        cwd=repository,
        env=env,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    notebook = nbformat.read(into / f"{name}.ipynb", as_version=4)
    cells = {
        cell.source: "\n".join(
            output.get("text", "") or "".join(output.get("data", {}).get("text/plain", ""))
            for output in cell.outputs
        )
        for cell in notebook.cells
        if cell.cell_type == "code"
    }
    assert (into / f"{name}.html").is_file()
    return Demo(done.stdout, cells)
