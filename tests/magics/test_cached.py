"""@ws.cached and %%cache: what is computed once, what is computed again, and what is never given."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from jupyter_llmops.cache.exact import CacheWarning
from jupyter_llmops.errors import UsageError
from jupyter_llmops.workspace import Workspace, facade, open_workspace
from magic_shell import Notebook


def cell(notebook: Notebook, source: str, line: str = "") -> bool:
    """Run a cell under %%cache and return whether it ran; cells append to ``ran``."""
    ran = notebook.shell.user_ns.setdefault("_ran", [])
    before = len(ran)
    notebook.shell.user_ns["note"] = ran.append
    notebook.run(f"%%cache {line}\n{source}")
    return len(ran) > before


@pytest.fixture
def space(notebook: Notebook, tmp_path: Path) -> dict[str, Any]:
    """Return the notebook's variables; ``count()`` in a cell writes a mark that says it ran."""
    notebook.run(f"from pathlib import Path\nMARKS = Path({str(tmp_path)!r}) / 'marks'\nMARKS.mkdir()")
    return notebook.shell.user_ns


def ran(notebook: Notebook, source: str) -> bool:
    """Run a cell under %%cache and return whether its lines were executed."""
    marks = notebook.shell.user_ns["MARKS"]
    before = len(list(marks.iterdir()))
    notebook.run(f"%%cache\n(MARKS / str(len(list(MARKS.iterdir())))).touch()\n{source}")
    return len(list(marks.iterdir())) > before


def test_a_cell_runs_once_and_gives_what_it_assigned(notebook: Notebook, space: dict[str, Any], capsys):
    source = (
        "import numpy as np, pandas as pd\n"
        "total = 0\n"
        "for i in range(4):\n    total += i\n"
        "frame = pd.DataFrame({'n': range(3)}, index=list('abc'))\n"
        "values = np.arange(3.0)\n"
        "def twice(x): return helper(x)\n"
        "def helper(x): return 2 * x\n"
    )
    assert ran(notebook, source)
    for name in ("total", "frame", "values", "np", "twice", "helper", "i"):
        space.pop(name)
    capsys.readouterr()
    assert not ran(notebook, source)
    assert "Reused frame, i, total, values: " in capsys.readouterr().out
    assert (space["total"], space["i"], space["twice"](4)) == (6, 3, 8)
    assert isinstance(space["frame"], pd.DataFrame)
    np.testing.assert_array_equal(space["values"], np.arange(3.0))
    assert not ran(notebook, source.replace("total = 0", "total = 0  # comment"))
    assert ran(notebook, source.replace("total = 0", "total = 1"))


def test_what_it_reads_decides(notebook: Notebook, space: dict[str, Any]):
    space.update(n=1, table=pd.DataFrame({"a": [1, 2]}))
    source = "out = n + len(table)"
    assert ran(notebook, source)
    assert not ran(notebook, source)
    for name, value in (("n", True), ("n", 1.0), ("table", pd.DataFrame({"a": [1.0, 2.0]}))):
        space[name] = value
        assert ran(notebook, source), (name, value)
    space.update(n=1, table=pd.DataFrame({"a": [1, 2]}))
    assert not ran(notebook, source)
    del space["table"]
    assert isinstance(notebook.fail(f"%%cache\n{source}"), NameError)


def test_a_function_of_the_notebook_that_changes_is_another(notebook: Notebook, space: dict[str, Any]):
    notebook.run(
        "rate = 2\ndef inner(x):\n    return [rate * y for y in [x]]\ndef outer(x):\n    return inner(x)"
    )
    assert ran(notebook, "out = outer(3)")
    notebook.run("def inner(x):\n    # a comment\n    return [rate * y for y in [x]]")
    assert not ran(notebook, "out = outer(3)")
    notebook.run("rate = 5")
    assert ran(notebook, "out = outer(3)")
    assert space["out"] == [15]
    notebook.run("def inner(x):\n    return [rate + y for y in [x]]")
    assert ran(notebook, "out = outer(3)")
    assert space["out"] == [8]


def test_what_it_changes_in_place_is_changed_again(notebook: Notebook, space: dict[str, Any]):
    space["items"] = [1]
    assert ran(notebook, "items.append(2)\nn = len(items)")
    assert space["items"] == [1, 2]
    space["items"] = [1]
    assert not ran(notebook, "items.append(2)\nn = len(items)")
    assert (space["items"], space["n"]) == ([1, 2], 2)
    assert ran(notebook, "items.append(2)\nn = len(items)"), "another list now"


def test_what_a_branch_did_not_assign_stays(notebook: Notebook, space: dict[str, Any]):
    space.update(flag=False, maybe="mine")
    source = "if flag:\n    maybe = 1\nsure = 2"
    assert ran(notebook, source)
    space["maybe"] = "other"
    assert not ran(notebook, source)
    assert space["maybe"] == "other"


