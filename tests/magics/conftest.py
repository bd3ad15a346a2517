"""A shell of our own per test, on a catalog of its own, with an engine that answers at once."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from fast_engine import FastEngine
from jupyter_llmops.workspace import Workspace, facade
from magic_shell import Notebook


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
