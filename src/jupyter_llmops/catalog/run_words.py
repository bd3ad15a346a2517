"""The words of runs: those of what they said, and those in the names of their own columns."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, NamedTuple

from jupyter_llmops.catalog.connection import Connection, sql_text
from jupyter_llmops.catalog.schemas import CONTENTS

if TYPE_CHECKING:
    import pyarrow as pa
    from lancedb.table import Table

# Of a table without an index of its words so many rows with one of them are compared.
_SCANNED = 60_000
_SNIPPET = 70
_LOOK = re.compile(r"\s*%(runs|audit)\b")


class Candidate(NamedTuple):
    """A run that has words, and when it ran in microseconds, or 0 where nobody asked."""

    id: str
    moment: int = 0


def words_of(text: str) -> list[str]:
    """Return the words of a query in lower case, each once."""
    return list(dict.fromkeys(re.findall(r"\w+", text.lower())))


def count_words(words: Sequence[str], text: str) -> int:
    """Return how many of some words, in lower case, a text has; of a word also what it is the beginning of."""
    folded = text.lower()
    # Not every script has spaces between its words.
    return sum(bool(re.search(rf"\b{word}" if word.isascii() else word, folded)) for word in words)


def only_looks(source: str) -> bool:
    """Return whether a cell does nothing but look at runs: each of its lines is one of %runs or %audit."""
    lines = [line for line in source.splitlines() if line.strip() and not line.lstrip().startswith("#")]
    return bool(lines) and all(_LOOK.match(line) for line in lines)


def snippet(text: str, words: str) -> str:
    """Return the piece of a text around the first of some words, on one line; its beginning where it has none."""
    line = " ".join(text.split())
    folded = line.casefold()
    places = [place for word in words.casefold().split() if (place := folded.find(word)) >= 0]
    start = max(0, min(places, default=0) - _SNIPPET // 3)
    piece = line[start : start + _SNIPPET]
    return f"{'…' if start else ''}{piece}{'…' if start + _SNIPPET < len(line) else ''}"


def find_words(
    connection: Connection,
    table: str,
    columns: Sequence[str],
    words: str,
    where: str,
    limit: int,
    *,
    dated: bool = False,
) -> list[Candidate]:
    """Return the rows that have the words, best first.

    Parameters
    ----------
    table : str
        The runs or their contents.
    columns : sequence of str
        Whose words are looked for.
    words : str
        Nothing in it is read as query syntax.
    where : str
        SQL that is compared first; with an index on its columns that costs milliseconds.
    limit : int
        Most rows.
    dated : bool
        Whether their moments are asked for; of thousands of rows each column more takes long.
    """
    moment = "created_at" if table == CONTENTS else "started_at"
    extra = (moment,) if dated else ()

    def look(handle: Table) -> pa.Table:
        if not set(columns) <= _with_words(handle):
            return _scanned(handle, columns, words, where, limit, extra)
        from lancedb.query import MatchQuery, MultiMatchQuery

        # An object and not a text: nothing in it is read as query syntax.
        asked = MatchQuery(words, columns[0]) if len(columns) == 1 else MultiMatchQuery(words, list(columns))
        query = handle.search(asked, query_type="fts").select(["id", *extra, "_score"])
        return (query.where(where) if where else query).limit(limit).to_arrow()

    rows = connection.reading(table, look)
    if rows is None:
        return []
    ids = rows["id"].to_pylist()
    if not dated:
        return list(map(Candidate, ids))
    import pyarrow as pa

    moments = rows[moment].cast(pa.timestamp("us", tz="UTC")).cast(pa.int64()).to_pylist()
    return [Candidate(run_id, when or 0) for run_id, when in zip(ids, moments, strict=True)]


def rows_with_all(
    connection: Connection, table: str, column: str, words: str, limit: int, extra: Sequence[str]
) -> pa.Table | None:
    """Return the rows of which one column has all of the words; None where the index of them is not built."""

    def look(handle: Table) -> pa.Table | None:
        if column not in _with_words(handle):
            return None
        from lancedb.query import FullTextOperator, MatchQuery

        asked = MatchQuery(words, column, operator=FullTextOperator.AND)
        return (
            handle.search(asked, query_type="fts").select([column, *extra, "_score"]).limit(limit).to_arrow()
        )

    return connection.reading(table, look)


def _with_words(handle: Table) -> set[str]:
    return {index.columns[0] for index in handle.list_indices() if str(index.index_type).upper() == "FTS"}


def _scanned(
    handle: Table, columns: Sequence[str], words: str, where: str, limit: int, extra: Sequence[str]
) -> pa.Table:
    """Return rows with any of the words, those with most first; what upkeep has not indexed yet is few."""
    asked = words_of(words)
    fits = " OR ".join(f"contains(lower({column}), {sql_text(word)})" for column in columns for word in asked)
    both = f"({fits or 'false'}) AND {where}" if where else fits or "false"
    # Without an order of its own a limit would cut the best.
    names = list(dict.fromkeys(["id", *columns, *extra]))
    rows = handle.search().where(both).select(names).limit(_SCANNED).to_arrow()
    texts = zip(*(rows[name].to_pylist() for name in columns), strict=True)
    counts = [count_words(asked, " ".join(map(str, text))) for text in texts]
    order = sorted(range(len(counts)), key=lambda place: -counts[place])[:limit]
    return rows.take(order) if order else rows
