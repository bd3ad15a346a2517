from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from jupyter_server.serverapp import ServerApp

from jupyter_llmops.agent.election import Election
from jupyter_llmops.server.extension import STATE, ServerState

Start = Any


def state_of(app: ServerApp) -> ServerState:
    found: ServerState = app.web_app.settings[STATE]
    return found


def test_the_environment_names_the_catalog(jp_configurable_serverapp: Start, catalog_folder: Path) -> None:
    assert state_of(jp_configurable_serverapp()).catalog.folder == catalog_folder


def test_the_configuration_names_the_catalog(
    jp_configurable_serverapp: Start,
    jp_server_config: dict[str, Any],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("LLMOPS_CATALOG")
    jp_server_config["LLMOps"]["catalog"] = str(tmp_path / "configured")
    state = state_of(jp_configurable_serverapp(config=jp_server_config))
    assert state.catalog.folder == tmp_path / "configured"
    # For the kernels that it will start.
    assert os.environ["LLMOPS_CATALOG"] == str(tmp_path / "configured")


def test_the_nearest_marked_folder_above_the_root_is_the_catalog(
    jp_configurable_serverapp: Start, jp_root_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("LLMOPS_CATALOG")
    marked = jp_root_dir.parent / ".llmops"
    marked.mkdir()
    assert state_of(jp_configurable_serverapp()).catalog.folder == marked.resolve()


def test_a_wrong_setting_is_said_in_the_status_and_stops_nothing(
    jp_configurable_serverapp: Start, jp_server_config: dict[str, Any]
) -> None:
    jp_server_config["LLMOps"]["price_per_hour"] = {"cpu": 0}
    state = state_of(jp_configurable_serverapp(config=jp_server_config))
    assert "price of 0" in state.settings_problem
    assert state.settings.currency == "USD"


def test_the_server_is_the_agent_unless_that_is_off(
    jp_configurable_serverapp: Start, jp_server_config: dict[str, Any], tmp_path: Path
) -> None:
    jp_server_config["LLMOps"]["agent"] = "off"
    state = state_of(jp_configurable_serverapp(config=jp_server_config))
    assert Election(state.audit_folder, state.catalog.folder).is_vacant()


async def test_the_server_lets_go_of_its_office_when_it_stops(jp_serverapp: ServerApp) -> None:
    import asyncio

    state = state_of(jp_serverapp)
    election = Election(state.audit_folder, state.catalog.folder)
    while election.is_vacant():  # noqa: ASYNC110 - a lock file has no event
        await asyncio.sleep(0.02)
    await jp_serverapp.cleanup_extensions()
    assert election.is_vacant()
