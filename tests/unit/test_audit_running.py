"""Marks of cells that have begun."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from jupyter_llmops.audit.files import running_path
from jupyter_llmops.audit.running import MOST_SLOTS, SLOT_BYTES, RunningCells, read_running

MARK = {"id": "0123456789abcdef", "started_at": "2026-11-03T10:00:00.000000Z", "execution_count": 7}


def test_a_mark_outlives_its_process(tmp_path: Path) -> None:
    code = (
        "import os; from pathlib import Path; from jupyter_llmops.audit.running import RunningCells\n"
        f"cells = RunningCells(Path({str(tmp_path)!r}), 's'); cells.begin({{**{MARK!r}, 'cell': 'c1', 'kernel': 'k'}})\n"
        "os.kill(os.getpid(), 9)"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == -signal.SIGKILL
    (found,) = read_running(tmp_path, "s")
    assert (found.id, found.execution_count, found.cell, found.kernel) == (MARK["id"], 7, "c1", "k")
    assert running_path(tmp_path, "s").stat().st_mode & 0o077 == 0


def test_an_orderly_end_leaves_nothing_unless_a_cell_is_running(tmp_path: Path) -> None:
    cells = RunningCells(tmp_path, "s")
    first, second = cells.begin(MARK), cells.begin({**MARK, "id": "b" * 16})
    assert (first, second) == (0, 1)
    cells.end(first)
    assert cells.begin({**MARK, "id": "c" * 16}) == first  # its slot is used again
    cells.end(first)
    cells.close()
    assert {found.id for found in read_running(tmp_path, "s")} == {"c" * 16, "b" * 16}
    again = RunningCells(tmp_path, "s")
    again.end(again.begin(MARK))
    again.close()
    assert not running_path(tmp_path, "s").exists()
    assert read_running(tmp_path, "s") == ()


def test_what_is_strange_or_too_much_is_never_raised(tmp_path: Path) -> None:
    cells = RunningCells(tmp_path, "s")
    assert cells.begin({**MARK, "cell": "ü" * 5000}) == 0
    assert cells.begin({**MARK, "cell": object()}) == -1
    assert sum(cells.begin(MARK) >= 0 for _ in range(200)) == MOST_SLOTS - 1
    data = running_path(tmp_path, "s").read_bytes()
    assert len(data) == MOST_SLOTS * SLOT_BYTES
    assert {found.id for found in read_running(tmp_path, "s")} == {MARK["id"]}
    running_path(tmp_path, "s").write_bytes(b"\xff" * 1000 + b'{"id": 3}' + b"[" * 100_000)
    assert read_running(tmp_path, "s") == ()


def test_it_does_nothing_in_a_forked_child(tmp_path: Path) -> None:
    cells = RunningCells(tmp_path, "s")
    cells.begin(MARK)
    child = os.fork()
    if not child:
        try:
            os._exit(0 if cells.begin({**MARK, "id": "d" * 16}) == -1 else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert [found.id for found in read_running(tmp_path, "s")] == [MARK["id"]]


def test_a_file_that_was_deleted_or_closed_is_opened_again(tmp_path: Path) -> None:
    cells = RunningCells(tmp_path, "s")
    cells.end(cells.begin(MARK))
    running_path(tmp_path, "s").unlink()
    assert cells.begin(MARK) == 0
    assert len(read_running(tmp_path, "s")) == 1
    assert cells._file is not None
    os.close(cells._file.descriptor)
    assert cells.begin({**MARK, "id": "e" * 16}) == 1
    assert len(read_running(tmp_path, "s")) == 2


def test_a_folder_that_refuses_is_not_raised(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("no folder")
    assert RunningCells(tmp_path / "file", "s").begin(MARK) == -1
