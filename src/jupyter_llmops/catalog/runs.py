"""The runs of the catalog: what the agents carried there from the sessions' journals."""

from __future__ import annotations

import builtins
import re
from collections.abc import Callable, Iterable, Sequence
from typing import TYPE_CHECKING, TypeVar

from jupyter_llmops.catalog.connection import sql_text
from jupyter_llmops.catalog.run_order import newest_ids
from jupyter_llmops.catalog.run_rows import RUN_FIELDS, run_of, run_row
from jupyter_llmops.catalog.schemas import RUNS, rows_of
from jupyter_llmops.catalog.table import CatalogTable
from jupyter_llmops.errors import AmbiguousNameError, UnknownNameError
from jupyter_llmops.records.run import Run
from jupyter_llmops.records.run_search import ALL_KINDS, NOT_RUN

if TYPE_CHECKING:
    import pyarrow as pa
    from lancedb.table import Table

T = TypeVar("T")

# So many names in one filter; more are asked for in several.
_MOST_NAMES = 500
# Among so many of the newest a mistyped id is looked for.
_RECENT = 2_000
_ROWS_AT_ONCE = 8_192
# Nobody asks for them: a server writes one each few seconds.
_RAN = f"kind NOT IN ({', '.join(map(sql_text, NOT_RUN))})"


class Runs(CatalogTable):
    """Runs of cells, prompts and cascades, of every user whose agent writes here."""

    def append(self, runs: Sequence[Run]) -> int:
        """Add runs in one commit, those whose id is there already left out.

        Returns
        -------
        int
            How many were added.

        Raises
        ------
        CatalogError
            They can't be written; none of them was.
        """
        if not runs:
            return 0
        self._migrations.prepare_write()
        return self._connection.insert_absent(RUNS, [run_row(run, self._site) for run in runs])

    def list(self, limit: int = 50, kind: str | None = None) -> builtins.list[Run]:
        """Return the newest runs, newest first; of a map itself alone, not each of its rows.

        What logs say of machines, of kernels and of other runs (`NOT_RUN`) is listed by its kind only.

        Parameters
        ----------
        limit : int
            Most runs.
        kind : str, optional
            Only runs of this kind, or of "all"; both have the rows of maps, too.
        """
        chosen = "" if kind in (None, "", ALL_KINDS) else f"kind = {sql_text(str(kind))}"
        where = chosen if kind else self._without_rows(limit)
        # Chosen without the leaves first: they are most of a row's bytes.
        newest = newest_ids(self._connection, where, limit)
        if not newest:
            return []
        chosen = ", ".join(map(sql_text, newest))
        rows = self._connection.read(RUNS, RUN_FIELDS, f"id IN ({chosen})")
        found = [run_of(row) for row in rows_of(rows)]
        return sorted(found, key=lambda run: (run.started_at, run.seq), reverse=True)

    def _without_rows(self, limit: int) -> str:
        """Return the filter that leaves out rows of maps; those of older maps than the newest are too old."""
        newest = newest_ids(self._connection, "kind = 'map'", limit)
        if not newest:
            return _RAN
        maps = ", ".join(map(sql_text, newest))
        return f"{_RAN} AND (parent IS NULL OR parent NOT IN ({maps}))"

    def get(self, id_prefix: str) -> Run:
        """Return the run whose id begins with `id_prefix`.

        Raises
        ------
        UnknownNameError
            No run's id does.
        AmbiguousNameError
            More than one does.
        """
        prefix = id_prefix.strip().lower()
        found: builtins.list[Run] = []
        if re.fullmatch(r"[0-9a-f]+", prefix):
            rows = self._connection.read(RUNS, RUN_FIELDS, f"starts_with(id, {sql_text(prefix)})", limit=5)
            found = [run_of(row) for row in rows_of(rows)]
        if not found:
            raise UnknownNameError("run", id_prefix, hint=self.nearest_hint(prefix))
        if len(found) > 1:
            shown = ", ".join(sorted(run.id for run in found)[:4])
            raise AmbiguousNameError(
                f"More than one run's id begins with {prefix!r}: {shown}.", "Type more of it."
            )
        return found[0]

    def like(self, typed: str, limit: int = 5) -> builtins.list[Run]:
        """Return the runs whose ids begin with what was typed; where none does, the newest that are most like it."""
        prefix = typed.strip().lower()
        if not re.fullmatch(r"[0-9a-f]{3,16}", prefix):
            return []
        rows = rows_of(
            self._connection.read(RUNS, ["id"], f"starts_with(id, {sql_text(prefix)})", limit=limit)
        )
        ids = [row["id"] for row in rows]
        ids = ids or nearest_ids(prefix, newest_ids(self._connection, "", _RECENT), limit)
        chosen = ", ".join(map(sql_text, ids))
        found = rows_of(self._connection.read(RUNS, RUN_FIELDS, f"id IN ({chosen})")) if ids else []
        return sorted(map(run_of, found), key=lambda run: ids.index(run.id))

    def nearest_hint(self, typed: str) -> str:
        """Return what to type instead of an id that no run has: those of the newest runs that are most like it."""
        listed = "Type %runs to see the ids of the last ones."
        if not re.fullmatch(r"[0-9a-f]{3,16}", typed):
            return listed
        near = nearest_ids(typed, newest_ids(self._connection, "", _RECENT))
        return f"Did you mean {' or '.join(near)}? {listed}" if near else listed

    def last_seq(self, session: str) -> int | None:
        """Return the last line of a session's journal that is here, None when none is."""
        return max(self.digests(session), default=None)

    def counts(self, sessions: Iterable[str]) -> dict[str, int]:
        """Return how many lines of some sessions are here; one of which none is has no entry."""
        names = sorted(set(sessions))
        counts: dict[str, int] = {}
        for begin in range(0, len(names), _MOST_NAMES):
            chosen = ", ".join(sql_text(name) for name in names[begin : begin + _MOST_NAMES])
            rows = self._connection.read(RUNS, ["session"], f"session IN ({chosen})")
            if rows is not None:
                found = rows.group_by("session").aggregate([("session", "count")])
                pairs = zip(found["session"].to_pylist(), found["session_count"].to_pylist(), strict=True)
                counts |= dict(pairs)
        return counts

    def held(self, sessions: Iterable[str]) -> dict[str, set[tuple[int, str]]]:
        """Return what is here of some sessions, as (seq, leaf digest); unlike `digests` also what is here twice."""
        return self._pairs(sessions, "leaf_digest")

    def lines(self, session: str) -> set[tuple[int, str]]:
        """Return the journal lines of a session that are here, as (seq, line)."""
        return self._pairs([session], "leaf").get(session, set())

    def digests_of(self, ids: Iterable[str]) -> dict[str, str]:
        """Return the leaf digests of those runs that are here, by id."""
        chosen = ", ".join(sql_text(run_id) for run_id in ids)
        rows = self._connection.read(RUNS, ["id", "leaf_digest"], f"id IN ({chosen})") if chosen else None
        if rows is None:
            return {}
        return dict(zip(rows["id"].to_pylist(), rows["leaf_digest"].to_pylist(), strict=True))

    def _pairs(self, sessions: Iterable[str], column: str) -> dict[str, set[tuple[int, str]]]:
        names = sorted(set(sessions))
        found: dict[str, set[tuple[int, str]]] = {}
        for begin in range(0, len(names), _MOST_NAMES):
            chosen = ", ".join(sql_text(name) for name in names[begin : begin + _MOST_NAMES])
            rows = self._connection.read(RUNS, ["session", "seq", column], f"session IN ({chosen})")
            if rows is not None:
                columns = (rows[name].to_pylist() for name in ("session", "seq", column))
                for session, seq, value in zip(*columns, strict=True):
                    found.setdefault(session, set()).add((seq, value or ""))
        return found

    def heads(self) -> dict[str, tuple[int, str]]:
        """Return the last line that is here of every session, as (seq, leaf digest)."""
        rows = self._connection.read(RUNS, ["session", "seq", "leaf_digest"])
        heads: dict[str, tuple[int, str]] = {}
        if rows is None:
            return heads
        columns = (rows[name].to_pylist() for name in ("session", "seq", "leaf_digest"))
        for session, seq, digest in zip(*columns, strict=True):
            if session not in heads or seq > heads[session][0]:
                heads[session] = (seq, digest)
        return heads

    def scan(
        self, where: str, columns: Sequence[str], read: Callable[[Iterable[pa.RecordBatch]], T]
    ) -> T | None:
        """Return what `read` makes of rows, piece by piece; None where nothing is there yet.

        Parameters
        ----------
        where : str
            A filter in SQL; quote values with `sql_text`.
        columns : sequence of str
            Those that an older catalog lacks are left out.
        read : callable
            Begins anew when it is called again.
        """

        def scan(handle: Table) -> T:
            there = set(handle.schema.names)
            chosen = [name for name in columns if name in there]
            return read(handle.search().where(where).select(chosen).to_batches(batch_size=_ROWS_AT_ONCE))

        return self._connection.reading(RUNS, scan)

    def replace(self, where: str, runs: Sequence[Run]) -> int:
        """Delete what fits `where` and add runs instead; return how many were added.

        Raises
        ------
        CatalogError
            The catalog can't be written; rows that went all the same come with the next flush.
        """
        self._migrations.prepare_write()
        if where:
            self._connection.writing(RUNS, lambda handle: handle.delete(where))
        return self.append(runs)

    def digests(self, session: str) -> dict[int, str]:
        """Return the leaf digest of every line of a session that is here, by seq."""
        rows = self._connection.read(RUNS, ["seq", "leaf_digest"], where=f"session = {sql_text(session)}")
        if rows is None:
            return {}
        return dict(zip(rows["seq"].to_pylist(), rows["leaf_digest"].to_pylist(), strict=True))


