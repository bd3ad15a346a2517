"""The files of one session on disk: where they lie, and appending to them so that nothing tears.

::

    audit/                        0700
      journal/<session>.jsonl     one leaf a line
      journal/<session>.head      which line was to be written, which was written
      journal/<session>.running   which cells have begun
      content/<session>/<seq>.json   the content of a leaf, deletable

The content is written before its line: a kill between the two leaves content without a record,
which the next record takes over, and never a record whose content is lost without a word. For the
same reason it is written within the hook, not by a thread: that would be 30 µs faster, and a kill
would lose what a record has digests of. Only the empty file is made ahead, by a thread.

A ``.running`` file consists of slots of 384 bytes, each one JSON object padded with spaces and ended
by a newline: ``{"id":…,"started_at":…,"execution_count":…,"cell":…,"kernel":…}``. A slot is written
when a cell begins (in the lowest free one, as cells may run cells and subshells run beside each
other) and left as it is when the cell ends, which its leaf of the same id says. So a cell whose id is
in no leaf of the journal, and whose process has ended, began and never ended. At an orderly end with
nothing running the file is removed. It may be there before the journal is: in the session's first cell.
"""

from __future__ import annotations

import errno
import os
import re
import stat
from collections.abc import Callable
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path

from jupyter_llmops.audit.own_file import OwnFile
from jupyter_llmops.audit.spares import SpareFiles

JOURNAL_FOLDER = "journal"
CONTENT_FOLDER = "content"
JOURNAL_SUFFIX = ".jsonl"
HEAD_SUFFIX = ".head"
RUNNING_SUFFIX = ".running"

_SESSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_HEAD_LINE = 104
_FLAGS = os.O_CLOEXEC | os.O_NOFOLLOW
_NEW = os.O_WRONLY | os.O_CREAT | os.O_TRUNC | _FLAGS
_COPY_BYTES = 1 << 20


def is_session_name(session: object) -> bool:
    """Return whether a text can be a session's: of one part, so that no path made of it leads elsewhere.

    Rows of the catalog and records may have been planted, and say any.
    """
    return isinstance(session, str) and _SESSION.fullmatch(session) is not None


def journal_path(folder: Path, session: str) -> Path:
    """Return where a session's journal lies in the audit folder."""
    return folder / JOURNAL_FOLDER / f"{session}{JOURNAL_SUFFIX}"


def head_path(folder: Path, session: str) -> Path:
    """Return where a session's head lies in the audit folder."""
    return folder / JOURNAL_FOLDER / f"{session}{HEAD_SUFFIX}"


def running_path(folder: Path, session: str) -> Path:
    """Return where the marks of a session's begun cells lie in the audit folder."""
    return folder / JOURNAL_FOLDER / f"{session}{RUNNING_SUFFIX}"


def content_path(folder: Path, session: str, seq: int) -> Path:
    """Return where the content sidecar of a leaf lies in the audit folder."""
    return folder / CONTENT_FOLDER / session / f"{seq}.json"


@dataclass(frozen=True, slots=True)
class Mark:
    """A line of a journal: its number (-1 for none) and its SHA-256, hexadecimal."""

    seq: int
    digest: str


NOTHING = Mark(-1, "0" * 64)


@dataclass(frozen=True, slots=True)
class Head:
    """What a journal's last line was meant to be, and what it was once written.

    The writer sets `wanted` before a line and `stored` after it. A kill between the two leaves
    them one apart, and the last line is then either of the two and never a third.
    """

    wanted: Mark
    stored: Mark
    closed: bool

    def to_bytes(self) -> bytes:
        """Return the head's file: two lines of fixed width, so that each is replaced in place."""
        return _head_line("wanted", self.wanted) + _head_line(
            "closed" if self.closed else "stored", self.stored
        )

    @classmethod
    def from_bytes(cls, data: bytes) -> Head:
        """Return the head that a file holds; ValueError where it is not exactly what is written."""
        lines = data.decode("ascii").splitlines()
        if len(lines) != 2:
            raise ValueError("a head has two lines")
        marks = []
        for line in lines:
            _, seq, digest = line.split()
            marks.append(Mark(int(seq), digest))
        head = cls(marks[0], marks[1], closed=lines[1].startswith("closed"))
        if head.to_bytes() != data:
            raise ValueError("not in the form in which it is written")
        return head


