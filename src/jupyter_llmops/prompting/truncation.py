"""Cutting a chat that is longer than the model's context, where that was asked for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace

from jupyter_llmops.records.request import Message

_GAP = "\n[…]\n"
_Fits = Callable[[Sequence[Message]], bool]


def cut_to_fit(messages: Sequence[Message], fits: _Fits) -> tuple[tuple[Message, ...], str]:
    """Return the messages that fit, and one sentence what was cut; empty when nothing was.

    The oldest turns go first, a system message and the last turn stay. If that is not enough, the
    middle of the last message goes: what is asked mostly stands at its beginning or its end.

    Parameters
    ----------
    messages : sequence of Message
        The rendered chat.
    fits : callable
        Whether a chat and its answer fit the context.
    """
    kept = list(messages)
    if not kept or fits(kept):
        return tuple(kept), ""
    gone = 0
    while not fits(kept) and (oldest := _oldest(kept)) is not None:
        del kept[oldest]
        gone += 1
    said = [f"the {gone} oldest messages" if gone > 1 else "the oldest message"] if gone else []
    if not fits(kept):
        kept, characters = _without_middle(kept, fits)
        said += [f"{characters:,} characters from the middle of the last message"] if characters else []
    if not fits(kept):  # the engine says by how much
        return tuple(messages), ""
    return tuple(kept), f"Cut to fit the context: {' and '.join(said)}."


def _oldest(messages: Sequence[Message]) -> int | None:
    for index, message in enumerate(messages[:-1]):
        if message.role != "system":
            return index
    return None


def _without_middle(messages: list[Message], fits: _Fits) -> tuple[list[Message], int]:
    """Return the chat with as much of its last message as fits, and how many characters went."""
    last = messages[-1]

    def with_kept(count: int) -> list[Message]:
        head = (count + 1) // 2
        text = last.content[:head] + _GAP + last.content[len(last.content) - (count - head) :]
        return [*messages[:-1], replace(last, content=text)]

    fewest, most = 0, len(last.content)
    while fewest < most:  # the most that fits; more characters are hardly ever fewer tokens
        middle = (fewest + most + 1) // 2
        if fits(with_kept(middle)):
            fewest = middle
        else:
            most = middle - 1
    return with_kept(fewest), len(last.content) - fewest
