"""Finding runs by what they are about: texts are embedded when somebody looks, a bounded number a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from jupyter_llmops.retrieval.meanings import (
    LEAST_COSINE,
    LEAST_OF_BEST,
    LONGEST_TEXT,
    Progress,
    cosines_of,
    embedded,
)

if TYPE_CHECKING:
    from jupyter_llmops.catalog import Catalog
    from jupyter_llmops.inference.encoder import Encoder
    from jupyter_llmops.records.run_search import RunFilter

NOUN = "run"
# Of one search: 500 texts take about ten seconds on two cores.
MOST_EMBEDDED = 500
# Among so many of the newest that fit are those that are embedded next.
_LOOKED_AT = 5_000


class MeantRuns(NamedTuple):
    """Cosines of runs by id, best first; how many that fit are not embedded, and whether more may be."""

    cosines: Mapping[str, float]
    waiting: int
    more: bool


def meant_runs(
    catalog: Catalog,
    query: str,
    chosen: RunFilter,
    encoder: Encoder,
    limit: int,
    progress: Progress | None = None,
    *,
    most: int = MOST_EMBEDDED,
) -> MeantRuns:
    """Return the runs whose text is about a query; the newest that nobody embedded are embedded first.

    Parameters
    ----------
    catalog : Catalog
        Holds runs, texts and vectors; one that can only be read is fine.
    query : str
        What somebody looks for.
    chosen : RunFilter
        All of it must fit.
    encoder : Encoder
        Embeds.
    limit : int
        Most runs.
    progress : callable, optional
        Gets a sentence and a fraction while texts are embedded.
    most : int
        Texts that are embedded at most; the next search goes on.

    Raises
    ------
    CatalogError
        The catalog can't be read.
    """
    from jupyter_llmops.inference.encoder import space_digest

    known = catalog.meanings.vectors(NOUN, space_digest(encoder.space))
    there = (
        {name for name, _ in known.rows} if known.vectors.shape[1:] == (encoder.space.dimension,) else set()
    )
    newest = catalog.run_search.newest_with_text(chosen, _LOOKED_AT)
    waiting = [run_id for run_id in newest if run_id not in there]
    texts = catalog.run_search.texts(waiting[:most])
    texts = {run_id: text[:LONGEST_TEXT] for run_id, text in texts.items()}
    asked = encoder.embed_query(query)
    cosines: dict[str, float] = {}
    if there:
        names = [name for name, _ in known.rows]
        cosines |= cosines_of(known.vectors, asked, names)
    if texts:
        cosines |= cosines_of(embedded(catalog, NOUN, texts, encoder, progress), asked, texts)
    near = _near(cosines)
    found = catalog.run_search.fitting(near, chosen, limit)
    return MeantRuns(
        {run_id: cosines[run_id] for run_id in found},
        max(0, len(waiting) - len(texts)),
        len(newest) >= _LOOKED_AT,
    )


def _near(cosines: Mapping[str, float]) -> Sequence[str]:
    least = max(LEAST_COSINE, LEAST_OF_BEST * max(cosines.values(), default=0.0))
    return sorted(
        (name for name, value in cosines.items() if value >= least), key=lambda name: -cosines[name]
    )
