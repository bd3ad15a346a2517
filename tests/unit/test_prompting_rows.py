"""Whatever holds many rows, as variables of a template."""

from __future__ import annotations

import os
import signal
from collections import namedtuple
from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from jupyter_llmops.errors import TemplateError, UsageError
from jupyter_llmops.prompting.interrupts import postponed_interrupt
from jupyter_llmops.prompting.map_progress import MapProgress
from jupyter_llmops.prompting.map_tally import MapTally
from jupyter_llmops.prompting.rendering import render
from jupyter_llmops.prompting.rows import is_missing, read_rows
from jupyter_llmops.records.completion import Completion
from jupyter_llmops.records.cost import Cost

Point = namedtuple("Point", "x y")  # noqa: PYI024 - what users have


@pytest.mark.parametrize(
    "rows",
    [
        pd.DataFrame({"x": [1, 2], "y": ["a", "b"]}),
        [{"x": 1, "y": "a"}, {"x": 2, "y": "b"}],
        [Point(1, "a"), Point(2, "b")],
        [SimpleNamespace(x=1, y="a"), SimpleNamespace(x=2, y="b")],
        iter([{"x": 1, "y": "a"}, {"x": 2, "y": "b"}]),
    ],
)
def test_rows_of_every_kind(rows: Any) -> None:
    table = read_rows(rows)
    assert (len(table), table.names) == (2, ("x", "y"))
    variables = table.variables(1, {"y": "hidden", "z": "shared"})
    assert (variables["x"], variables["y"], variables["z"]) == (2, "b", "shared")
    assert "nothing" not in variables
    assert render("{{ x }}{{ y }}{{ z }}", variables).text == "2bshared"


def test_the_whole_row() -> None:
    frame = pd.DataFrame({"two words": ["a"], 3: ["b"]})
    assert render("{{ row['two words'] }}{{ row[3] }}", read_rows(frame).variables(0, {})).text == "ab"
    assert render("{{ row }}", read_rows(["a"]).variables(0, {"row": "hidden"})).text == "a"
    assert render("{{ row[1] }}", read_rows(np.array([[1, 2]])).variables(0, {})).text == "2"
    named = pd.DataFrame({"row": ["a column of that name"]})
    assert render("{{ row }}", read_rows(named).variables(0, {})).text == "a column of that name"


def test_an_iterator_that_was_read_says_so() -> None:
    rows = iter([{"x": 1}])
    assert len(read_rows(rows)) == 1
    with pytest.raises(UsageError, match="none left"):
        read_rows(rows)
    assert len(read_rows([])) == 0


def test_a_key_that_only_other_rows_have_is_missing_and_no_variable_stands_in() -> None:
    table = read_rows([{"city": "Oslo"}, {"town": "Bergen"}])
    variables = table.variables(1, {"city": "hidden", "shared": 1})
    assert "city" not in variables
    assert set(variables) == {"town", "row", "shared"}
    assert table.missing(1, ["city", "town"]) == ["city"]
    with pytest.raises(TemplateError, match="'city'"):
        render("{{ city }}", variables)


@pytest.mark.parametrize("value", [None, float("nan"), np.float32("nan"), pd.NaT, pd.NA])
def test_what_is_missing_is_not_defined(value: Any) -> None:
    assert is_missing(value)
    table = read_rows([{"x": value}])
    variables = table.variables(0, {"x": "the notebook's"})
    assert "x" not in variables
    assert render("{{ x | default('nothing') }}", variables).text == "nothing"
    assert table.missing(0, ["x", "y"]) == ["x"]
    with pytest.raises(TemplateError):
        render("{{ x }}", variables)


@pytest.mark.parametrize("value", [0, "", [], False, Decimal(0), np.array([1.0]), "nan"])
def test_what_is_empty_is_there(value: Any) -> None:
    assert not is_missing(value)


def test_a_frame_is_read_as_it_was() -> None:
    frame = pd.DataFrame({"x": ["a"]})
    table = read_rows(frame)
    frame["x"] = ["b"]
    frame["y"] = ["c"]
    assert (table.variables(0, {})["x"], table.names) == ("a", ("x",))


def test_two_columns_of_one_name() -> None:
    frame = pd.DataFrame([["a", "b", "c"]], columns=["x", "x", "y"])
    variables = read_rows(frame).variables(0, {})
    assert variables["y"] == "c"
    with pytest.raises(TemplateError, match="more than one column"):
        variables["x"]


@pytest.mark.parametrize("rows", ["text", b"bytes", {"x": 1}, 5, None])
def test_what_holds_no_rows(rows: Any) -> None:
    with pytest.raises(UsageError):
        read_rows(rows)


def test_ctrl_c_takes_effect_at_the_end_of_the_block() -> None:
    reached: list[str] = []

    def record() -> None:
        with postponed_interrupt():
            with postponed_interrupt():
                os.kill(os.getpid(), signal.SIGINT)
                reached.append("inner")
            reached.append("outer")
        reached.append("after")

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        record()
    assert reached == ["inner", "outer"]
    assert signal.getsignal(signal.SIGINT) is before


def completion(amount: float | None, source: str = "model") -> Completion:
    cost = Cost(amount)
    return Completion("a", 1, 10, 1.0, source, "m", "r", cost=cost, saved=cost)  # type: ignore[arg-type]


def test_money_that_nobody_knows_stays_unknown() -> None:
    tally = MapTally(3)
    tally.answered(0, completion(None))
    assert not tally.cost.known
    tally.answered(1, completion(0.5))
    assert (tally.cost.amount, tally.cost.currency) == (0.5, "USD")
    assert "1 answers whose price is unknown" in tally.cost.basis


def test_the_line_of_progress(monkeypatch: pytest.MonkeyPatch) -> None:
    now = [100.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])
    tally = MapTally(100)
    told: list[tuple[str, float | None]] = []
    progress = MapProgress(tally, lambda *said: told.append(said))
    for index in range(20):
        tally.answered(index, completion(0.25, "cache"))
    tally.pending = 80
    progress.begin()
    for index in range(20, 40):
        now[0] += 0.5
        tally.answered(index, completion(0.25))
        tally.pending -= 1
        progress.computed(10)
        progress.tell()
    assert told[-1] == (
        "40 of 100 rows · 2.0 rows/s, 20 tokens/s · 30.0 s left · 20 reused · 10 USD",
        pytest.approx(0.4),
    )
    count = len(told)
    progress.tell()
    assert len(told) == count, "it was told a moment ago"
    progress.tell("waiting", now=True)
    assert told[-1][0].endswith(" · waiting")
    for index in range(40, 100):
        tally.answered(index, completion(0.25))
    tally.pending = 0
    progress.tell(now=True)
    assert told[-1] == ("100 of 100 rows · 2.0 rows/s, 20 tokens/s · 20 reused · 25 USD", 1.0)
