"""Finding runs among a million: by the words of what they said, and by their fields.

Words are ranked by BM25 over the table of contents and over the names in the runs' own columns. Fields are
compared with the scalar indexes that upkeep builds; without an index the same answer takes longer.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jupyter_llmops.catalog.changes import Changes
from jupyter_llmops.catalog.connection import Connection, sql_text
from jupyter_llmops.catalog.indexes import TEXT, WORD_FIELDS
from jupyter_llmops.catalog.run_order import SCAN, newest_ids, sql_moment
from jupyter_llmops.catalog.run_rows import COST_IN_LEAF, RUN_FIELDS, run_of
from jupyter_llmops.catalog.schemas import CONTENTS, RUNS, rows_of
from jupyter_llmops.records.run import Run
from jupyter_llmops.records.run_search import RunFilter

if TYPE_CHECKING:
    import pyarrow as pa
    from lancedb.table import Table

STATUSES = ("ok", "error", "interrupted")
# Ids in one filter: more take long to parse.
_AT_ONCE = 1_000
_AT_FIRST = 200
# So many best matches are compared with the filters, step by step.
_CANDIDATES = (1_000, 20_000)
# Of the best matches the newest are looked for in so many.
_RECENT = 5_000
# The ids of so many runs are read in 20 ms.
_MANY = 60_000
# Kinds that say something.
_SAYS = "kind IN ('cell', 'prompt', 'map', 'cascade', 'training')"


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
        where = self.where(chosen)
        narrowed = self._narrowed(where) if where else None
        if narrowed == []:
            return FoundRuns((), {})
        among = narrowed if narrowed is not None and len(narrowed) <= _AT_ONCE else None
        found: list[str] = []
        complete = True
        steps = _CANDIDATES if where and narrowed is None else _CANDIDATES[-1:]
        for step in (_RECENT,) if newest_first else steps:
            most = max(step, limit) if where or newest_first else limit
            candidates = self._candidates(words, most, among, newest_first=newest_first)
            if narrowed is not None and among is None:
                chosen_ids = set(narrowed)
                found = [run_id for run_id in candidates if run_id in chosen_ids][:limit]
            elif where and narrowed is None:
                found = list(self._fitting(candidates, where, limit))[:limit]
            else:
                found = candidates[:limit]
            complete = len(candidates) < most or (len(found) >= limit and not newest_first)
            if complete:
                break
        runs = self._ordered(found)
        if newest_first:
            runs.sort(key=lambda run: (run.started_at, run.seq), reverse=True)
        return FoundRuns(tuple(runs), self.texts(found), complete)

    def fitting(self, ids: Sequence[str], chosen: RunFilter, limit: int) -> list[str]:
        """Return the first of `ids` that fit and whose text is still there, in their order."""
        where = self.where(chosen)
        found: list[str] = []
        for start in range(0, len(ids), _AT_ONCE):
            part = ids[start : start + _AT_ONCE]
            there = self._connection.read(CONTENTS, ["id"], _among(part))
            known = set() if there is None else set(there["id"].to_pylist())
            part = [run_id for run_id in part if run_id in known]
            if part:
                found += list(self._fitting(part, where, limit)) if where else part
            if len(found) >= limit:
                break
        return found[:limit]

    def newest_ids(self, chosen: RunFilter, limit: int) -> list[str]:
        """Return the ids of the newest runs that fit, newest first."""
        return newest_ids(self._connection, self.where(chosen), limit)

    def newest_with_text(self, chosen: RunFilter, limit: int) -> list[str]:
        """Return the ids of the newest runs that fit and whose text is here, newest first; about `limit`."""
        ids = newest_ids(self._connection, " AND ".join(filter(None, (self.where(chosen), _SAYS))), limit)
        found: list[str] = []
        for start in range(0, len(ids), _AT_ONCE):
            part = ids[start : start + _AT_ONCE]
            rows = self._connection.read(CONTENTS, ["id"], _among(part))
            there = set() if rows is None else set(rows["id"].to_pylist())
            found += [run_id for run_id in part if run_id in there]
        return found

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
        parts = [
            f"{name} = {sql_text(value)}"
            for name in ("user", "model", "kind", "session", "parent")
            if (value := getattr(chosen, name))
        ]
        if chosen.notebook:
            path = sql_text(chosen.notebook)
            parts.append(f"(notebook = {path} OR {SCAN}notebook, {sql_text('/' + chosen.notebook)}))")
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

    def _narrowed(self, where: str) -> list[str] | None:
        """Return the ids of the runs that fit, None where they are too many to be read."""
        # Where a filter has no index counting takes as long as reading.
        if SCAN not in where:
            count = self._connection.reading(RUNS, lambda handle: handle.count_rows(where)) or 0
            if count > _MANY:
                return None
        rows = self._connection.read(RUNS, ["id"], where, limit=_MANY + 1)
        ids: list[str] = [] if rows is None else rows["id"].to_pylist()
        return ids if len(ids) <= _MANY else None

    def _candidates(
        self, words: str, limit: int, among: Sequence[str] | None, *, newest_first: bool
    ) -> list[str]:
        """Return ids of runs with the words, those whose text has them before those whose names do."""
        where = _among(among) if among is not None else ""
        texts = self._words(CONTENTS, (TEXT,), words, where, limit, "created_at" if newest_first else "")
        named = self._words(RUNS, WORD_FIELDS, words, where, limit, "started_at" if newest_first else "")
        if not newest_first:
            return list(dict.fromkeys([*(run_id for run_id, _ in texts), *(run_id for run_id, _ in named)]))
        merged = sorted([*texts, *named], key=lambda one: one[1], reverse=True)
        return list(dict.fromkeys(run_id for run_id, _ in merged))

    def _words(
        self, table: str, columns: Sequence[str], words: str, where: str, limit: int, moment: str
    ) -> list[tuple[str, int]]:
        """Return ids of the best matches in a table, each with its moment where that is asked for."""
        extra = [moment] if moment else []

        def look(handle: Table) -> pa.Table:
            indexed = {
                index.columns[0] for index in handle.list_indices() if str(index.index_type).upper() == "FTS"
            }
            if not set(columns) <= indexed:
                return _scanned(handle, columns, words, where, limit, extra)
            from lancedb.query import MatchQuery, MultiMatchQuery

            # An object and not a text: nothing in it is read as query syntax.
            asked = (
                MatchQuery(words, columns[0]) if len(columns) == 1 else MultiMatchQuery(words, list(columns))
            )
            query = handle.search(asked, query_type="fts").select(["id", *extra, "_score"])
            return (query.where(where) if where else query).limit(limit).to_arrow()

        found = self._connection.reading(table, look)
        if found is None:
            return []
        ids = found["id"].to_pylist()
        if not moment:
            return [(run_id, 0) for run_id in ids]
        import pyarrow as pa

        moments = found[moment].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_pylist()
        return [(run_id, when or 0) for run_id, when in zip(ids, moments, strict=True)]

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


def words_of(text: str) -> list[str]:
    """Return the words of a query in lower case, each once."""
    return list(dict.fromkeys(re.findall(r"\w+", text.lower())))


def _scanned(
    handle: Table, columns: Sequence[str], words: str, where: str, limit: int, extra: Sequence[str]
) -> pa.Table:
    """Return rows with any of the words, those with most first; what upkeep has not indexed yet is few."""
    asked = words_of(words)
    fits = " OR ".join(f"contains(lower({column}), {sql_text(word)})" for column in columns for word in asked)
    both = f"({fits or 'false'}) AND {where}" if where else fits or "false"
    # Without an order of its own a limit would cut the best.
    rows = handle.search().where(both).select(["id", *columns, *extra]).limit(_MANY).to_arrow()
    texts = zip(*(rows[name].to_pylist() for name in columns), strict=True)
    counts = [sum(word in " ".join(map(str, text)).lower() for word in asked) for text in texts]
    order = sorted(range(len(counts)), key=lambda place: -counts[place])[:limit]
    return rows.take(order) if order else rows


def _among(ids: Sequence[str]) -> str:
    return f"id IN ({', '.join(map(sql_text, ids))})"
