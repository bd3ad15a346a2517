"""Why a look-up hit or missed, and where an answer came from, in plain words."""

from __future__ import annotations

from typing import Final

from jupyter_llmops.cache.answer import StoredAnswer
from jupyter_llmops.cache.difference import RecentRequests, describe_nearest
from jupyter_llmops.display.elements import ago, duration
from jupyter_llmops.records.cache import WrongMark
from jupyter_llmops.records.request import InferenceRequest

_REPEATABLE: Final = {
    "bitwise": "bitwise repeatable",
    "same tokens": "repeatable to the token",
    "none": "not repeatable",
}


def provenance(answer: StoredAnswer, when: str = "") -> str:
    """Return who computed an answer, when and on what.

    Parameters
    ----------
    answer : StoredAnswer
        The answer.
    when : str
        How long ago, for people.
    """
    generation, cost = answer.generation, answer.generation.cost
    at = answer.stored_at.isoformat(" ", "minutes")[:16]
    # Beyond a day `when` is the date, which `at` has already.
    age = f" ({when})" if when and not at.startswith(when) else ""
    where = f"{answer.quantization} on {answer.device}" if answer.quantization else answer.device
    parts = [answer.model, where, answer.engine_version]
    if generation.served_by:
        parts.append(f"by {generation.served_by}")
    if generation.batch_size > 1:
        parts.append(f"in a batch of {generation.batch_size}")
    if cost.amount is not None:
        parts.append(f"for {cost.amount:.2g} {cost.currency}")
    if generation.determinism:
        parts.append(_REPEATABLE[generation.determinism])
    said = ", ".join(part for part in parts if part)
    return (
        f"{answer.stored_by} computed this answer on {at} UTC{age} in {duration(generation.seconds)} ({said})"
    )


def explain_hit(answer: StoredAnswer, said: str) -> str:
    """Return a sentence about a hit; `said` is its `provenance`."""
    return f"Hit: {said[:-1]}; key {answer.key[:12]})."


def explain_miss(key: str, request: InferenceRequest, recent: RecentRequests, rejection: str = "") -> str:
    """Return a sentence about a miss.

    Parameters
    ----------
    key : str
        The request's key.
    request : InferenceRequest
        What was asked.
    recent : RecentRequests
        What was asked before.
    rejection : str
        Which item was not used and why; empty without one.
    """
    if rejection:
        return f"Miss: {rejection}; it was computed again."
    before = recent.get(key)
    if before is not None:
        became = before.unstored.rstrip(".") or "it was removed since"
        return f"Miss: the same was asked {ago(before.at)}, but its answer is not stored: {became}."
    nearest = recent.nearest(request)
    if nearest is None:
        return f"Miss: nothing is stored yet for this request (key {key[:12]})."
    return f"Miss: nothing is stored yet for this request; {describe_nearest(*nearest)}."


def describe_mark(mark: WrongMark) -> str:
    """Return who marked an answer as wrong, when and why, without a full stop."""
    return f"{mark.by} marked it as wrong {ago(mark.at)}{f' ({mark.why})' if mark.why else ''}"
