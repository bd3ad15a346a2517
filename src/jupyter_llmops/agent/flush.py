"""From the sessions' journals into the catalog."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

from jupyter_llmops.agent.screening import RowScreen
from jupyter_llmops.audit.files import JOURNAL_SUFFIX
from jupyter_llmops.audit.reading import list_journals, read_runs
from jupyter_llmops.catalog import Catalog
from jupyter_llmops.errors import AuditError, SettingsError
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
    """

    def __init__(self, folder: Path, catalog: Catalog) -> None:
        self._folder = Path(folder)
        self._catalog = catalog
        self._seen: dict[Path, _Seen] = {}
        self._revision = 0
        self._screen = RowScreen()

    def changed(self) -> bool:
        """Return whether a journal came or changed since the last flush; costs some file look-ups."""
        return any(self._look(path) for path in list_journals(self._folder))

    def flush(self) -> int:
        """Carry what is new; see `flush_journals`."""
        if self._revision and self._catalog.revisions()["runs"] < self._revision:
            # The catalog was replaced by an older or an empty one: carry everything again.
            self._seen, self._revision = {}, 0
        seen: dict[Path, _Seen] = {}
        for path in list_journals(self._folder):
            look = self._look(path)
            if look is not None:
                before = self._seen.get(path, _Seen(look, None, None))
                ours = self._is_ours(path) if before.ours is None else before.ours
                seen[path] = _Seen(look, ours, before.last_seq)
        # Without a journal of ours the catalog is neither opened nor created.
        added = self._carry(seen) if any(journal.ours for journal in seen.values()) else 0
        # Only now: had the catalog refused, the next flush must look at all of them again.
        self._seen |= seen
        return added

    def _carry(self, seen: dict[Path, _Seen]) -> int:
        """Append the new runs of these journals and note in `seen` up to where they were carried."""
        carried: dict[str, int] | None = None
        added = 0
        waiting: list[Run] = []
        for path, journal in seen.items():
            if not journal.ours:
                continue
            last_seq = journal.last_seq
            if last_seq is None:
                carried = self._catalog.runs.last_seqs() if carried is None else carried
                last_seq = carried.get(path.name.removesuffix(JOURNAL_SUFFIX), -1)
            for run in _readable(path, last_seq):
                waiting.append(self._screen.screen(run))
                last_seq = run.seq
                if len(waiting) == ROWS_PER_COMMIT:
                    added += self._catalog.runs.append(waiting)
                    waiting = []
            seen[path] = replace(journal, last_seq=last_seq)
        added += self._catalog.runs.append(waiting)
        self._revision = self._catalog.revisions()["runs"]
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

    def _is_ours(self, path: Path) -> bool | None:
        """Return whether a journal's session names this catalog; None while its first line is unfinished."""
        first = next(_readable(path, -1), None)
        if first is None:
            return None
        named = (first.leaf or {}).get("catalog")
        if first.seq != 0 or not isinstance(named, str) or not named:
            return False
        try:
            return Location.parse(named) == self._catalog.location
        except SettingsError:  # a leaf that this package did not write
            return False


def _readable(path: Path, after: int) -> Iterator[Run]:
    """Yield the runs of a journal that have an id; one that can't be read has none for now."""
    try:
        for run in read_runs(path, after=after):
            if run.id:
                yield run
    except AuditError:
        return
