"""Embedding spaces: two are never mixed, and a collection moves from one to another as a whole."""

from __future__ import annotations

from jupyter_llmops.errors import SpaceError
from jupyter_llmops.records.collection import EmbeddingSpace


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
