"""The journal of one session: stamps become lines, and no failure of the disk reaches a cell."""

from __future__ import annotations

import atexit
import os
import threading
import time
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

from jupyter_llmops.audit import leaf as leaves
from jupyter_llmops.audit.files import NOTHING, LostJournalError, Mark, SessionFiles
from jupyter_llmops.audit.running import RunningCells
from jupyter_llmops.audit.session import Role, new_session_name, session_fields

SYNC_SECONDS = 0.2
RETRY_SECONDS = 2.0
QUIET_SECONDS = 3600.0

Redact = Callable[[str], tuple[str, tuple[str, ...]]]


class _Entry(NamedTuple):
    """A leaf that is stamped: its line (without newline) and where that stands in the chain."""

    mark: Mark
    line: bytes
    run_id: str


_BEFORE_FIRST = _Entry(NOTHING, b"", "")


class Journal:
    """Stamps leaves into one file of this session; never raises into a cell.

    A stamp returns once ``write(2)`` has taken the whole line, so that it survives a kill of the
    process; a daemon thread calls fdatasync every 200 ms, for a loss of power. Where the disk
    refuses, it warns once and keeps lines and content in memory, in order, until the disk takes them.

    It may be used by many threads. In a forked child it does nothing: the journal is its parent's.

    Parameters
    ----------
    folder : Path
        The audit folder.
    session : str, optional
        Name of the session; a new one by default. A name is used for one journal only.
    context : mapping
        "user" and "host" stand in every leaf; everything else (the catalog, …) in the first.
    role : {"kernel", "agent", "server"}
        Which process this session is; stands in the first leaf.
    redact : callable
        Takes a text, returns it without secrets and the kinds of what was found.
    warn : callable
        Is told, once, in one sentence, that stamps wait in memory.
    """

    def __init__(
        self,
        folder: Path,
        *,
        session: str | None = None,
        context: Mapping[str, Any] | None = None,
        role: Role = "kernel",
        redact: Redact = lambda text: (text, ()),
        warn: Callable[[str], None] = lambda _: None,
    ) -> None:
        self.session = session or new_session_name(Path(folder))
        self.folder = Path(folder)
        self._context = dict(context or {})
        self._user = str(self._context.pop("user", ""))
        self._host = str(self._context.pop("host", ""))
        self._role: Role = role
        self._opened_at = datetime.now(UTC)
        self._redact = redact
        self._warn = warn
        self._warned_at: dict[str, float] = {}
        self._files = SessionFiles(self.folder, self.session)
        self.running = RunningCells(self.folder, self.session)
        self._process = os.getpid()
        # Reentrant, as a signal handler may stamp while its own thread is stamping.
        self._lock = threading.RLock()
        self._last = _BEFORE_FIRST
        self._lines: deque[_Entry] = deque()
        self._contents: deque[tuple[int, bytes]] = deque()
        self._unsynced = False
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None
        atexit.register(self.close)

    @property
    def waiting(self) -> int:
        """How many leaves are in memory only, as the disk did not take them yet."""
        return len(self._lines)

    @property
    def path(self) -> Path:
        """The journal's file."""
        return self._files.journal

    @property
    def stamped(self) -> int:
        """How many leaves this session has, written or waiting."""
        return self._last.mark.seq + 1

    def new_id(self) -> str:
        """Return a fresh run id, 16 random hexadecimal digits."""
        return os.urandom(8).hex()

    def redact(self, text: str) -> str:
        """Return `text` as it would be kept: without what looks like a secret."""
        return self._redacted(text)[0]

    def search(self, text: str) -> tuple[str, tuple[str, ...]]:
        """Return `text` as it would be kept and the kinds of secrets that were cut out of it."""
        return self._redacted(text)

    def stamp(
        self,
        kind: str,
        *,
        id: str | None = None,
        parent: str = "",
        status: str = "ok",
        started_at: datetime | None = None,
        seconds: float = 0.0,
        fields: Mapping[str, Any] | None = None,
        content: Mapping[str, str] | None = None,
        facts: Mapping[str, Any] | None = None,
        salt: str = "",
    ) -> str:
        """Record one run and return its id; empty when there is nothing to record it in.

        Parameters
        ----------
        kind : {"cell", "prompt", "cascade", "reproduction"}
            What ran.
        id : str, optional
            From `new_id`, where children had to know it before.
        parent : str
            Id of the run that it ran in.
        status : {"ok", "error", "interrupted"}
            How it ended.
        started_at : datetime
            When it began; now by default.
        seconds : float
            What it took.
        fields : mapping of name to JSON value
            What this kind holds; strings are redacted.
        content : mapping of name to text
            "source", "request", "response": goes, redacted, into a sidecar that may be deleted,
            the leaf keeps salted digests of it. Pass texts as they are: within a text that is
            itself JSON a secret is found in its escaped spelling only as far as that is foreseen.
        facts : mapping of name to JSON value, optional
            More fields, of digests, counts and names that the caller has seen to hold no secret and
            nothing without an RFC 8785 form: they are taken as they are, as looking through each
            digest would cost more than making it.
        salt : str
            From `leaf.new_salt`, where `facts` hold digests that were made with it; kept in the sidecar.
        """
        if os.getpid() != self._process or self._stop.is_set():
            return ""
        run_id = id or self.new_id()
        moment = started_at or datetime.now(UTC)
        run = (kind, run_id, parent, status, moment, seconds, fields or {}, content or {}, facts, salt)
        try:
            try:
                self._stamp(run)
            except KeyboardInterrupt:
                # Ctrl-C belongs to the user's code, but the run has happened: finish, then pass it on.
                with self._lock:
                    self._heal()
                    if self._last.run_id != run_id:
                        self._stamp(run)
                raise
        except Exception as error:  # noqa: BLE001
            # A stamp is never worth a cell: whatever it is, it is said once and the cell goes on.
            self._complain("stamp", f"A run could not be stamped: {type(error).__name__}: {error}")
        return run_id

    def _stamp(self, run: tuple[Any, ...]) -> None:
        with self._lock:
            self._heal()
            if self._last is _BEFORE_FIRST:
                self._add("session", self.new_id(), "", "ok", self._opened_at, 0.0, self._first(), {})
            self._add(*run)
            self._drain()

    def complain(self, sentence: str) -> None:
        """Warn of something that went wrong around a stamp, once an hour at most."""
        self._complain("around", sentence)

    def flush(self) -> bool:
        """Try to write what waits, wait for the disk, and return whether all is written."""
        if os.getpid() != self._process:
            return True
        try:
            with self._lock:
                self._heal()
                self._drain()
                complete = not self._lines
                sync = self._files.syncer() if self._unsynced else None
                self._unsynced = False
            if sync is not None:
                self._sync(sync)  # without the lock: a stamp must not wait for the disk
            return complete
        except Exception as error:  # noqa: BLE001
            self._complain(
                "write", f"The audit journal could not be written: {type(error).__name__}: {error}"
            )
            return False

    def close(self) -> None:
        """Write what waits, mark the journal as complete and stop; later stamps do nothing."""
        atexit.unregister(self.close)
        if os.getpid() != self._process or self._stop.is_set():
            return
        complete = self.flush()
        self.running.close()
        self._stop.set()
        self._wake.set()
        with self._lock:
            try:
                if complete:
                    self._files.close()
            except OSError:
                pass  # the journal is whole; only the word "closed" is missing
            finally:
                self._files.forget()
        if self._lines:
            self._complain(
                "end",
                f"{len(self._lines)} runs of this session could not be written to {self._files.journal} "
                "and are lost with this process",
            )

    def _first(self) -> dict[str, Any]:
        return {**session_fields(self._role), **self._context}

    def _add(
        self, kind: str, run_id: str, parent: str, status: str, started_at: datetime,
        seconds: float, fields: Mapping[str, Any], content: Mapping[str, str],
        facts: Mapping[str, Any] | None = None, salt: str = "",
    ) -> None:  # fmt: skip
        found: set[str] = set()
        # First the fields: what they give away by name is then known in the content too.
        cleaned: dict[str, Any] = self._clean(leaves.plain(fields), found)
        if facts:
            cleaned |= facts
        seq = self._last.mark.seq + 1
        while self._contents and self._contents[-1][0] >= seq:
            self._contents.pop()  # of a stamp that Ctrl-C cut off before its line
        digests: dict[str, str] = {}
        sidecar = b""
        if content:
            kept = {name: self._redacted(text, found) for name, text in content.items()}
            salt = salt or leaves.new_salt()
            texts = {name: text for name, (text, _) in kept.items()}
            digests = {name: leaves.content_digest(salt, name, text) for name, text in texts.items()}
            sidecar = leaves.sidecar_bytes(self.session, seq, run_id, salt, texts)
        leaf = leaves.new_leaf(
            seq=seq, prev=self._last.mark.digest, session=self.session, run_id=run_id, parent=parent,
            kind=kind, status=status, started_at=started_at, seconds=seconds, user=self._user,
            host=self._host, fields=cleaned, digests=digests, redacted=tuple(found),
        )  # fmt: skip
        line = leaves.leaf_line(leaf)
        if sidecar:
            self._contents.append((seq, sidecar))
        entry = _Entry(Mark(seq, leaves.line_digest(line)), line, run_id)
        self._lines.append(entry)
        self._last = entry

    def _clean(self, value: Any, found: set[str]) -> Any:
        """Return `value` with every string in it redacted."""
        if isinstance(value, str):
            return self._redacted(value, found)[0]
        if isinstance(value, dict):
            return {name: self._clean_field(name, item, found) for name, item in value.items()}
        if isinstance(value, list | tuple):
            return [self._clean(item, found) for item in value]
        return value

    def _clean_field(self, name: Any, value: Any, found: set[str]) -> Any:
        cleaned = self._clean(value, found)
        if isinstance(name, str) and isinstance(cleaned, str) and cleaned == value and len(value) > 3:
            # {"api_key": "abc"}: alone the value says nothing, beside its name it does.
            text, kinds = self._redact(f'{name} = "{value}"')
            if kinds and value not in text:
                found.update(kinds)
                return f"[redacted:{kinds[0]}]"
        return cleaned

    def _redacted(self, text: str, found: set[str] | None = None) -> tuple[str, tuple[str, ...]]:
        try:
            clean, kinds = self._redact(text)
        except Exception:  # noqa: BLE001 - what can't be searched for secrets is not kept
            clean, kinds = "[not kept: it could not be searched for secrets]", ("unsearchable",)
        if found is not None:
            found.update(kinds)
        return clean, kinds

    def _heal(self) -> None:
        # Ctrl-C may have fallen between the last two statements of `_add`.
        if self._lines and self._lines[-1].mark.seq > self._last.mark.seq:
            self._last = self._lines[-1]

    def _drain(self) -> None:
        """Write what waits, in order; on a refusal of the disk keep it and warn once."""
        trouble: OSError | None = None
        try:
            while self._lines:
                entry = self._lines[0]
                # Each line after its own content: a kill between them leaves content of one record that is
                # not there, never more of it, and never a record whose content is gone.
                while self._contents and self._contents[0][0] <= entry.mark.seq:
                    self._files.write_content(*self._contents[0])
                    self._contents.popleft()
                if entry.mark.seq > self._files.stored.seq:
                    self._files.append(entry.line, entry.mark)
                self._unsynced = True
                self._lines.popleft()
        except LostJournalError as error:
            self._complain(
                "lost", f"The audit journal {self._files.journal} was {error.strerror} and was begun again"
            )
            self._drain()
            return
        except OSError as error:
            trouble = error
        if trouble is not None:
            where = trouble.filename or self._files.journal
            self._complain(
                "disk",
                f"The audit trail can't be written to {where} ({trouble.strerror}): runs are kept in "
                "memory and written as soon as it can be; free space there or make it writable",
            )
        if (self._unsynced or trouble) and not self._wake.is_set():
            self._start()
            self._wake.set()

    def _complain(self, topic: str, sentence: str) -> None:
        """Say it once; again only after a quiet hour."""
        now = time.monotonic()
        if now - self._warned_at.get(topic, -QUIET_SECONDS) < QUIET_SECONDS:
            return
        self._warned_at[topic] = now
        try:
            self._warn(sentence + ".")
        except Exception:  # noqa: BLE001 - a warning that can't be shown must not become an error of the cell
            return

    def _start(self) -> None:
        if self._thread is None or not self._thread.is_alive():
            self._thread = threading.Thread(target=self._keep, name="llmops-journal", daemon=True)
            self._thread.start()

    def _keep(self) -> None:
        """Sync every 200 ms while lines come, try again every 2 s while lines wait."""
        while not self._stop.is_set():
            self._wake.wait()
            if not self._stop.is_set():
                self._files.spares.fill()
            if self._stop.wait(RETRY_SECONDS if self._lines else SYNC_SECONDS):
                return
            self._wake.clear()
            self.flush()

    def _sync(self, sync: Callable[[], None]) -> None:
        try:
            sync()
        except OSError as error:
            self._complain(
                "sync",
                f"The disk did not confirm the audit journal {self._files.journal} ({error.strerror}): "
                "a loss of power could lose its last lines; check the disk",
            )
