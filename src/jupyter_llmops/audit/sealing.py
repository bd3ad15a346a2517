"""Sealing: a journal's new lines become leaves of the session's log, and its head is signed.

The journal is the hot path and the truth; this follows behind, in the agent or where somebody wants to know
now. Nothing is signed that contradicts what was signed before, nor what contradicts the journal's own chain
and head: then the good lines before the fault are sealed, and `AuditError` says what is wrong.

::

    audit/log/<session>/    the log as c2sp.org/tlog-tiles: checkpoint, tile/…
    audit/log.lock          held while one seals, so that two never do at once
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

from jupyter_llmops.audit.files import NOTHING, Head, Mark, head_path, journal_path
from jupyter_llmops.audit.tlog.checkpoint import Checkpoint, parse_checkpoint
from jupyter_llmops.audit.tlog.merkle import leaf_hash
from jupyter_llmops.audit.tlog.note import format_note, parse_note, sign_note, verify_note
from jupyter_llmops.audit.tlog.tiles import LARGEST_ENTRY, TileStore
from jupyter_llmops.errors import AuditError
from jupyter_llmops.keys.signing import ORIGIN_PREFIX, LogKeys, may_sign

LOG_FOLDER: Final = "log"
LOCK_SECONDS: Final = 60.0
_HINT: Final = "Type: %audit verify"


def origin_of(session: str) -> str:
    """Return the C2SP origin of a session's log, which is its key's name, too."""
    return ORIGIN_PREFIX + session


def log_folder(folder: Path, session: str) -> Path:
    """Return where a session's log lies in the audit folder."""
    return Path(folder) / LOG_FOLDER / session


def seal(folder: Path, session: str, keys: LogKeys) -> Checkpoint | None:
    """Bring a session's log up to its journal and sign its head; harmless when repeated or after a kill.

    Parameters
    ----------
    folder : Path
        The audit folder.
    session : str
        Name of the session.
    keys : LogKeys
        Signs.

    Returns
    -------
    Checkpoint or None
        What is signed now; None when there is nothing to seal.

    Raises
    ------
    AuditError
        Journal, log or checkpoint contradict each other; what they agree on is sealed.
    OSError
        The disk refuses; the same call can be repeated.
    """
    return SessionLog(folder, session, keys).seal()


@dataclass(frozen=True, slots=True)
class _Place:
    """Up to where a journal was read: bytes, the last line's mark, and which file that was."""

    offset: int
    mark: Mark
    file: tuple[int, int] | None


_BEGINNING = _Place(0, NOTHING, None)


