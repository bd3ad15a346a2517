"""Two things that differ never share a fingerprint, however alike they look."""

from __future__ import annotations

import dataclasses
import importlib
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from jupyter_llmops.cache.fingerprint import NoFingerprintError, fingerprint
from jupyter_llmops.cache.values import decode_value, encode_value
from magic_shell import Notebook


def told(value: Any) -> object:
    """Return a fingerprint; what has none is told from everything, as nothing is reused then."""
    try:
        return fingerprint(value, "it")
    except NoFingerprintError:
        return object()


DAYS = pd.date_range("2020-01-01", periods=3)
SPLIT = pd.MultiIndex.from_tuples([("a", 1), ("b", 2)])


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (pd.Series([1, 2, 3], DAYS), pd.Series([1, 2, 3], pd.DatetimeIndex(list(DAYS)))),
        (pd.Series([Decimal("1.0"), Decimal("1.00")]), pd.Series([Decimal("1.00")] * 2)),
        (pd.Series([{"a": 1}, {"a": 1.5}]), pd.Series([{"a": 1.0}, {"a": 1.5}])),
        (
            pd.Series([np.array([1], "i4"), np.array([2], "i8")]),
            pd.Series([np.array([1], "i8"), np.array([2], "i8")]),
        ),
        (pd.DataFrame({"a": [1, 2]}), pd.DataFrame({"a": [1, 2]}, index=[0, 1])),
        (
            pd.Series([1, 2], pd.Index([Decimal("1.0"), Decimal("1.00")])),
            pd.Series([1, 2], pd.Index([Decimal("1.00")] * 2)),
        ),
        (pd.Series([1, 2], SPLIT).iloc[:1], pd.Series([1], pd.MultiIndex.from_tuples([("a", 1)]))),
        (np.zeros(1, np.dtype("f8", metadata={"unit": "m"})), np.zeros(1)),
    ],
    ids=["freq", "decimals", "dicts", "arrays", "range", "labels", "levels", "metadata"],
)
def test_tables_with_equal_values_are_told_apart(one: object, other: object) -> None:
    assert told(one) != told(other)


def test_the_frequency_of_days_comes_back() -> None:
    again, _ = decode_value(encode_value(pd.DataFrame({"a": [1, 2, 3]}, DAYS)))
    assert again.index.freq == DAYS.freq
    plain, _ = decode_value(encode_value(pd.DataFrame({"a": [1, 2]})))
    assert isinstance(plain.index, pd.RangeIndex)


@dataclasses.dataclass
class Point:
    """Has one field, and perhaps more."""

    x: int


@dataclasses.dataclass
class Items(list):  # type: ignore[type-arg]
    """A list beside its field."""

    x: int = 0


def test_dataclasses_count_with_all_that_they_hold() -> None:
    point, more = Point(1), Point(1)
    assert told(point) == told(more)
    more.y = 5  # type: ignore[attr-defined]
    assert told(point) != told(more)
    full = Items()
    full.append(3)
    assert told(Items()) != told(full)


def scaled(scale: int) -> Callable[[int], int]:
    """Return a function that reads its own attribute."""

    def times(x: int) -> int:
        return x * times.scale  # type: ignore[attr-defined,no-any-return]

    times.scale = scale  # type: ignore[attr-defined]
    return times


def chain(number: int) -> tuple[Callable[[int], int], Callable[[Any], None]]:
    """Return a function that goes on with another one, and how to say which."""
    following: Any = None

    def step(n: int) -> int:
        return number if n == 0 else following(n - 1)  # type: ignore[no-any-return]

    def follow(other: Any) -> None:
        nonlocal following
        following = other

    return step, follow


def test_functions_count_with_their_attributes_and_cycles() -> None:
    assert told(scaled(1)) == told(scaled(1)) != told(scaled(2))
    (one, after_one), (two, after_two) = chain(1), chain(2)
    after_one(two)
    after_two(one)
    first = told(one)
    after_two(two)
    assert told(one) != first


def test_a_class_counts_with_its_metaclass() -> None:
    def made(answer: int) -> type:
        kind = type("Kind", (type,), {"__call__": lambda _: answer, "__module__": __name__})
        return kind("Made", (), {"__module__": __name__})

    assert told(made(1)) != told(made(2))


def dumps(value: object) -> str:
    """Use another module's function."""
    return json.dumps(value)


def blind() -> object:
    """Read what nobody can see."""
    return eval("DAYS")


def test_what_was_patched_counts_and_what_can_not_be_seen_has_no_fingerprint(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    before = told(dumps)
    assert told(dumps) == before
    monkeypatch.setattr(json, "dumps", lambda _: "nothing")
    assert told(dumps) != before
    with pytest.raises(NoFingerprintError, match=r"blind calls eval\(\)"):
        fingerprint(blind, "blind")


def test_patterns_have_fingerprints() -> None:
    assert told(re.compile("a")) == told(re.compile("a")) != told(re.compile("a", re.IGNORECASE))


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A module of the user's, and two functions that use it."""
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(sys, "dont_write_bytecode", True)
    path = tmp_path / "our_module.py"
    path.write_text("SCALE = 1\ndef run(x): return x * SCALE\n")
    yield path
    sys.modules.pop("our_module", None)


def inside() -> object:
    """Import what it needs itself."""
    import our_module  # type: ignore[import-not-found]

    return our_module.run(3)


def test_a_module_counts_as_it_is_in_memory_not_as_its_file_says(module: Path) -> None:
    first = told(inside)
    assert told(inside) == first
    ours = importlib.import_module("our_module")
    ours.SCALE = 5
    assert told(inside) != first
    ours.SCALE = 1
    module.write_text("SCALE = 1\ndef run(x): return x * SCALE + 100\n")
    os.utime(module, (1, 1))
    stale = told(inside)  # the file is new, the code that runs is not
    importlib.invalidate_caches()
    importlib.reload(ours)
    assert len({first, stale, told(inside)}) == 3


def test_a_cell_counts_what_it_imports(notebook: Notebook, module: Path) -> None:
    cell = "%%cache\nimport our_module\ny = our_module.run(3)"
    notebook.run(cell)
    module.write_text("SCALE = 1\ndef run(x): return x * SCALE + 100\n")
    os.utime(module, (1, 1))
    del sys.modules["our_module"]
    importlib.invalidate_caches()
    notebook.run(cell)
    assert notebook.shell.user_ns["y"] == 103


def test_fingerprints_are_the_same_in_every_process() -> None:
    code = (
        "import json, re\n"
        "from jupyter_llmops.cache.fingerprint import fingerprint\n"
        "P = re.compile('x')\n"
        "def f(a):\n    import decimal\n    return json.dumps(decimal.Decimal(a)), P\n"
        "print(fingerprint(f, 'f'))"
    )
    found = {
        subprocess.run(
            [sys.executable, "-c", code], capture_output=True, text=True, check=True,
            env={**os.environ, "PYTHONHASHSEED": seed},
        ).stdout
        for seed in ("1", "2")
    }  # fmt: skip
    assert len(found) == 1
