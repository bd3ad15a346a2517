"""A name is remembered until anything that decides what it means has changed."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from jupyter_llmops.errors import UnknownNameError
from jupyter_llmops.inference.remembered import RememberedModels
from jupyter_llmops.records.model import Model
from jupyter_llmops.settings import LLMOps
from jupyter_llmops.workspace import Workspace
from model_folders import write_model_folder


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    made = tmp_path / "model"
    made.mkdir()
    (made / "config.json").write_text('{"model_type": "llama"}')
    (made / "model.safetensors").write_bytes(b"weights")
    return made


@pytest.fixture
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Workspace:
    monkeypatch.setenv("LLMOPS_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    settings = LLMOps()
    settings.agent = "off"
    return Workspace(settings, tmp_path / "catalog")


def remembered(folder: Path) -> RememberedModels:
    models = RememberedModels()
    models.put("m", Model("m", "llm", f"folder:{folder}", digest="sha256:1"), (1, 2))
    return models


def test_the_same_marks_give_the_same_model(folder: Path):
    models = remembered(folder)
    assert models.get("m", (1, 2)) is not None
    assert models.get("other", (1, 2)) is None


def test_another_commit_in_a_catalog_forgets(folder: Path):
    assert remembered(folder).get("m", (1, 3)) is None


@pytest.mark.parametrize("change", ["rewrite", "add", "remove", "replace"])
def test_another_file_forgets(folder: Path, change: str):
    models = remembered(folder)
    weights = folder / "model.safetensors"
    if change == "rewrite":
        weights.write_bytes(b"others!")
        os.utime(weights, ns=(1, 1))
    elif change == "add":
        (folder / "model.sig").write_text("signed")
        os.utime(folder, ns=(1, 1))
    elif change == "remove":
        weights.unlink()
    else:
        new = folder.parent / "new"
        new.write_bytes(b"weights")
        new.replace(weights)
    assert models.get("m", (1, 2)) is None


def test_a_model_of_the_hub_or_without_a_digest_is_not_remembered(folder: Path):
    models = RememberedModels()
    models.put("hub", Model("hub", "llm", "hub:a/b", digest="sha256:1"), ())
    models.put("new", Model("new", "llm", f"folder:{folder}"), ())
    assert models.get("hub", ()) is models.get("new", ()) is None


def test_a_workspace_sees_an_alias_move(workspace: Workspace, tmp_path: Path):
    for name in ("one", "two"):
        workspace.add_model(name, str(write_model_folder(tmp_path / name)))
    workspace.point_alias("prod", "one")
    assert workspace.model("prod").name == "one"
    assert workspace.model("prod") is workspace.model("prod")
    workspace.point_alias("prod", "two")
    assert workspace.model("prod").name == "two"
    with pytest.raises(UnknownNameError):
        workspace.model("nobody")
