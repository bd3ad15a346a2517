"""The build hook asks for what it needs, and only when it needs it."""

from __future__ import annotations

import importlib.util
import os
import shutil
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest


@pytest.fixture(scope="module")
def hook(repository: Path) -> ModuleType:
    specification = importlib.util.spec_from_file_location("hatch_build", repository / "hatch_build.py")
    assert specification is not None
    assert specification.loader is not None
    module = importlib.util.module_from_spec(specification)
    specification.loader.exec_module(module)
    return module


def program(folder: Path, name: str, prints: str) -> None:
    folder.mkdir(exist_ok=True)
    (folder / name).write_text(f"#!/bin/sh\necho {prints}\n")
    (folder / name).chmod(0o755)


@pytest.mark.parametrize(
    ("version", "good"),
    [
        ("v18.20.0", False),
        ("v20.18.9", False),
        ("v20.19.0", True),
        ("v20.20.2", True),
        ("v21.7.0", False),
        ("v22.11.0", False),
        ("v22.12.0", True),
        ("v24.0.0", True),
        ("not a version", False),
    ],
)
def test_only_a_node_that_can_build_is_good(
    hook: ModuleType, tmp_path: Path, version: str, *, good: bool
) -> None:
    program(tmp_path / "bin", "node", version)
    program(tmp_path / "bin", "npm", "11.0.0")
    assert hook.has_good_node(str(tmp_path / "bin")) is good


def test_a_node_without_npm_is_not_good(hook: ModuleType, tmp_path: Path) -> None:
    program(tmp_path / "bin", "node", "v24.0.0")
    assert hook.has_good_node(str(tmp_path / "bin")) is False
    assert hook.has_good_node(str(tmp_path / "empty")) is False


@pytest.fixture
def checkout(tmp_path: Path, hook: ModuleType) -> tuple[Path, Any]:
    source = tmp_path / "labextension"
    (source / "src").mkdir(parents=True)
    (source / "package.json").write_text('{"version": "1.0.0"}\n')
    (source / "src" / "index.ts").write_text("export default [];\n")
    built = tmp_path / "src" / "jupyter_llmops" / "_labextension"
    built.mkdir(parents=True)
    (built / "package.json").write_text("{}\n")
    made = hook.LabExtensionHook(str(tmp_path), {}, None, None, str(tmp_path), "wheel")
    (built / hook.DIGEST).write_text(made._digest() + "\n")
    return tmp_path, made


def test_a_current_build_asks_for_nothing(
    checkout: tuple[Path, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, made = checkout
    monkeypatch.setenv("PATH", str(folder / "no-programs-here"))
    assert made.dependencies() == []
    made.initialize("standard", {})


@pytest.mark.parametrize("change", ["source", "new file", "package", "built by hand", "nothing built"])
def test_a_stale_build_asks_for_the_builder(
    checkout: tuple[Path, Any], hook: ModuleType, monkeypatch: pytest.MonkeyPatch, change: str
) -> None:
    folder, made = checkout
    match change:
        case "source":
            (folder / "labextension" / "src" / "index.ts").write_text("export default [1];\n")
        case "new file":
            (folder / "labextension" / "src" / "other.ts").write_text("")
        case "package":
            (folder / "labextension" / "package.json").write_text('{"version": "1.0.1"}\n')
        case "built by hand":
            (folder / "src" / "jupyter_llmops" / "_labextension" / "package.json").write_text(
                '{"_build": {}}\n'
            )
        case _:
            shutil.rmtree(folder / "src")
    program(folder / "bin", "node", "v20.20.0")
    program(folder / "bin", "npm", "11.0.0")
    monkeypatch.setenv("PATH", f"{folder / 'bin'}{os.pathsep}{os.defpath}")
    assert made.dependencies() == [hook.BUILDER]
    monkeypatch.setenv("PATH", str(folder / "no-programs-here"))
    assert made.dependencies() == [hook.BUILDER, hook.NODE]
