"""The passages of one collection: a table of its own, written document by document."""

from __future__ import annotations

import hashlib
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import TYPE_CHECKING, Any

from jupyter_llmops.catalog.columns import (
    check_metadata,
    metadata_column,
    metadata_types,
)
from jupyter_llmops.catalog.connection import Connection, sql_text
from jupyter_llmops.catalog.indexes import METRIC, PROBES, REFINE, TEXT, VECTOR, text_index
from jupyter_llmops.catalog.item_rows import (
    checked_vectors,
    column_of,
    items_schema,
    narrowed,
    shaped,
    triples,
    vectors_of,
)
from jupyter_llmops.catalog.schemas import ITEMS_KEY, ITEMS_PREFIX
from jupyter_llmops.records.collection import Chunk, Filter

if TYPE_CHECKING:
    import numpy as np
    import pyarrow as pa
    from lancedb.table import Table

# Names in one SQL condition: a bound of memory, not of what is stored.
NAMES_AT_ONCE = 500
# Old versions are upkeep's to clean.
_KEEP = timedelta(days=7)


def items_table(name: str, space: str) -> str:
    """Return the name of the table of a collection in a space, made of digests only.

    Parameters
    ----------
    name : str
        The collection's name, whatever it holds.
    space : str
        Digest of the embedding space.
    """
    digest = hashlib.sha256(f"{name}\x1f{space}".encode()).hexdigest()
    return ITEMS_PREFIX + digest[:32]


def item_id(document: str, ordinal: int) -> str:
    """Return the key of a chunk: the same place in the same document is the same row.

    Made of the place and not of the content, so that two processes that write one document at once
    collide at the commit and never leave a mixture of both.
    """
    return hashlib.sha256(f"{document}\x1f{ordinal}".encode()).hexdigest()[:32]