@pytest.mark.parametrize(
    ("source", "reason"),
    [
        ("print('x')", "assigns nothing"),
        ("x = 1\ndel x", "deletes x"),
        ("x = {1, 2}", "holds a set"),
        ("x = object()", "holds an object"),
        ("x = [shell]", "can't be told apart"),
        ("def f():\n    global g\n    g = 1\ny = f()", "lets a function assign g"),
        ("from math import *\ny = pi", "imports every name"),
    ],
)
def test_what_can_not_be_kept_runs_and_says_so(notebook: Notebook, space, capsys, source: str, reason: str):
    space["shell"] = notebook.shell
    for _ in range(2):
        with warnings.catch_warnings(record=True) as seen:
            warnings.simplefilter("always")
            capsys.readouterr()
            assert ran(notebook, source)
            said = capsys.readouterr().out + "".join(str(warning.message) for warning in seen)
        if _ == 0:
            assert reason in said


def test_errors_are_the_cells_own_and_nothing_is_kept(notebook: Notebook, space: dict[str, Any]):
    space["before"] = 1
    for _ in range(2):
        assert isinstance(notebook.fail("%%cache\nbefore = 2\nafter = 1 / 0"), ZeroDivisionError)
    assert notebook.workspace.cache.stats().entries == 0
    assert isinstance(notebook.fail("%%cache\nx = (1"), UsageError)
    assert isinstance(notebook.fail("%%cache\nx = await y"), UsageError)


def test_the_last_line_shows_its_value(notebook: Notebook, space: dict[str, Any]):
    assert notebook.run("%%cache\nx = 3\nx + 1") == 4
    assert notebook.run("%%cache\ny = 3\ny + 1;") is None


def test_names_tell_cells_apart_and_off_is_off(notebook: Notebook, space: dict[str, Any]):
    notebook.run("%%cache one\nx = 1")
    notebook.run("%%cache two\nx = 1")
    assert notebook.workspace.cache.stats().entries == 2
    notebook.run("%cache off")
    assert ran(notebook, "z = 1")
    assert ran(notebook, "z = 1")
    assert notebook.workspace.cache.stats().entries == 2


def colleague(workspace: Workspace) -> Workspace:
    """Return another process's workspace on the same catalog."""
    facade._open.clear()
    return open_workspace(workspace.location, settings=workspace.settings)


def test_a_function_computes_each_value_once(notebook: Notebook):
    ws, calls = notebook.workspace, []

    def work(a: int, b: float = 2.0, *, verbose: bool = False) -> dict[str, Any]:
        """Do it."""
        calls.append(a)
        return {"sum": a + b, "array": np.full(3, a)}

    for made in (
        ws.cached(work, version="1", ignore=["verbose"]),
        colleague(ws).cached(version="1", ignore=["verbose"])(work),
    ):
        assert made.__name__ == "work"
        first = made(1)
        assert (first["sum"], first["array"].tolist()) == (3.0, [1, 1, 1])
        made(a=1, b=2.0, verbose=True)
        made(2)
        made(True)
        made(1, 2)
        first["array"][:] = 9
        assert made(1)["array"].tolist() == [1, 1, 1], "made anew for every call"
    assert calls == [1, 2, True, 1]
    stats = ws.cache.stats()
    assert (stats.hits, stats.misses, stats.entries) == (2, 4, 4)
    again = ws.cached(work, version="2", ignore=["verbose"])
    again(1)
    assert len(calls) == 5, "another version"


def test_without_a_version_the_code_and_what_it_reads_count(notebook: Notebook):
    notebook.shell.user_ns["ws"] = notebook.workspace
    define = (
        "calls = []\nk = {k}\ndef part(x): return x * k\n@ws.cached\ndef f(x):\n    return part(x) + {plus}"
    )
    notebook.run(define.format(k=2, plus=1))
    assert [notebook.run("f(3)"), notebook.run("f(3)")] == [7, 7]
    hits = notebook.workspace.cache.stats().hits
    assert hits == 1
    notebook.run(define.format(k=3, plus=1))
    assert notebook.run("f(3)") == 10
    notebook.run(define.format(k=3, plus=2))
    assert notebook.run("f(3)") == 11
    notebook.run(define.format(k=2, plus=1))
    assert notebook.run("f(3)") == 7
    assert notebook.workspace.cache.stats().hits == hits + 1


def test_decorators_below_count(notebook: Notebook):
    ws = notebook.workspace

    def scaled(by: int):
        def decorate(function):
            def wrapper(x):
                return by * function(x)

            return wrapper

        return decorate

    def plain(x):
        return x + 1

    assert ws.cached(scaled(3)(plain))(1) == 6
    assert ws.cached(scaled(4)(plain))(1) == 8
    assert ws.cached(lambda x: x + 1)(1) == 2
    assert ws.cached(lambda x: x + 2)(1) == 3


