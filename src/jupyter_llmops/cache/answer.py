"""What is stored of an answer: the generation and where it came from, nothing of the request's text."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from jupyter_llmops.cache.item_format import ItemRejectedError
from jupyter_llmops.records.completion import Generation


@dataclass(frozen=True, slots=True)
class StoredAnswer:
    """An answer with its provenance.

    Parameters
    ----------
    key : str
        The request key that it answers.
    generation : Generation
        The answer; never an interrupted one.
    stored_at : datetime
        UTC.
    stored_by : str
        ``user@host`` that computed it.
    engine_version, model : str
        What computed it.
    """

    key: str
    generation: Generation
    stored_at: datetime
    stored_by: str
    engine_version: str
    model: str


@dataclass(frozen=True, slots=True)
class UnstoredAnswer:
    """A generation that goes to the caller but not to the store, and why."""

    generation: Generation
    reason: str


def answer_to_json(answer: StoredAnswer | UnstoredAnswer) -> dict[str, Any] | None:
    """Return the JSON value of an answer; None for one that is not to be stored."""
    if isinstance(answer, UnstoredAnswer):
        return None
    generation = answer.generation
    return {
        "key": answer.key,
        "generation": {
            "text": generation.text,
            "token_ids": [int(token) for token in generation.token_ids],
            "tokens_in": int(generation.tokens_in),
            "seconds": float(generation.seconds),
            "finish_reason": generation.finish_reason,
        },
        "provenance": {
            "stored_at": answer.stored_at.isoformat(),
            "stored_by": answer.stored_by,
            "engine_version": answer.engine_version,
            "model": answer.model,
        },
    }


def answer_from_json(value: Any) -> StoredAnswer:
    """Return the answer that a JSON value holds, after checking the type of every part.

    Raises
    ------
    ItemRejectedError
        The value has another shape.
    """
    try:
        return _read(value)
    except (KeyError, TypeError, ValueError) as error:
        raise ItemRejectedError(f"does not hold an answer ({error})") from error


def _read(value: Mapping[str, Any]) -> StoredAnswer:
    made, origin = value["generation"], value["provenance"]
    seconds, tokens_in, token_ids = made["seconds"], made["tokens_in"], made["token_ids"]
    if type(token_ids) is not list or not set(map(type, token_ids)) <= {int}:
        raise TypeError("token_ids is no list of integers")
    if type(tokens_in) is not int or tokens_in < 0:
        raise TypeError("tokens_in is no count")
    if type(seconds) is not float or seconds < 0:
        raise TypeError("seconds is no duration")
    if made["finish_reason"] not in {"stop", "length"}:
        raise ValueError("finish_reason is neither stop nor length")
    stored_at = datetime.fromisoformat(_text(origin, "stored_at"))
    if stored_at.tzinfo != UTC:
        raise ValueError("stored_at is not in UTC")
    return StoredAnswer(
        key=_text(value, "key"),
        generation=Generation(
            text=_text(made, "text"),
            token_ids=tuple(token_ids),
            tokens_in=tokens_in,
            seconds=seconds,
            finish_reason=made["finish_reason"],
        ),
        stored_at=stored_at,
        stored_by=_text(origin, "stored_by"),
        engine_version=_text(origin, "engine_version"),
        model=_text(origin, "model"),
    )


def _text(values: Mapping[str, Any], name: str) -> str:
    text = values[name]
    if type(text) is not str:
        raise TypeError(f"{name} is no text")
    if not text.isascii():
        text.encode("utf-8")  # a lone surrogate would break whatever writes the text later
    return text
