"""From searches in several collections to the passages of one prompt."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import zip_longest

from jupyter_llmops.records.collection import Passage, SearchResult


def merged(results: Sequence[SearchResult], k: int) -> tuple[Passage, ...]:
    """Return the best passages of several searches, one of each in turn, every text once.

    Scores of two collections can't be compared, ranks can: the first of each comes before the
    second of any.

    Parameters
    ----------
    results : sequence of SearchResult
        In the order in which the collections were named.
    k : int
        Most passages.
    """
    kept: dict[str, Passage] = {}
    for rank in zip_longest(*(result.passages for result in results)):
        for passage in rank:
            if passage is not None:
                kept.setdefault(passage.digest, passage)
    return tuple(kept.values())[:k]
