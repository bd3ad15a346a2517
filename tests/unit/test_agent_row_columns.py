"""Rows that are not what their line says are found, by a second process as by this one."""

from __future__ import annotations

import io
import random
import struct
from pathlib import Path
from typing import Any

import pyarrow as pa
import pytest

from jupyter_llmops.agent import row_columns
from jupyter_llmops.agent.row_columns import SuspectRows, suspects
from jupyter_llmops.audit.journal import Journal
from jupyter_llmops.audit.reading import read_runs
from jupyter_llmops.catalog.run_rows import run_row
from jupyter_llmops.catalog.schemas import schema_of

ROWS = 12


@pytest.fixture(scope="module")
def rows(tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    journal = Journal(tmp_path_factory.mktemp("rows"), session="s", context={"user": "ada", "host": "lab"})
    for number in range(ROWS - 1):
        fields = {"execution_count": number, "notebook": "ä.ipynb", "model": "m", "tokens_in": number}
        journal.stamp("cell", fields=fields)
    journal.close()
    return [run_row(run, "lab") for run in read_runs(journal.path)]


def batch_of(rows: list[dict[str, Any]]) -> pa.RecordBatch:
    return pa.RecordBatch.from_pylist(rows, schema=schema_of("runs"))


def changed(value: Any) -> Any:
    """Return another value of the same kind, and of the same length where that can be."""
    if isinstance(value, str):
        return value[:-1] + chr(ord(value[-1]) ^ 1) if value else "x"
    if isinstance(value, int | float):
        return value + 1 if isinstance(value, int) else value + 1e-6
    return value.replace(microsecond=value.microsecond ^ 1) if value is not None else 7


def test_a_change_in_any_column_is_seen(rows: list[dict[str, Any]]) -> None:
    assert suspects(batch_of(rows)) == set()
    names = [name for name in schema_of("runs").names if name in (*row_columns._MADE, "leaf")]
    assert len(names) == 20
    for number, name in enumerate(names):
        place = number % ROWS
        attacked = [dict(row) for row in rows]
        attacked[place][name] = changed(attacked[place][name])
        assert suspects(batch_of(attacked)) == {place}, name
        attacked[place][name] = None
        if rows[place][name] is not None:
            assert suspects(batch_of(attacked)) == {place}, name


@pytest.mark.parametrize("broken", [False, True])
def test_a_second_process_finds_the_same(
    rows: list[dict[str, Any]], broken: bool, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    asked: list[int] = []
    ask = row_columns._SecondProcess.ask

    def noted(self: Any, batch: pa.RecordBatch) -> Any:
        if broken and len(asked) == 3:
            self._process.kill()
        answer = ask(self, batch)
        asked.extend([batch.num_rows] if answer else [])
        return answer

    monkeypatch.setattr(row_columns._SecondProcess, "ask", noted)
    chance = random.Random(5)
    batches, expected = [], []
    for _ in range(40):
        attacked = [dict(row) for row in rows]
        places = set(chance.sample(range(ROWS), chance.randrange(3)))
        for place in places:
            name = chance.choice(row_columns._MADE)
            attacked[place][name] = changed(attacked[place][name])
        batches.append(batch_of(attacked))
        expected.append(places)
    batches.insert(0, batches[0].slice(0, 0))  # a scan may have parts without rows
    expected.insert(0, set())
    with SuspectRows(worth=0) as second:
        found = list(second.find(batches))
        assert second._failed is broken
    assert [places for _, places in found] == expected
    assert [batch for batch, _ in found] == batches
    assert len(asked) >= 3


def test_where_no_other_process_can_be_started(
    rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(row_columns.sys, "executable", "")
    with SuspectRows(worth=0) as alone:
        assert list(alone.find([batch_of(rows)])) == [(batch_of(rows), set())]


def test_what_another_program_says_is_no_answer(
    rows: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Such as a sitecustomize that prints: it does so before the process can take its own way out."""
    talker = tmp_path / "python"
    talker.write_text("#!/bin/sh\necho hello from sitecustomize, which is longer than a head\nexec cat\n")
    talker.chmod(0o755)
    monkeypatch.setattr(row_columns.sys, "executable", str(talker))
    with SuspectRows(worth=0) as second:
        assert [places for _, places in second.find([batch_of(rows)] * 3)] == [set()] * 3
        assert second._failed


@pytest.mark.parametrize(
    ("head", "places"),
    [
        ((b"another.", 3, 5, 1), [0]),
        ((row_columns._WORD, 2, 5, 1), [0]),  # rows that were asked before
        ((row_columns._WORD, 3, 6, 1), [0]),  # so many were not asked
        ((row_columns._WORD, 3, 5, 1 << 62), [0]),
        ((row_columns._WORD, 3, 5, 1), [5]),
    ],
)
def test_an_answer_is_to_what_was_asked(head: tuple[Any, ...], places: list[int]) -> None:
    def said(*head: Any) -> io.BytesIO:
        return io.BytesIO(row_columns._ANSWER.pack(*head) + struct.pack(f"<{len(places)}I", *places))

    with pytest.raises(ValueError, match="answer"):
        row_columns._places(said(*head), 3, 5)
    places = [0, 4]
    assert row_columns._places(said(row_columns._WORD, 3, 5, 2), 3, 5) == {0, 4}
