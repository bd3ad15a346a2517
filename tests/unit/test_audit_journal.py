"""The journal: what it writes, that it never raises, that it is one chain whatever happens."""

from __future__ import annotations

import errno
import gc
import json
import os
import signal
import stat
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from jupyter_llmops.audit.files import Head, Mark, SessionFiles, head_path, journal_path
from jupyter_llmops.audit.journal import Journal
from jupyter_llmops.audit.reading import list_journals, read_content, read_runs
from jupyter_llmops.audit.verification import verify
from jupyter_llmops.guard.redaction import Redactor

Opener = Callable[..., Journal]


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "home" / "audit"


@pytest.fixture
def warnings() -> list[str]:
    return []


@pytest.fixture
def journal(folder: Path, warnings: list[str]) -> Iterator[Journal]:
    opened = Journal(folder, context={"user": "ada", "host": "here", "catalog": "/c"}, warn=warnings.append)
    yield opened
    opened.close()


def until(condition: Callable[[], bool], seconds: float = 30) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def test_nothing_is_written_before_the_first_stamp(folder: Path, journal: Journal) -> None:
    journal.flush()
    assert not folder.exists()


def test_a_stamp_is_on_disk_when_it_returns(folder: Path, journal: Journal) -> None:
    started = datetime(2026, 11, 3, 10, 0, tzinfo=UTC)
    run_id = journal.stamp(
        "cell", started_at=started, seconds=0.5, fields={"execution_count": 3, "notebook": "a.ipynb"},
        content={"source": "1 + 1"},
    )  # fmt: skip
    session, cell = read_runs(list_journals(folder)[0])
    assert (session.kind, session.seq, session.user, session.host) == ("session", 0, "ada", "here")
    assert session.leaf is not None
    assert session.leaf["catalog"] == "/c"
    assert session.leaf["pid"] == os.getpid()
    assert session.leaf["prev"] == "0" * 64
    assert session.leaf["python"].startswith("3.")
    assert (cell.id, cell.seq, cell.kind, cell.status) == (run_id, 1, "cell", "ok")
    assert (cell.started_at, cell.seconds, cell.execution_count) == (started, 0.5, 3)
    assert cell.leaf is not None
    assert "sha256:" + cell.leaf["prev"] == session.leaf_digest
    assert read_content(folder, cell) == {"source": "1 + 1"}
    assert read_content(folder, session) is None


def test_files_are_private(folder: Path, journal: Journal) -> None:
    os.umask(old := os.umask(0o000))
    try:
        os.umask(0o000)
        journal.stamp("cell", content={"source": "x"})
    finally:
        os.umask(old)
    paths = [folder, *folder.rglob("*")]
    assert len(paths) == 7
    for path in paths:
        mode = stat.S_IMODE(path.stat().st_mode)
        assert mode == (0o700 if path.is_dir() else 0o600), path


def test_a_folder_that_was_open_to_others_is_closed(folder: Path, journal: Journal) -> None:
    folder.mkdir(parents=True)
    folder.chmod(0o755)
    journal.stamp("cell")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700


def test_lines_are_chained_and_the_head_follows(folder: Path, journal: Journal) -> None:
    for number in range(20):
        journal.stamp("cell", fields={"execution_count": number})
        head = Head.from_bytes(head_path(folder, journal.session).read_bytes())
        last = list(read_runs(journal_path(folder, journal.session)))[-1]
        assert head.wanted == head.stored
        assert (head.stored.seq, "sha256:" + head.stored.digest) == (last.seq, last.leaf_digest)
        assert not head.closed
    journal.close()
    assert Head.from_bytes(head_path(folder, journal.session).read_bytes()).closed
    assert verify(folder).ok
    assert journal.stamp("cell") == ""
    assert len(list(read_runs(journal_path(folder, journal.session)))) == 21


def test_many_threads_make_one_chain(folder: Path, journal: Journal) -> None:
    def work(number: int) -> list[str]:
        return [journal.stamp("cell", content={"source": f"{number} {n}"}) for n in range(50)]

    with ThreadPoolExecutor(8) as pool:
        ids = [run_id for some in pool.map(work, range(8)) for run_id in some]
    runs = list(read_runs(journal_path(folder, journal.session)))
    assert {run.id for run in runs[1:]} == set(ids)
    assert len(runs) == 401
    journal.close()
    assert verify(folder).ok


