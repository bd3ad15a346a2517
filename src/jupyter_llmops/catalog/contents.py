"""What runs said, for finding them: rows that can be deleted really, with all that Lance keeps of them."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from jupyter_llmops.catalog.changes import forget_reasons, says_why
from jupyter_llmops.catalog.connection import sql_text
from jupyter_llmops.catalog.deleting import delete_whole
from jupyter_llmops.catalog.indexes import TEXT, text_index
from jupyter_llmops.catalog.meanings import remove_vectors
from jupyter_llmops.catalog.schemas import CHANGES, CONTENTS, MEANINGS, rows_of, understood
from jupyter_llmops.catalog.table import CatalogTable

if TYPE_CHECKING:
    from lancedb.table import Table

_COLUMNS = ("id", "session", "seq", "user", "kind", "title", "text", "created_at")
# A filter with more names takes long to parse; with fewer the same neighbours are written anew more often:
# 5,000 of 40,000 rows went in 5.0 s with 500 at once, in 2.8 s with these.
_IDS_AT_ONCE = 2_500


@dataclass(frozen=True, slots=True)
class RunText:
    """What a run said, without its secrets.

    Parameters
    ----------
    id : str
        The run.
    session : str
        The journal that holds its leaf.
    seq : int
        Its line there.
    user : str
        Whose run it is.
    kind : str
        As of the run.
    title : str
        The first line.
    text : str
        The source of a cell, or a prompt and its answer.
    created_at : datetime, optional
        When it ran, UTC.
    """

    id: str
    session: str
    seq: int
    user: str
    kind: str
    title: str
    text: str
    created_at: datetime | None = None


class Contents(CatalogTable):
    """The table of contents. It belongs to no snapshot, so that no branch keeps what is deleted."""

    def append(self, texts: Sequence[RunText]) -> int:
        """Add what runs said in one commit, runs that are there already left out; return how many were added.

        Raises
        ------
        CatalogError
            They can't be written; none of them was.
        """
        if not texts:
            return 0
        self._migrations.prepare_write()
        rows: list[dict[str, Any]] = [
            {name: getattr(text, name) for name in _COLUMNS} | {"site": self._site} for text in texts
        ]
        return self._connection.insert_absent(CONTENTS, rows)

    def get(self, run_id: str) -> RunText | None:
        """Return what a run said; None where nothing is here.

        Raises
        ------
        CatalogError
            The table can't be read.
        """
        rows = self.rows(run_id)
        return rows[0] if rows else None

    def rows(self, run_id: str) -> list[RunText]:
        """Return all that stands here under a run's id: more than one row only where somebody planted them.

        Raises
        ------
        CatalogError
            The table can't be read.
        """
        found = rows_of(self._connection.read(CONTENTS, _COLUMNS, f"id = {sql_text(run_id)}"))
        return understood(found, lambda row: RunText(**row))

    def unlike(self, texts: Sequence[RunText]) -> list[RunText]:
        """Return those that are not here as one row that says the very same.

        Raises
        ------
        CatalogError
            The table can't be read.
        """
        there: dict[str, list[RunText]] = {}
        for start in range(0, len(texts), _IDS_AT_ONCE):
            ids = [text.id for text in texts[start : start + _IDS_AT_ONCE]]
            for row in rows_of(self._connection.read(CONTENTS, _COLUMNS, _among(ids))):
                there.setdefault(row["id"], []).append(RunText(**row))
        return [text for text in texts if there.get(text.id) != [text]]

    def counts(self) -> dict[str, int]:
        """Return how many rows are here of every session, by session."""
        rows = self._connection.read(CONTENTS, ["session"])
        if rows is None:
            return {}
        found = rows.group_by("session").aggregate([([], "count_all")])
        counted = zip(found["session"].to_pylist(), found["count_all"].to_pylist(), strict=True)
        return {session: count for session, count in counted if session}

    def ids_of_sessions(self, sessions: Iterable[str]) -> list[str]:
        """Return the ids of the runs of some sessions that are here."""
        chosen = list(sessions)
        found: list[str] = []
        for start in range(0, len(chosen), _IDS_AT_ONCE):
            where = _among(chosen[start : start + _IDS_AT_ONCE], "session")
            rows = self._connection.read(CONTENTS, ["id"], where)
            found += rows["id"].to_pylist() if rows is not None else []
        return found

    def count(self, ids: Iterable[str]) -> int:
        """Return how many of these runs are here."""
        return len(self._ids(list(dict.fromkeys(ids))))

    def _ids(self, ids: Sequence[str]) -> list[str]:
        found: list[str] = []
        for start in range(0, len(ids), _IDS_AT_ONCE):
            rows = self._connection.read(CONTENTS, ["id"], _among(ids[start : start + _IDS_AT_ONCE]))
            found += rows["id"].to_pylist() if rows is not None else []
        return found

    def forget(self, ids: Iterable[str]) -> int:
        """Delete the rows and vectors of runs, and why they were rated; return how many rows that were.

        The ratings themselves stay, as the trail says them too.

        Raises
        ------
        CatalogError
            The catalog can't be written; type it again.
        """
        wanted = list(dict.fromkeys(ids))
        deleted = self.delete(wanted)
        forget_reasons(self._connection, "run", wanted)
        return deleted

    def traces(self, ids: Iterable[str]) -> list[str]:
        """Return what of the texts of runs is here beside them: "vectors", "why it was rated"; of a snapshot, too.

        Raises
        ------
        CatalogError
            The catalog can't be read.
        """
        chosen = list(dict.fromkeys(ids))
        found: dict[str, None] = {}
        for start in range(0, len(chosen), _IDS_AT_ONCE):
            part = ", ".join(map(sql_text, chosen[start : start + _IDS_AT_ONCE]))
            where = f"noun = 'run' AND name IN ({part})"
            if rows_of(self._connection.read(MEANINGS, ["name"], where, limit=1)):
                found["vectors"] = None
            rated = self._connection.read(CHANGES, ["value", "reason"], f"{where} AND field = 'rating'")
            if any(row["reason"] or says_why(row["value"]) for row in rows_of(rated)):
                found["why it was rated"] = None
        return list(found)

    def delete(self, ids: Iterable[str], session: str = "") -> int:
        """Delete the rows and vectors of runs and every byte that Lance keeps of them; return how many rows there were.

        A deleted row would stay in its piece of the table, in older versions, and its words in the
        index. So the neighbours in its piece are written anew, then the row is deleted (its piece
        has no row any more, and goes), the index is built anew, and older versions are cleaned at
        once: who reads one of them at this moment has to read again. Repeating it finishes what
        was interrupted. What a commit that lost a race left behind is cleaned by Lance itself after
        seven days.

        Parameters
        ----------
        ids : iterable of str
            Whole ids; unknown ones are no error.
        session : str
            Only rows that say to be of it: one that was planted may bear the id of another session's run.

        Raises
        ------
        CatalogError
            The catalog can't be written; type it again.
        """
        wanted = list(dict.fromkeys(ids))
        only = f" AND session = {sql_text(session)}" if session else ""
        parts = (wanted[start : start + _IDS_AT_ONCE] for start in range(0, len(wanted), _IDS_AT_ONCE))
        return self._delete([_among(part) + only for part in parts], wanted)

    def delete_sessions(self, sessions: Iterable[str]) -> int:
        """Delete the rows that say to be of some sessions, as `delete` does; return how many there were.

        Raises
        ------
        CatalogError
            The catalog can't be written; type it again.
        """
        names = list(dict.fromkeys(sessions))
        wanted = list(dict.fromkeys(self.ids_of_sessions(names)))
        if not wanted:
            return 0
        parts = (names[start : start + _IDS_AT_ONCE] for start in range(0, len(names), _IDS_AT_ONCE))
        return self._delete([_among(part, "session") for part in parts], wanted)

    def _delete(self, filters: Sequence[str], ids: Sequence[str]) -> int:
        """Delete the rows that fit a filter, and the vectors of those of `ids` that have no other row."""
        if not filters or not self._connection.has(CONTENTS):
            return 0
        self._migrations.prepare_write()
        deleted = 0
        for where in filters:
            deleted += self._connection.writing(CONTENTS, functools.partial(delete_whole, where=where))
        self._connection.beside(CONTENTS, _index_again)
        self._connection.optimize(CONTENTS, timedelta(0))
        left = set(self._ids(ids))
        remove_vectors(self._connection, "run", [run_id for run_id in ids if run_id not in left])
        return deleted


def _among(names: Sequence[str], column: str = "id") -> str:
    return f"{column} IN ({', '.join(map(sql_text, names))})"


def _index_again(handle: Table) -> None:
    if any(TEXT in index.columns for index in handle.list_indices()):
        if handle.count_rows():
            handle.create_index(TEXT, config=text_index(), replace=True)
        else:
            for index in handle.list_indices():
                handle.drop_index(index.name)
