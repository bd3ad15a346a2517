"""Deleting rows, or what they say, so that no piece of a table keeps their bytes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from lancedb.table import Table

# Lance's row numbers hold the number of the piece above and the place in it below.
_PIECE_BITS = 32


def delete_whole(handle: Table, where: str) -> int:
    """Delete rows so that the next cleaning leaves nothing of them; return how many there were.

    A deleted row stays in its piece of the table as long as the piece has others. So those are written
    anew into another piece first, and the old one goes with its last row.

    Parameters
    ----------
    handle : Table
        It has a column ``site``.
    where : str
        A filter in SQL.
    """
    _renew_neighbours(handle, where)
    return int(handle.delete(where).num_deleted_rows)


def blank_whole(handle: Table, where: str, values: Mapping[str, str]) -> int:
    """Give columns of rows another value so that the next cleaning leaves nothing of the old; return how many.

    Parameters
    ----------
    handle : Table
        It has a column ``site``.
    where : str
        A filter in SQL.
    values : mapping of column to str
        The new values as SQL.
    """
    _renew_neighbours(handle, where)
    return int(handle.update(where=where, values_sql=dict(values)).rows_updated)


def _renew_neighbours(handle: Table, where: str) -> None:
    """Write the neighbours of some rows anew into pieces of their own."""
    places = handle.search().where(where).with_row_id(True).select(["site"]).to_arrow()["_rowid"].to_pylist()
    for piece in sorted({place >> _PIECE_BITS for place in places}):
        first, after = piece << _PIECE_BITS, (piece + 1) << _PIECE_BITS
        within = f"_rowid >= {first} AND _rowid < {after} AND NOT ({where})"
        handle.update(where=within, values_sql={"site": "site"})  # the same values in a new piece
