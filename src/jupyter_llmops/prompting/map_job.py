"""What a map is asked to do, and what it asks of each row."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from jupyter_llmops.cache.request_key import request_key, why_not_reusable
from jupyter_llmops.errors import LLMOpsError
from jupyter_llmops.prompting.map_progress import Progress
from jupyter_llmops.prompting.rows import RowTable
from jupyter_llmops.records.completion import Generation
from jupyter_llmops.records.request import InferenceRequest

if TYPE_CHECKING:
    from jupyter_llmops.cache.leases import Claim
    from jupyter_llmops.prompting.draft import PreparedPrompt, PromptDraft
    from jupyter_llmops.records.model import Model

OnDone = Callable[[int, Generation | LLMOpsError], None]

# Computes many requests for one model and tells of each as it is done; the last argument gets progress.
Compute = Callable[[Sequence[InferenceRequest], "Model", OnDone, Progress], None]

_NO_KEY: Final = "row "


@dataclass(frozen=True, slots=True)
class MapJob:
    """What a map is asked to do.

    Parameters
    ----------
    draft : PromptDraft
        The prompt; its variables are those that all rows share.
    table : RowTable
        The rows.
    compute : callable
        See `Compute`.
    use_cache : bool
        False neither reads nor writes the cache.
    retry : int
        How often a row that failed is tried again.
    backend : str
        Where it is computed, for the record.
    """

    draft: PromptDraft
    table: RowTable
    compute: Compute
    use_cache: bool = True
    retry: int = 0
    backend: str = "kernel"

    def signature(self) -> str:
        """Return what tells this map from another one; the rows are compared one by one."""
        draft = self.draft
        saved = (draft.saved.name, draft.saved.version) if draft.saved else None
        said = (draft.template, draft.system, draft.model, draft.parameters, draft.quantization, saved)
        more = (draft.output_schema, draft.exact, draft.reuse, draft.truncate, draft.site, self.use_cache)
        return hashlib.sha256(repr((said, more)).encode("utf-8", "surrogatepass")).hexdigest()

    def needed(self) -> tuple[str, ...]:
        """Return the variables that the templates read."""
        from jupyter_llmops.prompting.messages import needs_of

        draft = self.draft
        return needs_of(draft.template, draft.system, draft.declarations, draft.load).variables


@dataclass(slots=True)
class Ask:
    """What one row asks, and the rows that wait for its answer because they ask the same.

    Parameters
    ----------
    index : int
        The row's position.
    key : str
        From `key_of_row`.
    stored : bool
        Whether the answer may be looked up and kept.
    claim : Claim or None
        The right to compute it.
    unclaimed : bool
        Whether it is computed without that right: whoever has it is silent.
    same : list of int
        Later rows that ask the same.
    attempts : int
        How often it was tried.
    """

    index: int
    key: str
    prepared: PreparedPrompt
    stored: bool
    claim: Claim | None = None
    unclaimed: bool = False
    same: list[int] = field(default_factory=list)
    attempts: int = 0

    def release(self) -> None:
        """Let others compute it."""
        claim, self.claim = self.claim, None
        if claim is not None:
            claim.release()


def key_of_row(request: InferenceRequest, index: int) -> str:
    """Return what is the same for rows that ask the same."""
    try:
        return request_key(request)
    except ValueError:  # a text that is no Unicode has no canonical form, so no other row equals it
        return f"{_NO_KEY}{index}"


def has_key(key: str) -> bool:
    """Return whether a row's key is one that the cache knows."""
    return not key.startswith(_NO_KEY)


def is_fresh_draw(prepared: PreparedPrompt) -> bool:
    """Return whether each row is a sample of its own, also where two rows ask the very same."""
    return not prepared.draft.reuse and bool(why_not_reusable(prepared.request))
