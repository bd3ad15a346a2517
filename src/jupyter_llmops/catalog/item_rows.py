"""How the rows of a collection's table look, and what becomes of them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from jupyter_llmops.catalog.columns import METADATA_PREFIX, condition_of, metadata_name, metadata_types
from jupyter_llmops.catalog.indexes import TEXT, VECTOR
from jupyter_llmops.catalog.schemas import ITEMS_KEY, PRIMARY_KEY, rows_of
from jupyter_llmops.errors import CatalogError, SpaceError
from jupyter_llmops.records.collection import Filter

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from lancedb.table import Table


def items_schema(dimension: int) -> pa.Schema:
    """Return the schema of a collection's table, without metadata."""
    import pyarrow as pa

    text, whole = pa.string(), pa.int64()
    return pa.schema(
        [
            pa.field(ITEMS_KEY, text, nullable=False, metadata=PRIMARY_KEY),
            pa.field("document", text),
            pa.field("document_digest", text),
            pa.field("ordinal", whole),
            pa.field("start", whole),
            pa.field("end", whole),
            pa.field(TEXT, text),
            pa.field("text_digest", text),
            pa.field(VECTOR, pa.list_(pa.float32(), dimension)),
            pa.field("site", text),
            pa.field("created_by", text),
            pa.field("created_at", pa.timestamp("us", tz="UTC")),
        ]
    )


def column_of(values: Any, field: pa.Field, length: int) -> Any:
    """Return values as a column, empty where there are none."""
    import pyarrow as pa

    if values is None:
        return pa.nulls(length, field.type)
    if isinstance(values, pa.ChunkedArray):
        return values.cast(field.type)
    return pa.array(values, type=field.type)


def vectors_of(rows: pa.Table) -> np.ndarray:
    """Return the vectors of rows, float32 of shape (rows, dimension)."""
    import numpy as np

    column = rows[VECTOR].combine_chunks()
    flat: np.ndarray = column.flatten().to_numpy(zero_copy_only=False)
    return flat.reshape(len(rows), -1).astype(np.float32, copy=False)


def checked_vectors(vectors: np.ndarray, length: int, dimension: int) -> np.ndarray:
    """Return the vectors, or say what is wrong with them.

    Raises
    ------
    SpaceError
        They have another size.
    CatalogError
        One holds what is no number.
    """
    import numpy as np

    if vectors.shape != (length, dimension):
        raise SpaceError(
            f"The vectors have {vectors.shape[-1]} numbers each, those of the collection {dimension}.",
            "Embed the texts with the collection's encoder, or begin a collection of another name.",
        )
    if not np.isfinite(vectors).all():
        raise CatalogError("A vector holds values that are no numbers; nothing was written.")
    return vectors


def narrowed(query: Any, handle: Table, filters: Sequence[Filter], limit: int, score: str) -> pa.Table:
    """Return the keys, places and scores that a query gives where the filters fit."""
    condition = condition_of(filters, metadata_types(handle.schema)) if filters else ""
    if condition:
        query = query.where(condition, prefilter=True)
    return query.select([ITEMS_KEY, score]).with_row_id(True).limit(limit).to_arrow()


def triples(rows: pa.Table | None, score: str) -> list[tuple[str, int, float]]:
    """Return key, place in the table and score of every row."""
    if rows is None:
        return []
    columns = (rows[name].to_pylist() for name in (ITEMS_KEY, "_rowid", score))
    return list(zip(*columns, strict=True))


def shaped(rows: pa.Table | None) -> Iterator[dict[str, Any]]:
    """Yield rows as dictionaries, the metadata that has a value in one of its own."""
    for row in rows_of(rows):
        metadata = {name: row.pop(name) for name in list(row) if name.startswith(METADATA_PREFIX)}
        known = {metadata_name(name): value for name, value in metadata.items() if value is not None}
        yield row | {"metadata": known}
