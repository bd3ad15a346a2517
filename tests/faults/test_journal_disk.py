"""A disk that refuses: cells go on, one warning, nothing lost, the chain whole once it takes lines again."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from jupyter_llmops.audit import journal as journals
from jupyter_llmops.audit.files import journal_path
from jupyter_llmops.audit.journal import Journal
from jupyter_llmops.audit.reading import read_content, read_runs
from jupyter_llmops.audit.verification import verify


def until(condition: Callable[[], bool], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came true"
        time.sleep(0.01)


def stamps(journal: Journal, start: int, count: int, size: int = 200) -> list[str]:
    return [
        journal.stamp("cell", fields={"execution_count": n}, content={"source": f"{n} " + "x" * size})
        for n in range(start, start + count)
    ]


def check(folder: Path, session: str, ids: list[str], *, content: bool = True) -> None:
    runs = list(read_runs(journal_path(folder, session)))
    assert [run.id for run in runs[1:]] == ids
    verification = verify(folder)
    if not content:  # it went without a word, which is said of each
        assert len(verification.problems) == 10
        assert all("deleted without a word" in one.message for one in verification.problems)
    else:
        assert verification.ok, verification.problems
        for number, run in enumerate(runs[1:]):
            kept = read_content(folder, run)
            assert kept is not None
            assert kept["source"].startswith(f"{number} ")


def mount(target: Path, *arguments: str) -> None:
    done = subprocess.run(["mount", *arguments, str(target)], capture_output=True, text=True, check=False)
    if done.returncode:
        pytest.skip(f"this user may not mount here: {done.stderr.strip()}")


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 256 KiB of our own."""
    target = tmp_path / "disk"
    target.mkdir()
    if not hasattr(os, "geteuid") or os.geteuid() != 0 or shutil.which("mount") is None:
        pytest.skip("mounting a small file system needs root")
    mount(target, "-t", "tmpfs", "-o", "size=256k,mode=700", "tmpfs")
    yield target
    subprocess.run(["umount", "-l", str(target)], check=False)


def fill(disk: Path) -> Path:
    ballast = disk / "ballast"
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as file:
        while True:
            file.write(b"x" * 512)
    return ballast


@pytest.mark.parametrize("size", [10, 300, 5000])
def test_a_full_disk(small_disk: Path, size: int) -> None:
    warnings: list[str] = []
    folder = small_disk / "audit"
    journal = Journal(folder, session="s", warn=warnings.append)
    ids = stamps(journal, 0, 3, size)
    ballast = fill(small_disk)
    ids += stamps(journal, 3, 150, size)
    assert journal.waiting > 0
    assert len(warnings) == 1
    assert os.strerror(errno.ENOSPC) in warnings[0]
    assert str(folder) in warnings[0]
    assert "free space" in warnings[0]
    # What is on the full disk is whole by itself.
    verification = verify(folder)
    assert verification.ok, verification.problems
    ballast.unlink()
    subprocess.run(["mount", "-o", "remount,size=8m", str(small_disk)], check=True)
    ids += stamps(journal, 153, 1, size)
    assert journal.waiting == 0
    journal.close()
    check(folder, "s", ids)
    assert len(warnings) == 1


def test_a_disk_that_has_room_again_is_used_without_a_further_stamp(
    small_disk: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "RETRY_SECONDS", 0.05)
    folder = small_disk / "audit"
    journal = Journal(folder, session="s")
    ids = stamps(journal, 0, 1)
    ballast = fill(small_disk)
    ids += stamps(journal, 1, 20)
    assert journal.waiting > 0
    ballast.unlink()
    until(lambda: journal.waiting == 0)
    journal.close()
    check(folder, "s", ids)


def test_a_read_only_disk(small_disk: Path) -> None:
    warnings: list[str] = []
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    folder = small_disk / "audit"
    journal = Journal(folder, session="s", warn=warnings.append)
    ids = stamps(journal, 0, 5)
    assert journal.waiting == 6
    assert len(warnings) == 1
    assert os.strerror(errno.EROFS) in warnings[0]
    assert str(folder) in warnings[0]
    subprocess.run(["mount", "-o", "remount,rw", str(small_disk)], check=True)
    journal.close()
    check(folder, "s", ids)


def test_a_disk_that_stays_full_is_said_at_the_end(small_disk: Path) -> None:
    warnings: list[str] = []
    subprocess.run(["mount", "-o", "remount,ro", str(small_disk)], check=True)
    journal = Journal(small_disk / "audit", session="s", warn=warnings.append)
    stamps(journal, 0, 2)
    journal.close()
    assert len(warnings) == 2
    assert "3 runs" in warnings[1]
    assert "lost" in warnings[1]