class Items:
    """The passages of one collection in one embedding space.

    Parameters
    ----------
    connection : Connection
        The catalog.
    table : str
        From `items_table`.
    dimension : int
        Numbers in a vector.
    site, user : str
        Recorded with every row.
    """

    def __init__(self, connection: Connection, table: str, dimension: int, site: str, user: str) -> None:
        self.table = table
        self.dimension = dimension
        self._connection = connection
        self._site = site
        self._user = user

    # -- shape --------------------------------------------------------------------------------

    def create(self) -> None:
        """Create the table and its full-text index; safe when several processes do it at once."""
        self._connection.create(self.table, items_schema(self.dimension))

        def index(handle: Table) -> None:
            if not any(TEXT in known.columns for known in handle.list_indices()):
                handle.create_index(TEXT, config=text_index(), replace=False)

        try:
            self._connection.writing(self.table, index)
        except Exception:  # another process was first
            if not self._connection.reading(self.table, lambda handle: handle.list_indices()):
                raise

    def columns(self) -> dict[str, str]:
        """Return the metadata columns: name to "text", "int64", "float64" or "bool"."""
        return self._connection.reading(self.table, lambda handle: metadata_types(handle.schema)) or {}

    def add_columns(self, types: Mapping[str, str]) -> None:
        """Add metadata columns that are new; safe when several processes do it at once.

        Raises
        ------
        UsageError
            A column is there with another type, or with a name that differs by case only.
        """
        import pyarrow as pa

        from jupyter_llmops.catalog.columns import ARROW_TYPES

        if not check_metadata(types, self.columns()):
            return

        def add(handle: Table) -> None:
            missing = check_metadata(types, metadata_types(handle.schema))
            fields = [pa.field(metadata_column(n), getattr(pa, ARROW_TYPES[t])()) for n, t in missing.items()]
            if fields:
                handle.add_columns(pa.schema(fields))

        try:
            self._connection.writing(self.table, add)
        except Exception:  # another process was first
            if check_metadata(types, self.columns()):
                raise

    def index(self) -> str:
        """Return the kind of the vector index, "flat" where there is none."""

        def look(handle: Table) -> str:
            found = (known.index_type for known in handle.list_indices() if VECTOR in known.columns)
            return str(next(found, "flat"))

        return {"IvfSq": "IVF_SQ"}.get(kind := self._connection.reading(self.table, look) or "flat", kind)

    def unindexed(self) -> int:
        """Return how many chunks are not in the full-text index yet; a search reads each of them."""

        def look(handle: Table) -> int:
            found = (known for known in handle.list_indices() if TEXT in known.columns)
            return max((int(known.num_unindexed_rows or 0) for known in found), default=0)

        return self._connection.reading(self.table, look) or 0

    def put_into_indexes(self) -> None:
        """Put into the indexes what came since; searches and additions go on meanwhile."""
        self._connection.optimize(self.table, _KEEP)

    # -- what is there ------------------------------------------------------------------------

    def count(self) -> tuple[int, int]:
        """Return how many chunks there are, of how many documents."""

        def look(handle: Table) -> tuple[int, int]:
            return int(handle.count_rows()), int(handle.count_rows("ordinal = 0"))

        return self._connection.reading(self.table, look) or (0, 0)

    def documents(self) -> dict[str, str]:
        """Return every document's name and digest."""
        rows = self._connection.read(self.table, ["document", "document_digest"], where="ordinal = 0")
        if rows is None:
            return {}
        return dict(zip(rows["document"].to_pylist(), rows["document_digest"].to_pylist(), strict=True))

    def vectors(self, digests: Sequence[str]) -> dict[str, np.ndarray]:
        """Return the vectors of the texts that are there already, by the digest of the text."""
        found: dict[str, np.ndarray] = {}
        unique = list(dict.fromkeys(digests))
        for part in _parts(unique):
            chosen = ", ".join(map(sql_text, part))
            rows = self._connection.read(
                self.table, ["text_digest", VECTOR], where=f"text_digest IN ({chosen})"
            )
            if rows is not None and len(rows):
                found |= dict(zip(rows["text_digest"].to_pylist(), vectors_of(rows), strict=True))
        return found

    def batches(self, documents: Sequence[str], chunks: int) -> Iterator[pa.Table]:
        """Yield all columns of many documents, each whole, about so many chunks at a time."""
        sizes = self._sizes(documents)
        part: list[str] = []
        total = 0
        for name in documents:
            part.append(name)
            total += sizes.get(name, 0)
            if total >= chunks or len(part) >= NAMES_AT_ONCE or name == documents[-1]:
                rows = self._connection.read(self.table, where=_among(part))
                if rows is not None and len(rows):
                    yield rows.sort_by([("document", "ascending"), ("ordinal", "ascending")])
                part, total = [], 0

    def _sizes(self, documents: Sequence[str]) -> Counter[str]:
        """Return how many chunks each document has."""
        if not documents:
            return Counter()
        rows = self._connection.read(self.table, ["document"])
        return Counter() if rows is None else Counter(rows["document"].to_pylist())

    # -- writing ------------------------------------------------------------------------------

    def replace(self, digests: Mapping[str, str], chunks: Sequence[Chunk], vectors: np.ndarray) -> None:
        """Put documents in place of what is there of them, all in one commit.

        A reader sees each document as it was or as it is, and a repetition changes nothing.

        Parameters
        ----------
        digests : mapping
            Every document of the commit by name, with its digest; one without chunks is taken out.
        chunks : sequence of Chunk
            Theirs.
        vectors : numpy.ndarray
            float32, shape (len(chunks), dimension).

        Raises
        ------
        SpaceError
            The vectors have another size.
        CatalogError
            It can't be written; nothing was.
        """
        vectors = checked_vectors(vectors, len(chunks), self.dimension)
        metadata = {name for chunk in chunks for name in chunk.metadata}
        values: dict[str, list[Any]] = {
            ITEMS_KEY: [item_id(chunk.document, chunk.ordinal) for chunk in chunks],
            "document": [chunk.document for chunk in chunks],
            "document_digest": [digests[chunk.document] for chunk in chunks],
            "ordinal": [chunk.ordinal for chunk in chunks],
            "start": [chunk.start for chunk in chunks],
            "end": [chunk.end for chunk in chunks],
            TEXT: [chunk.text for chunk in chunks],
            "text_digest": [chunk.digest for chunk in chunks],
            "site": [self._site] * len(chunks),
            "created_by": [self._user] * len(chunks),
            "created_at": [datetime.now(UTC)] * len(chunks),
        }
        for name in sorted(metadata):
            values[metadata_column(name)] = [chunk.metadata.get(name) for chunk in chunks]
        self._merge(list(digests), values, vectors)

    def copy(self, rows: pa.Table, vectors: np.ndarray | None = None) -> None:
        """Put rows of another table in place of what is there of their documents, in one commit.

        Parameters
        ----------
        rows : pyarrow.Table
            From `batches` of the other table: whole documents, with who added them and when.
        vectors : numpy.ndarray, optional
            In place of theirs, float32, shape (len(rows), dimension).
        """
        self.add_columns(metadata_types(rows.schema))
        values = {name: rows[name] for name in rows.column_names if name != VECTOR}
        documents = list(dict.fromkeys(rows["document"].to_pylist()))
        self._merge(
            documents,
            values,
            checked_vectors(vectors_of(rows) if vectors is None else vectors, len(rows), self.dimension),
        )

    def remove(self, documents: Sequence[str]) -> int:
        """Take documents out; return how many chunks they had."""
        return sum(
            self._connection.writing(self.table, partial(_delete, where=_among(part)))
            for part in _parts(documents)
        )

    def _merge(self, documents: Sequence[str], values: Mapping[str, Any], vectors: np.ndarray) -> None:
        import pyarrow as pa

        if not len(vectors):
            self.remove(documents)
            return

        def write(handle: Table) -> None:
            columns = []
            for field in handle.schema:
                if field.name == VECTOR:
                    flat = pa.array(vectors.reshape(-1), type=pa.float32())
                    columns.append(pa.FixedSizeListArray.from_arrays(flat, self.dimension))
                else:
                    columns.append(column_of(values.get(field.name), field, len(vectors)))
            batch = pa.Table.from_arrays(columns, schema=handle.schema)
            # An index on the key would let duplicates through; see `Connection.insert_absent`.
            merge = handle.merge_insert(ITEMS_KEY).use_index(False)
            merge = merge.when_matched_update_all().when_not_matched_insert_all()
            merge.when_not_matched_by_source_delete(_among(documents)).execute(batch)

        self._connection.writing(self.table, write)

    # -- search -------------------------------------------------------------------------------

    def nearest(
        self, vector: np.ndarray, limit: int, filters: Sequence[Filter] = (), refine: int = REFINE
    ) -> list[tuple[str, int, float]]:
        """Return the chunks whose vectors are nearest by cosine, best first.

        Parameters
        ----------
        vector : numpy.ndarray
            float32, shape (dimension,).
        limit : int
            Most chunks.
        filters : sequence of Filter
            All must fit.
        refine : int
            How many times more candidates of an index are compared in full.

        Returns
        -------
        list of (str, int, float)
            Key, place in the table (for `chosen`) and cosine of each.
        """

        def look(handle: Table) -> pa.Table:
            query = handle.search(vector, vector_column_name=VECTOR, query_type="vector")
            query = query.distance_type(METRIC).nprobes(PROBES).refine_factor(refine)
            return narrowed(query, handle, filters, limit, "_distance")

        found = self._connection.reading(self.table, look)
        return [(key, place, 1.0 - distance) for key, place, distance in triples(found, "_distance")]

    def matching(
        self, words: str, limit: int, filters: Sequence[Filter] = ()
    ) -> list[tuple[str, int, float]]:
        """Return the chunks that hold most of the words, best first, with BM25; like `nearest`."""

        def look(handle: Table) -> pa.Table:
            from lancedb.query import MatchQuery

            # An object and not a text: nothing in it is read as query syntax.
            query = handle.search(MatchQuery(words, TEXT), query_type="fts")
            return narrowed(query, handle, filters, limit, "_score")

        return triples(self._connection.reading(self.table, look), "_score")

    def chosen(self, places: Mapping[str, int]) -> dict[str, dict[str, Any]]:
        """Return chunks by key; their ``metadata`` holds the columns that have a value.

        Parameters
        ----------
        places : mapping of str to int
            Key to place, as a search returned them. Upkeep may have moved a row since: then it is
            found by its key, and left out if it is gone.
        """

        def look(handle: Table) -> pa.Table:
            left_out = {VECTOR, "document_digest", "created_at", "created_by", "site"}
            names = [name for name in handle.schema.names if name not in left_out]
            return handle.take_row_ids(list(places.values())).select(names).to_arrow()

        found: dict[str, dict[str, Any]] = {}
        try:
            rows = self._connection.reading(self.table, look)
        except Exception:  # noqa: BLE001 - a place that is there no more; what is worse comes again below
            rows = None
        for row in shaped(rows):
            found[row[ITEMS_KEY]] = row
        missing = [key for key in places if key not in found]
        for part in _parts(missing):
            keys = ", ".join(map(sql_text, part))
            for row in shaped(self._connection.read(self.table, where=f"{ITEMS_KEY} IN ({keys})")):
                found[row[ITEMS_KEY]] = row
        return {key: found[key] for key in places if key in found}


def _parts(names: Sequence[str]) -> Iterator[Sequence[str]]:
    for begin in range(0, len(names), NAMES_AT_ONCE):
        yield names[begin : begin + NAMES_AT_ONCE]


def _delete(handle: Table, where: str) -> int:
    return int(handle.delete(where).num_deleted_rows)


def _among(documents: Sequence[str]) -> str:
    return f"document IN ({', '.join(map(sql_text, documents))})"
