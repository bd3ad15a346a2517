"""What may change in the catalog: append-only revisions, of which the newest counts.

An alias, a retirement or a description is moved by adding the next revision. The primary key lets
one writer add it only, so that adding is the compare-and-set and the history at once: a killed
writer can't leave the one without the other.
"""

from __future__ import annotations

import functools
import json
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

from jupyter_llmops.catalog.connection import Connection, sql_text
from jupyter_llmops.catalog.deleting import blank_whole
from jupyter_llmops.catalog.migrations import Migrations
from jupyter_llmops.catalog.schemas import CHANGES, json_value, rows_of
from jupyter_llmops.errors import CatalogError, ConflictError, UsageError
from jupyter_llmops.records.change import Change

SEPARATOR = "\x1f"
_COLUMNS = (
    "noun", "name", "field", "value", "revision", "reason", "created_by", "created_at", "site"
)  # fmt: skip
_TEXTS = ("noun", "name", "field", "reason", "created_by", "site")
# What a field can hold; anything else is not of this package's making, and counts as taken away.
_KINDS: dict[str, type] = {
    "description": str,
    "tags": list,
    "examples": list,
    "retired": bool,
    "table": dict,
    "rating": dict,
}
_ALIASED: dict[str, type] = {"model": str, "prompt": int}
_LARGEST_REVISION = 2**62
_MOST_AGAIN = 8
# A filter with more names takes long to parse.
_NAMES_AT_ONCE = 500


class Changes:
    """The moves of aliases, retirements and descriptions.

    Parameters
    ----------
    connection : Connection
        The catalog.
    migrations : Migrations
        Its schema version.
    site, user : str
        Recorded with every move.
    """

    def __init__(self, connection: Connection, migrations: Migrations, site: str, user: str) -> None:
        self._connection = connection
        self._migrations = migrations
        self._site = site
        self._user = user

    def current(self, noun: str, *, name: str | None = None, field: str = "") -> list[Change]:
        """Return the newest revision of every field of a noun's things, also of those taken away.

        Parameters
        ----------
        noun : str
            "model", "prompt" or "collection".
        name : str, optional
            Only of this thing.
        field : str, optional
            Only this field, or all whose names begin with it where it ends in a colon.
        """
        newest: dict[tuple[str, str], Change] = {}
        for change in self._read(noun, name, field):
            place = (change.name, change.field)
            if place not in newest or newest[place].revision < change.revision:
                newest[place] = change
        return sorted(newest.values(), key=lambda change: (change.name, change.field))

    def history(self, noun: str, name: str, field: str = "") -> list[Change]:
        """Return every revision of one thing's fields, oldest first."""
        return sorted(
            self._read(noun, name, field),
            key=lambda change: (change.created_at or datetime.min.replace(tzinfo=UTC), change.revision),
        )

    def move(
        self, noun: str, name: str, field: str, value: Any, *, expected: int | None = None, reason: str = ""
    ) -> Change:
        """Add the next revision of a field; the same value again adds none.

        Parameters
        ----------
        value : JSON value
            None takes it away.
        expected : int, optional
            The revision that the caller saw (0: none): where another was added since, nothing moves.
        reason : str
            Kept in the history.

        Raises
        ------
        ConflictError
            Somebody moved it since `expected`; the message says who, where to.
        UsageError
            The field can't hold such a value: every reader would take it for nothing.
        CatalogError
            It can't be written.
        """
        kind = _kind_of(noun, field)
        if value is not None and kind is not None and not _fits(noun, field, value):
            raise UsageError(
                f"The {_said(field)} of a {noun} can't be {value!r}.",
                f"Give it a value of type {kind.__name__}.",
            )
        self._migrations.prepare_write()
        tried: Change | None = None
        counting = Counting(f"The {_said(field)}" + (f" of {name!r}" if name else ""))
        while True:
            latest = self._latest(noun, name, field)
            seen = latest.revision if latest else 0
            if tried is not None and latest == tried:
                return tried  # it was added, though storage did not say so
            if expected is not None and seen != expected:
                raise _conflict(latest, field)
            if latest is not None and latest.value == value:
                return latest
            if latest is None and value is None:
                return Change(noun, name, field, None, 0)
            counting.check(seen)
            tried = Change(
                noun, name, field, value, seen + 1, reason, self._user, datetime.now(UTC), self._site
            )
            if self._connection.insert_absent(CHANGES, [_row(tried)]):
                return tried
            # Another writer added this revision first: the next look sees it.

    def update(
        self, noun: str, name: str, field: str, change: Callable[[Any], Any], *, reason: str = ""
    ) -> Change:
        """Move a field to what `change` makes of its current value, again when others were first."""
        while True:
            latest = self._latest(noun, name, field)
            seen, value = (latest.revision, latest.value) if latest else (0, None)
            try:
                return self.move(noun, name, field, change(value), expected=seen, reason=reason)
            except ConflictError:
                continue

    def _latest(self, noun: str, name: str, field: str) -> Change | None:
        found = (change for change in self._read(noun, name, field) if change.field == field)
        return max(found, key=lambda change: change.revision, default=None)

    def _read(self, noun: str, name: str | None, field: str) -> list[Change]:
        conditions = [f"noun = {sql_text(noun)}"]
        if name is not None:
            conditions.append(f"name = {sql_text(name)}")
        if field and not field.endswith(":"):
            conditions.append(f"field = {sql_text(field)}")
        rows = self._connection.read(CHANGES, _COLUMNS, where=" AND ".join(conditions))
        found = [_change(row) for row in rows_of(rows)]
        return [change for change in found if change.field.startswith(field)]


