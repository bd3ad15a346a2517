"""From the sessions' journals into the catalog."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from jupyter_llmops.agent.carried import CarriedMemory
from jupyter_llmops.agent.election import agent_file
from jupyter_llmops.agent.screening import RowScreen
from jupyter_llmops.audit.files import JOURNAL_SUFFIX
from jupyter_llmops.audit.reading import list_journals, read_runs
from jupyter_llmops.catalog import Catalog
from jupyter_llmops.catalog.schemas import RUNS
from jupyter_llmops.errors import AuditError, CatalogError, SettingsError
from jupyter_llmops.location import Location
from jupyter_llmops.records.run import Run

# 100 rows a commit cost a hundredth of 100 commits; above 1,000 nothing more is won.
ROWS_PER_COMMIT = 1000


def flush_journals(folder: Path, catalog: Catalog) -> int:
    """Carry what the journals hold and the catalog does not yet; return how many runs were added.

    Only journals whose session names this catalog are carried. Repeating it adds nothing. The
    catalog is not created for journals that have nothing for it.

    Parameters
    ----------
    folder : Path
        The audit folder of this user.
    catalog : Catalog
        Where to.

    Raises
    ------
    CatalogError
        The catalog can't be read or written; what was not carried waits in the journals.
    """
    return Flusher(folder, catalog).flush()


def require_catalog(catalog: Catalog, remembered: Collection[str]) -> None:
    """Refuse a catalog that is away, so that none is begun in its place and nothing is missed in it.

    Parameters
    ----------
    catalog : Catalog
        Where records are looked for or carried.
    remembered : collection of str
        The sessions of which it has acknowledged something.

    Raises
    ------
    CatalogError
        It has acknowledged some, and is not there.
    """
    if remembered and not catalog.mark(RUNS) and not catalog.is_there():
        raise CatalogError(
            f"The catalog in {catalog.location} is not there any more, although records were carried into it.",
            "Mount its folder or bring it back; the first prompt that is saved there begins a new one.",
        )


@dataclass(frozen=True, slots=True)
class _Seen:
    """A journal at the last look: its size and time, whose it is, up to where it was carried."""

    look: tuple[int, int]
    ours: bool | None
    last_seq: int | None


class Flusher:
    """Flushes again and again, looking only into journals that changed.

    Parameters
    ----------
    folder : Path
        The audit folder of this user.
    catalog : Catalog
        Where to.

    Attributes
    ----------
    conflicts : dict
        A sentence for each run whose id another row of the catalog has, by id.
    lost : dict
        A sentence for each session of which the catalog had lost what it had acknowledged; it was carried again.
    """

    def __init__(self, folder: Path, catalog: Catalog) -> None:
        self._folder = Path(folder)
        self._catalog = catalog
        self._seen: dict[Path, _Seen] = {}
        self._revision = 0
        self._screen = RowScreen()
        self._memory = CarriedMemory(agent_file(folder, catalog.location, "carried"))
        self.conflicts: dict[str, str] = {}
        self.lost: dict[str, str] = {}

    def changed(self) -> bool:
        """Return whether a journal came or changed since the last flush; costs some file look-ups."""
        return any(self._look(path) for path in list_journals(self._folder))

    def require_catalog(self) -> None:
        """Refuse a catalog that is away; see `require_catalog`. Where it is there, that costs a file look-up."""
        if not self._catalog.mark(RUNS):
            require_catalog(self._catalog, self._memory.read())

    def flush(self) -> int:
        """Carry what is new; see `flush_journals`."""
        self.require_catalog()
        if self._revision and self._catalog.revisions()["runs"] < self._revision:
            # The catalog was replaced by an older or an empty one: carry everything again.
            self._seen, self._revision = {}, 0
        seen: dict[Path, _Seen] = {}
        for path in list_journals(self._folder):
            look = self._look(path)
            if look is not None:
                before = self._seen.get(path, _Seen(look, None, None))
                ours = names_catalog(path, self._catalog.location) if before.ours is None else before.ours
                seen[path] = _Seen(look, ours, before.last_seq)
        # Without a journal of ours the catalog is neither opened nor created.
        added = self._carry(seen) if any(journal.ours for journal in seen.values()) else 0
        # Only now: had the catalog refused, the next flush must look at all of them again.
        self._seen |= seen
        return added

    def _carry(self, seen: dict[Path, _Seen]) -> int:
        """Append the new runs of these journals and note in `seen` up to where they were carried."""
        ours = {path: journal for path, journal in seen.items() if journal.ours}
        known = {session_of(path): -1 for path, journal in ours.items() if journal.last_seq is None}
        acknowledged = self._memory.read() if known else {}
        held = self._recall(known, acknowledged)
        added = 0
        waiting: list[Run] = []
        gone: dict[str, int] = {}
        for path, journal in ours.items():
            session = session_of(path)
            last_seq = known[session] if journal.last_seq is None else journal.last_seq
            there = held.get(session, set())
            # Only of those that the catalog was asked for: of others a kernel may have carried lines meanwhile.
            remembered = acknowledged.get(session, -1) if session in known else -1
            lost = 0
            for run in readable_runs(path, last_seq):
                last_seq = run.seq
                if (run.seq, run.leaf_digest) not in there:
                    waiting.append(self._screen.screen(run))
                    lost += run.seq <= remembered
                if len(waiting) == ROWS_PER_COMMIT:
                    added += self._append(waiting)
                    waiting = []
            seen[path] = replace(journal, last_seq=last_seq)
            if lost:
                gone[session] = lost
        added += self._append(waiting)
        for session, count in gone.items():
            self._say_lost(session, count)
        self._revision = self._catalog.revisions()["runs"]
        self._memory.keep({session_of(path): seen[path].last_seq or 0 for path in ours})
        return added

    def _say_lost(self, session: str, count: int) -> None:
        what = "1 record" if count == 1 else f"{count:,} records"
        self.lost[session] = f"{what} of session {session} had gone from the catalog and came again."
        self._memory.note(self.lost[session])

    def _recall(self, known: dict[str, int], remembered: dict[str, int]) -> dict[str, set[tuple[int, str]]]:
        """Fill in up to where sessions were carried before; return the rows of those where that is not sure.

        What the catalog acknowledged is remembered here: a row that somebody else put there must not
        make this one believe that its lines arrived.
        """
        if not known:
            return {}
        counts = self._catalog.runs.counts(known)
        unsure = []
        for session in known:
            seq = remembered.get(session, -1)
            if seq < 0 or counts.get(session, 0) <= seq:
                unsure.append(session)  # never carried, or the catalog has lost some of it
            else:
                known[session] = seq
        return self._catalog.runs.held(session for session in unsure if session in counts)

    def _append(self, runs: list[Run]) -> int:
        added = self._catalog.runs.append(runs)
        if added < len({run.id for run in runs}):
            # Carried by another process meanwhile, or kept out by what only bears their names.
            digests = self._catalog.runs.digests_of(run.id for run in runs)
            for run in runs:
                if digests.get(run.id) != run.leaf_digest:
                    self.conflicts.setdefault(
                        run.id,
                        f"The catalog holds another record under the id of run {run.id}: %audit verify.",
                    )
        return added

    def _look(self, path: Path) -> tuple[int, int] | None:
        """Return size and time of a journal that changed, None of one that did not."""
        try:
            found = path.stat()
        except OSError:
            return None
        look = (found.st_size, found.st_mtime_ns)
        seen = self._seen.get(path)
        return None if seen is not None and seen.look == look else look


def session_of(path: Path) -> str:
    """Return the session of a journal's file."""
    return path.name.removesuffix(JOURNAL_SUFFIX)


def names_catalog(path: Path, location: Location) -> bool | None:
    """Return whether a journal's session names a catalog; None while its first line is unfinished.

    Parameters
    ----------
    path : Path
        The journal.
    location : Location
        Of the catalog.
    """
    first = next(readable_runs(path, -1), None)
    if first is None:
        return None
    named = (first.leaf or {}).get("catalog")
    if first.seq != 0 or not isinstance(named, str) or not named:
        return False
    try:
        return Location.parse(named) == location
    except SettingsError:  # a leaf that this package did not write
        return False


def readable_runs(path: Path, after: int) -> Iterator[Run]:
    """Yield the runs of a journal that have an id; one that can't be read has none for now."""
    try:
        for run in read_runs(path, after=after):
            if run.id:
                yield run
    except AuditError:
        return
