"""What a user types behind ``--where``: a column, a comparison and a value, never SQL."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from typing import cast

from jupyter_llmops.errors import UsageError
from jupyter_llmops.records.collection import Filter, Operator, Scalar

Filters = Iterable[str | Filter] | Mapping[str, Scalar]

_COMPARISON = re.compile(r"\s*([^=<>!]+?)\s*(==|!=|<=|>=|=|<|>)\s*(.*?)\s*", re.DOTALL)
_MOST = 20
_EXAMPLE = 'Type a column, a comparison (= != < <= > >=) and a value, e.g. --where "year>=2020".'


def parse_filters(filters: Filters) -> tuple[Filter, ...]:
    """Return filters as typed, as records.

    Parameters
    ----------
    filters : iterable of str or Filter, or mapping
        ``year>=2020`` as text; of a mapping each value must be equal. All must fit. Which columns
        there are and what type a value has is checked where the collection is known.

    Raises
    ------
    UsageError
        One is not a comparison.
    """
    if isinstance(filters, str):
        filters = [filters]
    if isinstance(filters, Mapping):
        found = [_equal(column, value) for column, value in filters.items()]
    else:
        found = [item if isinstance(item, Filter) else _parsed(item) for item in filters]
    if len(found) > _MOST:
        raise UsageError(f"A search takes at most {_MOST} filters.", "Leave some out.")
    return tuple(found)


def _parsed(text: str) -> Filter:
    match = _COMPARISON.fullmatch(text)
    if match is None:
        raise UsageError(f"{text[:80]!r} is not a filter.", _EXAMPLE)
    column, operator, value = match.groups()
    if len(value) > 1 and value[0] == value[-1] and value[0] in "'\"":
        value = value[1:-1]
    if not value:
        raise UsageError(f"The filter {text[:80]!r} has no value.", _EXAMPLE)
    return Filter(column, cast(Operator, "=" if operator == "==" else operator), value)


def _equal(column: str, value: Scalar) -> Filter:
    if value is None:
        raise UsageError(f"The filter on {column!r} has no value.", "Leave it out, or give a value.")
    return Filter(str(column), "=", value)
