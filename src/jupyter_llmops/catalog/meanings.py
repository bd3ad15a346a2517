"""Vectors of what things are about, kept so that nobody embeds a colleague's texts again."""

from __future__ import annotations

import functools
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from jupyter_llmops.catalog.changes import SEPARATOR
from jupyter_llmops.catalog.connection import Connection, sql_text
from jupyter_llmops.catalog.deleting import delete_whole
from jupyter_llmops.catalog.migrations import Migrations
from jupyter_llmops.catalog.schemas import MEANINGS

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

# Names in one filter; more take long to parse.
_AT_ONCE = 500
Place = tuple[str, str]
"""A thing's name and the digest of the text that was embedded."""


@dataclass(frozen=True, slots=True)
class MeaningVectors:
    """The vectors of a noun's things in one space.

    Parameters
    ----------
    rows : mapping of (name, text digest) to int
        Where each vector lies.
    vectors : ndarray of float32, shape (rows, dimension)
        One row each.
    """

    rows: Mapping[Place, int]
    vectors: NDArray[np.float32]


class Meanings:
    """The table of meanings.

    Parameters
    ----------
    connection : Connection
        The catalog.
    migrations : Migrations
        Its schema version.
    site, user : str
        Recorded with every vector.
    """

    def __init__(self, connection: Connection, migrations: Migrations, site: str, user: str) -> None:
        self._connection = connection
        self._migrations = migrations
        self._site = site
        self._user = user
        self._read: dict[tuple[str, str], tuple[int, MeaningVectors]] = {}

    def vectors(self, noun: str, space: str) -> MeaningVectors:
        """Return every vector of a noun in one space, read once per commit of the table.

        Parameters
        ----------
        noun : str
            "model", "prompt" or "collection".
        space : str
            Digest of an embedding space; vectors of others are left out.

        Raises
        ------
        CatalogError
            The table can't be read.
        """
        version = self._connection.version(MEANINGS)
        known = self._read.get((noun, space))
        if known is not None and known[0] == version:
            return known[1]
        found = self._select(noun, space)
        self._read[noun, space] = (version, found)
        return found

    def add(self, noun: str, space: str, vectors: Iterable[tuple[Place, NDArray[np.float32]]]) -> int:
        """Keep vectors, in one commit; return how many were not there yet.

        Raises
        ------
        CatalogError
            The table can't be written.
        """
        self._migrations.prepare_write()
        now = datetime.now(UTC)
        rows: list[dict[str, Any]] = [
            {
                "key": SEPARATOR.join((noun, name, digest, space)),
                "noun": noun,
                "name": name,
                "text_digest": digest,
                "space": space,
                "vector": vector,
                "created_by": self._user,
                "created_at": now,
                "site": self._site,
            }
            for (name, digest), vector in vectors
        ]
        return self._connection.insert_absent(MEANINGS, rows) if rows else 0

    def remove(self, noun: str, names: Iterable[str]) -> int:
        """Delete the vectors of things in every space, and the older versions that hold them.

        Parameters
        ----------
        names : iterable of str
            Of the noun's things; unknown ones are no error.

        Raises
        ------
        CatalogError
            The table can't be written.
        """
        self._migrations.prepare_write()
        removed = remove_vectors(self._connection, noun, names)
        self._read.clear()
        return removed

    def _select(self, noun: str, space: str) -> MeaningVectors:
        import numpy as np

        where = f"noun = {sql_text(noun)} AND space = {sql_text(space)}"
        found = self._connection.read(MEANINGS, ("name", "text_digest", "vector"), where=where)
        if found is None or not found.num_rows:
            return MeaningVectors({}, np.zeros((0, 0), np.float32))
        column = found["vector"].combine_chunks()
        lengths = column.value_lengths().fill_null(0).to_numpy(zero_copy_only=False)
        if not lengths.any():
            return MeaningVectors({}, np.zeros((0, 0), np.float32))
        dimension = int(np.bincount(lengths[lengths > 0]).argmax())  # what most have
        whole = lengths == dimension  # a row of another length says nothing
        values = column.flatten().to_numpy(zero_copy_only=False)
        if not whole.all():
            starts = np.concatenate(([0], np.cumsum(lengths)))[:-1][whole]
            values = np.concatenate([values[start : start + dimension] for start in starts])
        names, digests = found["name"].to_pylist(), found["text_digest"].to_pylist()
        kept = [place for place, good in zip(zip(names, digests, strict=True), whole, strict=True) if good]
        rows = {place: row for row, place in enumerate(kept)}
        return MeaningVectors(rows, values.reshape(-1, dimension).astype(np.float32, copy=False))


def remove_vectors(connection: Connection, noun: str, names: Iterable[str]) -> int:
    """Delete the vectors of a noun's things in every space, and the versions that hold them; return how many.

    A snapshot that was made before keeps them.
    """
    chosen = list(names)
    removed = 0
    for start in range(0, len(chosen) if connection.has(MEANINGS) else 0, _AT_ONCE):
        part = ", ".join(map(sql_text, chosen[start : start + _AT_ONCE]))
        where = f"noun = {sql_text(noun)} AND name IN ({part})"
        removed += connection.writing(MEANINGS, functools.partial(delete_whole, where=where))
    if removed:
        connection.optimize(MEANINGS, timedelta(0))
    return removed
