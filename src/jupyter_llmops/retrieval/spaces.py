"""Embedding spaces: two are never mixed, and a collection moves from one to another as a whole."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from jupyter_llmops.errors import Interrupted, SpaceError
from jupyter_llmops.records.collection import EmbeddingSpace
from jupyter_llmops.retrieval.meter import Meter, Progress

if TYPE_CHECKING:
    from jupyter_llmops.catalog import Catalog
    from jupyter_llmops.catalog.items import Items
    from jupyter_llmops.inference.encoder import Encoder

# Whole documents are carried over in commits of about so many chunks.
CHUNKS_A_COMMIT = 512


@dataclass(frozen=True, slots=True)
class MigrateReport:
    """What a migration did.

    Parameters
    ----------
    before, after : EmbeddingSpace
        The spaces; the same where there was nothing to do.
    documents, chunks : int
        How many were embedded anew in this call.
    """

    before: EmbeddingSpace
    after: EmbeddingSpace
    documents: int
    chunks: int


def migrate(catalog: Catalog, name: str, encoder: Encoder, progress: Progress | None = None) -> MigrateReport:
    """Embed a collection anew with another encoder, then switch to it at once.

    Everybody searches the old vectors until the switch. What others add meanwhile is carried over:
    at the end the collection is closed to additions for one last look, then switched by
    compare-and-set. A killed or interrupted migration is continued by the same call; the same call
    with the encoder that the collection has gives up one that was begun.

    Parameters
    ----------
    catalog : Catalog
        Where the collection is.
    name : str
        The collection.
    encoder : Encoder
        Of the space that it moves to; it must read chunks of the collection's length.
    progress : callable, optional
        Told how far it is.

    Raises
    ------
    SpaceError
        The encoder would cut the collection's chunks.
    ConflictError
        Somebody else migrated it meanwhile.
    Interrupted
        Ctrl-C; what was embedded is kept for the next call.
    """
    catalog.collections.prepare_write()
    standing = catalog.collections.standing(name)
    if standing.space.digest == encoder.space.digest:
        if standing.closing:
            catalog.collections.move(name, replace(standing, closing=""), reason="migration given up")
        return MigrateReport(standing.space, encoder.space, 0, 0)
    longest = catalog.collections.get(name).chunking.max_tokens
    if longest > encoder.space.max_tokens:
        raise SpaceError(
            f"The chunks of {name!r} have up to {longest} tokens, but {encoder.space.encoder} reads only "
            f"{encoder.space.max_tokens}.",
            f"Add the documents to a new collection with --max-tokens {encoder.space.max_tokens}.",
        )
    old = catalog.collections.items_at(standing)
    new = catalog.collections.prepare(name, encoder.space)
    move = _Move(old, new, encoder, progress)
    try:
        while move.catch_up():
            pass
        closed = replace(standing, closing=encoder.space.encoder)
        closed = catalog.collections.move(name, closed, reason=f"migrating to {encoder.space.encoder}")
        # Whoever wrote before the closing has committed; whoever looks now is refused.
        while move.catch_up():
            pass
        after = replace(closed, table=new.table, space=encoder.space, closing="")
        catalog.collections.move(name, after, reason=f"migrated from {standing.space.encoder}")
    except KeyboardInterrupt:
        raise Interrupted(
            f"The migration of {name!r} was stopped; the collection is as it was.",
            "The same line goes on where it stopped.",
        ) from None
    return MigrateReport(standing.space, encoder.space, move.documents, move.chunks)


class _Move:
    """A table that becomes another one's image in a new space."""

    def __init__(self, old: Items, new: Items, encoder: Encoder, progress: Progress | None) -> None:
        self.documents = 0
        self.chunks = 0
        self._old = old
        self._new = new
        self._encoder = encoder
        self._progress = progress

    def catch_up(self) -> bool:
        """Carry over what differs; return whether anything did."""
        wanted, there = self._old.documents(), self._new.documents()
        gone = [name for name in there if name not in wanted]
        differing = [name for name, digest in wanted.items() if there.get(name) != digest]
        if gone:
            self._new.remove(gone)
        meter = Meter(len(differing), self._progress)
        for rows in self._old.batches(differing, CHUNKS_A_COMMIT):
            documents = len(set(rows["document"].to_pylist()))
            meter.wait(documents)
            vectors = self._encoder.embed(rows["text"].to_pylist(), meter.embedding(len(rows)))
            self._new.copy(rows, vectors)
            meter.done(len(rows))
            self.documents += documents
            self.chunks += len(rows)
        return bool(gone or differing)


def require_space(name: str, space: EmbeddingSpace, other: EmbeddingSpace, act: str) -> None:
    """Refuse vectors of another space than the collection's.

    Parameters
    ----------
    name : str
        The collection.
    space, other : EmbeddingSpace
        Its own, and that of the encoder at hand.
    act : str
        What was about to happen to it: "searched", "added to".

    Raises
    ------
    SpaceError
        They are not the same; names both.
    """
    if space.digest == other.digest:
        return
    same_name = space.encoder == other.encoder
    keep = "with the files that it was made with" if same_name else f"with --encoder {space.encoder}"
    raise SpaceError(
        f"The collection {name!r} was made with the encoder {described(space)}, but is {act} with "
        f"{described(other)}; their vectors can't be compared.",
        f"Go on {keep}, or embed all of it anew: %collections migrate {quoted(name)} {quoted(other.encoder)}",
    )


def described(space: EmbeddingSpace) -> str:
    """Return a space in a few words."""
    length = "normalized" if space.normalized else "not normalized"
    digest = space.encoder_digest.removeprefix("sha256:")[:8]
    return f"{space.encoder} ({space.dimension} numbers, {space.pooling} pooling, {length}, files {digest})"


def quoted(word: str) -> str:
    """Return a word as it is typed behind a magic."""
    import shlex

    return shlex.quote(word)
