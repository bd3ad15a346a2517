"""Closed-type JSON: only exactly str, int, finite float, bool, None, list and dict; read as strictly as written."""

from __future__ import annotations

import json
import math
from typing import Any, Final

_DEEPEST: Final = 32


def plain_dumps(value: Any) -> bytes:
    """Return a JSON value as UTF-8.

    Parameters
    ----------
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
    return json.dumps(value, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode("utf-8")


def plain_loads(data: bytes) -> Any:
    """Return the value of `plain_dumps`.

    Raises
    ------
    ValueError
        It is no strict JSON: not UTF-8, a name twice, NaN, a number too large, nested too deeply.
    """
    try:
        return _STRICT.decode(data.decode("utf-8"))
    except RecursionError as error:
        raise ValueError(str(error)) from error


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