def forget_reasons(connection: Connection, noun: str, names: Iterable[str]) -> int:
    """Blank why things were rated, and delete the versions that hold it; return how many rows said why.

    The ratings stay. A snapshot that was made before keeps the reasons.
    """
    chosen = list(names)
    blanked = 0
    for start in range(0, len(chosen) if connection.has(CHANGES) else 0, _NAMES_AT_ONCE):
        part = ", ".join(map(sql_text, chosen[start : start + _NAMES_AT_ONCE]))
        where = f"noun = {sql_text(noun)} AND name IN ({part}) AND field = 'rating'"
        rows = rows_of(connection.read(CHANGES, ["value", "reason"], where))
        for value in {row["value"] or "" for row in rows if row["reason"] or says_why(row["value"])}:
            said = json_value(value)
            kept = {"rating": str(said.get("rating", "")), "why": ""} if isinstance(said, dict) else None
            only = f"{where} AND coalesce(value, '') = {sql_text(value)}"
            values = {"value": sql_text(json.dumps(kept, sort_keys=True)), "reason": "''"}
            blanked += connection.writing(CHANGES, functools.partial(blank_whole, where=only, values=values))
    if blanked:
        connection.optimize(CHANGES, timedelta(0))
    return blanked


def says_why(value: Any) -> bool:
    """Return whether the value of a rating, as JSON, says more than good or bad."""
    said = json_value(value)
    return said is not None and not (
        isinstance(said, dict) and set(said) <= {"rating", "why"} and not said.get("why")
    )


class Counting:
    """Tells numbers that others take from one that never becomes free.

    A row whose key and number contradict each other takes a number that nobody sees taken: whoever
    wants it would try for ever.

    Parameters
    ----------
    what : str
        Begins the sentence.
    """

    def __init__(self, what: str) -> None:
        self._what = what
        self._last = -1
        self._again = 0

    def check(self, seen: int) -> None:
        """Note the largest number that is taken before the next is tried.

        Raises
        ------
        CatalogError
            The next was tried often, always in vain, or there is no next.
        """
        self._again = self._again + 1 if seen == self._last else 0
        self._last = seen
        if self._again:  # a network file system may show the other's row a little later
            time.sleep(0.01 * self._again)
        if self._again > _MOST_AGAIN or seen >= _LARGEST_REVISION:
            raise CatalogError(
                f"{self._what} can't be changed: a row of the catalog is damaged after number {seen}.",
                "Nothing was changed. Ask the catalog's owner to restore it from a backup.",
            )


def _said(field: str) -> str:
    return field.replace("alias:", "alias ")


def _conflict(latest: Change | None, field: str) -> ConflictError:
    if latest is None:
        return ConflictError(f"The {_said(field)} is not there any more.", "Look again, then repeat it.")
    to = "away" if latest.value is None else f"to {latest.value}"
    return ConflictError(
        f"The {_said(field)} was moved {to} by {latest.created_by or 'somebody'} meanwhile; nothing was changed.",
        "Look at it, then repeat the line if it still should move.",
    )


def _row(change: Change) -> dict[str, Any]:
    entry = SEPARATOR.join((change.noun, change.name, change.field))
    return {
        "key": f"{entry}{SEPARATOR}{change.revision}",
        "entry": entry,
        **{name: getattr(change, name) for name in _COLUMNS},
        "value": json.dumps(change.value, ensure_ascii=False, sort_keys=True),
    }


def _change(row: dict[str, Any]) -> Change:
    known: dict[str, Any] = {column: row[column] or "" for column in _TEXTS}
    value = json_value(row["value"])
    known["value"] = value if _fits(known["noun"], known["field"], value) else None
    return Change(**known, revision=row["revision"] or 0, created_at=row["created_at"])


def _kind_of(noun: str, field: str) -> type | None:
    return _ALIASED.get(noun) if field.startswith("alias:") else _KINDS.get(field)


def _fits(noun: str, field: str, value: Any) -> bool:
    kind = _kind_of(noun, field)
    return kind is None or (isinstance(value, kind) and (kind is bool or not isinstance(value, bool)))
