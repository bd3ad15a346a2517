from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from jupyter_server.serverapp import ServerApp

# Jupyter Server's own fixtures and hooks, for this folder only: pytest takes plugins for all tests or none,
# and one of these fixtures starts a server's event loop around every test.
from pytest_jupyter.jupyter_server import *  # noqa: F403

from jupyter_llmops.audit.journal import Journal
from jupyter_llmops.server.extension import STATE, ServerState


@pytest.fixture
def catalog_folder(tmp_path: Path) -> Path:
    return tmp_path / "catalog"


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, catalog_folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMOPS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("LLMOPS_CATALOG", str(catalog_folder))


@pytest.fixture
def jp_server_config() -> dict[str, Any]:
    return {
        "ServerApp": {"jpserver_extensions": {"jupyter_llmops": True}},
        "LLMOps": {"site": "lab", "price_per_hour": {"cpu": 0.5}, "currency": "EUR"},
    }


@pytest.fixture
def state(jp_serverapp: ServerApp) -> ServerState:
    found: ServerState = jp_serverapp.web_app.settings[STATE]
    return found


@pytest.fixture
def journal(state: ServerState) -> Journal:
    context = {"user": "ada", "host": "lab", "catalog": str(state.catalog.folder)}
    return Journal(state.audit_folder, context=context)
