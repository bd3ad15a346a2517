"""Heads of sessions that were pruned: they are published from what the retention left, where the catalog lacks them.

A catalog may have lost them, or never had them because it was away until the session was pruned.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path

from jupyter_llmops.agent.election import agent_file
from jupyter_llmops.agent.flush import readable_runs, session_of
from jupyter_llmops.agent.head_checks import encoded, signed_by
from jupyter_llmops.agent.published_heads import PublishedHeads
from jupyter_llmops.audit.files import journal_path
from jupyter_llmops.audit.head_links import kept_links
from jupyter_llmops.audit.reading import list_journals
from jupyter_llmops.audit.sealing import SessionLog, log_folder, origin_of
from jupyter_llmops.audit.tlog.checkpoint import Checkpoint
from jupyter_llmops.audit.tlog.note import format_note, sign_note
from jupyter_llmops.catalog import Catalog
from jupyter_llmops.errors import AuditError, SettingsError
from jupyter_llmops.keys.signing import LogKeys
from jupyter_llmops.location import Location
from jupyter_llmops.records.deletion import PrunedSession
from jupyter_llmops.records.trail import Head

SECONDS_BETWEEN_SEARCHES = 300.0


def expect_heads(folder: Path, sessions: Iterable[PrunedSession]) -> None:
    """Note, while their journals are there, which catalogs shall have the last heads of sessions that go.

    Parameters
    ----------
    folder : Path
        The audit folder.
    sessions : iterable of PrunedSession
        Sealed to their ends.
    """
    for one in sessions:
        first = next(readable_runs(journal_path(folder, one.session), -1), None)
        named = (first.leaf or {}).get("catalog") if first is not None else None
        try:
            place = Location.parse(named) if isinstance(named, str) and named else None
        except SettingsError:  # a leaf that this package did not write
            continue
        if place is not None:
            PublishedHeads(agent_file(folder, place, "heads")).expect(one.session, one.size)


class PrunedHeads:
    """Finds the heads of pruned sessions that a catalog should have and does not.

    Parameters
    ----------
    folder : Path
        The audit folder of this user.
    catalog : Catalog
        Where they shall be.
    memory : PublishedHeads
        Which it has had, and which it shall have.
    keys : callable
        Returns this user's keys.
    tell : callable
        Told in a sentence of heads that come again, and of those that can't.
    """

    def __init__(
        self, folder: Path, catalog: Catalog, memory: PublishedHeads, *, keys: Callable[[], LogKeys],
        tell: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._folder = Path(folder)
        self._catalog = catalog
        self._memory = memory
        self._keys = keys
        self._tell = tell
        self._next_search = float("-inf")

    def lacking(self) -> tuple[list[Head], list[Head]]:
        """Return the heads that the catalog has lost, and those that it never had; a look some minutes apart.

        Raises
        ------
        CatalogError
            The catalog can't be read.
        """
        if time.monotonic() < self._next_search:
            return [], []
        self._next_search = time.monotonic() + SECONDS_BETWEEN_SEARCHES
        published, due = self._memory.read(), self._memory.due()
        journals = {session_of(path) for path in list_journals(self._folder)}
        pruned = [
            name for name in sorted({*published, *due} - journals)
            if (log_folder(self._folder, name) / "checkpoint").exists()
        ]  # fmt: skip
        if not pruned:
            return [], []
        sizes = self._catalog.heads.sizes()
        lost: list[Head] = []
        new: list[Head] = []
        for name in pruned:
            known = published.get(name, set())
            lacking = (known | due.get(name, set())) - sizes.get(name, set())
            if not lacking and name in due:
                rows = self._true_rows(name)
                lacking = due[name] - {head.size for head in rows}  # a row of that size may be planted
                if not lacking:  # an agent was stopped before it could note it
                    self._memory.add(rows)
            if not lacking:
                continue
            try:
                heads = self._heads(name, lacking)
            except (AuditError, OSError, ValueError) as error:
                self._tell(f"Heads of session {name}, which was pruned, can't be published: {error}")
                continue
            if due.get(name, set()) & lacking:
                new += heads
            else:
                lost += heads
                if heads:
                    self._tell(
                        f"{len(heads)} heads of session {name}, which was pruned, are not in the catalog any more: "
                        "somebody deleted them there, or it is an older one. They are published again."
                    )
        return lost, new

    # -- within -------------------------------------------------------------------------------

    def _heads(self, session: str, lacking: set[int]) -> list[Head]:
        """Return what is left of the heads that lack, with those that lead to them from one that is there."""
        log = SessionLog(self._folder, session, self._keys())
        signed, data = log.signed(), log.tiles.read_checkpoint()
        if signed is None or data is None:
            return []
        try:
            links = kept_links(self._folder, session, signed.size, signed.root)
        except FileNotFoundError:  # an older version left the last head only
            links = [(signed.size, signed.root, [])]
        roots = {size: encoded(root) for size, root, _ in links}
        if not lacking & roots.keys():
            return []  # nothing is left of those
        there = {head.size: head.root for head in self._true_rows(session)}
        if any(size > signed.size or roots.get(size, root) != root for size, root in there.items()):
            raise AuditError("The catalog has others of this log.", "Type: %audit verify")
        heads: list[Head] = []
        wanted = False
        for number in range(len(links) - 1, -1, -1):
            size, root, proof = links[number]
            wanted = size in lacking or (wanted and size not in there)
            if wanted:
                note = data if size == signed.size else self._signed(session, size, root)
                heads.append(
                    Head(
                        session=session, size=size, root=encoded(root), checkpoint=note.decode("utf-8", "replace"),
                        user=self._catalog.user, host=self._catalog.site, created_at=datetime.now(UTC),
                        previous_size=links[number - 1][0] if number else 0,
                        consistency=tuple(encoded(one) for one in proof),
                    )
                )  # fmt: skip
        return heads[::-1]

    def _signed(self, session: str, size: int, root: bytes) -> bytes:
        """Return a head as it was published; Ed25519 signs the same in the same way."""
        checkpoint = Checkpoint(origin_of(session), size, root)
        return format_note(sign_note(checkpoint.text, checkpoint.origin, self._keys().log))

    def _true_rows(self, session: str) -> list[Head]:
        public = [self._keys().log_public]
        return [head for head in self._catalog.heads.of([session]) if signed_by(head, public) is not None]
