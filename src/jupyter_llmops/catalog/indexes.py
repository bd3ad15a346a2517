"""The indexes of a collection's passages (full text always, vectors when there are many) and of the runs.

Below `VECTOR_ROWS` rows comparing with every vector is as fast and exact. Above, IVF_SQ is built in
seconds where IVF_PQ and IVF_HNSW_SQ take minutes: 500,000 rows in 11.6 s on 2 cores, and with the 50
best looked at again in full (`REFINE`) 0.99 of the true ten nearest are found.
"""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any

from jupyter_llmops.catalog.connection import Connection
from jupyter_llmops.catalog.schemas import CONTENTS, RUNS

if TYPE_CHECKING:
    from lancedb.table import Table

TEXT, VECTOR = "text", "vector"
VECTOR_ROWS = 50_000
METRIC = "cosine"
ROWS_PER_PARTITION = 4096
REFINE = 5
"""How many times more candidates than asked for are compared by their full vectors."""
PROBES = 20
"""How many partitions a search looks into."""

# A scan of fewer rows is as fast as a look into an index.
SCALAR_ROWS = 5_000
SCALARS = {
    RUNS: {
        "id": "tree", "started_at": "tree", "session": "tree", "parent": "tree", "notebook": "tree",
        "cost_millionths": "tree", "kind": "map", "status": "map", "user": "map", "model": "map",
        "error_type": "map",
    },
    CONTENTS: {"id": "tree", "created_at": "tree", "session": "tree", "user": "map", "kind": "map"},
}  # fmt: skip
"""Columns of a table with an index of whole values: a tree, or a bitmap where there are few values."""
WORD_FIELDS = ("notebook", "model", "error_type")
"""Columns of the runs whose words are found."""
_WORDS = "_words"

# Each upkeep adds a segment to the vector index, and rows of two segments are never joined: after
# so many it is built anew.
MOST_SEGMENTS = 8


def text_index() -> Any:
    """Return the full-text index's settings: words of any script, without their positions.

    Stop words stay, as a query may be made of them alone.
    """
    from lancedb.index import FTS

    return FTS(base_tokenizer="icu", remove_stop_words=False, with_position=False)


def vector_index(rows: int) -> Any:
    """Return the vector index's settings for a table of `rows` rows."""
    from lancedb.index import IvfSq

    return IvfSq(
        distance_type=METRIC,
        num_partitions=max(1, rows // ROWS_PER_PARTITION),
        sample_rate=64,
        max_iterations=20,
    )


def needs_indexes(connection: Connection, table: str) -> bool:
    """Return whether `ensure_indexes` would build one."""
    return bool(connection.reading(table, functools.partial(_missing, table=table)))


def ensure_indexes(connection: Connection, table: str) -> list[str]:
    """Build the indexes that a table lacks; return their columns, ``<column>_words`` for one of words.

    Readers and writers go on meanwhile: rows that came since are found all the same, and
    `Connection.optimize` adds them to the indexes.

    Parameters
    ----------
    connection : Connection
        The catalog.
    table : str
        The runs, their contents, or a collection's, whose name begins with `ITEMS_PREFIX`.

    Raises
    ------
    CatalogError
        The catalog can't be written.
    """
    missing = connection.reading(table, functools.partial(_missing, table=table)) or []
    for column in missing:
        connection.beside(table, functools.partial(_build, table=table, column=column))
    return missing


def _missing(handle: Table, *, table: str) -> list[str]:
    rows = handle.count_rows()
    if not rows:
        return []
    there = handle.list_indices()
    scalars = [] if rows < SCALAR_ROWS else _missing_scalars(handle, table, {index.name for index in there})
    if table == RUNS:
        return scalars
    segments = {column: index.num_segments or 1 for index in there for column in index.columns}
    missing = [TEXT] if TEXT in handle.schema.names and TEXT not in segments else []
    many = VECTOR in handle.schema.names and rows >= VECTOR_ROWS
    if many and segments.get(VECTOR, MOST_SEGMENTS + 1) > MOST_SEGMENTS:
        missing.append(VECTOR)
    return missing + scalars


def _missing_scalars(handle: Table, table: str, named: set[str]) -> list[str]:
    """Return the columns that lack an index of whole values, then those that lack one of their words."""
    there = set(handle.schema.names)
    values = [name for name in SCALARS.get(table, {}) if name in there and f"{name}_idx" not in named]
    words = [name + _WORDS for name in WORD_FIELDS if table == RUNS and name + _WORDS not in named]
    return values + words


def _build(handle: Table, *, table: str, column: str) -> None:
    from lancedb.index import Bitmap, BTree

    if column.endswith(_WORDS):
        handle.create_index(column.removesuffix(_WORDS), config=text_index(), name=column, replace=True)
        return
    kind = SCALARS.get(table, {}).get(column)
    if kind is not None:
        handle.create_index(column, config=BTree() if kind == "tree" else Bitmap(), replace=True)
        return
    settings = text_index() if column == TEXT else vector_index(handle.count_rows())
    handle.create_index(column, config=settings, replace=True)