def test_what_can_not_be_told_apart_is_computed_each_time(notebook: Notebook):
    ws, calls = notebook.workspace, []

    def work(thing: object) -> int:
        calls.append(1)
        return len(calls)

    made = ws.cached(work, version="1")
    with pytest.warns(CacheWarning, match="argument thing holds an object") as seen:
        assert [made(object()) for _ in range(3)] == [1, 2, 3]
    assert len(seen) == 1
    with pytest.warns(CacheWarning, match="its value holds a set"):
        assert ws.cached(lambda x: {x}, version="1")(1) == {1}
    with pytest.raises(TypeError, match="missing"):
        made()
    with pytest.raises(ZeroDivisionError):
        ws.cached(lambda x: x / 0)(1)


def test_what_gives_no_value_is_refused(notebook: Notebook):
    async def later() -> None: ...

    def several():
        yield 1

    for function in (later, several, 3):
        with pytest.raises(UsageError):
            notebook.workspace.cached(function)
    with pytest.raises(UsageError, match="no argument y"):
        notebook.workspace.cached(lambda x: x, ignore=["y"])


def test_a_module_of_the_user_that_changes_is_another(notebook: Notebook, tmp_path: Path, monkeypatch):
    import importlib

    (tmp_path / "mine_for_cache.py").write_text("def f(x):\n    return x + 1\n")
    monkeypatch.syspath_prepend(tmp_path)
    module = importlib.import_module("mine_for_cache")
    ws = notebook.workspace

    def call(x: int) -> int:
        return module.f(x)

    assert [ws.cached(call)(1), ws.cached(call)(1)] == [2, 2]
    assert ws.cache.stats().hits == 1
    (tmp_path / "mine_for_cache.py").write_text("def f(x):\n    return x + 22\n")
    importlib.invalidate_caches()
    module = importlib.reload(module)
    assert ws.cached(call)(1) == 23


def test_damaged_values_are_computed_again(notebook: Notebook):
    ws = notebook.workspace
    made = ws.cached(lambda x: [x], version="1")
    made(1)
    (item,) = ws.cache.folder.rglob("*.item")
    item.write_bytes(item.read_bytes()[:-1])
    with pytest.warns(CacheWarning, match="does not fit its seal"):
        assert made(1) == [1]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert made(1) == [1]


TOKEN = "sk-proj-abcdefghijklmnopqrstuvwxyz0123456789ABCDEFGH"


@pytest.mark.parametrize(
    "value",
    [
        f"{TOKEN!r}",
        f"[({TOKEN!r}, 1)]",
        f"{{{TOKEN!r}: 1}}",
        f"{TOKEN!r}.encode()",
        f"np.array([['a', {TOKEN!r}]])",
        f"pd.DataFrame({{'n': [1], 'text': [{TOKEN!r}]}})",
        f"pd.DataFrame({{'n': [1]}}, index=[{TOKEN!r}])",
        f"pd.Series(['a', {TOKEN!r}], dtype='category')",
    ],
)
def test_a_value_that_holds_a_secret_is_not_kept(notebook: Notebook, space: dict[str, Any], value: str):
    notebook.run("import numpy as np, pandas as pd")
    with pytest.warns(CacheWarning, match="seems to hold a secret"):
        assert ran(notebook, f"found = {value}")
    assert ran(notebook, f"found = {value}")
    assert not list(notebook.workspace.cache_folder.rglob("*.item"))
    function = notebook.workspace.cached(lambda: {"api_key": "correct7horse9battery"}, version="1")
    with pytest.warns(CacheWarning, match="seems to hold a secret"):
        function()
    assert not list(notebook.workspace.cache_folder.rglob("*.item"))


def test_texts_that_are_no_secrets_are_kept(notebook: Notebook, space: dict[str, Any]):
    source = "import pandas as pd\nkey = 'title'\nframe = pd.DataFrame({'review': ['good book', 'the token is out']})"
    assert ran(notebook, source)
    assert not ran(notebook, source)


def test_a_version_does_not_stand_for_the_code_of_a_notebook_or_a_closure(notebook: Notebook):
    ws = notebook.workspace
    notebook.run("def load(n): return n + 1")
    notebook.run("first = load")
    notebook.run("def load(n): return n + 2")
    assert ws.cached(notebook.shell.user_ns["first"], version="1")(1) == 2
    assert ws.cached(notebook.shell.user_ns["load"], version="1")(1) == 3

    def times(factor: int):
        def scaled(x: int) -> int:
            return factor * x

        return ws.cached(scaled, version="1")

    assert (times(2)(5), times(3)(5)) == (10, 15)


def test_annotations_are_as_in_any_cell(notebook: Notebook) -> None:
    for _ in ("run", "given again"):
        notebook.run("%%cache\nkept = 1\ndef f(x: int): ...")
        assert notebook.shell.user_ns["f"].__annotations__ == {"x": int}
