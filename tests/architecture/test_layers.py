"""The house keeps its order: arrows down only, rooms with names, files of a size that one can read."""

from __future__ import annotations

import ast
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

MOST_LINES = 400
FORBIDDEN_NAMES = {"common", "helper", "helpers", "manager", "managers", "misc", "util", "utils"}


def sources(repository: Path) -> list[Path]:
    found = [
        path
        for path in sorted((repository / "src" / "jupyter_llmops").rglob("*.py"))
        if "_labextension" not in path.parts
    ]
    assert len(found) > 50
    return found


def test_arrows_point_down_only(repository: Path) -> None:
    command = [sys.executable, "-c", "from importlinter.cli import lint_imports_command as main; main()"]
    done = subprocess.run(
        [*command, "--no-logo", "--no-cache"],
        cwd=repository,
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 kept, 0 broken" in done.stdout


def test_every_room_has_its_place(repository: Path) -> None:
    """No optional layer is left in the contract: a room that goes away takes its line with it."""
    project = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))
    (contract,) = project["tool"]["importlinter"]["contracts"]
    named = {room.strip() for layer in contract["layers"] for room in layer.split("|")}
    package = repository / "src" / "jupyter_llmops"
    rooms = {path.parent.name for path in package.glob("*/__init__.py")}
    modules = {path.stem for path in package.glob("*.py")} - {"__init__", "_version"}
    assert named == rooms | modules
    assert contract["exhaustive"] is True


def test_rooms_take_nothing_of_the_facade_but_version_and_place(repository: Path) -> None:
    """Through the facade a room could reach every other one; import-linter leaves it out for its hooks."""
    facade = repository / "src" / "jupyter_llmops" / "__init__.py"
    wrong = [
        str(path.relative_to(repository))
        for path in sources(repository)
        if path != facade and set(from_the_facade(path)) - {"__version__", "__path__"}
    ]
    assert wrong == []


def from_the_facade(path: Path) -> Iterator[str]:
    """Yield the names that a file takes of the package itself."""
    for node in ast.walk(ast.parse(path.read_text("utf-8"))):
        match node:
            case ast.ImportFrom(module="jupyter_llmops"):
                yield from (name.name for name in node.names)
            case ast.Attribute(value=ast.Name(id="jupyter_llmops")):
                yield node.attr


def test_names_say_what_a_file_is_about(repository: Path) -> None:
    wrong = [
        path
        for path in sources(repository)
        if FORBIDDEN_NAMES & set(path.relative_to(repository / "src").with_suffix("").parts)
        or FORBIDDEN_NAMES & set(path.stem.split("_"))
    ]
    assert wrong == []


def test_files_stay_readable(repository: Path) -> None:
    long = {
        str(path.relative_to(repository)): count
        for path in sources(repository)
        if (count := len(path.read_text("utf-8").splitlines())) > MOST_LINES
    }
    assert long == {}


def test_every_folder_of_code_is_a_package(repository: Path) -> None:
    folders = {path.parent for path in sources(repository)}
    assert [folder for folder in folders if not (folder / "__init__.py").exists()] == []


def test_the_server_room_imports_early_only_what_the_server_has(repository: Path) -> None:
    """Ruff's TID253 is off there, as handlers subclass Jupyter Server's; nothing else may profit."""
    project = tomllib.loads((repository / "pyproject.toml").read_text("utf-8"))
    banned = set(project["tool"]["ruff"]["lint"]["flake8-tidy-imports"]["banned-module-level-imports"])
    banned -= {"jupyter_server", "jupyter_events", "tornado"}
    files = sorted((repository / "src" / "jupyter_llmops" / "server").rglob("*.py"))
    assert files
    early = {(path.name, name) for path in files for name in early_imports(path) if name in banned}
    assert early == set()


def early_imports(path: Path) -> Iterator[str]:
    """Yield the top packages that a file imports as soon as it is imported."""
    waiting: list[ast.AST] = list(ast.parse(path.read_text("utf-8")).body)
    while waiting:
        node = waiting.pop()
        match node:
            case ast.Import():
                yield from (name.name.split(".")[0] for name in node.names)
            case ast.ImportFrom(module=str() as module):
                yield module.split(".")[0]
            case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.Lambda():
                continue
            case ast.If(test=ast.Name(id="TYPE_CHECKING")):
                waiting += node.orelse
            case _:
                waiting += ast.iter_child_nodes(node)


@pytest.mark.parametrize(
    ("source", "expected"),
    [
        ("import torch.nn", {"torch"}),
        ("if True:\n    from lancedb import connect", {"lancedb"}),
        ("def f():\n    import torch", set()),
        ("class A:\n    import numpy", {"numpy"}),
        ("from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    import torch", {"typing"}),
    ],
)
def test_early_imports_are_seen(tmp_path: Path, source: str, expected: set[str]) -> None:
    (tmp_path / "module.py").write_text(source)
    assert set(early_imports(tmp_path / "module.py")) == expected
