"""Opening a catalog does not build the client of a remote service; whoever wants that client gets it whole."""

from __future__ import annotations

import importlib
import subprocess
import sys
import threading
from pathlib import Path
from types import ModuleType, SimpleNamespace

import pytest

from jupyter_llmops.catalog.lance_import import CLIENT, _put_off

PROGRAM = f"""
import sys
from pathlib import Path
from jupyter_llmops.catalog.connection import Connection
from jupyter_llmops.catalog.schemas import MODELS
from jupyter_llmops.location import Location

connection = Connection(Location.parse(Path(sys.argv[1])))
connection.create(MODELS)
assert connection.count(MODELS) == 0
print([name for name in sys.modules if name.startswith("{CLIENT}.api")])
import {CLIENT} as package
assert not hasattr(package, "__nothing__")
print([name for name in sys.modules if name.startswith("{CLIENT}.api")])
from {CLIENT}.api_client import ApiClient
from {CLIENT} import ApiClient as same
print(ApiClient is same, package.__version__ == "" or package.TableApi.__module__)
try:
    package.Nothing
except AttributeError as error:
    print(error)
"""


def test_the_client_is_built_when_it_is_wanted(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path)],
        capture_output=True,
        text=True,
        check=False,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.splitlines() == [
        "[]",
        "[]",
        f"True {CLIENT}.api.table_api",
        f"module '{CLIENT}' has no attribute 'Nothing'",
    ]


PACKAGE = "put_off_package"
MODULES = {
    "__init__": f"""'About it.'
__version__ = "7"
from {PACKAGE}.slow import Slow
from {PACKAGE}.broken import Broken
from {PACKAGE}.caller import Caller as Client
from {PACKAGE} import shelf
""",
    "slow": f"import {PACKAGE}_gate as gate; gate.begun.set(); assert gate.go.wait(60); Slow = 1",
    "broken": "import not_there_at_all",
    "caller": f"from {PACKAGE} import wire; Caller = [wire.HOST]",
    "wire": "HOST = 'h'",
}


def put_off(folder: Path, monkeypatch: pytest.MonkeyPatch, code: str = "") -> ModuleType | None:
    (folder / PACKAGE).mkdir()
    for name, text in {**MODULES, "__init__": code or MODULES["__init__"]}.items():
        (folder / PACKAGE / f"{name}.py").write_text(text, encoding="utf-8")
    monkeypatch.syspath_prepend(folder)
    for name in [name for name in sys.modules if name.split(".")[0] == PACKAGE]:
        monkeypatch.delitem(sys.modules, name)
    _put_off(PACKAGE)
    return sys.modules.get(PACKAGE)


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    code = MODULES["__init__"].replace(f"from {PACKAGE} import shelf\n", "")
    package = put_off(tmp_path, monkeypatch, code)
    assert package is not None
    return package


def test_a_module_of_it_can_be_imported_first(package: ModuleType) -> None:
    caller = importlib.import_module(f"{PACKAGE}.caller")  # which imports another one from the package
    assert package.Client is caller.Caller
    assert package.__version__ == "7"
    assert {"Slow", "Broken", "Client"} <= set(dir(package))


def test_what_fails_says_the_same_again(package: ModuleType) -> None:
    for _ in range(2):
        with pytest.raises(ModuleNotFoundError, match="not_there_at_all"):
            _ = package.Broken
    assert package.Client == ["h"]


def test_names_are_there_while_another_thread_imports(
    package: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    gate = SimpleNamespace(begun=threading.Event(), go=threading.Event())
    monkeypatch.setitem(sys.modules, f"{PACKAGE}_gate", gate)
    found: list[int] = []
    threads = [threading.Thread(target=lambda: found.append(package.Slow)) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        assert gate.begun.wait(60)
        assert package.Client == ["h"]
    finally:
        gate.go.set()
        for thread in threads:
            thread.join()
    assert found == [1, 1]


@pytest.mark.parametrize(
    "code",
    [MODULES["__init__"], f"from {PACKAGE}.wire import *", "__version__ = str(7)", "print", "VALUE = 1"],
)
def test_a_package_that_does_more_is_imported_as_ever(
    code: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert put_off(tmp_path, monkeypatch, code) is None
