"""What runs said, for finding them: rows that can be deleted really, with all that Lance keeps of them."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from jupyter_llmops.catalog.connection import sql_text
from jupyter_llmops.catalog.deleting import delete_whole
from jupyter_llmops.catalog.indexes import TEXT, text_index
from jupyter_llmops.catalog.meanings import remove_vectors
from jupyter_llmops.catalog.schemas import CONTENTS, rows_of
from jupyter_llmops.catalog.table import CatalogTable

if TYPE_CHECKING:
    from lancedb.table import Table

_COLUMNS = ("id", "session", "seq", "user", "kind", "title", "text", "created_at")
# A filter with more names takes long to parse.
_IDS_AT_ONCE = 500


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
        rows = rows_of(self._connection.read(CONTENTS, _COLUMNS, f"id = {sql_text(run_id)}", limit=1))
        return RunText(**rows[0]) if rows else None

    def last_seqs(self) -> dict[str, int]:
        """Return the last line that is here of every session, by session."""
        rows = self._connection.read(CONTENTS, ["session", "seq"])
        if rows is None:
            return {}
        last = rows.group_by("session").aggregate([("seq", "max")])
        found = zip(last["session"].to_pylist(), last["seq_max"].to_pylist(), strict=True)
        return {session: seq for session, seq in found if session and seq is not None}

    def ids_of_sessions(self, sessions: Iterable[str]) -> list[str]:
        """Return the ids of the runs of some sessions that are here."""
        chosen = [sql_text(session) for session in sessions]
        found: list[str] = []
        for start in range(0, len(chosen), _IDS_AT_ONCE):
            names = ", ".join(chosen[start : start + _IDS_AT_ONCE])
            rows = self._connection.read(CONTENTS, ["id"], f"session IN ({names})")
            found += rows["id"].to_pylist() if rows is not None else []
        return found

    def count(self, ids: Iterable[str]) -> int:
        """Return how many of these runs are here."""
        chosen = list(dict.fromkeys(ids))
        count = 0
        for start in range(0, len(chosen), _IDS_AT_ONCE):
            rows = self._connection.read(CONTENTS, ["id"], _among(chosen[start : start + _IDS_AT_ONCE]))
            count += rows.num_rows if rows is not None else 0
        return count

    def delete(self, ids: Iterable[str]) -> int:
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

        Raises
        ------
        CatalogError
            The catalog can't be written; type it again.
        """
        wanted = list(dict.fromkeys(ids))
        if not wanted or not self._connection.has(CONTENTS):
            return 0
        self._migrations.prepare_write()
        deleted = 0
        for start in range(0, len(wanted), _IDS_AT_ONCE):
            where = (
                f"id IN ({', '.join(sql_text(run_id) for run_id in wanted[start : start + _IDS_AT_ONCE])})"
            )
            deleted += self._connection.writing(CONTENTS, functools.partial(delete_whole, where=where))
        self._connection.beside(CONTENTS, _index_again)
        self._connection.optimize(CONTENTS, timedelta(0))
        remove_vectors(self._connection, "run", wanted)
        return deleted


def _among(ids: Sequence[str]) -> str:
    return f"id IN ({', '.join(sql_text(run_id) for run_id in ids)})"


def _index_again(handle: Table) -> None:
    if any(TEXT in index.columns for index in handle.list_indices()):
        if handle.count_rows():
            handle.create_index(TEXT, config=text_index(), replace=True)
        else:
            for index in handle.list_indices():
                handle.drop_index(index.name)
