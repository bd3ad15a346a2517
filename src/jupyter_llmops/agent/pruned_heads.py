"""Heads of sessions that were pruned: they are published from what the retention left, where the catalog lacks them.

A catalog may have lost them, or never had them because it was away until the session was pruned.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Final

from jupyter_llmops.agent.election import agent_file
from jupyter_llmops.agent.flush import readable_runs, session_of
from jupyter_llmops.agent.head_checks import encoded
from jupyter_llmops.agent.published_heads import PublishedHeads
from jupyter_llmops.agent.true_rows import TrueRows, log_public_keys
from jupyter_llmops.audit.files import journal_path
from jupyter_llmops.audit.head_links import kept_links
from jupyter_llmops.audit.reading import list_journals
from jupyter_llmops.audit.sealing import log_folder, origin_of
from jupyter_llmops.audit.tlog.checkpoint import Checkpoint, parse_checkpoint
from jupyter_llmops.audit.tlog.note import format_note, parse_note, sign_note, verify_note
from jupyter_llmops.audit.tlog.tiles import TileStore
from jupyter_llmops.catalog import Catalog
from jupyter_llmops.errors import AuditError, SettingsError
from jupyter_llmops.keys.signing import LogKeys, verifier_key
from jupyter_llmops.location import Location
from jupyter_llmops.records.deletion import PrunedSession
from jupyter_llmops.records.trail import Head

SECONDS_BETWEEN_SEARCHES = 300.0
# Sessions whose rows are checked at a look though none seems to lack: a signature takes a tenth of a millisecond.
_MOST_CHECKED: Final = 50


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
    rows : TrueRows
        Which it has.
    keys : callable
        Returns this user's keys.
    tell : callable
        Told in a sentence of heads that come again, and of those that can't.
    """

    def __init__(
        self, folder: Path, catalog: Catalog, memory: PublishedHeads, rows: TrueRows, *,
        keys: Callable[[], LogKeys], tell: Callable[[str], None],
    ) -> None:  # fmt: skip
        self._folder = Path(folder)
        self._catalog = catalog
        self._memory = memory
        self._rows = rows
        self._keys = keys
        self._tell = tell
        self._next_search = float("-inf")
        self._checked: dict[str, float] = {}

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
        try:
            self._keys()
        except AuditError as error:  # nobody can say which rows are true, and all else goes on
            self._tell(str(error))
            return [], []
        wanted = {name: published.get(name, set()) | due.get(name, set()) for name in pruned}
        sizes = self._catalog.heads.sizes()
        self._rows.look()
        # A row may be planted in the place of one that was deleted: only its signature says it.
        changed = self._rows.changed(pruned[::-1])
        lacking = [name for name in changed if not wanted[name] <= sizes.get(name, set())]
        unsure = [name for name in changed if wanted[name] <= sizes.get(name, set())]
        unsure.sort(key=lambda name: (name not in due, self._checked.get(name, 0.0)))  # each has its turn
        self._checked |= dict.fromkeys(unsure[:_MOST_CHECKED], time.monotonic())
        self._rows.of([*lacking, *unsure[:_MOST_CHECKED]])
        lost: list[Head] = []
        new: list[Head] = []
        for name in sorted({*pruned} - {*unsure[_MOST_CHECKED:]}):
            known = published.get(name, set())
            true = self._rows.of([name])[name].items()  # less what went while the rest looks the same
            there = {size: root for size, root in true if size in sizes.get(name, set())}
            if wanted[name] <= there.keys():
                if name in due:  # an agent was stopped before it could note it
                    self._memory.join({name: due[name]})
                continue
            try:
                heads = self._heads(name, wanted[name] - there.keys(), there)
            except (AuditError, OSError, ValueError) as error:
                self._tell(f"Heads of session {name}, which was pruned, can't be published: {error}")
                continue
            again = [head for head in heads if head.size in known]
            lost += again
            new += [head for head in heads if head.size not in known]
            if again:
                self._tell(
                    f"{len(again)} heads of session {name}, which was pruned, are not in the catalog any more: "
                    "somebody deleted them there, or it is an older one. They are published again."
                )
        return lost, new

    # -- within -------------------------------------------------------------------------------

    def _heads(self, session: str, lacking: set[int], there: dict[int, str]) -> list[Head]:
        """Return what is left of the heads that lack, with those that lead to them from one that is there.

        The links are of heads that were signed before, see `with_links`: no other is signed here.
        """
        left = self._left(session)
        if left is None:
            return []
        signed, public, data = left
        try:
            links = kept_links(self._folder, session, signed.size, signed.root)
        except FileNotFoundError:  # an older version left the last head only
            links = [(signed.size, signed.root, [])]
        roots = {size: encoded(root) for size, root, _ in links}
        if not lacking & roots.keys():
            return []  # nothing is left of those
        if any(size > signed.size or roots.get(size, root) != root for size, root in there.items()):
            raise AuditError("The catalog has others of this log.", "Type: %audit verify")
        signs = public == self._keys().log_public
        heads: list[Head] = []
        skipped = 0
        needed = False
        for number in range(len(links) - 1, -1, -1):
            size, root, proof = links[number]
            needed = size in lacking or (needed and size not in there)
            if not needed:
                continue
            if size != signed.size and not signs:
                skipped += size in lacking
                continue
            before = links[number - 1][0] if number else 0
            if not signs and before not in there:
                before, proof = 0, []
            note = data if size == signed.size else self._signed(session, size, root)
            heads.append(
                Head(
                    session=session, size=size, root=encoded(root), checkpoint=note.decode("utf-8", "replace"),
                    user=self._catalog.user, host=self._catalog.site, created_at=datetime.now(UTC),
                    previous_size=before, consistency=tuple(encoded(one) for one in proof),
                )
            )  # fmt: skip
        if skipped:
            self._tell(
                f"{skipped} heads of session {session}, which was pruned, are not in the catalog any more, and can't "
                "come again, as the key that signed them was replaced. Bring them back from a backup of the catalog."
            )
        return heads[::-1]

    def _left(self, session: str) -> tuple[Checkpoint, bytes, bytes] | None:
        """Return the head that is left, the key of this user that signed it, now or before, and its note."""
        data = TileStore(log_folder(self._folder, session)).read_checkpoint()
        if data is None:
            return None
        note = parse_note(data)
        checkpoint = parse_checkpoint(note.text)
        origin = origin_of(session)
        for public in log_public_keys(session, self._keys()):
            if checkpoint.origin == origin and verify_note(note, [verifier_key(origin, public)]):
                return checkpoint, public, data
        raise AuditError(
            "The head that is left of it is signed with no key that log.id names.", "Type: %audit verify"
        )

    def _signed(self, session: str, size: int, root: bytes) -> bytes:
        """Return a head as it was published; Ed25519 signs the same in the same way."""
        checkpoint = Checkpoint(origin_of(session), size, root)
        return format_note(sign_note(checkpoint.text, checkpoint.origin, self._keys().log))
