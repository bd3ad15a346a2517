"""Passages of collections for a prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jupyter_llmops.errors import UsageError
from jupyter_llmops.workspace.collections import Collections
from jupyter_llmops.workspace.parts import Progress

if TYPE_CHECKING:
    from jupyter_llmops.prompting.context import ContextSource, FoundPassages

DEFAULT_PASSAGES = 5
MOST_PASSAGES = 100


class Contexts(Collections):
    """How a workspace finds what a prompt is shown."""

    def context_source(
        self, options: Mapping[str, Any], progress: Progress | None = None
    ) -> ContextSource | None:
        """Return where a prompt's passages come from, None when it asks for none.

        Parameters
        ----------
        options : mapping
            ``context`` (a collection's name or several), ``k`` and ``context_query`` of `PromptOptions`.
        progress : callable, optional
            Gets a sentence while an encoder is loaded.

        Raises
        ------
        UsageError
            One of them is not valid.
        """
        from jupyter_llmops.prompting.context import ContextSource

        names = _names(options.get("context"))
        k, query = options.get("k"), options.get("context_query", "")
        if not names:
            if k is not None or query:
                raise UsageError(
                    "There is no collection to take passages from.",
                    "Add --context COLLECTION; %collections lists them.",
                )
            return None
        if k is None:
            k = DEFAULT_PASSAGES
        if type(k) is not int or not 1 <= k <= MOST_PASSAGES:
            raise UsageError(f"{k!r} is not a number of passages.", f"Give 1 to {MOST_PASSAGES}, e.g. --k 5.")
        if not isinstance(query, str):
            raise UsageError(f"{query!r} is not a query.", "Give a text, which may be a template.")
        return ContextSource(lambda wanted: self._passages(names, wanted, k, progress), query)

    def _passages(self, names: Sequence[str], query: str, k: int, progress: Progress | None) -> FoundPassages:
        from jupyter_llmops.inference.encoder import space_digest
        from jupyter_llmops.prompting.context import FoundPassages
        from jupyter_llmops.retrieval.context import merged

        collections = [self.collection(name) for name in names]
        results = [self.search(name, query, k, progress=progress) for name in names]
        return FoundPassages(
            merged(results, k),
            {one.name: space_digest(one.space) for one in collections},
            frozenset(one.name for one in collections if one.private),
        )


def _names(context: object) -> tuple[str, ...]:
    if context is None:
        return ()
    names = (context,) if isinstance(context, str) else context
    if not isinstance(names, Sequence) or not all(isinstance(name, str) and name.strip() for name in names):
        raise UsageError(
            f"{context!r} is not the name of a collection.",
            "Give a name or a list of names; %collections lists them.",
        )
    return tuple(dict.fromkeys(names))
