"""A shell of this process as a user sees it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from fast_engine import FastEngine
from jupyter_llmops.workspace import Workspace


@dataclass
class Notebook:
    """A shell that runs cells and keeps what they showed."""

    shell: InteractiveShell
    workspace: Workspace
    engine: FastEngine

    def run(self, source: str) -> Any:
        """Run a cell and return its value; an error of the cell is raised."""
        result = self.shell.run_cell(source, store_history=True)
        result.raise_error()
        return result.result

    def fail(self, source: str) -> Exception:
        """Run a cell that must fail and return its error."""
        result = self.shell.run_cell(source, store_history=True)
        error = result.error_in_exec or result.error_before_exec
        assert error is not None, "the cell did not fail"
        return error

    def shown(self, value: Any, mime: str = "text/plain") -> str:
        """Return how a value shows itself."""
        bundle, _ = self.shell.display_formatter.format(value)
        return str(bundle[mime])
