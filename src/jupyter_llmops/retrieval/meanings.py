"""Finding things of the catalog by words and by meaning.

The words rank one list, the cosine of embedded texts another, and reciprocal rank fusion (Cormack,
Clarke and Büttcher, SIGIR 2009) makes one of them: neither score needs to be comparable with the
other. The vectors of the things are kept in the catalog, so a text is embedded by whoever looks
first and by nobody after.
"""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from jupyter_llmops.errors import CatalogError, UsageError
from jupyter_llmops.retrieval.words import word_index

if TYPE_CHECKING:
    from jupyter_llmops.catalog import Catalog
    from jupyter_llmops.inference.encoder import Encoder

Progress = Callable[[str, float | None], None]

_RRF = 60
# Below it MiniLM finds nothing in common; and what has half of the best's cosine is about something else.
LEAST_COSINE, LEAST_OF_BEST = 0.2, 0.5
# A commit costs about as much as embedding a few texts; larger batches would lose more to a Ctrl-C.
BATCH = 128
_MOST_KEPT = 20_000
# Of one text; an encoder reads far less.
LONGEST_TEXT = 20_000

# What could not be stored, so that a catalog that can only be read is embedded once a process.
_kept: dict[tuple[str, str], Any] = {}
_kept_lock = threading.Lock()


class Match(NamedTuple):
    """A thing that was found: its name, its score within this search, and why."""

    name: str
    score: float
    why: str


def find(
    catalog: Catalog,
    noun: str,
    texts: Mapping[str, str],
    query: str,
    encoder: Encoder | None,
    *,
    limit: int = 50,
    own: Catalog | None = None,
    own_names: Collection[str] = (),
    progress: Progress | None = None,
) -> list[Match]:
    """Return the things whose text or meaning fits a query, best first.

    Parameters
    ----------
    catalog : Catalog
        Where vectors are kept; one that can only be read is fine.
    noun : str
        "model", "prompt" or "collection".
    texts : mapping of name to text
        What each thing says of itself.
    query : str
        What somebody looks for, in words or as a sentence.
    encoder : Encoder or None
        Embeds; None compares words only.
    limit : int
        Most matches.
    own, own_names : Catalog and names, optional
        This user's catalog keeps the vectors of these: a private text must not show through the
        vectors that a team can read.
    progress : callable, optional
        Gets a sentence and a fraction while texts are embedded.

    Raises
    ------
    UsageError
        The query is empty.
    CatalogError
        The catalog can't be read.
    """
    if not query.strip():
        raise UsageError(
            "There is nothing to look for.", "Type what it is about, e.g. find translate into French."
        )
    texts = {name: text[:LONGEST_TEXT] for name, text in texts.items()}
    names = list(texts)
    words = {names[number]: matched for number, _, matched in word_index(tuple(texts.items())).search(query)}
    cosines: dict[str, float] = {}
    if encoder is not None and texts:
        shares = [(catalog, {name: text for name, text in texts.items() if name not in own_names})]
        if own is not None and own_names:
            shares.append((own, {name: text for name, text in texts.items() if name in own_names}))
        asked = encoder.embed_query(query)
        for place, share in shares:
            cosines |= cosines_of(embedded(place, noun, share, encoder, progress), asked, share)
    return _fused(query, words, _meant(cosines))[:limit]


def cosines_of(vectors: Any, asked: Any, names: Iterable[str]) -> dict[str, float]:
    """Return the cosine of each row of `vectors`, shape (names, dimension), with a query's, by name."""
    import numpy as np

    # What a colleague stored is taken for its direction only; what is no direction says nothing.
    with np.errstate(invalid="ignore", over="ignore"):
        lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(asked)
        cosines = vectors @ asked / np.maximum(lengths, 1e-12)
    cosines = np.nan_to_num(cosines, nan=0.0, posinf=0.0, neginf=0.0)
    return dict(zip(names, cosines.tolist(), strict=True))


def embedded(
    catalog: Catalog,
    noun: str,
    texts: Mapping[str, str],
    encoder: Encoder,
    progress: Progress | None = None,
) -> Any:
    """Return the vectors of texts, float32 of shape (texts, dimension), embedding those that nobody has.

    What is embedded is committed batch by batch, so that an interruption keeps what is done.
    """
    import numpy as np

    from jupyter_llmops.inference.encoder import space_digest

    space = space_digest(encoder.space)
    digests = {name: _digest(text) for name, text in texts.items()}
    stored = catalog.meanings.vectors(noun, space)
    dimension = encoder.space.dimension
    fits = stored.vectors.shape[1:] == (dimension,)
    found = np.zeros((len(texts), dimension), np.float32)
    missing: list[tuple[int, str]] = []
    for row, (name, digest) in enumerate(digests.items()):
        place = stored.rows.get((name, digest)) if fits else None
        vector = stored.vectors[place] if place is not None else _kept.get((space, digest))
        if vector is None:
            missing.append((row, name))
        else:
            found[row] = vector
    writable = True
    for start in range(0, len(missing), BATCH):
        batch = missing[start : start + BATCH]
        if progress is not None:
            progress(
                f"Embedding {len(missing):,} {noun}{'s' if len(missing) != 1 else ''} to find them by meaning",
                start / len(missing),
            )
        vectors = encoder.embed([texts[name] or name for _, name in batch])
        for (row, _), vector in zip(batch, vectors, strict=True):
            found[row] = vector
        if writable:
            places = ((name, digests[name]) for _, name in batch)
            try:
                catalog.meanings.add(noun, space, list(zip(places, vectors, strict=True)))
                continue
            except CatalogError:  # read only, newer, full: the answer does not need it
                writable = False
        _keep(space, [digests[name] for _, name in batch], vectors)
    return found


def _keep(space: str, digests: Sequence[str], vectors: Any) -> None:
    with _kept_lock:
        if len(_kept) + len(digests) > _MOST_KEPT:
            _kept.clear()
        _kept.update({(space, digest): vector for digest, vector in zip(digests, vectors, strict=True)})


def _meant(cosines: Mapping[str, float]) -> dict[str, float]:
    """Return what a query is about, best first, without what only is the least unlike it."""
    least = max(LEAST_COSINE, LEAST_OF_BEST * max(cosines.values(), default=0.0))
    near = {name: cosine for name, cosine in cosines.items() if cosine >= least}
    return dict(sorted(near.items(), key=lambda item: -item[1]))


def _fused(query: str, words: Mapping[str, tuple[str, ...]], meant: Mapping[str, float]) -> list[Match]:
    scores: dict[str, float] = {}
    for ranking in (words, meant):
        for rank, name in enumerate(ranking, 1):
            scores[name] = scores.get(name, 0.0) + 1 / (_RRF + rank)
    typed = query.strip().casefold()
    # Whoever types a whole name wants that one.
    order = sorted(scores, key=lambda name: (name.casefold() != typed, -scores[name], name))
    return [Match(name, scores[name], _why(words.get(name, ()), meant.get(name))) for name in order]


def _why(words: Sequence[str], cosine: float | None) -> str:
    said = [f"has {', '.join(words[:5])}"] if words else []
    return " · ".join([*said, f"meaning {cosine:.2f}"] if cosine is not None else said)


def _digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()
