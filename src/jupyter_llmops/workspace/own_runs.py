"""Runs of this machine that the catalog does not have yet, or whose texts it does not."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import NamedTuple

from jupyter_llmops.audit.files import JOURNAL_SUFFIX
from jupyter_llmops.audit.reading import list_journals, parse_run, read_content, read_newest
from jupyter_llmops.audit.sharing import searchable
from jupyter_llmops.catalog.run_words import count_words
from jupyter_llmops.errors import AuditError, SettingsError
from jupyter_llmops.location import Location
from jupyter_llmops.records.run import Run
from jupyter_llmops.records.run_search import RunFilter

# So many runs are looked at in one find, of so many journals that changed last.
MOST_RUNS = 2_000
_MOST_JOURNALS = 300
# An agent carries and shares line by line: behind so many that are there, all are.
_AT_ONCE = 20


class OwnFound(NamedTuple):
    """Runs, newest first, what each said by id, and whether more were not looked at."""

    runs: tuple[Run, ...] = ()
    texts: Mapping[str, str] = {}
    more: bool = False


class OwnRuns:
    """Finds what this user's journals hold and a catalog does not.

    Parameters
    ----------
    folder : Path
        The audit folder of this user.
    location : Location
        Of the catalog: only journals whose session names it count.
    """

    def __init__(self, folder: Path, location: Location) -> None:
        self._folder = folder
        self._location = location
        # Journals that need no look until they change, as all of them was there.
        self._whole: dict[tuple[Path, bool], tuple[int, int]] = {}
        self._ours: dict[Path, bool] = {}

    def missing(
        self, known: Callable[[Sequence[str]], Collection[str]], chosen: RunFilter, *, said: bool
    ) -> OwnFound:
        """Return the runs that fit and are not known, newest first; of `MOST_RUNS` at most.

        Parameters
        ----------
        known : callable
            Returns which of some ids the catalog has.
        chosen : RunFilter
            All of it must fit but the rating, which no journal holds.
        said : bool
            Only runs that say something, with their texts.
        """
        found: list[Run] = []
        texts: dict[str, str] = {}
        looked = 0
        looks = self._changed(said)
        waiting = {path: self._newest(path, said) for path in looks}
        behind: set[Path] = set()
        while waiting and looked <= MOST_RUNS:
            parts = {path: list(islice(runs, _AT_ONCE)) for path, runs in waiting.items()}
            there = set(known([run.id for part in parts.values() for run in part]))
            for path, part in parts.items():
                new = [run for run in part if run.id not in there]
                looked += len(new)
                if new:
                    behind.add(path)
                if len(new) < len(part) or len(part) < _AT_ONCE:
                    del waiting[path]
                for run in new:
                    if not chosen.fits(run):
                        continue
                    text = self._text(run) if said else ""
                    if text or not said:
                        found.append(run)
                        texts[run.id] = text
        self._whole |= {
            (path, said): look for path, look in looks.items() if path not in behind | set(waiting)
        }
        found.sort(key=lambda run: (run.started_at, run.seq), reverse=True)
        return OwnFound(tuple(found), texts, bool(waiting))

    # -- within -------------------------------------------------------------------------------

    def _changed(self, said: bool) -> dict[Path, tuple[int, int]]:
        """Return the looks of the journals of this catalog that are to be read, the last changed first."""
        found: list[tuple[int, int, Path]] = []
        for path in list_journals(self._folder):
            with contextlib.suppress(OSError):
                status = path.stat()
                if self._whole.get((path, said)) != (status.st_mtime_ns, status.st_size):
                    found.append((status.st_mtime_ns, status.st_size, path))
        newest = sorted(found, reverse=True)[:_MOST_JOURNALS]
        return {path: (when, size) for when, size, path in newest if self._is_ours(path)}

    def _is_ours(self, path: Path) -> bool:
        if path not in self._ours:
            with path.open("rb") as file:
                first = parse_run(file.readline(1 << 16), path.name.removesuffix(JOURNAL_SUFFIX), 0)
            if first is None:
                return False  # it is only beginning
            named = (first.leaf or {}).get("catalog")
            try:
                self._ours[path] = isinstance(named, str) and Location.parse(named) == self._location
            except SettingsError:  # a leaf that this package did not write
                self._ours[path] = False
        return self._ours[path]

    def _newest(self, path: Path, said: bool) -> Iterator[Run]:
        with contextlib.suppress(AuditError):
            for run in read_newest(path):
                if run.id and (not said or (run.leaf or {}).get("digests")):
                    yield run

    def _text(self, run: Run) -> str:
        try:
            return searchable(read_content(self._folder, run) or {})[1]
        except AuditError:  # damaged, as `verify` says
            return ""


def merged(
    runs: Sequence[Run], texts: Mapping[str, str], own: Sequence[Run], words: Sequence[str], limit: int
) -> list[Run]:
    """Put own runs between those that a catalog found: before the first that has fewer of the words.

    Parameters
    ----------
    runs : sequence of Run
        What the catalog found, best first.
    texts : mapping
        What all of them said, by id.
    own : sequence of Run
        What it does not have, newest first; those with none of the words are left out.
    words : sequence of str
        In lower case.
    limit : int
        Most runs.
    """

    def count(run: Run) -> int:
        names = f"{run.notebook} {run.model} {run.error_type}"
        return count_words(words, f"{texts.get(run.id, '')} {names}")

    known = {run.id for run in runs}
    scored = [(count(run), run) for run in own if run.id not in known]
    waiting = sorted((pair for pair in scored if pair[0]), key=lambda pair: -pair[0])
    ordered: list[Run] = []
    for run in runs:
        has = count(run)
        while waiting and waiting[0][0] >= has:
            ordered.append(waiting.pop(0)[1])
        ordered.append(run)
    return [*ordered, *(run for _, run in waiting)][:limit]
