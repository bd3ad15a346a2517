"""Finding runs among a million: by the words of what they said, and by their fields.

Words are ranked by BM25 over the table of contents and over the names in the runs' own columns. Fields are
compared with the scalar indexes that upkeep builds; without an index the same answer takes longer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import islice

from jupyter_llmops.catalog.changes import Changes
from jupyter_llmops.catalog.connection import Connection, sql_text
from jupyter_llmops.catalog.indexes import TEXT, WORD_FIELDS
from jupyter_llmops.catalog.run_order import SCAN, newest_ids, sql_moment
from jupyter_llmops.catalog.run_rows import COST_IN_LEAF, RUN_FIELDS, run_of
from jupyter_llmops.catalog.run_words import Candidate, find_words, only_looks, rows_with_all
from jupyter_llmops.catalog.schemas import CONTENTS, RUNS, rows_of
from jupyter_llmops.records.run import Run
from jupyter_llmops.records.run_search import ALL_KINDS, NOT_RUN, STATUSES, RunFilter

RAN = f"kind NOT IN ({', '.join(map(sql_text, NOT_RUN))})"
"""SQL of what people ran."""
# Ids in one filter: more take long to parse.
_AT_ONCE = 1_000
_AT_FIRST = 200
# So many ids before a search for words cost it 20 ms.
_SOME = 5_000
# So many best matches are compared with the filters at most.
_LAST = 20_000
# Of the best matches the newest are looked for in so many.
_RECENT = 5_000
# The ids of so many runs are read in 50 ms.
_MANY = 60_000
# Kinds that say something.
_SAYS = "kind IN ('cell', 'prompt', 'map', 'cascade', 'training')"


@dataclass(frozen=True, slots=True)
class _Narrow:
    """How fields narrow a search for words.

    Parameters
    ----------
    before : str
        SQL of the contents that is compared first.
    where : str
        SQL of the runs that candidates are compared with; empty where `before` says all.
    first : int
        How many candidates are asked for at first.
    ids : callable, optional
        Gives the ids of all that fit, where they are quickly read.
    """

    before: str
    where: str = ""
    first: int = 0
    ids: Callable[[], list[str]] | None = None


@dataclass(frozen=True, slots=True)
class FoundRuns:
    """Runs that were found, in order.

    Parameters
    ----------
    runs : tuple of Run
        Best or newest first.
    texts : dict of str to str
        What each said, redacted, by id; only of a search for words.
    complete : bool
        False where more may fit than was looked at.
    """

    runs: tuple[Run, ...]
    texts: dict[str, str]
    complete: bool = True


class RunSearch:
    """Searches the tables of runs and contents.

    Parameters
    ----------
    connection : Connection
        The catalog.
    changes : Changes
        Holds what was said of runs.
    """

    def __init__(self, connection: Connection, changes: Changes) -> None:
        self._connection = connection
        self._changes = changes

    def newest(self, chosen: RunFilter, limit: int) -> FoundRuns:
        """Return the newest runs that fit, newest first.

        Raises
        ------
        CatalogError
            The catalog can't be read.
        """
        ids = self.newest_ids(chosen, limit)
        runs = self._ordered(ids)
        return FoundRuns(tuple(sorted(runs, key=lambda run: (run.started_at, run.seq), reverse=True)), {})

    def matching(self, words: str, chosen: RunFilter, limit: int, *, newest_first: bool = False) -> FoundRuns:
        """Return the runs whose text, notebook, model or error has the words.

        Cells that do nothing but look at runs (%runs find WORDS has the words, too) are left out unless the
        filter says a kind.

        Parameters
        ----------
        words : str
            Nothing in it is read as query syntax.
        chosen : RunFilter
            All of it must fit, too.
        limit : int
            Most runs.
        newest_first : bool
            In the order of time and not of BM25, of the 5,000 best.

        Raises
        ------
        CatalogError
            The catalog can't be read.
        """
        narrow = self._narrowed(chosen, limit)
        if narrow is None:
            return FoundRuns((), {})
        most = max(limit, _RECENT if newest_first else narrow.first)
        said: dict[str, str] = {}
        while True:
            texts = find_words(
                self._connection, CONTENTS, (TEXT,), words, narrow.before, most, dated=newest_first
            )
            if newest_first:
                texts = [*texts, *self._names_with(words, chosen, most, dated=True)]
                texts.sort(key=lambda one: one.moment, reverse=True)
            found = self._chosen([one.id for one in texts], narrow, chosen, limit, said)
            complete = len(texts) < most or (len(found) >= limit and not newest_first)
            if complete or newest_first or most >= _LAST:
                break
            most = min(_LAST, most * 10)
        if len(found) < limit and not newest_first:
            # Those whose text has the words come before those whose names do.
            named = (one.id for one in self._names_with(words, chosen, limit))
            found = list(dict.fromkeys([*found, *named]))[:limit]
        runs = self._ordered(found)
        if newest_first:
            runs.sort(key=lambda run: (run.started_at, run.seq), reverse=True)
        said |= self.texts([run_id for run_id in found if run_id not in said])
        return FoundRuns(tuple(runs), {run_id: said[run_id] for run_id in found if run_id in said}, complete)

    def fitting(self, ids: Sequence[str], chosen: RunFilter, limit: int) -> list[str]:
        """Return the first of `ids` that fit and whose text is still there, in their order."""
        where = self.where(chosen)
        found: list[str] = []
        for start in range(0, len(ids), _AT_ONCE):
            known = self.with_text(ids[start : start + _AT_ONCE])
            part = [run_id for run_id in ids[start : start + _AT_ONCE] if run_id in known]
            if part:
                found += list(self._fitting(part, where, limit)) if where else part
            if len(found) >= limit:
                break
        return found[:limit]

    def with_text(self, ids: Sequence[str]) -> set[str]:
        """Return those runs whose texts are here."""
        known: set[str] = set()
        for start in range(0, len(ids), _AT_ONCE):
            rows = self._connection.read(CONTENTS, ["id"], _among(ids[start : start + _AT_ONCE]))
            known |= set() if rows is None else set(rows["id"].to_pylist())
        return known

    def newest_ids(self, chosen: RunFilter, limit: int) -> list[str]:
        """Return the ids of the newest runs that fit, newest first."""
        return newest_ids(self._connection, self.where(chosen), limit)

    def newest_with_text(self, chosen: RunFilter, limit: int) -> list[str]:
        """Return the ids of the newest runs that fit and whose text is here, newest first; about `limit`."""
        ids = newest_ids(self._connection, " AND ".join(filter(None, (self.where(chosen), _SAYS))), limit)
        there = self.with_text(ids)
        return [run_id for run_id in ids if run_id in there]

    def by_ids(self, ids: Sequence[str]) -> list[Run]:
        """Return runs in the order of their ids, those that are not there left out."""
        return self._ordered(ids)

    def texts(self, ids: Sequence[str]) -> dict[str, str]:
        """Return what runs said, redacted, by id."""
        found: dict[str, str] = {}
        for start in range(0, len(ids), _AT_ONCE):
            rows = rows_of(
                self._connection.read(CONTENTS, ["id", TEXT], _among(ids[start : start + _AT_ONCE]))
            )
            found |= {row["id"]: row[TEXT] or "" for row in rows}
        return found

    def children(self, run_id: str, limit: int) -> list[Run]:
        """Return what ran within a run, oldest first."""
        rows = self._connection.read(RUNS, RUN_FIELDS, f"parent = {sql_text(run_id)}", limit=limit)
        return sorted((run_of(row) for row in rows_of(rows)), key=lambda run: (run.started_at, run.seq))

    def environment(self, run: Run) -> Run | None:
        """Return the environment's leaf that holds for a run, None where its session has none.

        It is the last one before the run; the first of a session holds from its beginning.
        """
        where = f"session = {sql_text(run.session)} AND kind = 'environment'"
        rows = self._connection.read(RUNS, RUN_FIELDS, where)
        return in_force([run_of(row) for row in rows_of(rows)], run)

    def last_cell(self, number: int, user: str, host: str, notebook: str) -> Run | None:
        """Return the newest cell of that count that a user ran in a notebook on a host, None where none is."""
        where = (
            f"kind = 'cell' AND execution_count = {number} AND user = {sql_text(user)} "
            f"AND host = {sql_text(host)} AND notebook = {sql_text(notebook)}"
        )
        return next(iter(self._ordered(newest_ids(self._connection, where, 1))), None)

    def recent_ids(self, limit: int) -> list[str]:
        """Return the ids of the newest runs."""
        return newest_ids(self._connection, "", limit)

    def values(self, field: str, limit: int = 5_000) -> list[str]:
        """Return what a column holds among the newest runs, for completion."""
        ids = newest_ids(self._connection, "", limit)
        rows = self._connection.read(RUNS, [field], _among(ids)) if ids else None
        return [] if rows is None else sorted({value for value in rows[field].to_pylist() if value})

    def where(self, chosen: RunFilter) -> str:
        """Return a filter as SQL, empty where all runs fit."""
        parts = _equal(chosen, ("user", "model", "session", "parent"))
        if chosen.kind != ALL_KINDS:
            parts.append(f"kind = {sql_text(chosen.kind)}" if chosen.kind else RAN)
        if chosen.notebook:
            parts.append(self._of_notebook(chosen.notebook))
        if chosen.status:
            column = "status" if chosen.status in STATUSES else "error_type"
            parts.append(f"{column} = {sql_text(chosen.status)}")
        if chosen.since is not None:
            parts.append(f"started_at >= {sql_moment(chosen.since)}")
        if chosen.until is not None:
            parts.append(f"started_at < {sql_moment(chosen.until)}")
        if chosen.least_cost is not None:
            parts.append(f"{self._cost} >= {chosen.least_cost}")
        if chosen.most_cost is not None:
            parts.append(f"{self._cost} <= {chosen.most_cost}")
        if chosen.rating:
            rated = self.rated(chosen.rating)
            parts.append(_among(rated) if rated else "false")
        return " AND ".join(parts)

    def rated(self, rating: str) -> list[str]:
        """Return the ids of the runs of which that was said last."""
        moves = self._changes.current("run", field="rating")
        return [change.name for change in moves if change.value and change.value.get("rating") == rating]

    # -- within -------------------------------------------------------------------------------

    @property
    def _cost(self) -> str:
        there = self._connection.reading(RUNS, lambda handle: "cost_millionths" in handle.schema.names)
        # An older catalog that can only be read has costs in the leaves alone.
        return "cost_millionths" if there is not False else COST_IN_LEAF

    def _of_notebook(self, name: str) -> str:
        """Return SQL for what ran in a notebook, without comparing each path where their words are indexed."""
        path, ending = sql_text(name), "/" + name
        slow = f"(notebook = {path} OR {SCAN}notebook, {sql_text(ending)}))"
        rows = rows_with_all(self._connection, RUNS, "notebook", name, _MANY, ("session",))
        if rows is None or not 0 < rows.num_rows < _MANY:  # a path of signs alone has no words
            rows = self._connection.read(RUNS, ["notebook", "session"], slow, limit=_MANY)
        if rows is None or rows.num_rows >= _MANY:
            return slow
        pairs = zip(rows["notebook"].to_pylist(), rows["session"].to_pylist(), strict=True)
        fit = [(one, session) for one, session in pairs if one and (one == name or one.endswith(ending))]
        if not fit:
            return "false"
        paths = ", ".join(map(sql_text, dict.fromkeys(one for one, _ in fit)))
        if not self._count("notebook = '' AND kind IN ('prompt', 'map', 'training', 'cascade')"):
            return f"notebook IN ({paths})"
        # Of older rows only a cell's own has the notebook; what ran within has its session.
        sessions = ", ".join(map(sql_text, list(dict.fromkeys(one for _, one in fit if one))[-_AT_ONCE:]))
        within = f"(notebook = '' AND session IN ({sessions}))" if sessions else "false"
        return f"(notebook IN ({paths}) OR {within})"

    def _narrowed(self, chosen: RunFilter, limit: int) -> _Narrow | None:
        """Return how words and fields are looked for together; None where no run has such fields."""
        own = _by_contents(chosen)
        if own is not None:
            return _Narrow(own, first=max(100, 2 * limit))
        where = self.where(chosen)
        scanned = SCAN in where
        count = 0 if scanned else self._count(where)
        if count > _SOME:
            share = count / max(1, self._count(""))
            first = max(_AT_FIRST, min(_LAST, int(2 * limit / share)))
            return _Narrow(
                "", where, first=first, ids=None if count > _MANY // 2 else lambda: self._ids(where)
            )
        ids = self._ids(where)
        if not ids:
            return None
        if len(ids) <= _SOME:
            return _Narrow(_among(ids), first=max(100, 2 * limit))
        return _Narrow("", where, first=_LAST, ids=(lambda: ids) if len(ids) < _MANY else None)

    def _count(self, where: str) -> int:
        return self._connection.reading(RUNS, lambda handle: handle.count_rows(where or None)) or 0

    def _ids(self, where: str) -> list[str]:
        rows = self._connection.read(RUNS, ["id"], where, limit=_MANY)
        return [] if rows is None else rows["id"].to_pylist()

    def _names_with(
        self, words: str, chosen: RunFilter, most: int, *, dated: bool = False
    ) -> list[Candidate]:
        """Return candidates by their names; all of them fit."""
        return find_words(self._connection, RUNS, WORD_FIELDS, words, self.where(chosen), most, dated=dated)

    def _chosen(
        self, candidates: Sequence[str], narrow: _Narrow, chosen: RunFilter, limit: int, said: dict[str, str]
    ) -> list[str]:
        """Return the ids of the first candidates that fit, in their order; put what they said into `said`."""
        ids = list(dict.fromkeys(candidates))
        fit: Iterator[str] = iter(ids)
        if narrow.where and narrow.ids is not None and len(ids) > _AT_ONCE:
            among = set(narrow.ids())
            fit = (run_id for run_id in ids if run_id in among)
        elif narrow.where:
            fit = self._fitting(ids, narrow.where, len(ids))
        found: list[str] = []
        size = min(limit + 5, _AT_ONCE)
        while len(found) < limit and (part := list(islice(fit, size))):
            rows = rows_of(self._connection.read(CONTENTS, ["id", "kind", TEXT], _among(part)))
            said |= {row["id"]: row[TEXT] or "" for row in rows}
            hidden = {
                row["id"] for row in rows if row["kind"] in NOT_RUN or only_looks(said[row["id"]])
            } if not chosen.kind else ()  # fmt: skip
            found += [run_id for run_id in part if run_id not in hidden]
            size = min(4 * size, _AT_ONCE)
        return found[:limit]

    def _fitting(self, ids: Sequence[str], where: str, limit: int) -> Iterator[str]:
        """Yield those of `ids` that fit, in their order, until enough did."""
        count, start, size = 0, 0, _AT_FIRST
        while start < len(ids):
            part = ids[start : start + size]
            start, size = start + size, _AT_ONCE
            rows = self._connection.read(RUNS, ["id"], f"{_among(part)} AND {where}")
            fit = set() if rows is None else set(rows["id"].to_pylist())
            for run_id in part:
                if run_id in fit:
                    yield run_id
                    count += 1
            if count >= limit:
                return

    def _ordered(self, ids: Sequence[str]) -> list[Run]:
        found: dict[str, Run] = {}
        for start in range(0, len(ids), _AT_ONCE):
            rows = self._connection.read(RUNS, RUN_FIELDS, _among(ids[start : start + _AT_ONCE]))
            found |= {row["id"]: run_of(row) for row in rows_of(rows)}
        return [found[run_id] for run_id in ids if run_id in found]


def in_force(environments: Sequence[Run], run: Run) -> Run | None:
    """Return which of a session's environments holds for a run: the last before it, else the first."""
    ordered = sorted(environments, key=lambda one: one.seq)
    return next((one for one in reversed(ordered) if one.seq <= run.seq), ordered[0] if ordered else None)


def _equal(chosen: RunFilter, names: Sequence[str]) -> list[str]:
    return [f"{name} = {sql_text(value)}" for name in names if (value := getattr(chosen, name))]


def _by_contents(chosen: RunFilter) -> str | None:
    """Return a filter as SQL of the contents alone, None where it names what they don't have."""
    if any((chosen.model, chosen.notebook, chosen.status, chosen.parent, chosen.rating)):
        return None
    if chosen.least_cost is not None or chosen.most_cost is not None:
        return None
    parts = _equal(chosen, ("user", "session"))
    if chosen.kind not in ("", ALL_KINDS):
        parts.append(f"kind = {sql_text(chosen.kind)}")
    if chosen.since is not None:
        parts.append(f"created_at >= {sql_moment(chosen.since)}")
    if chosen.until is not None:
        parts.append(f"created_at < {sql_moment(chosen.until)}")
    return " AND ".join(parts)


def _among(ids: Sequence[str]) -> str:
    return f"id IN ({', '.join(map(sql_text, ids))})"
