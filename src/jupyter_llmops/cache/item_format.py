r"""The bytes of an item: one header line and closed-type JSON, never a pickle.

::

    llmops-item/1 <id: 64 hex digits> <seal: 64 hex digits>\n<body: UTF-8 JSON>

The seal is the sha256 over format, id and body, so an item that was altered, cut short or put in
another item's place does not verify. It proves integrity, not authorship: a team key will turn
`seal` into a MAC under a new format number.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import math
from typing import Any, Final

FORMAT: Final = b"llmops-item/1"
_ID_START: Final = len(FORMAT) + 1
_SEAL_START: Final = _ID_START + 65
_BODY_START: Final = _SEAL_START + 65
_DEEPEST: Final = 32


class ItemRejectedError(Exception):
    """An item that must not be used; the message says why, as the end of "the item …"."""


def encode_item(item_id: str, value: Any) -> bytes:
    """Return the bytes of an item.

    Parameters
    ----------
    item_id : str
        64 hexadecimal digits.
    value : JSON value
        Only exactly str, int, float (finite), bool, None, list and dict with str keys.

    Raises
    ------
    TypeError
        A value of another type.
    ValueError
        NaN, an infinity, a lone surrogate or too deep a nesting.
    """
    _check_closed(value, 0)
    body = json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")
    return b"%s %s %s\n%s" % (FORMAT, item_id.encode("ascii"), seal(item_id, body), body)


def decode_item(item_id: str, data: bytes) -> Any:
    """Return the value of an item after verifying it.

    Parameters
    ----------
    item_id : str
        The item that was asked for, 64 hexadecimal digits.
    data : bytes
        The whole file.

    Raises
    ------
    ItemRejectedError
        The bytes are not this very item.
    """
    body = data[_BODY_START:]
    expected = b"%s %s %s\n" % (FORMAT, item_id.encode("ascii"), seal(item_id, body))
    # The seal covers format and id, so one comparison decides; what was wrong is found out afterwards.
    if not hmac.compare_digest(data[:_BODY_START], expected):
        raise ItemRejectedError(_what_is_wrong(item_id, data))
    try:
        return _STRICT.decode(body.decode("utf-8"))
    except (ValueError, RecursionError) as error:
        raise ItemRejectedError(f"holds no plain JSON ({error})") from error


def seal(item_id: str, body: bytes) -> bytes:
    """Return the hexadecimal sha256 over format, id and body."""
    digest = hashlib.sha256(FORMAT)
    digest.update(item_id.encode("ascii"))
    digest.update(body)
    return digest.hexdigest().encode("ascii")


def _what_is_wrong(item_id: str, data: bytes) -> str:
    if not data:
        return "is empty"
    if not data.startswith(FORMAT + b" "):
        return "is not in the format of this cache (nothing in it was run)"
    if len(data) < _BODY_START:
        return "is cut short"
    if data[_ID_START : _SEAL_START - 1] != item_id.encode("ascii"):
        return "belongs to another request"
    return "does not fit its checksum: it was altered or cut short"


def _check_closed(value: Any, depth: int) -> None:
    if depth > _DEEPEST:
        raise ValueError("An item is nested too deeply.")
    kind = type(value)
    if kind is list:
        for item in value:
            _check_closed(item, depth + 1)
    elif kind is dict:
        for name, item in value.items():
            if type(name) is not str:
                raise TypeError(f"An item holds a name of type {type(name).__name__}; only str is kept.")
            _check_closed(item, depth + 1)
    elif kind not in {str, int, float, bool} and value is not None:
        raise TypeError(f"An item holds a {kind.__name__}; only plain JSON values are kept.")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    values = dict(pairs)
    if len(values) != len(pairs):
        raise ValueError("a name occurs twice")
    return values


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise ValueError("a number is too large")
    return number


def _no_constant(text: str) -> float:
    raise ValueError(f"{text} is no JSON")


_STRICT: Final = json.JSONDecoder(object_pairs_hook=_unique, parse_float=_finite, parse_constant=_no_constant)