def test_secrets_are_cut_out_of_content_and_fields(folder: Path) -> None:
    redactor = Redactor({"ACME_TOKEN": "orange-juice-please"})
    journal = Journal(
        folder, context={"user": "u", "catalog": "s3://me:hunter2hunter2@host/c"}, redact=redactor.redact
    )
    journal.stamp(
        "prompt",
        fields={
            "parameters": {"api_key": "Wk4u8Qz1Lm9T", "n": 3},
            "notes": ["orange-juice-please", {"deep": "sk-ant-api03-" + "a1B2" * 20}],
            "execution_count": 7,
        },
        content={"request": json.dumps({"x": 'say "orange-juice-please"'}), "response": "Wk4u8Qz1Lm9T"},
    )
    journal.close()
    everything = b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    for secret in (b"orange-juice", b"Wk4u8Qz1Lm9T", b"a1B2a1B2", b"hunter2"):
        assert secret not in everything
    run = list(read_runs(list_journals(folder)[0]))[1]
    assert run.leaf is not None
    assert run.leaf["redacted"] == ["anthropic-key", "environment:ACME_TOKEN", "named-secret"]
    assert run.leaf["parameters"]["n"] == 3
    assert verify(folder).ok


def test_a_redactor_that_fails_keeps_the_text_out(folder: Path, warnings: list[str]) -> None:
    def broken(text: str) -> tuple[str, tuple[str, ...]]:
        raise RuntimeError("no")

    journal = Journal(folder, redact=broken, warn=warnings.append)
    journal.stamp("cell", content={"source": "the text"})
    journal.close()
    assert b"the text" not in b"".join(path.read_bytes() for path in folder.rglob("*") if path.is_file())
    assert verify(folder).records == 2


class Hostile:
    """Everything about it raises."""

    def __getattribute__(self, name: str) -> Any:
        raise RuntimeError(name)

    def __repr__(self) -> str:
        raise RuntimeError("repr")


@pytest.mark.parametrize(
    "fields",
    [
        {"x": float("nan")},
        {"x": 2**80},
        {"x": "\ud800"},
        {"x": {1: {2: object()}}},
        {"seq": "taken", "schema": 7},
        {"x": b"bytes"},
        {"é": 1.5},
        {"x": Hostile()},
    ],
    ids=["nan", "big", "surrogate", "keys", "taken", "bytes", "float", "hostile"],
)
def test_strange_values_are_recorded_and_verify(
    folder: Path, journal: Journal, warnings: list[str], fields: dict[str, Any]
) -> None:
    assert journal.stamp("cell", fields=fields)
    journal.close()
    assert verify(folder).ok
    assert verify(folder).records == 2
    assert warnings == []


