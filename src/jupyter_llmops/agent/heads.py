"""When the logs of this user's sessions are sealed, and their heads published."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from jupyter_llmops.agent.election import agent_file
from jupyter_llmops.agent.flush import names_catalog, readable_runs, session_of
from jupyter_llmops.agent.head_checks import encoded, name_signers, signed_by
from jupyter_llmops.agent.pruned_heads import PrunedHeads
from jupyter_llmops.agent.published_heads import PublishedHeads
from jupyter_llmops.agent.true_rows import TrueRows
from jupyter_llmops.audit.files import journal_path
from jupyter_llmops.audit.reading import list_journals
from jupyter_llmops.audit.sealing import SessionLog, origin_of, read_head
from jupyter_llmops.audit.tlog.checkpoint import Checkpoint
from jupyter_llmops.audit.tlog.merkle import consistency_proof
from jupyter_llmops.audit.tlog.note import format_note, sign_note
from jupyter_llmops.catalog import Catalog
from jupyter_llmops.errors import AuditError
from jupyter_llmops.keys.signing import LogKeys, keys_folder
from jupyter_llmops.records.trail import Head

SECONDS_BETWEEN_SEALS = 10.0
RUNS_BETWEEN_SEALS = 100
# What agent and server say of themselves: a head of theirs every 10 s would be most of the catalog's.
OTHERS_SECONDS_BETWEEN_SEALS = 120.0
SECONDS_BETWEEN_SEARCHES = 300.0


def own_keys() -> LogKeys:
    """Return this user's keys; the first call makes them."""
    return LogKeys.load(keys_folder())


@dataclass
class _Session:
    """A journal whose session names this catalog, and how far its log is.

    Parameters
    ----------
    log : SessionLog
        Its log.
    look : tuple of int or None
        Size and time of journal and head when it was last sealed; None before.
    sealed_at : float
        When that was, monotonic seconds.
    signed : Checkpoint or None
        What is signed.
    published : int or None
        Size of the last head that the catalog has; None while that is not known.
    compared : bool
        Whether the catalog's heads of this log were compared with it.
    refused : bool
        The catalog has a head that this log does not continue.
    runs_cells : bool
        Whether it is a kernel's, and not one of an agent or a server.
    """

    log: SessionLog
    look: tuple[int, ...] | None = None
    sealed_at: float = float("-inf")
    signed: Checkpoint | None = None
    published: int | None = None
    compared: bool = False
    refused: bool = False
    runs_cells: bool = True

    @property
    def waits(self) -> bool:
        return self.signed is not None and not self.refused and self.published != self.signed.size