def nearest_ids(typed: str, ids: Sequence[str], limit: int = 3) -> builtins.list[str]:
    """Return the ids whose beginning is the fewest edits away from what was typed, nearest first.

    Parameters
    ----------
    typed : str
        The beginning of an id, or a whole one.
    ids : sequence of str
        Those that there are, newest first: of two that are equally near the newer comes first.
    limit : int
        Most ids; none whose beginning differs in more than a third of what was typed.
    """
    most = max(1, len(typed) // 3)
    scored = [(_edits(typed, run_id[: len(typed)], most), place) for place, run_id in enumerate(ids)]
    return [ids[place] for edits, place in sorted(scored) if edits <= most][:limit]


def _edits(left: str, right: str, most: int) -> int:
    """Return Levenshtein's distance with transpositions as one edit; `most` + 1 for all that is more."""
    before: builtins.list[int] = []
    row = builtins.list(range(len(right) + 1))
    for i, a in enumerate(left, 1):
        older, before, row = before, row, [i]
        for j, b in enumerate(right, 1):
            cost = min(before[j] + 1, row[j - 1] + 1, before[j - 1] + (a != b))
            if i > 1 and j > 1 and a == right[j - 2] and left[i - 2] == b:
                cost = min(cost, older[j - 2] + 1)
            row.append(cost)
        if min(row) > most:
            return most + 1
    return row[-1]
