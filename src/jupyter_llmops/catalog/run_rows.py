"""A run as a row of the catalog, and back."""

from __future__ import annotations

import dataclasses
import json
from datetime import UTC, datetime
from typing import Any

from jupyter_llmops.catalog.schemas import json_value
from jupyter_llmops.records.run import LEAF_SCHEMA, LEAF_SCHEMAS, Run

RUN_FIELDS = tuple(field.name for field in dataclasses.fields(Run) if field.name != "read_only")
COST_IN_LEAF = """cast(regexp_match(leaf, '"cost_millionths":([0-9]+)')[1] as bigint)"""
"""SQL of a cost as the leaf has it, for rows and catalogs without the column; a million take seconds."""
_OPTIONAL = {"execution_count", "tokens_in", "tokens_out", "leaf"}


def run_row(run: Run, site: str) -> dict[str, Any]:
    """Return a run as a row; its cost is also a column, so that it can be looked for."""
    row = {name: _storable(getattr(run, name)) for name in RUN_FIELDS if name != "leaf"}
    row["leaf"] = None if run.leaf is None else _leaf_text(run.leaf)
    row["cost_millionths"] = _cost(run)
    row["site"] = site
    return row


def _cost(run: Run) -> int | None:
    cost = (run.leaf or {}).get("cost_millionths")
    return cost if type(cost) is int and abs(cost) < 2**63 else None


def _leaf_text(leaf: dict[str, Any]) -> str:
    import rfc8785

    try:
        # The journal line is this very form, so the row proves its own digest.
        return rfc8785.dumps(leaf).decode()
    except (rfc8785.CanonicalizationError, UnicodeEncodeError, RecursionError):
        # No line that this package writes; it is kept for `verify` to complain about.
        return json.dumps(leaf, sort_keys=True)


def _storable(value: Any) -> Any:
    """Return `value` so that Arrow takes it: one strange journal line must not stop all others."""
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) >= 2**63:
        return None
    return value


def run_of(row: dict[str, Any]) -> Run:
    """Return a row as a run; one of a newer schema is marked as such, and kept as it is."""
    values: dict[str, Any] = {}
    for name in RUN_FIELDS:
        value = row.get(name)
        values[name] = "" if value is None and name not in _OPTIONAL else value
    leaf = values["leaf"] = None if values["leaf"] is None else _leaf(values["leaf"])
    values["started_at"] = values["started_at"] or datetime.min.replace(tzinfo=UTC)
    values |= {name: values[name] or 0 for name in ("seq", "seconds")}
    newer = leaf is not None and leaf.get("schema", LEAF_SCHEMA) not in LEAF_SCHEMAS
    return Run(**values, read_only=newer)


def _leaf(text: str) -> dict[str, Any]:
    """Return a leaf; one that is no JSON object is empty, and its digest tells `verify` so."""
    leaf = json_value(text)
    return leaf if isinstance(leaf, dict) else {}
