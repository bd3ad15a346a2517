"""A collection is copied from the user's own catalog to the team's: rows and vectors as they are."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from jupyter_llmops.records.collection import AddReport
from jupyter_llmops.retrieval.meter import Meter, Progress
from jupyter_llmops.retrieval.spaces import require_space

if TYPE_CHECKING:
    from jupyter_llmops.catalog import Catalog

CHUNKS_A_COMMIT = 2_000


def publish(
    source: Catalog,
    target: Catalog,
    name: str,
    *,
    find_secrets: Callable[[str], Sequence[str]],
    progress: Progress | None = None,
) -> AddReport:
    """Copy a collection to another catalog; what is there already and the same costs a digest.

    Parameters
    ----------
    source, target : Catalog
        From and to.
    name : str
        The collection, of the same name in both.
    find_secrets : callable
        Returns the kinds of secrets in a text; a document with any stays private.
    progress : callable, optional
        Told how far it is.

    Raises
    ------
    SpaceError
        The other catalog has a collection of that name in another space.
    """
    begun = time.monotonic()
    mine = source.collections.get(name)
    target.collections.create(mine.name, mine.space, mine.chunking)
    theirs = target.collections.get(mine.name)
    require_space(mine.name, theirs.space, mine.space, "published from")
    items, copies = source.collections.items(mine.name), target.collections.items(mine.name)
    wanted, there = items.documents(), copies.documents()
    differing = [document for document, digest in wanted.items() if there.get(document) != digest]
    skipped: list[tuple[str, str]] = []
    changed, chunks = 0, 0
    meter = Meter(len(differing), progress)
    for rows in items.batches(differing, CHUNKS_A_COMMIT):
        secret: dict[str, str] = {}
        for document, text in zip(rows["document"].to_pylist(), rows["text"].to_pylist(), strict=True):
            found = find_secrets(text)
            if found:
                secret[document] = f"it holds what looks like a secret ({', '.join(sorted(set(found)))})"
        keep = [document not in secret for document in rows["document"].to_pylist()]
        skipped += secret.items()
        kept = rows.filter(keep)
        documents = set(kept["document"].to_pylist())
        meter.wait(len(documents) + len(secret))
        if documents:
            copies.copy(kept)
        changed += len(documents & there.keys())
        chunks += len(kept)
        meter.done(len(kept))
    if mine.description or mine.tags:
        target.collections.describe(mine.name, mine.description or None, mine.tags or None)
    return AddReport(
        collection=mine.name,
        added=len(differing) - changed - len(skipped),
        changed=changed,
        unchanged=len(wanted) - len(differing),
        embedded=0,
        reused=chunks,
        seconds=time.monotonic() - begun,
        skipped=tuple(skipped),
    )
