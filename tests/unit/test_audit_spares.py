"""Nameless files made ahead: they get a name only with all their content, and never cost a user's file."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import pytest

from jupyter_llmops.audit.journal import Journal
from jupyter_llmops.audit.reading import read_content, read_runs
from jupyter_llmops.audit.spares import MOST_SPARES, SpareFiles
from jupyter_llmops.audit.verification import verify

pytestmark = pytest.mark.skipif(not hasattr(os, "O_TMPFILE"), reason="only Linux has nameless files")


@pytest.fixture
def spares(tmp_path: Path) -> SpareFiles:
    spares = SpareFiles(str(tmp_path))
    spares.fill()
    if not spares.write(str(tmp_path / "probe"), b""):
        pytest.skip("the file system of the tests has no nameless files")
    (tmp_path / "probe").unlink()
    return spares


def test_a_file_appears_whole_for_its_owner_alone(spares: SpareFiles, tmp_path: Path) -> None:
    assert not list(tmp_path.iterdir())
    path = tmp_path / "7.json"
    assert spares.write(str(path), b"content")
    assert path.read_bytes() == b"content"
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    open_before = len(list(Path("/proc/self/fd").iterdir()))
    spares.close()
    assert not spares.write(str(tmp_path / "8.json"), b"content")
    assert len(list(Path("/proc/self/fd").iterdir())) == open_before - (MOST_SPARES - 2)


def test_a_name_that_is_taken_and_a_folder_that_is_gone_are_left_to_the_caller(
    spares: SpareFiles, tmp_path: Path
) -> None:
    path = tmp_path / "7.json"
    path.write_bytes(b"old")
    assert not spares.write(str(path), b"content")
    assert path.read_bytes() == b"old"
    assert not spares.write(str(tmp_path / "gone" / "7.json"), b"content")
    assert spares.write(str(tmp_path / "8.json"), b"content")
    spares.close()


def test_descriptors_that_user_code_took_are_not_written_to(spares: SpareFiles, tmp_path: Path) -> None:
    theirs = tmp_path / "theirs"
    theirs.write_bytes(b"")
    taken = os.open(theirs, os.O_WRONLY)
    for file in spares._spares:
        os.dup2(taken, file.descriptor)
    descriptors = [file.descriptor for file in spares._spares]
    assert not any(spares.write(str(tmp_path / f"{n}.json"), b"content") for n in range(MOST_SPARES))
    assert theirs.read_bytes() == b""
    for descriptor in (*descriptors, taken):
        os.close(descriptor)  # still open: nobody closed what is not ours


def test_a_users_new_file_that_got_the_inode_of_a_spare_is_not_taken_for_it(
    spares: SpareFiles, tmp_path: Path
) -> None:
    """Once user code has closed a nameless file, ext4 gives its inode to the next file that is made."""
    used = [file.descriptor for file in spares._spares]
    named = [os.open(tmp_path / f"user{place}", os.O_RDWR | os.O_CREAT) for place in range(2)]
    nameless = [os.open(tmp_path, os.O_RDWR | os.O_TMPFILE) for _ in range(len(used) - 2)]
    for taken, file in zip((*named, *nameless), spares._spares, strict=True):
        os.dup2(taken, file.descriptor)
        status = os.fstat(taken)
        file.identity = (status.st_dev, status.st_ino)
    assert not any(spares.write(str(tmp_path / f"{n}.json"), b"content") for n in range(3))
    spares.close()
    for descriptor in (*used, *named, *nameless):
        assert os.fstat(descriptor).st_size == 0, "written to"
        os.close(descriptor)  # still open: nobody closed what is not ours


@pytest.mark.parametrize("which", ["_journal_file", "_head_file", "running"])
def test_a_users_new_file_that_got_the_inode_of_a_deleted_journal_is_not_written_to(
    tmp_path: Path, which: str
) -> None:
    journal = Journal(tmp_path / "audit")
    journal.running.begin({"id": "0" * 16, "started_at": ""})
    journal.stamp("cell", content={"source": "first"})
    ours = journal.running._file if which == "running" else getattr(journal._files, which)
    path = {"_journal_file": journal.path, "_head_file": journal._files.head}.get(
        which, journal.running._path
    )
    assert ours is not None
    path.unlink()
    theirs = os.open(tmp_path / "theirs", os.O_RDWR | os.O_CREAT)
    os.dup2(theirs, ours.descriptor)
    status = os.fstat(theirs)
    ours.identity = (status.st_dev, status.st_ino)
    journal.running.begin({"id": "1" * 16, "started_at": ""})
    journal.stamp("cell", content={"source": "second"})
    assert path.stat().st_size
    journal.close()
    assert os.fstat(ours.descriptor).st_size == 0
    for descriptor in (ours.descriptor, theirs):
        os.close(descriptor)


def test_the_journal_writes_its_content_into_them(spares: SpareFiles, tmp_path: Path) -> None:
    journal = Journal(tmp_path / "audit")
    journal.stamp("cell", content={"source": "first"})
    journal._files.spares.fill()
    # A copy, as the journal's own thread may be filling them, too; the oldest is taken first.
    inodes = {os.fstat(file.descriptor).st_ino for file in journal._files.spares._spares.copy()}
    journal.stamp("cell", content={"source": "second"})
    newest = tmp_path / "audit" / "content" / journal.session / "2.json"
    assert newest.stat().st_ino in inodes
    journal.close()
    contents = [read_content(tmp_path / "audit", run) for run in read_runs(journal.path)]
    assert contents[1:] == [{"source": "first"}, {"source": "second"}]
    assert verify(tmp_path / "audit").ok