class SessionLog:
    """The log of one session; it remembers up to where it read, so that sealing costs what is new.

    Parameters
    ----------
    folder, session, keys
        As for `seal`.

    Attributes
    ----------
    tiles : TileStore
        The log itself.
    """

    def __init__(self, folder: Path, session: str, keys: LogKeys) -> None:
        self.folder = Path(folder)
        self.session = session
        self.tiles = TileStore(log_folder(folder, session))
        self._keys = keys
        self._place = _BEGINNING
        self._fault = ""

    def seal(self, known: Checkpoint | None = None) -> Checkpoint | None:
        """Append what is new and sign it; see `seal`.

        Parameters
        ----------
        known : Checkpoint, optional
            A head of this log that was signed before, e.g. a published one: it is only continued. Of a log
            that was lost since, its journal makes the same again.
        """
        if not journal_path(self.folder, self.session).exists():
            return self.signed()  # of a pruned session only its head is left
        with sealing(self.folder):
            signed = self.signed()
            if self.tiles.size() <= self._place.mark.seq:  # it was lost: nothing of it is known any more
                self.tiles, self._place = TileStore(self.tiles.folder), _BEGINNING
            self._check_continues(signed)
            return self._catch_up(signed, known)

    def signed(self) -> Checkpoint | None:
        """Return the head that is signed, None where there is none.

        Raises
        ------
        AuditError
            It is not signed with this user's key, or says to be of another log.
        """
        data = self.tiles.read_checkpoint()
        if data is None:
            return None
        try:
            note = parse_note(data)
            checkpoint = parse_checkpoint(note.text)
            names = verify_note(note, [self._keys.session_vkey(self.session)])
        except ValueError as error:
            raise self._refusal(f"its checkpoint can't be read: {error}") from None
        if checkpoint.origin not in names or checkpoint.origin != origin_of(self.session):
            raise self._refusal("its checkpoint is not signed with this user's key")
        return checkpoint

    def _check_continues(self, head: Checkpoint | None) -> None:
        """Refuse a log that is not one that the signed `head` was signed of."""
        if head is None:
            return
        size = self.tiles.size()
        if size < head.size:
            raise self._refusal(f"it has {size:,} leaves, and {head.size:,} were signed before")
        if self.tiles.root(head.size) != head.root:
            raise self._refusal(f"its first {head.size:,} leaves are not those that were signed before")

    def _catch_up(self, signed: Checkpoint | None, known: Checkpoint | None) -> Checkpoint | None:
        before = self.tiles.size()
        if signed is not None and signed.size == before and self._nothing_new(signed.size):
            return signed
        self._fault = ""
        with contextlib.ExitStack() as stack:
            new = self._new_lines(before, stack)
            size = self.tiles.append(new) if new is not None else before
        if size and (signed is None or signed.size != size):
            self._check_continues(known)
            if not may_sign(self.session, self._keys.log_public):
                raise self._refusal(
                    "its name is bound to another key, and the key that signs was replaced since"
                )
            # Only now: a kill before it leaves leaves without a signature, which the next call signs.
            signed = Checkpoint(origin_of(self.session), size, self.tiles.root(size))
            note = sign_note(signed.text, signed.origin, self._keys.log)
            self.tiles.write_checkpoint(format_note(note))
        if self._fault:
            self._place = _BEGINNING  # the next call looks at everything again
            raise self._refusal(self._fault)
        return signed

    def _nothing_new(self, size: int) -> bool:
        head = read_head(self.folder, self.session)
        return head is not None and head.wanted == head.stored and head.stored.seq + 1 == size

    def _new_lines(self, sealed: int, stack: contextlib.ExitStack) -> Iterator[bytes] | None:
        """Return the lines that the log lacks, each checked as it is taken; a fault ends them."""
        before = read_head(self.folder, self.session)
        try:
            file = stack.enter_context(journal_path(self.folder, self.session).open("rb"))
        except FileNotFoundError:
            return None  # only its head was kept
        status = os.fstat(file.fileno())
        # The writer may be alive: it sets its head before a line and after it, so this one, read after
        # the size, tells of every line up to there, and that one before of none that must not be there.
        after = read_head(self.folder, self.session)
        identity = (status.st_dev, status.st_ino)
        place = self._place
        if place.file != identity or place.offset > status.st_size or place.mark.seq >= sealed:
            place = _BEGINNING
        file.seek(place.offset)
        return self._checked(file, place, status.st_size, identity, sealed, before, after)

    def _checked(
        self, file: Any, place: _Place, end: int, identity: tuple[int, int],
        sealed: int, before: Head | None, after: Head | None,
    ) -> Iterator[bytes]:  # fmt: skip
        if after is None:
            self._fault = "the head of its journal is missing or was changed"
            return
        offset, last = place.offset, place.mark
        first = last.seq + 1
        hashes = self.tiles.leaf_hashes(first, sealed) if first < sealed else iter(())
        held: tuple[bytes, Mark] | None = None
        while offset < end:
            data = file.readline()
            if not data.endswith(b"\n") or offset + len(data) > end:
                break  # a line that is being written
            line = data[:-1]
            mark = Mark(last.seq + 1, sha256(line).hexdigest())
            self._fault = self._what_is_wrong(line, mark, last, before, after)
            if not self._fault and mark.seq < sealed and leaf_hash(line) != next(hashes):
                self._fault = f"record {mark.seq} of its journal is not the leaf of the log"
            if self._fault:
                return
            # What the next line remembers is vouched for.
            if held is not None:
                yield held[0]
                self._place = _Place(offset, held[1], identity)
            held = (line, mark) if mark.seq >= sealed else None
            offset, last = offset + len(data), mark
        if last.seq + 1 < sealed:
            self._fault = f"its journal has {last.seq + 1:,} records, and {sealed:,} are in the log"
        elif before is not None and last.seq < before.stored.seq:
            self._fault = f"records {last.seq + 1} to {before.stored.seq} of its journal are missing"
        elif held is None:
            self._place = _Place(offset, last, identity)
        elif last in (after.stored, after.wanted) or (before and last in (before.stored, before.wanted)):
            yield held[0]
            self._place = _Place(offset, last, identity)
        elif last.seq >= after.stored.seq:
            self._fault = f"record {last.seq} of its journal was changed: the head has another digest"

    def _what_is_wrong(self, line: bytes, mark: Mark, last: Mark, before: Head | None, after: Head) -> str:
        import orjson

        if mark.seq > after.wanted.seq:
            return f"record {mark.seq} was added after the last one that its journal's head knows"
        if before is not None and mark.seq == before.stored.seq and mark != before.stored:
            return f"record {mark.seq} of its journal was changed: the head has another digest"
        if len(line) > LARGEST_ENTRY:
            return f"record {mark.seq} of its journal is longer than a log takes"
        try:
            leaf = orjson.loads(line)
        except ValueError:
            return f"line {mark.seq} of its journal is no record"
        if not isinstance(leaf, dict) or leaf.get("seq") != mark.seq or leaf.get("session") != self.session:
            return f"line {mark.seq} of its journal is not record {mark.seq} of this session"
        if leaf.get("prev") != last.digest:
            return f"record {mark.seq} of its journal remembers another record before it"
        return ""

    def _refusal(self, what: str) -> AuditError:
        return AuditError(f"The log of session {self.session} can't be sealed: {what}.", _HINT)


def read_head(folder: Path, session: str) -> Head | None:
    """Return what a journal's head file says; None where there is none, or none that was written whole."""
    try:
        return Head.from_bytes(head_path(folder, session).read_bytes())
    except (FileNotFoundError, NotADirectoryError, ValueError):
        return None


def says_sealed(folder: Path, session: str) -> bool:
    """Return whether a log's checkpoint says to cover what its journal's head knows; nothing is verified.

    Times of files don't say it: a clock that was wrong makes a checkpoint newer than what came after it.
    """
    try:
        data = (log_folder(folder, session) / "checkpoint").read_bytes()
        size = parse_checkpoint(parse_note(data).text).size
    except (OSError, ValueError):
        return False
    head = read_head(folder, session)
    return head is not None and head.wanted == head.stored and head.stored.seq + 1 == size


@contextlib.contextmanager
def sealing(folder: Path) -> Iterator[None]:
    """Keep all others that seal logs of an audit folder waiting.

    Raises
    ------
    AuditError
        Another one is at it for a minute already.
    OSError
        The folder can't be written.
    """
    from filelock import FileLock, Timeout

    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    lock = FileLock(folder / f"{LOG_FOLDER}.lock", timeout=LOCK_SECONDS, mode=0o600)
    try:
        with lock:
            yield
    except Timeout:
        raise AuditError(
            f"Another process has been sealing logs in {folder} for a minute.", "Try it again later."
        ) from None
