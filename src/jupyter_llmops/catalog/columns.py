"""Metadata of passages as columns, and conditions on them as SQL in which every value is quoted."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING
from urllib.parse import quote, unquote

from jupyter_llmops.catalog.connection import sql_text
from jupyter_llmops.errors import UsageError
from jupyter_llmops.records.collection import Filter

if TYPE_CHECKING:
    import pyarrow as pa

# Metadata can be called anything, also what a column of ours or a word of SQL is called.
METADATA_PREFIX = "meta:"
MAX_COLUMNS = 100
MAX_COLUMN_NAME = 100
ARROW_TYPES = {"text": "string", "int64": "int64", "float64": "float64", "bool": "bool_"}
BUILT_IN = {"document": "text"}


def metadata_column(name: str) -> str:
    """Return the column that holds a piece of metadata; reversible, and safe between SQL's backticks."""
    return METADATA_PREFIX + quote(name, safe="").replace(".", "%2E").replace("~", "%7E")


def metadata_name(column: str) -> str:
    """Return what the user called the metadata in a column."""
    return unquote(column.removeprefix(METADATA_PREFIX))


def metadata_types(schema: pa.Schema) -> dict[str, str]:
    """Return the metadata columns of a table: name to "text", "int64", "float64" or "bool"."""
    words = {"string": "text", "double": "float64", "int64": "int64", "bool": "bool"}
    return {
        metadata_name(field.name): words.get(str(field.type), "text")
        for field in schema
        if field.name.startswith(METADATA_PREFIX)
    }


def check_metadata(types: Mapping[str, str], known: Mapping[str, str]) -> dict[str, str]:
    """Return those of `types` that `known` lacks.

    Raises
    ------
    UsageError
        A type differs, a name differs by case only or can't be typed, or there are too many.
    """
    by_fold = {name.casefold(): name for name in known}
    missing: dict[str, str] = {}
    for name, kind in types.items():
        if name in known:
            if known[name] != kind:
                raise UsageError(
                    f"The column {name!r} holds {known[name]} in this collection, and {kind} in what is added.",
                    "Convert the values, or give the column another name.",
                )
            continue
        similar = by_fold.get(name.casefold())
        if similar is not None:
            raise UsageError(
                f"The column {name!r} differs from {similar!r} by case only.", f"Rename it to {similar!r}."
            )
        if (
            not name.strip()
            or len(name) > MAX_COLUMN_NAME
            or not name.isprintable()
            or set(name) & set("=<>!")
        ):
            raise UsageError(
                f"{name[:40]!r} can't be the name of a metadata column.",
                f"Use 1 to {MAX_COLUMN_NAME} printable characters without = < > !",
            )
        if name.casefold() in BUILT_IN:
            raise UsageError(
                f"{name!r} is a column that every collection has.", f"Rename it, e.g. to {name + '_name'!r}."
            )
        by_fold[name.casefold()] = name
        missing[name] = kind
    if len(known) + len(missing) > MAX_COLUMNS:
        raise UsageError(
            f"A collection has at most {MAX_COLUMNS} metadata columns.",
            "Leave out those that nobody filters by.",
        )
    return missing


def condition_of(filters: Sequence[Filter], known: Mapping[str, str]) -> str:
    """Return filters as one SQL condition, all of them together; empty for none.

    Raises
    ------
    UsageError
        A column is not there, or a value is not of its type.
    """
    return " AND ".join(_one(condition, known) for condition in filters)


def _one(condition: Filter, known: Mapping[str, str]) -> str:
    types = {**known, **BUILT_IN}
    if condition.column not in types:
        near = difflib.get_close_matches(condition.column, types, n=1, cutoff=0.5)
        raise UsageError(
            f"The collection has no column {condition.column!r} to filter by.",
            (f"Did you mean {near[0]!r}? " if near else "") + f"It has {', '.join(sorted(types))}.",
        )
    kind = types[condition.column]
    column = condition.column if condition.column in BUILT_IN else f"`{metadata_column(condition.column)}`"
    literal = _literal(condition, kind)
    # Lance compares whole numbers with whole numbers only.
    compared = (
        f"CAST({column} AS DOUBLE)" if kind == "int64" and not literal.lstrip("-").isdigit() else column
    )
    comparison = f"{compared} {condition.operator} {literal}"
    return f"({comparison} OR {column} IS NULL)" if condition.operator == "!=" else f"({comparison})"


def _literal(condition: Filter, kind: str) -> str:
    value = condition.value
    if kind == "text":
        return sql_text(str(value))
    if kind == "bool":
        words = {"true": True, "false": False, "1": True, "0": False}
        chosen = value if isinstance(value, bool) else words.get(str(value).strip().casefold())
        if chosen is None or condition.operator not in ("=", "!="):
            raise _wrong(condition, "true or false, with = or !=")
        return "true" if chosen else "false"
    text = str(value).strip()
    try:
        return _whole(condition, int(text))
    except ValueError:
        pass
    try:
        number = float(text)
    except ValueError:
        raise _wrong(condition, "a number") from None
    if not math.isfinite(number):
        raise _wrong(condition, "a number")
    return repr(number)


def _whole(condition: Filter, number: int) -> str:
    if not -(2**63) <= number < 2**63:
        raise _wrong(condition, "a number of 64 bits")
    return str(number)


def _wrong(condition: Filter, expected: str) -> UsageError:
    return UsageError(
        f"The column {condition.column!r} holds values of another type than {str(condition.value)[:60]!r}.",
        f"Type {expected}, e.g. --where {condition.column}={'true' if 'true' in expected else 2020}.",
    )
