"""Search in a collection: by meaning, by words, or both with their ranks fused."""

from __future__ import annotations

import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Literal, Protocol, get_args

from jupyter_llmops.errors import UsageError
from jupyter_llmops.records.collection import EmbeddingSpace, Filter, Passage, SearchResult
from jupyter_llmops.retrieval.filters import Filters, parse_filters
from jupyter_llmops.retrieval.spaces import require_space

if TYPE_CHECKING:
    import numpy as np

    from jupyter_llmops.catalog import Catalog
    from jupyter_llmops.catalog.items import Items

Row = dict[str, Any]
Found = tuple[str, int, float]
How = Literal["hybrid", "vector", "text"]
MOST = 1_000
# Reciprocal rank fusion: "k = 60 was near-optimal, but the choice is not critical"
# (Cormack, Clarke and Büttcher, SIGIR 2009).
RRF_CONSTANT = 60
# How deep each of the two rankings is read: a passage that both know comes before the first of one.
DEPTH = 20
# With so many candidates an index need not look at five times more of them again.
REFINE_DEEP = 2
# What is read of a long query: an encoder cuts it anyway, and thousands of words find everything.
QUERY_CHARACTERS, WORDS_CHARACTERS = 20_000, 2_000


class QueryEncoder(Protocol):
    """What search needs of an encoder."""

    @property
    def space(self) -> EmbeddingSpace:
        """What its vectors mean."""

    def embed_query(self, text: str) -> np.ndarray:
        """Return one vector."""


def search(
    catalog: Catalog,
    collection_name: str,
    query: str,
    encoder: QueryEncoder | None,
    k: int = 5,
    where: Filters = (),
    how: How = "hybrid",
) -> SearchResult:
    """Return the passages of a collection that fit a query best.

    Parameters
    ----------
    catalog : Catalog
        Where the collection is.
    collection_name : str
        Its name.
    query : str
        What is looked for; taken as words, never as query syntax.
    encoder : Encoder or None
        Of the collection's space; None will do for ``how="text"``.
    k : int
        Most passages, 1 to 1,000.
    where : sequence of str or Filter, or mapping
        Conditions on metadata, e.g. ``["year>=2020"]``; all must fit.
    how : {"hybrid", "vector", "text"}
        Vector search by cosine, full-text search (BM25), or both fused by reciprocal ranks.

    Raises
    ------
    UsageError
        The query is empty, k is out of bounds, or a filter names no column.
    UnknownNameError
        There is no such collection.
    SpaceError
        The encoder makes vectors of another space.
    """
    begun = time.perf_counter()
    check(query, k, how)
    filters = parse_filters(where)
    standing = catalog.collections.standing(collection_name)
    items = catalog.collections.items_at(standing)
    vector = None
    if how != "text":
        if encoder is None:
            raise UsageError("Search by meaning needs an encoder.", "Search with --how text.")
        require_space(collection_name, standing.space, encoder.space, "searched")
        vector = encoder.embed_query(query[:QUERY_CHARACTERS])
    rows = ranked(items, query[:WORDS_CHARACTERS], vector, k, filters, how)
    return SearchResult(
        query=query,
        collection=collection_name,
        passages=tuple(_passage(collection_name, row, score) for row, score in rows),
        how=how,
        seconds=time.perf_counter() - begun,
    )


def ranked(
    items: Items, words: str, vector: np.ndarray | None, k: int, filters: Sequence[Filter], how: How
) -> list[tuple[Row, float]]:
    """Return the best rows with their scores, best first.

    The score is the cosine, BM25, or the fused rank between 0 and 1, which is 1 for what is first
    in both rankings.

    Parameters
    ----------
    items : Items
        The passages.
    words, vector
        The query, as text and as a vector; the vector may be None for ``how="text"``.
    """
    if how == "text" or vector is None:
        best = items.matching(words, k, filters)
    elif how == "vector":
        best = items.nearest(vector, k, filters)
    else:
        depth = max(DEPTH, 2 * k)
        with ThreadPoolExecutor(1) as beside:
            near = beside.submit(items.nearest, vector, depth, filters, refine=REFINE_DEEP)
            worded = items.matching(words, depth, filters)
            best = fused(near.result(), worded)[:k]
    rows = items.chosen({key: place for key, place, _ in best})
    return [(rows[key], score) for key, _, score in best if key in rows]


def fused(*rankings: Sequence[Found]) -> list[Found]:
    """Return the chunks of several rankings by the sum of their reciprocal ranks, best first.

    Parameters
    ----------
    rankings : sequences of (str, int, float)
        Key, place and score of each chunk, best first; only the order counts.
    """
    places: dict[str, int] = {}
    scores: dict[str, float] = {}
    for ranking in rankings:
        for rank, (key, place, _) in enumerate(ranking, start=1):
            places[key] = place
            scores[key] = scores.get(key, 0.0) + 1 / (RRF_CONSTANT + rank)
    highest = len(rankings) / (RRF_CONSTANT + 1)
    # Equal scores are ordered by key, so that the same search shows the same passages.
    best = sorted(places, key=lambda key: (-scores[key], key))
    return [(key, places[key], scores[key] / highest) for key in best]


def check(query: str, k: int, how: str) -> None:
    """Refuse what can't be searched for.

    Raises
    ------
    UsageError
        The query is empty, `k` is out of bounds, or there is no such way to search.
    """
    if not query.strip():
        raise UsageError("The query is empty.", 'Type what you look for, e.g. %search NAME "how to reset".')
    if type(k) is not int or not 1 <= k <= MOST:
        raise UsageError(f"--k is {k!r}, but a search returns 1 to {MOST:,} passages.", "Type e.g. --k 5.")
    if how not in get_args(How):
        raise UsageError(f"There is no search by {how!r}.", f"Valid are {', '.join(get_args(How))}.")


def _passage(collection: str, row: Row, score: float) -> Passage:
    return Passage(
        id=row["id"],
        collection=collection,
        document=row["document"],
        start=row["start"],
        end=row["end"],
        text=row["text"],
        digest=row["text_digest"],
        score=score,
        metadata=row["metadata"],
    )
