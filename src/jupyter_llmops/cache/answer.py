"""What is stored of an answer: the generation and where it came from, nothing of the request's text."""

from __future__ import annotations

import hashlib
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache as once
from typing import Any, Final

from jupyter_llmops.cache.item_format import ItemRejectedError
from jupyter_llmops.cache.plain_json import plain_dumps, plain_loads
from jupyter_llmops.records.completion import Generation
from jupyter_llmops.records.cost import Cost
from jupyter_llmops.records.request import InferenceRequest

_GRADES: Final[frozenset[str]] = frozenset({"bitwise", "same tokens", "none", ""})


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
    engine, engine_version, model, quantization, device : str
        What computed it, as in the request.
    """

    key: str
    generation: Generation
    stored_at: datetime
    stored_by: str
    engine: str
    engine_version: str
    model: str
    quantization: str
    device: str

    @property
    def digest(self) -> str:
        """16 hexadecimal digits that tell this answer from others to the same request."""
        text = self.generation.text.encode("utf-8", "surrogatepass")
        return hashlib.blake2b(text, digest_size=8).hexdigest()


def answer_of(key: str, request: InferenceRequest, generation: Generation) -> StoredAnswer:
    """Return a computed answer with its provenance: this user, this host, now."""
    return StoredAnswer(
        key=key,
        generation=generation,
        stored_at=datetime.now(UTC),
        stored_by=user_at_host(),
        engine=request.engine,
        engine_version=request.engine_version,
        model=request.model,
        quantization=request.quantization,
        device=request.device,
    )


def encode_answer(answer: StoredAnswer) -> bytes:
    """Return the body of an answer's item.

    Raises
    ------
    TypeError, ValueError
        A part of the generation is no plain value.
    """
    return plain_dumps(answer_to_json(answer))


def decode_answer(body: bytes) -> StoredAnswer:
    """Return the answer that a body holds.

    Raises
    ------
    ItemRejectedError
        It is no strict JSON, or has another shape.
    """
    try:
        value = plain_loads(body)
    except ValueError as error:
        raise ItemRejectedError(f"holds no plain JSON ({error})") from error
    return answer_from_json(value)


def answer_to_json(answer: StoredAnswer) -> dict[str, Any]:
    """Return the JSON value of an answer."""
    generation = answer.generation
    cost = generation.cost
    return {
        "key": answer.key,
        "generation": {
            "text": generation.text,
            "token_ids": [int(token) for token in generation.token_ids],
            "tokens_in": int(generation.tokens_in),
            "tokens_out": int(generation.tokens_out),
            "seconds": float(generation.seconds),
            "finish_reason": generation.finish_reason,
            "batch_size": int(generation.batch_size),
            "served_by": generation.served_by,
            "served_version": generation.served_version,
            "determinism": generation.determinism,
            "cost": [None if cost.amount is None else float(cost.amount), cost.currency, cost.basis],
        },
        "provenance": {
            "stored_at": answer.stored_at.isoformat(),
            "stored_by": answer.stored_by,
            **{name: getattr(answer, name) for name in _PROVENANCE},
        },
    }


_PROVENANCE: Final = ("engine", "engine_version", "model", "quantization", "device")


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
    origin = value["provenance"]
    stored_at = datetime.fromisoformat(_text(origin, "stored_at"))
    if stored_at.tzinfo != UTC:
        raise ValueError("stored_at is not in UTC")
    return StoredAnswer(
        key=_text(value, "key"),
        generation=_read_generation(value["generation"]),
        stored_at=stored_at,
        stored_by=_text(origin, "stored_by"),
        engine=_text(origin, "engine"),
        engine_version=_text(origin, "engine_version"),
        model=_text(origin, "model"),
        quantization=_text(origin, "quantization"),
        device=_text(origin, "device"),
    )


def _read_generation(made: Mapping[str, Any]) -> Generation:
    seconds, token_ids, finish_reason = made["seconds"], made["token_ids"], made["finish_reason"]
    if type(token_ids) is not list or not set(map(type, token_ids)) <= {int}:
        raise TypeError("token_ids is no list of integers")
    if type(seconds) is not float or seconds < 0:
        raise TypeError("seconds is no duration")
    if finish_reason not in ("stop", "length"):
        raise ValueError("finish_reason is neither stop nor length")
    if made["determinism"] not in _GRADES:
        raise ValueError("determinism is no grade")
    return Generation(
        text=_text(made, "text"),
        token_ids=tuple(token_ids),
        tokens_in=_number(made, "tokens_in"),
        seconds=seconds,
        finish_reason=finish_reason,
        tokens_out=_number(made, "tokens_out"),
        cost=_read_cost(made["cost"]),
        batch_size=_number(made, "batch_size"),
        served_by=_text(made, "served_by"),
        served_version=_text(made, "served_version"),
        determinism=made["determinism"],
    )


def _read_cost(parts: Any) -> Cost:
    if type(parts) is not list or len(parts) != 3:
        raise TypeError("cost has other parts")
    amount, currency, basis = parts
    if amount is not None and (type(amount) is not float or amount < 0):
        raise TypeError("cost is no amount")
    if type(currency) is not str or type(basis) is not str:
        raise TypeError("cost has no currency")
    return Cost(amount, currency, basis)


def _number(values: Mapping[str, Any], name: str) -> int:
    number = values[name]
    if type(number) is not int or number < 0:
        raise TypeError(f"{name} is no count")
    return number


def _text(values: Mapping[str, Any], name: str) -> str:
    text = values[name]
    if type(text) is not str:
        raise TypeError(f"{name} is no text")
    if not text.isascii():
        text.encode("utf-8")  # a lone surrogate would break whatever writes the text later
    return text


@once
def user_at_host() -> str:
    """Return who computes here, as ``user@host``."""
    from jupyter_llmops.settings import user_name  # brings traitlets

    return f"{user_name()}@{socket.gethostname()}"
