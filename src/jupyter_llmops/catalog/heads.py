"""Signed heads of the sessions' logs, and what witnesses signed of them.

Whoever can write to the catalog can write rows here. So nothing is believed for being here: a reader checks
the signatures, and a row's key holds a digest of what it says, so that no row planted in time can keep
the true one out.
"""

from __future__ import annotations

import builtins
import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from typing import Any

from jupyter_llmops.catalog.changes import SEPARATOR
from jupyter_llmops.catalog.connection import Connection, sql_text
from jupyter_llmops.catalog.schemas import COSIGNATURES, HEADS, json_value, rows_of, understood
from jupyter_llmops.catalog.table import CatalogTable
from jupyter_llmops.records.trail import Cosignature, Head

_HEAD = (
    "session", "size", "root", "checkpoint", "previous_size", "consistency", "user", "host", "created_at"
)  # fmt: skip
_COSIGNATURE = ("session", "size", "root", "witness", "line", "created_at")
# So many names in one filter; more are asked for in several.
_MOST_NAMES = 500


class Heads(CatalogTable):
    """The published heads of everybody's logs."""

    def publish(self, heads: Sequence[Head]) -> int:
        """Add heads in one commit, those that are there already left out; return how many were added.

        Raises
        ------
        CatalogError
            They can't be written; none of them was.
        """
        if not heads:
            return 0
        self._migrations.prepare_write()
        return self._connection.insert_absent(HEADS, [_head_row(head, self._site) for head in heads])

    def of(self, sessions: Iterable[str]) -> list[Head]:
        """Return every head of some sessions, by session and size; unverified, see the module."""
        return _sorted(understood(_rows(self._connection, HEADS, _HEAD, sessions), _head))

    def list(self) -> list[Head]:
        """Return every head, by session and size; unverified, see the module."""
        return _sorted(understood(rows_of(self._connection.read(HEADS, _HEAD)), _head))

    def fingerprints(self) -> dict[str, str]:
        """Return for every session a text that changes with its rows.

        Where some in the middle are exchanged it may stay the same: then the next row shows it.
        """
        rows = self._connection.read(HEADS, ["session", "key", "size"])
        if rows is None:
            return {}
        asked = [("key", "count"), ("size", "max"), ("key", "min"), ("key", "max")]
        found = rows.group_by("session").aggregate(asked).to_pydict()
        columns = zip(*(found[f"{column}_{what}"] for column, what in asked), strict=True)
        return {
            session: f"{count} {size} {str(low)[-16:]} {str(high)[-16:]}"
            for session, (count, size, low, high) in zip(found["session"], columns, strict=True)
            if session
        }

    def sizes(self) -> dict[str, set[int]]:
        """Return which sizes have a head, by session; unverified, see the module."""
        found: dict[str, set[int]] = {}
        for row in rows_of(self._connection.read(HEADS, ["session", "size"])):
            if isinstance(row["session"], str) and isinstance(row["size"], int):
                found.setdefault(row["session"], set()).add(row["size"])
        return found

    def keys(self, session: str) -> set[str]:
        """Return the keys of a session's rows, each of which says what stands in it."""
        return {row["key"] for row in rows_of(self._connection.read(HEADS, ["key"], _where([session])))}

    def by_key(self, keys: Iterable[str]) -> builtins.list[Head]:
        """Return the heads of some rows, by session and size; unverified, see the module."""
        names = sorted(set(keys))
        found: builtins.list[dict[str, Any]] = []
        for begin in range(0, len(names), _MOST_NAMES):
            found += rows_of(
                self._connection.read(HEADS, _HEAD, _where(names[begin : begin + _MOST_NAMES], "key"))
            )
        return _sorted(understood(found, _head))


class Cosignatures(CatalogTable):
    """What witnesses signed."""

    def publish(self, cosignatures: Sequence[Cosignature]) -> int:
        """Add cosignatures in one commit, those that are there already left out; return how many were added.

        Raises
        ------
        CatalogError
            They can't be written; none of them was.
        """
        if not cosignatures:
            return 0
        self._migrations.prepare_write()
        rows = [_cosignature_row(cosignature, self._site) for cosignature in cosignatures]
        return self._connection.insert_absent(COSIGNATURES, rows)

    def of(self, sessions: Iterable[str]) -> list[Cosignature]:
        """Return every cosignature of some sessions' heads; unverified, see the module."""
        return understood(_rows(self._connection, COSIGNATURES, _COSIGNATURE, sessions), _cosignature)

    def list(self) -> list[Cosignature]:
        """Return every cosignature; unverified, see the module."""
        return understood(rows_of(self._connection.read(COSIGNATURES, _COSIGNATURE)), _cosignature)


def _rows(
    connection: Connection, table: str, columns: Sequence[str], sessions: Iterable[str]
) -> list[dict[str, Any]]:
    names = sorted(set(sessions))
    found: list[dict[str, Any]] = []
    for begin in range(0, len(names), _MOST_NAMES):
        found += rows_of(connection.read(table, columns, _where(names[begin : begin + _MOST_NAMES])))
    return found


def _where(names: Iterable[str], column: str = "session") -> str:
    return f"{column} IN ({', '.join(sql_text(name) for name in names)})"


def _sorted(heads: list[Head]) -> list[Head]:
    return sorted(heads, key=lambda head: (head.session, head.size, head.created_at))


def _key(session: str, size: int, *said: str) -> str:
    digest = hashlib.sha256(SEPARATOR.join(said).encode("utf-8", "replace")).hexdigest()[:32]
    return SEPARATOR.join((session, str(size), digest))


def _head_row(head: Head, site: str) -> dict[str, Any]:
    proof = json.dumps(list(head.consistency))
    row = {name: getattr(head, name) for name in _HEAD}
    key = _key(head.session, head.size, head.checkpoint, str(head.previous_size), proof)
    return row | {"key": key, "consistency": proof, "site": site}


def _head(row: Mapping[str, Any]) -> Head:
    proof = json_value(row["consistency"])
    return Head(
        session=_text(row["session"]),
        size=_count(row["size"]),
        root=_text(row["root"]),
        checkpoint=_text(row["checkpoint"]),
        user=row["user"] or "",
        host=row["host"] or "",
        created_at=_moment(row["created_at"]),
        previous_size=_count(row["previous_size"] or 0),
        consistency=tuple(_text(item) for item in proof) if isinstance(proof, list) else (),
    )


def _cosignature_row(cosignature: Cosignature, site: str) -> dict[str, Any]:
    row = {name: getattr(cosignature, name) for name in _COSIGNATURE}
    key = _key(cosignature.session, cosignature.size, cosignature.witness, cosignature.line)
    return row | {"key": key, "site": site}


def _cosignature(row: Mapping[str, Any]) -> Cosignature:
    return Cosignature(
        session=_text(row["session"]),
        size=_count(row["size"]),
        root=_text(row["root"]),
        witness=_text(row["witness"]),
        line=_text(row["line"]),
        created_at=_moment(row["created_at"]),
    )


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise TypeError("no text")
    return value


def _count(value: Any) -> int:
    if not isinstance(value, int) or value < 0:
        raise ValueError("no count")
    return value


def _moment(value: Any) -> datetime:
    return value if isinstance(value, datetime) else datetime.min.replace(tzinfo=UTC)
