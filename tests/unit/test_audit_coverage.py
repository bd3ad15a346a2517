"""Gaps: every omitted cell is found, and no untouched notebook has one."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest
from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from jupyter_llmops.audit.coverage import Coverage, coverage_of
from jupyter_llmops.audit.leaf import instant
from jupyter_llmops.audit.reading import list_journals, read_runs
from strange_notebook import run_notebook, stamping

if TYPE_CHECKING:
    from jupyter_llmops.records.trail import Gap


@pytest.fixture
def shell() -> Iterator[InteractiveShell]:
    InteractiveShell.clear_instance()
    config = Config()
    config.HistoryManager.enabled = False
    yield InteractiveShell.instance(config=config)
    InteractiveShell.clear_instance()


def counts(gaps: tuple[Gap, ...]) -> list[tuple[str, int | None, int | None]]:
    return [(gap.reason, gap.first_count, gap.last_count) for gap in gaps]


@pytest.mark.parametrize("seed", range(6))
def test_an_untouched_notebook_has_no_gap(shell: InteractiveShell, tmp_path: Path, seed: int) -> None:
    chance = random.Random(seed)
    script = tmp_path / "script.py"
    script.write_text("get_ipython().run_cell('in_script = 1')")
    stamper = stamping(shell, tmp_path)
    run_notebook(shell, chance, script, 60)
    stamper.unregister()
    stamper.journal.close()
    assert [gap for gap in coverage_of(tmp_path) if gap.reason != "silent"] == []


def test_cells_before_loading_and_between_two_sessions_are_gaps(
    shell: InteractiveShell, tmp_path: Path
) -> None:
    for _ in range(3):
        shell.run_cell("x = 1", store_history=True)
    first = stamping(shell, tmp_path)
    shell.run_cell("x = 2", store_history=True)
    first.unregister()
    first.journal.close()
    for _ in range(2):
        shell.run_cell("x = 3", store_history=True)
    second = stamping(shell, tmp_path)
    shell.run_cell("x = 4", store_history=True)
    second.journal.close()
    found = coverage_of(tmp_path)
    assert counts(found) == [("before loading", 1, 3), ("missing count", 5, 6)]
    runs = [run for path in list_journals(tmp_path) for run in read_runs(path)]
    runs.sort(key=lambda run: run.started_at)
    assert found[0].after is not None
    assert found[0].after < runs[0].started_at
    assert found[0].before == runs[0].started_at
    assert found[1].after is not None
    assert found[1].before is not None
    assert runs[1].started_at <= found[1].after <= found[1].before <= runs[-1].started_at


def test_a_cell_that_is_running_is_no_gap(shell: InteractiveShell, tmp_path: Path) -> None:
    stamper = stamping(shell, tmp_path)
    shell.user_ns["look"] = lambda: found.append(coverage_of(tmp_path))
    found: list[Any] = []
    shell.run_cell(
        "get_ipython().run_cell('inner = 1', store_history=True); look()", store_history=True
    ).raise_error()
    assert found == [()]
    stamper.journal.close()


def leaf(count: int | None, begin: float, **more: Any) -> dict[str, Any]:
    return {
        "kind": "cell", "session": "s", "id": f"{int(begin * 10):016x}", "started_at": at(begin), "microseconds": 1000,
        "execution_count": count, "parent": "", **more,
    }  # fmt: skip


def at(second: float) -> str:
    from datetime import UTC, datetime

    return instant(datetime.fromtimestamp(1_700_000_000 + second, UTC))


def micros_at(second: float) -> int:
    return round((1_700_000_000 + second) * 1e6)


OPENED = {
    "kind": "session", "session": "s", "id": "f" * 16, "started_at": at(0), "kernel": "k", "pid": 7, "parent": "",
}  # fmt: skip


def seen(*cells: tuple[int, float, float | None], events: list[Any] | None = None) -> dict[str, Any]:
    return {
        "kind": "observation", "session": "server", "id": "e" * 16, "started_at": at(0), "parent": "",
        "kernel": "k", "process": "p", "kernel_pid": 7, "kernel_name": "python3",
        "cells": [
            [count, micros_at(begin), None if seconds is None else round(seconds * 1e6), 0]
            for count, begin, seconds in cells
        ],
        "events": events or [],
    }  # fmt: skip


def found_in(*leaves: dict[str, Any], alive: bool = False) -> list[tuple[str, int | None, int | None]]:
    coverage = Coverage(born=lambda pid: 0 if alive else None)
    for one in leaves:
        coverage.take(one)
    return counts(coverage.gaps())


def test_a_cell_of_another_thread_that_began_later_is_no_gap() -> None:
    first = leaf(1, 1, microseconds=9_000_000)
    swapped = (leaf(3, 2, microseconds=5_000_000), leaf(2, 2.5))
    assert found_in(OPENED, *swapped, first) == []


def test_what_the_server_saw_and_no_log_has_is_named() -> None:
    whole = seen((1, 1, 0.1), (2, 2, 0.1), (3, 3, 0.1), (2, 4, 0.1))
    cells = [leaf(1, 1), leaf(2, 2), leaf(3, 3), leaf(2, 4, store_history=False)]
    assert found_in(OPENED, *cells, whole) == []
    assert found_in(OPENED, *cells[:2], whole) == [("not in the log", 3, 3), ("not in the log", 2, 2)]
    assert found_in(whole) == [("no log", 1, 3), ("no log", 2, 2)]
    # An omitted cell that the counts give away is said once.
    assert found_in(OPENED, cells[0], cells[2], cells[3], whole) == [("missing count", 2, 2)]
    # The next cell has the number of the one that was omitted.
    assert found_in(OPENED, cells[0], leaf(2, 3), cells[3], whole) != []


def test_a_cell_that_never_ended_is_named_and_one_that_runs_is_not() -> None:
    open_cell = seen((1, 1, 0.1), (2, 2, None))
    assert found_in(OPENED, leaf(1, 1), open_cell, alive=True) == []
    assert found_in(OPENED, leaf(1, 1), open_cell) == [("not finished", 2, 2)]
    died = seen(events=[["died", micros_at(9)]])
    assert found_in(OPENED, leaf(1, 1), open_cell, died) == [("not finished", 2, 2)]
    # The batch after it tells how long it took.
    assert found_in(OPENED, leaf(1, 1), open_cell, seen((2, 2, 5)), leaf(2, 2)) == []
    inner = leaf(3, 2, parent="a" * 16)
    # Which cells run is marked: one that is neither marked nor stamped was left out.
    assert found_in(OPENED, leaf(1, 1), inner, alive=True) == [("missing count", 2, 2)]


def test_what_ran_before_the_server_heard_a_kernel_is_named_unless_its_log_tells() -> None:
    late = seen((3, 3, 0.1)) | {"kernel_started_at": at(0)}
    early = late | {"unheard": [2, micros_at(3)]}
    assert found_in(late, early) == [("not seen", 1, 2), ("no log", 3, 3)]
    coverage = Coverage()
    coverage.take(early)
    (gap, _) = coverage.gaps()
    assert gap.after is not None
    assert gap.before is not None
    assert (instant(gap.after), instant(gap.before), gap.cells) == (at(0), at(3), 2)
    # Its log has them, or says which are missing.
    cells = [leaf(1, 1), leaf(2, 2), leaf(3, 3)]
    assert found_in(OPENED, *cells, early) == []
    assert found_in(OPENED, *cells[1:], early) == [("before loading", 1, 1)]
    # The log of the process before says nothing of this one.
    assert found_in(OPENED | {"pid": 8}, *cells, early) == [("not seen", 1, 2)]
    # It said nothing of its count yet; then it did.
    unknown = seen() | {"unheard": [None, micros_at(3)]}
    assert found_in(unknown) == [("not seen", None, None)]
    assert found_in(unknown, seen((1, 4, 0.1)) | {"unheard": [0, micros_at(3)]}) == [("no log", 1, 1)]


def test_a_kernel_whose_log_was_pruned_is_no_gap() -> None:
    def pruned(age: str, *kernels: str) -> dict[str, Any]:
        rows = [{"session": "s", "kernel": kernel} for kernel in kernels]
        return {"kind": "retention", "session": "t", "started_at": at(3600 * 2), "age": age, "sessions": rows}

    old = seen((1, 1, 0.1), (2, 2, 0.1))
    assert found_in(old, pruned("1h", "k")) == []
    assert found_in(old, pruned("1d", "k")) == [("no log", 1, 2)]
    assert found_in(old, pruned("never", "k")) == [("no log", 1, 2)]
    # What is said of others, or of none, excuses none.
    assert found_in(old, pruned("1h", "another")) == [("no log", 1, 2)]
    assert found_in(old, pruned("1h")) == [("no log", 1, 2)]


@pytest.mark.parametrize("value", [None, "x", -1, 2**70, 1.5, [], {}, True])
def test_planted_leaves_do_not_stop_it(value: Any) -> None:
    strange = [
        {"kind": "observation", "kernel": "k", "process": "p", "cells": value, "events": [[value, value]]},
        {"kind": "observation", "kernel": "k", "process": "p", "cells": [[value, value, value]]},
        {"kind": "observation", "kernel": "k", "process": "p", "unheard": value},
        {"kind": "observation", "kernel": "k", "process": "p", "unheard": [value, value]},
        {"kind": "observation", "kernel": value, "process": value},
        {"kind": "session", "session": value, "pid": value, "kernel": value, "started_at": value},
        leaf(None, 1, execution_count=value),
        leaf(4, 1, started_at=value, microseconds=value, parent=value, id=value, session=value),
    ]
    found_in(*strange)


def test_a_cell_whose_mark_has_no_leaf_never_ended(tmp_path: Path) -> None:
    script = tmp_path / "session.py"
    script.write_text(
        "import sys, os\n"
        "from pathlib import Path\n"
        "from IPython.core.interactiveshell import InteractiveShell\n"
        "from traitlets.config import Config\n"
        "from jupyter_llmops.audit.cells import CellStamper\n"
        "from jupyter_llmops.audit.journal import Journal\n"
        "config = Config(); config.HistoryManager.enabled = False\n"
        "shell = InteractiveShell.instance(config=config)\n"
        "CellStamper(shell, Journal(Path(sys.argv[1]))).register()\n"
        "shell.run_cell('x = 1', store_history=True)\n"
        "shell.run_cell('import os; os._exit(3)', store_history=True)\n"
    )
    ended = subprocess.run([sys.executable, str(script), str(tmp_path / "audit")], check=False)
    assert ended.returncode == 3
    assert counts(coverage_of(tmp_path / "audit")) == [("not finished", 2, 2)]


def test_a_session_says_from_when_on_cells_can_have_run_before_it() -> None:
    coverage = Coverage(born=lambda pid: None)
    coverage.take(OPENED | {"process_started_at": at(-60)})
    coverage.take(leaf(3, 1))
    (gap,) = coverage.gaps()
    assert gap.after is not None
    assert (instant(gap.after), gap.reason) == (at(-60), "before loading")