class HeadKeeper:
    """Seals every 10 s, every 100 runs, at the close of a session and at its own start, and publishes heads.

    Sealing needs the disk only; heads wait for a catalog that refuses.

    Parameters
    ----------
    folder : Path
        The audit folder of this user.
    catalog : Catalog
        Where heads go; only sessions that name it are looked after.
    keys : callable
        Returns this user's keys.
    tell : callable
        Told in a sentence, once each, of a log that can't be sealed or published.
    """

    def __init__(
        self, folder: Path, catalog: Catalog, *, keys: Callable[[], LogKeys] = own_keys,
        tell: Callable[[str], None] = lambda _: None,
    ) -> None:  # fmt: skip
        self._folder = Path(folder)
        self._catalog = catalog
        self._open_keys = keys
        self._keys: LogKeys | None = None
        self._tell = tell
        self._told: set[str] = set()
        self._sessions: dict[str, _Session] = {}
        self._foreign: set[str] = set()
        self._named = False
        self._next_search = float("-inf")
        self._memory = PublishedHeads(agent_file(self._folder, catalog.location, "heads"))
        self._rows = TrueRows(catalog, self._own_keys)
        self._pruned = PrunedHeads(
            self._folder, catalog, self._memory, self._rows, keys=self._own_keys, tell=self._tell_once
        )

    @property
    def waiting(self) -> bool:
        """Whether heads are signed that the catalog does not have yet."""
        return any(session.waits for session in self._sessions.values())

    def seal(self, *, closing: bool = False) -> int:
        """Seal the logs for which it is time; return how many got a new head.

        Parameters
        ----------
        closing : bool
            Whether nobody will do it later, so that it is time for all.
        """
        sealed = 0
        for path in list_journals(self._folder):
            name = session_of(path)
            if name in self._foreign:
                continue
            session = self._sessions.get(name) or self._meet(path, name)
            if session is not None and self._is_due(session, path, closing=closing):
                sealed += self._seal(session, path)
        return sealed

    def publish(self) -> int:
        """Publish the heads that wait, in one commit; return how many the catalog did not have.

        Raises
        ------
        CatalogError, TeamKeyError
            They can't be published; they wait.
        """
        waiting = {name: session for name, session in self._sessions.items() if session.waits}
        self._compare({name: session for name, session in waiting.items() if not session.compared})
        pruned, new = self._pruned.lacking()
        lost, heads = [*self._lost(), *pruned, *new], []
        for name, session in waiting.items():
            if session.waits:
                try:
                    heads.append(self._head(session))
                except (AuditError, OSError, ValueError) as error:
                    self._tell_once(f"The head of session {name} can't be published: {error}")
        if not heads and not lost:
            return 0
        if not self._named or lost:  # it may have lost whose they are, too
            # Before its heads: who sees them without it takes them for nobody's.
            name_signers(self._catalog, self._own_keys())
            self._named = True
        added = self._catalog.heads.publish([*lost, *heads])
        joined: dict[str, list[int]] = {}
        for head in new:
            joined.setdefault(head.session, []).append(head.size)
        self._memory.join(joined)
        self._memory.add(heads)
        for head in heads:
            self._sessions[head.session].published = head.size
        return added

    # -- within -------------------------------------------------------------------------------

    def _own_keys(self) -> LogKeys:
        if self._keys is None:
            self._keys = self._open_keys()
        return self._keys

    def _meet(self, path: Path, name: str) -> _Session | None:
        ours = names_catalog(path, self._catalog.location)
        if ours is False:
            self._foreign.add(name)
        if not ours:
            return None
        try:
            log = SessionLog(self._folder, name, self._own_keys())
        except AuditError as error:  # without keys there is nothing to sign with, and all else goes on
            self._tell_once(str(error))
            return None
        first = next(readable_runs(path, -1), None)
        role = (first.leaf or {}).get("role") if first is not None else None
        session = self._sessions[name] = _Session(log, runs_cells=role not in ("agent", "server"))
        return session

    def _is_due(self, session: _Session, path: Path, *, closing: bool) -> bool:
        look = _look(path)
        if look == session.look:
            return False
        if session.look is None or closing:
            return True
        head = read_head(self._folder, session.log.session)
        new = (head.wanted.seq + 1 if head else 0) - (session.signed.size if session.signed else 0)
        if head is not None and head.closed and new:
            return True
        since = time.monotonic() - session.sealed_at
        if not session.runs_cells:
            return since >= OTHERS_SECONDS_BETWEEN_SEALS
        return new >= RUNS_BETWEEN_SEALS or since >= SECONDS_BETWEEN_SEALS

    def _seal(self, session: _Session, path: Path) -> bool:
        before, look = session.signed, _look(path)
        try:
            session.signed = session.log.seal(before)
        except AuditError as error:
            # What it agrees with is sealed; it is looked at again when it changes.
            self._tell_once(str(error))
            session.signed = self._signed(session)
        except OSError as error:
            where = error.filename or session.log.tiles.folder
            self._tell_once(
                f"The log can't be sealed in {where}: {error.strerror or error}. Free space there or make it "
                "writable; runs are recorded all the same."
            )
            return False
        session.look, session.sealed_at = look, time.monotonic()
        return session.signed != before

    def _signed(self, session: _Session) -> Checkpoint | None:
        try:
            return session.log.signed()
        except (AuditError, OSError):
            return None

    def _compare(self, sessions: dict[str, _Session]) -> None:
        """Find out what the catalog has of logs, and refuse those that do not continue it."""
        if not sessions:
            return
        self._rows.look()
        there = self._rows.of(sessions)
        for name, session in sessions.items():
            session.compared = True
            session.signed = self._signed(session)  # an agent of another host may have gone on
            size = session.published = max(there[name], default=0)
            if size and not self._continues(session, size, there[name][size]):
                session.refused = True
                self._tell_once(
                    f"The log of session {name} is not published any more: the catalog has a head of "
                    f"{size:,} leaves that it does not continue. It was rewritten, or brought back from a backup."
                )

    def _lost(self) -> list[Head]:
        """Return the heads that were published and are not in the catalog any more, some minutes apart."""
        compared = {
            name: session for name, session in self._sessions.items()
            if session.compared and not session.refused and session.signed is not None
        }  # fmt: skip
        if not compared or time.monotonic() < self._next_search:
            return []
        self._next_search = time.monotonic() + SECONDS_BETWEEN_SEARCHES
        memory, sizes = self._memory.read(), self._catalog.heads.sizes()
        self._rows.look()
        true = self._rows.of(compared)  # what is planted in the place of one is none
        heads: list[Head] = []
        for name, session in compared.items():
            if not journal_path(self._folder, name).exists():
                continue  # it was pruned meanwhile: `PrunedHeads` looks after it
            known = memory.get(name, set())
            lost = sorted(known - (true[name].keys() & sizes.get(name, set())))
            try:
                again = [
                    self._again(session, size, max((one for one in known if one < size), default=0))
                    for size in lost
                ]
            except (AuditError, OSError, ValueError) as error:
                self._tell_once(f"Heads of session {name} can't be published again: {error}")
                continue
            if again:
                heads += again
                session.published = max(session.published or 0, lost[-1])
                self._tell_once(
                    f"{len(lost)} published heads of session {name} are not in the catalog any more: somebody "
                    "deleted them there, or it is an older one. They are published again."
                )
        return heads

    def _again(self, session: _Session, size: int, previous: int) -> Head:
        """Return a head as it was published; Ed25519 signs the same in the same way."""
        log = session.log
        assert session.signed is not None
        own = session.signed
        if size > own.size or not self._continues(session, own.size, encoded(own.root)):
            raise AuditError("Its log does not continue them.", "Type: %audit verify")
        checkpoint = Checkpoint(origin_of(log.session), size, log.tiles.root(size))
        note = sign_note(checkpoint.text, checkpoint.origin, self._own_keys().log)
        return self._row(session, checkpoint, format_note(note).decode(), previous)

    def _continues(self, session: _Session, size: int, root: str) -> bool:
        try:
            enough = session.signed is not None and size <= session.signed.size
            return enough and encoded(session.log.tiles.root(size)) == root
        except (AuditError, OSError):
            return False

    def _head(self, session: _Session) -> Head:
        log = session.log
        signed, data = log.signed(), log.tiles.read_checkpoint()
        if signed is None or data is None:
            raise AuditError(f"The checkpoint in {log.tiles.folder} is gone.", "Type: %audit verify")
        head = self._row(session, signed, data.decode("utf-8", "replace"), session.published or 0)
        if signed_by(head, [self._own_keys().log_public]) is None:
            raise AuditError("It was sealed anew meanwhile.", "It is published soon.")
        session.signed = signed
        return head

    def _row(self, session: _Session, head: Checkpoint, note: str, previous: int) -> Head:
        proof = consistency_proof(previous, head.size, session.log.tiles.hash_at)
        return Head(
            session=session.log.session, size=head.size, root=encoded(head.root), checkpoint=note,
            user=self._catalog.user, host=self._catalog.site, created_at=datetime.now(UTC),
            previous_size=previous, consistency=tuple(encoded(one) for one in proof),
        )  # fmt: skip

    def _tell_once(self, sentence: str) -> None:
        if sentence not in self._told:
            self._told.add(sentence)
            self._tell(sentence)


def _look(path: Path) -> tuple[int, ...]:
    """Return size and time of a journal and of its head."""
    found: list[int] = []
    for one in (path, path.with_suffix(".head")):
        try:
            status = one.stat()
        except OSError:
            found += [-1, -1]
        else:
            found += [status.st_size, status.st_mtime_ns]
    return tuple(found)
