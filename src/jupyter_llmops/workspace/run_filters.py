"""From what people type to a filter of runs."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, get_args

from jupyter_llmops.errors import UnknownNameError, UsageError
from jupyter_llmops.records.run import RunKind
from jupyter_llmops.records.run_search import ALL_KINDS, RATINGS, STATUSES, RunFilter
from jupyter_llmops.workspace.moments import parse_cost, parse_moment

KINDS: tuple[str, ...] = (*get_args(RunKind), ALL_KINDS)


def check_kind(kind: object) -> None:
    """Refuse a kind of runs that there is not; None and an empty text mean those that people ran.

    Raises
    ------
    UsageError
        There is no such kind.
    """
    if kind and kind not in KINDS:
        unknown = UnknownNameError("kind of runs", str(kind), KINDS)
        raise UsageError(unknown.message, f"{unknown.hint} Valid are {', '.join(KINDS)}.".strip())


def run_filter(filters: Mapping[str, Any]) -> RunFilter:
    """Return filters as they are typed as one; unknown names and values are refused.

    Raises
    ------
    UsageError
        A name or a value is not valid.
    """
    names = ("user", "notebook", "model", "kind", "status", "session", "parent", "rating")
    valid = (*names, "since", "until", "cost")
    for name in filters:
        if name not in valid:
            unknown = UnknownNameError("filter of runs", name, valid)
            raise UsageError(unknown.message, f"{unknown.hint} Valid are {', '.join(valid)}.".strip())
    values: dict[str, Any] = {name: valid_text(str(filters[name])) for name in names if filters.get(name)}
    check_kind(values.get("kind"))
    if "status" in values:
        values["status"] = _status(values["status"])
    if values.get("rating") not in (None, *RATINGS):
        raise UsageError(f"A run is rated good or bad, not {values['rating']!r}.", "Use --rating good.")
    least, most = parse_cost(filters.get("cost"))
    since, until = parse_moment(filters.get("since")), parse_moment(filters.get("until"), end=True)
    if since is not None and until is not None and since >= until:
        raise UsageError(
            f"No run lies since {since.astimezone():%Y-%m-%d %H:%M} and until {until.astimezone():%Y-%m-%d %H:%M}.",
            "Give a since that is before until.",
        )
    return RunFilter(
        **values,
        since=since,
        until=until,
        least_cost=least,
        most_cost=most,
    )


def _status(typed: str) -> str:
    """Return a status as runs have it; what is neither one nor looks like the name of an error is refused."""
    if typed.lower() in STATUSES and typed != "Error":  # binascii.Error has that name
        return typed.lower()
    name = typed.rsplit(".", 1)[-1]
    if name.isidentifier() and (not name[0].islower() or name.endswith(("error", "exception"))):
        return typed
    unknown = UnknownNameError("status", typed, STATUSES)
    valid = f"Valid are {', '.join(STATUSES)}, and the name of an error, e.g. KeyError."
    raise UsageError(unknown.message, f"{unknown.hint} {valid}".strip())


def valid_text(text: str) -> str:
    """Return a text without what no catalog can hold: halves of characters, and the zero byte."""
    return text.encode("utf-8", "replace").decode().replace("\0", " ")