def _head_line(word: str, mark: Mark) -> bytes:
    return f"{word} {mark.seq:>20d} {mark.digest}".ljust(_HEAD_LINE - 1).encode("ascii") + b"\n"


class LostJournalError(OSError):
    """The journal's file is gone or is another one now, and was begun again."""


class SessionFiles:
    """Appends lines and sidecars of one session; one thread at a time.

    Every method raises OSError and leaves the files so that the same call can be repeated: an
    interrupt or a full disk in the middle of a line is undone by the next call.

    Parameters
    ----------
    folder : Path
        The audit folder; made, with its parents, when first needed.
    session : str
        Name of the session.
    """

    def __init__(self, folder: Path, session: str) -> None:
        self.folder = folder
        self.session = session
        self.journal = journal_path(folder, session)
        self.head = head_path(folder, session)
        self._contents = str(content_path(folder, session, 0).parent)
        self.spares = SpareFiles(self._contents)
        """For sidecars; whoever has a thread for it calls `fill`."""
        self._journal_file: OwnFile | None = None
        self._head_file: OwnFile | None = None
        # Bytes and mark of the lines that are surely written: replaced as one object, so that no
        # interrupt can leave the two in disagreement.
        self._written: tuple[int, Mark] = (0, NOTHING)
        self._attempted = False

    @property
    def stored(self) -> Mark:
        """The last line that is surely in the file."""
        return self._written[1]

    def append(self, line: bytes, mark: Mark) -> None:
        """Append one line (without its newline) and return once the kernel has it.

        Raises
        ------
        LostJournalError
            The file was deleted or replaced by others; it was begun again with all that could be
            read back, and `line` is in it.
        OSError
            Nothing was written.
        """
        try:
            self._append(line, mark)
        except LostJournalError:
            raise
        except OSError as error:
            if error.errno != errno.EBADF:
                raise
            # The number of our descriptor is another opening of the same file now.
            self._journal_file = self._head_file = None
            self._append(line, mark)

    def _append(self, line: bytes, mark: Mark) -> None:
        found, lost = self._own_journal()
        size, stored = self._written
        if found != size:
            size = self._settle(found, size)
        self._write_head(Head(mark, stored, closed=False))
        data = line + b"\n"
        assert self._journal_file is not None
        self._attempted = True
        count = os.write(self._journal_file.descriptor, data)
        if count != len(data):
            os.ftruncate(self._journal_file.descriptor, size)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.journal))
        self._written = (size + count, mark)
        self._attempted = False
        # It was looked at a moment ago, before the line; a system call less.
        self._write_head(Head(mark, mark, closed=False), looked_at=True)
        if lost:
            raise LostJournalError(errno.ESTALE, lost, str(self.journal))

    def write_content(self, seq: int, data: bytes) -> None:
        """Write the content sidecar of a leaf."""
        # What `content_path` returns, joined as text: a Path costs 10 µs between two cells.
        path = f"{self._contents}{os.sep}{seq}.json"
        if self.spares.write(path, data):
            return
        try:
            descriptor = os.open(path, _NEW, 0o600)
        except FileNotFoundError:
            make_folders(self.folder, Path(self._contents))
            descriptor = os.open(path, _NEW, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
        finally:
            os.close(descriptor)

    def syncer(self) -> Callable[[], None]:
        """Return a call that waits until the lines are on the disk; any thread may make it, once."""
        file = self._journal_file
        if file is None or file.size() is None:
            return lambda: None
        # A duplicate stays valid whatever happens to our own descriptor meanwhile.
        descriptor = os.dup(file.descriptor)

        def sync() -> None:
            try:
                os.fdatasync(descriptor)
            finally:
                os.close(descriptor)

        return sync

    def close(self) -> None:
        """Mark the journal as complete and let go of the files."""
        if self._journal_file is not None:
            mark = self._written[1]
            try:
                self._write_head(Head(mark, mark, closed=True))
            finally:
                self.forget()

    def forget(self) -> None:
        """Let go of the files without a word; a descriptor that others took is not closed."""
        self.spares.close()
        for file, path in ((self._journal_file, self.journal), (self._head_file, self.head)):
            if file is not None and file.is_at(path):
                file.close()
        self._journal_file = self._head_file = None

    def _own_journal(self) -> tuple[int, str]:
        """Return the journal's size in bytes, opening it where needed, and how it was lost."""
        file = self._journal_file
        if file is not None:
            size = file.size()
            expected = size == self._written[0] or file.is_at(self.journal)
            if size is not None and not file.deleted and expected:
                return size, ""
        old = file
        saved = self._read_back(file) if file is not None else None
        self._journal_file = None
        try:
            new = self._open_journal()
            lost = ""
            if self.stored.seq >= 0 and (file is None or new.identity != file.identity):
                lost = self._begin_again(new, saved or b"")
                new = self._open_journal()
        except OSError:
            self._journal_file = old  # its lines may still be read back once the disk is well
            raise
        if old is not None and saved is not None and old.descriptor != new.descriptor:
            old.close()
        self._journal_file = new
        return new.size() or 0, lost

    def _open_journal(self) -> OwnFile:
        flags = os.O_RDWR | os.O_APPEND | os.O_CREAT | _FLAGS
        try:
            return OwnFile(os.open(self.journal, flags, 0o600))
        except FileNotFoundError:
            make_folders(self.folder, self.journal.parent)
            return OwnFile(os.open(self.journal, flags, 0o600))

    def _read_back(self, file: OwnFile) -> bytes | None:
        """Return what was written to a file that was deleted; None where it is not ours any more."""
        if file.size() is None:
            return None
        # A deleted file lives as long as it is open: read it back.
        saved = _read_all(file.descriptor)[: self._written[0]]
        last = self.stored.digest
        if saved and all(sha256(line).hexdigest() != last for line in reversed(saved.splitlines())):
            return None  # a user's file that got the inode
        return saved if saved or not self._written[0] else None

    def _begin_again(self, new: OwnFile, saved: bytes) -> str:
        """Bring back what was written before the file was deleted, as far as it could be read."""
        size = new.size() or 0
        new.close()
        if size:
            # Others put a file there. It is evidence, so it is moved aside and not overwritten.
            self.journal.rename(f"{self.journal}.replaced-{os.urandom(4).hex()}")
        else:
            self.journal.unlink()
        partial = Path(f"{self.journal}.{os.urandom(4).hex()}.partial")
        descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | _FLAGS, 0o600)
        try:
            view = memoryview(saved)
            while view:
                view = view[os.write(descriptor, view) :]
        except OSError:
            partial.unlink()
            raise
        finally:
            os.close(descriptor)
        partial.rename(self.journal)
        self._written = (len(saved), self._written[1])
        return "deleted or replaced by another program"

    def _settle(self, found: int, size: int) -> int:
        """Undo our own torn line, or step over what others appended; return the size, bytes."""
        assert self._journal_file is not None
        descriptor = self._journal_file.descriptor
        if self._attempted and found > size:
            os.ftruncate(descriptor, size)
            return size
        # Others changed the file. Nothing of it is touched: verify will say so.
        if found and os.pread(descriptor, 1, found - 1) != b"\n":
            found += os.write(descriptor, b"\n")
        self._written = (found, self._written[1])
        return found

    def _write_head(self, head: Head, *, looked_at: bool = False) -> None:
        file = self._head_file
        if file is None or not (looked_at or self._is_own_head(file)):
            file = self._head_file = OwnFile(os.open(self.head, os.O_RDWR | os.O_CREAT | _FLAGS, 0o600))
        data = head.to_bytes()
        if os.pwrite(file.descriptor, data, 0) != len(data):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(self.head))

    def _is_own_head(self, file: OwnFile) -> bool:
        size = file.size()
        if size == 2 * _HEAD_LINE and file.deleted:
            file.close()
            return False
        return size == 2 * _HEAD_LINE or (size is not None and file.is_at(self.head))


def make_folders(folder: Path, wanted: Path) -> None:
    """Make the audit folder and one within it, for the user alone."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    for one in (folder, wanted.parent, wanted):
        one.mkdir(exist_ok=True, mode=0o700)
        if stat.S_IMODE(one.stat().st_mode) & 0o077:
            one.chmod(0o700)


def _read_all(descriptor: int) -> bytes:
    parts = []
    offset = 0
    while part := os.pread(descriptor, _COPY_BYTES, offset):
        parts.append(part)
        offset += len(part)
    return b"".join(parts)
