"""The request key: sha256 over the RFC 8785 form of everything that decides an answer."""

from __future__ import annotations

import hashlib
import itertools
import threading
from collections import OrderedDict
from dataclasses import fields, replace
from functools import lru_cache
from json.encoder import encode_basestring  # JSON string escapes exactly as RFC 8785 3.2.2.2 has them, in C
from operator import attrgetter
from typing import Any, Final, NamedTuple

from jupyter_llmops.records.request import GenerationParameters, InferenceRequest

_LARGEST_INTEGER = 2**53 - 1


def canonical_json(value: Any) -> str:
    """Return the RFC 8785 (JSON Canonicalization Scheme) form of a JSON value.

    Encoded as UTF-8 it is byte for byte what ``rfc8785.dumps`` gives (a property test holds it), but a request of 2 KB takes
    about 10 µs instead of 60: strings are escaped in C, and whatever is not plain goes to the library.

    Parameters
    ----------
    value : JSON value
        None, bool, int, float, str, list or dict with str keys.

    Raises
    ------
    ValueError
        The value has no canonical form: NaN, an integer beyond 2**53 - 1, a foreign type. (A lone
        surrogate shows when the text is encoded, as UnicodeEncodeError, which is a ValueError.)
    """
    parts: list[str] = []
    _append(value, parts)
    return "".join(parts)


def key_of(canonical: str) -> str:
    """Return the key of a request in its canonical form, 64 hexadecimal digits.

    Raises
    ------
    UnicodeEncodeError
        The text holds a lone surrogate.
    """
    return hashlib.sha256(canonical.encode("utf-8")).hexdigest()


def request_key(request: InferenceRequest) -> str:
    """Return the key of a request, 64 hexadecimal digits; every field counts.

    Raises
    ------
    ValueError
        The request has no canonical form.
    """
    return key_of(canonical_json(request.canonical()))


class KnownKeys:
    """Keys of requests, fast: what was asked before is not written out again, nor is what it shares with others.

    Requests are compared whole, and the types of their values too: 1, 1.0 and True are equal in Python,
    and not the same in a request.

    Parameters
    ----------
    most : int
        Number of requests that are remembered.
    characters : int
        Characters of their messages, all together.
    """

    def __init__(self, most: int = 1024, characters: int = 8_000_000) -> None:
        self._most = most
        self._characters = characters
        self._held = 0
        self._keys: OrderedDict[Any, tuple[str, int]] = OrderedDict()
        # All but the messages is the same in a thousand requests: their canonical form around the messages.
        self._frames: OrderedDict[Any, _Frame] = OrderedDict()
        self._last: _Frame | None = None
        self._lock = threading.Lock()

    def key(self, request: InferenceRequest) -> str:
        """Return the key of a request; see `request_key`.

        Raises
        ------
        ValueError
            The request has no canonical form.
        """
        values = _VALUES(request)
        types = [*map(type, values)]
        if pairs := request.parameters.extra:
            types += [type(pair[1]) for pair in pairs]
        if pairs := request.engine_options:
            types += [type(pair[1]) for pair in pairs]
        # Comparing with the last one costs less than the hash of its twenty values.
        frame = self._last
        try:
            if frame is None or frame.values != values or frame.types != types:
                frame = self._frame(request, values, types)
            # Not the messages themselves, whose hash and comparison are Python's.
            identity = (frame.number, *map(_ROLE_AND_CONTENT, request.messages))
            known = self._keys.get(identity)
        except TypeError:  # a value that is not hashable
            return request_key(request)
        return known[0] if known is not None else self._new(request, identity, frame)

    def _new(self, request: InferenceRequest, identity: Any, frame: _Frame) -> str:
        key = key_of(f"{frame.before}{canonical_json(request.canonical_messages())}{frame.after}")
        size = sum(len(message.content) for message in request.messages)
        with self._lock:
            if identity not in self._keys and size <= self._characters:
                self._keys[identity] = (key, size)
                self._held += size
            while len(self._keys) > self._most or self._held > self._characters:
                self._held -= self._keys.popitem(last=False)[1][1]
        return key

    def _frame(self, request: InferenceRequest, values: Any, types: list[type]) -> _Frame:
        identity = (values, *types)
        frame = self._frames.get(identity)
        if frame is None:
            # Inside a text quotes are escaped, and no other value is an empty list, so this stands there once.
            before, _, after = canonical_json(replace(request, messages=()).canonical()).partition(
                '"messages":[]'
            )
            frame = _Frame(next(_NUMBERS), values, types, f'{before}"messages":', after)
            with self._lock:
                self._frames[identity] = frame
                while len(self._frames) > _MOST_FRAMES:
                    self._frames.popitem(last=False)
        self._last = frame
        return frame


class _Frame(NamedTuple):
    """All of a request but its messages; its number is never another's."""

    number: int
    values: Any
    types: list[type]
    before: str
    after: str


_NUMBERS: Final = itertools.count()
_ROLE_AND_CONTENT: Final = attrgetter("role", "content")
_MOST_FRAMES: Final = 64
_VALUES: Final = attrgetter(
    *(field.name for field in fields(InferenceRequest) if field.name not in {"messages", "parameters"}),
    *(f"parameters.{field.name}" for field in fields(GenerationParameters)),
)


def why_not_reusable(request: InferenceRequest) -> str:
    """Return why an answer to this request must not be reused, or an empty string."""
    parameters = request.parameters
    if parameters.seed is not None:
        return ""
    if parameters.sampled:
        return (
            f"it is sampled (temperature {parameters.temperature:g}) without a seed, so every answer "
            "is a fresh draw; --seed makes it repeatable"
        )
    for name, value in parameters.extra:
        if name == "do_sample" and value:
            return "it is sampled (do_sample) without a seed, so every answer is a fresh draw; --seed makes it repeatable"
    return ""


def _append(value: Any, parts: list[str]) -> None:
    kind = type(value)
    if kind is str:
        parts.append(encode_basestring(value))
    elif kind is dict:
        _append_object(value, parts)
    elif kind is list:
        separator = "["
        for item in value:
            parts.append(separator)
            _append(item, parts)
            separator = ","
        parts.append("]" if value else "[]")
    elif kind is int and -_LARGEST_INTEGER <= value <= _LARGEST_INTEGER:
        parts.append(str(value))
    elif kind is float:
        parts.append(_number(value))
    else:
        parts.append(_by_library(value) if value is not None else "null")


def _append_object(value: dict[Any, Any], parts: list[str]) -> None:
    layout = _layout(tuple(value))
    if not layout:
        parts.append(_by_library(value))
        return
    for name, before in layout:
        parts.append(before)
        _append(value[name], parts)
    parts.append("}")


@lru_cache(maxsize=256)
def _layout(names: tuple[Any, ...]) -> tuple[tuple[str, str], ...]:
    """Return the names in RFC 8785's order, each with the text before its value.

    Empty for no names, and for names that sort by UTF-16 code units in another order than Python's.
    """
    if not all(type(name) is str and name.isascii() for name in names):
        return ()
    return tuple(
        (name, f"{',' if position else '{'}{encode_basestring(name)}:")
        for position, name in enumerate(sorted(names))
    )


@lru_cache(maxsize=256)
def _number(value: float) -> str:
    return _by_library(value)


def _by_library(value: Any) -> str:
    import rfc8785

    return rfc8785.dumps(value).decode("utf-8")
