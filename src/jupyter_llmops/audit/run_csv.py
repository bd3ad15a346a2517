"""Runs as rows of a CSV file that no spreadsheet takes for formulas."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping
from decimal import Decimal
from typing import TextIO

from jupyter_llmops.audit.leaf import instant
from jupyter_llmops.records.run import Run

COLUMNS = (
    "id", "session", "seq", "kind", "status", "error_type", "started_at", "seconds", "user", "host", "notebook",
    "execution_count", "parent", "model", "source", "tokens_in", "tokens_out", "cost", "currency", "rating",
    "leaf_digest",
)  # fmt: skip
# What begins a formula in Excel, LibreOffice or Google Sheets (OWASP, CSV Injection), with the forms of full
# width, which some of them take for the same.
_FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n", "|", "%", "＝", "＋", "－", "＠")


def write_csv(
    file: TextIO,
    runs: Iterable[Run],
    ratings: Mapping[str, str],
    texts: Mapping[str, str] | None = None,
    *,
    head: bool = True,
) -> None:
    """Write runs as CSV (RFC 4180), one row each.

    Parameters
    ----------
    file : text file
        Opened with ``newline=""``.
    runs : iterable of Run
        In the order of the rows.
    ratings : mapping of run id to "good" or "bad"
        What was said of them.
    texts : mapping of run id to str, optional
        What they said, redacted: a last column.
    head : bool
        Whether the first row names the columns.
    """
    writer = csv.writer(file, lineterminator="\r\n")
    if head:
        writer.writerow([*COLUMNS, *(["text"] if texts is not None else [])])
    for run in runs:
        cells = [_cell(run, name) for name in COLUMNS]
        cells[COLUMNS.index("rating")] = safe(ratings.get(run.id, ""))
        writer.writerow([*cells, *([safe(texts.get(run.id, ""))] if texts is not None else [])])


def safe(text: str) -> str:
    """Return a text that no spreadsheet takes for a formula: behind an apostrophe where it begins like one."""
    text = text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()
    return f"'{text}" if text.lstrip(" \u00a0\ufeff").startswith(_FORMULA) else text


def _cell(run: Run, name: str) -> str:
    leaf = run.leaf or {}
    if name == "started_at":
        return instant(run.started_at)
    if name == "seconds":
        return f"{run.seconds:.6f}"
    if name == "cost":
        millionths = leaf.get("cost_millionths")
        return f"{Decimal(millionths) / 1_000_000:f}" if type(millionths) is int else ""
    value = leaf.get(name, "") if name == "currency" else getattr(run, name, "")
    return "" if value is None else str(value) if type(value) is int else safe(str(value))