LIMITED = """
import json, resource, signal, sys
from pathlib import Path
from jupyter_llmops.audit.journal import Journal
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
warnings = []
journal = Journal(Path(sys.argv[1]), session="s", warn=warnings.append)
ids = [journal.stamp("cell", fields={"execution_count": 0}, content={"source": "0 "})]
# A limit that falls into the middle of a line: write(2) takes a part of it, then refuses.
limit = int(sys.argv[2])
resource.setrlimit(resource.RLIMIT_FSIZE, (limit, resource.RLIM_INFINITY))
ids += [journal.stamp("cell", fields={"execution_count": n}, content={"source": f"{n} "}) for n in range(1, 30)]
full = Path(sys.argv[1], "journal/s.jsonl").read_bytes()
waiting = journal.waiting
resource.setrlimit(resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
journal.close()
print(json.dumps([ids, warnings, waiting, full.decode()]))
"""


@pytest.mark.skipif(sys.platform == "win32", reason="needs RLIMIT_FSIZE")
@pytest.mark.parametrize("limit", [1500, 1501, 2047, 2048, 3333])
def test_a_line_that_is_taken_in_part_is_taken_back(tmp_path: Path, limit: int) -> None:
    folder = tmp_path / "audit"
    done = subprocess.run(
        [sys.executable, "-c", LIMITED, str(folder), str(limit)],
        capture_output=True,
        text=True,
        check=True,
        timeout=120,
    )
    ids, warnings, waiting, full = json.loads(done.stdout)
    assert waiting > 20
    assert len(full) <= limit
    assert full.endswith("\n")
    assert len(warnings) == 1
    check(folder, "s", ids)


@pytest.mark.parametrize("what", ["audit", "journal", "content", "file"])
def test_a_folder_that_is_deleted_under_it(tmp_path: Path, what: str) -> None:
    warnings: list[str] = []
    folder = tmp_path / "home" / "audit"
    journal = Journal(folder, session="s", warn=warnings.append)
    ids = stamps(journal, 0, 10)
    if what == "file":
        journal_path(folder, "s").unlink()
    else:
        shutil.rmtree(folder if what == "audit" else folder / what)
    ids += stamps(journal, 10, 10)
    journal.close()
    # The lines were read back from the deleted file; deleted content stays deleted.
    check(folder, "s", ids, content=what in ("journal", "file"))
    assert len(warnings) == (0 if what == "content" else 1)
    if warnings:
        assert str(journal_path(folder, "s")) in warnings[0]
        assert "deleted" in warnings[0]


def test_a_file_put_in_its_place_is_kept_as_evidence(tmp_path: Path) -> None:
    warnings: list[str] = []
    folder = tmp_path / "audit"
    journal = Journal(folder, session="s", warn=warnings.append)
    ids = stamps(journal, 0, 3)
    path = journal_path(folder, "s")
    other = tmp_path / "other"
    other.write_bytes(path.read_bytes().replace(b'"ok"', b'"no"'))
    other.rename(path)  # the way an editor saves
    ids += stamps(journal, 3, 3)
    journal.close()
    check(folder, "s", ids)
    (kept,) = path.parent.glob("s.jsonl.replaced-*")
    assert b'"no"' in kept.read_bytes()
    assert len(warnings) == 1


def test_lines_that_others_appended_are_found_and_ours_go_on(tmp_path: Path) -> None:
    folder = tmp_path / "audit"
    journal = Journal(folder, session="s")
    stamps(journal, 0, 2)
    with journal_path(folder, "s").open("ab") as file:
        file.write(b"half a line")
    ids = stamps(journal, 2, 2)
    journal.close()
    problems = verify(folder).problems
    assert any(problem.seq == 3 for problem in problems)
    # The stamps after it are whole lines by themselves.
    assert ids[-1] in {run.id for run in read_runs(journal_path(folder, "s"))}


@pytest.mark.skipif(os.name != "posix" or os.geteuid() == 0, reason="root writes into read-only folders")
def test_a_read_only_folder(tmp_path: Path) -> None:
    home = tmp_path / "home"
    home.mkdir()
    home.chmod(0o500)
    warnings: list[str] = []
    journal = Journal(home / "audit", session="s", warn=warnings.append)
    ids = stamps(journal, 0, 3)
    assert len(warnings) == 1
    home.chmod(0o700)
    journal.close()
    check(home / "audit", "s", ids)


def test_a_file_where_the_folder_should_be(tmp_path: Path) -> None:
    """The case of a folder that can't be made, which root meets too."""
    home = tmp_path / "home"
    home.write_text("a file")
    warnings: list[str] = []
    journal = Journal(home / "audit", session="s", warn=warnings.append)
    ids = stamps(journal, 0, 3)
    assert len(warnings) == 1
    assert str(home) in warnings[0]
    home.unlink()
    journal.close()
    check(home / "audit", "s", ids)
