"""A shell of our own per test, on a catalog of its own, with an engine that answers at once."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from fast_engine import FastEngine
from jupyter_llmops.workspace import Workspace, facade


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


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Point every folder of Jupyter, IPython and this package at a temporary one."""
    for name in (
        "JUPYTER_CONFIG_DIR",
        "JUPYTER_DATA_DIR",
        "JUPYTER_RUNTIME_DIR",
        "IPYTHONDIR",
        "LLMOPS_HOME",
    ):
        monkeypatch.setenv(name, str(tmp_path / name.lower()))
    monkeypatch.setenv("LLMOPS_CATALOG", str(tmp_path / "catalog"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    monkeypatch.delenv("JPY_PARENT_PID", raising=False)
    return tmp_path


@pytest.fixture
def notebook(home: Path) -> Iterator[Notebook]:
    """Load the extension into a fresh shell."""
    InteractiveShell.clear_instance()
    config = Config()
    config.HistoryManager.enabled = False
    config.LLMOps.agent = "off"
    shell = InteractiveShell.instance(config=config)
    shell.run_cell("%load_ext jupyter_llmops", store_history=True).raise_error()
    workspace: Workspace = shell._jupyter_llmops
    engine = FastEngine()
    workspace.__dict__["engine"] = engine
    yield Notebook(shell, workspace, engine)
    shell.run_line_magic("unload_ext", "jupyter_llmops")
    facade._open.clear()
    InteractiveShell.clear_instance()