def test_a_value_that_holds_itself_is_recorded(folder: Path, journal: Journal) -> None:
    endless: dict[str, Any] = {}
    endless["again"] = endless
    journal.stamp("cell", fields=endless)
    journal.close()
    assert verify(folder).records == 2


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_forked_child_writes_nothing(folder: Path, journal: Journal) -> None:
    journal.stamp("cell")
    before = journal_path(folder, journal.session).read_bytes()
    child = os.fork()
    if child == 0:
        ok = journal.stamp("cell", content={"source": "child"}) == ""
        ok = ok and journal.flush()
        journal.close()
        os._exit(0 if ok else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert journal_path(folder, journal.session).read_bytes() == before
    journal.stamp("cell")
    journal.close()
    assert verify(folder).ok
    assert verify(folder).records == 3


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*:DeprecationWarning")
def test_a_child_forked_during_a_stamp_does_not_hang(folder: Path, journal: Journal) -> None:
    inside, go_on = threading.Event(), threading.Event()

    def slow(text: str) -> tuple[str, tuple[str, ...]]:
        inside.set()
        go_on.wait(60)
        return text, ()

    journal._redact = slow
    thread = threading.Thread(target=journal.stamp, args=("cell",), kwargs={"content": {"source": "x"}})
    thread.start()
    assert inside.wait(60)
    child = os.fork()  # the other thread holds the lock, and does not exist in the child
    if child == 0:
        signal.alarm(30)
        os._exit(0 if journal.stamp("cell") == "" else 1)
    go_on.set()
    thread.join()
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0


def test_the_end_of_the_process_closes_the_journal(folder: Path) -> None:
    code = f"""
from pathlib import Path
from jupyter_llmops.audit.journal import Journal
journal = Journal(Path({str(folder)!r}), session="s")
journal.stamp("cell")
"""
    subprocess.run([sys.executable, "-c", code], check=True, timeout=120)
    assert Head.from_bytes(head_path(folder, "s").read_bytes()).closed
    assert verify(folder).ok


def test_a_descriptor_that_user_code_took_is_not_written_to(
    folder: Path, tmp_path: Path, journal: Journal, warnings: list[str]
) -> None:
    journal.stamp("cell")
    taken = {}
    files = [journal._files._journal_file, journal._files._head_file]
    for number, file in enumerate(files):
        assert file is not None
        other = os.open(tmp_path / f"data{number}.txt", os.O_RDWR | os.O_CREAT)
        os.dup2(other, file.descriptor)  # what os.closerange and then open(…) comes to
        os.close(other)
        taken[tmp_path / f"data{number}.txt"] = file.descriptor
    journal.stamp("cell")
    journal.close()
    for path, descriptor in taken.items():
        assert path.read_bytes() == b""
        os.close(descriptor)  # still open: the journal did not close what is not its own
    assert verify(folder).ok
    assert verify(folder).records == 3
    assert warnings == []


def test_closed_descriptors_are_opened_again(folder: Path, journal: Journal, warnings: list[str]) -> None:
    journal.stamp("cell")
    for file in (journal._files._journal_file, journal._files._head_file):
        assert file is not None
        os.close(file.descriptor)
    journal.stamp("cell")
    journal.close()
    assert verify(folder).ok
    assert verify(folder).records == 3
    assert warnings == []


def test_of_what_waited_each_line_follows_its_content_at_once(
    folder: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill while it is written leaves content of one record that is not there, not of all that waited."""
    write, append = SessionFiles.write_content, SessionFiles.append
    order: list[tuple[str, int]] = []

    def refuse(*_: object) -> None:
        raise OSError(errno.ENOSPC, "full")

    def note_content(files: SessionFiles, seq: int, data: bytes) -> None:
        write(files, seq, data)
        order.append(("content", seq))

    def note_line(files: SessionFiles, line: bytes, mark: Mark) -> None:
        append(files, line, mark)
        order.append(("line", mark.seq))

    monkeypatch.setattr(SessionFiles, "write_content", refuse)
    for number in range(3):
        journal.stamp("cell", content={"source": f"x = {number}"})
    monkeypatch.setattr(SessionFiles, "write_content", note_content)
    monkeypatch.setattr(SessionFiles, "append", note_line)
    assert journal.flush()
    assert order == [(what, seq) for seq in (1, 2, 3) for what in ("content", "line")]


def test_the_disk_is_asked_to_keep_lines(
    folder: Path, journal: Journal, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced = []
    real = os.fdatasync
    monkeypatch.setattr(os, "fdatasync", lambda descriptor: (real(descriptor), synced.append(descriptor)))
    journal.stamp("cell")
    until(lambda: len(synced) == 1)
    journal.stamp("cell")
    until(lambda: len(synced) == 2)


def test_an_interrupt_anywhere_in_a_stamp_leaves_one_whole_chain(folder: Path, warnings: list[str]) -> None:
    """Ctrl-C at the n-th line of our code, for every n: the run is recorded once and the chain holds."""
    raised = 0
    for n in range(1, 2000):
        session = f"s{n:04}"
        journal = Journal(folder, session=session, warn=warnings.append)
        journal.stamp("cell", id="first000")
        interrupted = _interrupt_after(
            n, journal, partial(journal.stamp, "cell", id="second00", content={"source": "x"})
        )
        journal.stamp("cell", id="third000")
        journal.close()
        ids = [run.id for run in read_runs(journal_path(folder, session))][1:]
        assert ids == ["first000", "second00", "third000"], (n, ids)
        raised += interrupted
        if not interrupted:
            break
    assert raised > 50
    verification = verify(folder)
    assert {
        problem.message for problem in verification.problems if "its id stands in" not in problem.message
    } == set()


def _interrupt_after(n: int, journal: Journal, call: Callable[[], object]) -> bool:
    """Raise KeyboardInterrupt at the n-th line executed inside the journal's stamp; say whether it came so far."""
    count = 0

    def trace(frame: Any, event: str, arg: object) -> Any:
        nonlocal count
        name = frame.f_code.co_filename
        if not name.endswith(("audit/journal.py", "audit/files.py")):
            return None
        # Before the lock is taken nothing has begun; and the second try is not interrupted again.
        if event == "line" and journal._lock._is_owned():  # type: ignore[attr-defined]
            count += 1
            if count == n:
                sys.settrace(None)
                raise KeyboardInterrupt
        return trace

    before = sys.gettrace()
    gc.disable()
    sys.settrace(trace)
    try:
        call()
    except KeyboardInterrupt:
        return True
    finally:
        sys.settrace(before)
        gc.enable()
    return False
