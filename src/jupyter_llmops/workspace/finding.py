"""Finding things of the catalog by words and by meaning."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any

from jupyter_llmops.errors import CatalogError, LLMOpsError
from jupyter_llmops.workspace.parts import Parts, Progress

if TYPE_CHECKING:
    from jupyter_llmops.catalog import Catalog
    from jupyter_llmops.inference.encoder import Encoder


class FoundNames(list[str]):
    """Names, best first.

    Parameters
    ----------
    names : iterable of str
        What was found.
    why : mapping of name to str
        What fitted.
    note : str
        What the answer lacks, one sentence; empty when nothing.
    """

    def __init__(self, names: Iterable[str], why: Mapping[str, str], note: str = "") -> None:
        super().__init__(names)
        self.why = dict(why)
        self.note = note


class Finding(Parts):
    """How a workspace finds models, prompts and collections."""

    def find_names(
        self, noun: str, texts: Mapping[str, str], query: str, progress: Progress | None = None
    ) -> FoundNames:
        """Return the names of the things that fit a query, best first.

        Parameters
        ----------
        noun : {"model", "prompt", "collection"}
            What is looked for.
        texts : mapping of name to text
            What each thing says of itself.
        query : str
            Words, or what it should be about.
        progress : callable, optional
            Gets a sentence and a fraction while texts are embedded for the first time.

        Raises
        ------
        UsageError
            The query is empty.
        """
        from jupyter_llmops.retrieval.meanings import find

        own = None if self.own is self.catalog else self.own
        places: dict[str, Any] = {
            "own": own,
            "own_names": _names_in(own, noun) & set(texts) if own else frozenset(),
        }
        encoder, note = self._encoder_or_why_not(progress) if texts else (None, "")
        try:
            found = find(self.catalog, noun, texts, query, encoder, progress=progress, **places)
        except CatalogError as error:  # the vectors can't be read; the words are here
            note = f"Only words were compared: {error.message}"
            found = find(self.catalog, noun, texts, query, None)
        return FoundNames([match.name for match in found], {match.name: match.why for match in found}, note)

    def _encoder_or_why_not(self, progress: Progress | None) -> tuple[Encoder | None, str]:
        if progress is not None:
            progress("Loading the encoder", None)
        try:
            return self.encoder(), ""
        except LLMOpsError as error:
            return None, f"Only words were compared, not meaning: {error}"


def _names_in(catalog: Catalog, noun: str) -> frozenset[str]:
    table: Any = {"model": catalog.models, "prompt": catalog.prompts, "collection": catalog.collections}[noun]
    return frozenset(record.name for record in table.list())
