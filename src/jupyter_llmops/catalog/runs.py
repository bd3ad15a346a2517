"""The runs of the catalog: what the agents carried there from the sessions' journals."""

from __future__ import annotations

import builtins
import dataclasses
import json
import re
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from jupyter_llmops.catalog.connection import Connection, sql_text
from jupyter_llmops.catalog.migrations import Migrations
from jupyter_llmops.catalog.schemas import RUNS, json_value, rows_of
from jupyter_llmops.errors import AmbiguousNameError, UnknownNameError
from jupyter_llmops.records.run import LEAF_SCHEMA, LEAF_SCHEMAS, Run

_FIELDS = tuple(field.name for field in dataclasses.fields(Run) if field.name != "read_only")
_OPTIONAL = {"execution_count", "tokens_in", "tokens_out", "leaf"}


class Runs:
    """Runs of cells, prompts and cascades, of every user whose agent writes here.

    Parameters
    ----------
    connection : Connection
        The catalog.
    migrations : Migrations
        Its schema version.
    site : str
        Recorded with every new row.
    """

    def __init__(self, connection: Connection, migrations: Migrations, site: str) -> None:
        self._connection = connection
        self._migrations = migrations
        self._site = site

    def append(self, runs: Sequence[Run]) -> int:
        """Add runs in one commit, those whose id is there already left out.

        Returns
        -------
        int
            How many were added.

        Raises
        ------
        CatalogError
            They can't be written; none of them was.
        """
        if not runs:
            return 0
        self._migrations.prepare_write()
        return self._connection.insert_absent(RUNS, [_row(run, self._site) for run in runs])

    def list(self, limit: int = 50, kind: str | None = None) -> builtins.list[Run]:
        """Return the newest runs, newest first; of a map itself alone, not each of its rows.

        Parameters
        ----------
        limit : int
            Most runs.
        kind : str, optional
            Only runs of this kind; "prompt" has the rows of maps, too.
        """
        where = f"kind = {sql_text(kind)}" if kind else self._without_rows(limit)
        # Sorted without the leaves first: they are most of a row's bytes.
        newest = self._connection.read(
            RUNS, ["id", "started_at", "seq"], where, newest_by=("started_at", "seq"), limit=limit
        )
        if newest is None or not newest.num_rows:
            return []
        chosen = ", ".join(sql_text(run_id) for run_id in newest["id"].to_pylist())
        rows = self._connection.read(RUNS, _FIELDS, f"id IN ({chosen})")
        found = [_run(row) for row in rows_of(rows)]
        return sorted(found, key=lambda run: (run.started_at, run.seq), reverse=True)

    def _without_rows(self, limit: int) -> str:
        """Return the filter that leaves out rows of maps; those of older maps than the newest are too old."""
        newest = self._connection.read(
            RUNS, ["id", "started_at", "seq"], "kind = 'map'", newest_by=("started_at", "seq"), limit=limit
        )
        if newest is None or not newest.num_rows:
            return ""
        maps = ", ".join(sql_text(run_id) for run_id in newest["id"].to_pylist())
        return f"parent IS NULL OR parent NOT IN ({maps})"

    def get(self, id_prefix: str) -> Run:
        """Return the run whose id begins with `id_prefix`.

        Raises
        ------
        UnknownNameError
            No run's id does.
        AmbiguousNameError
            More than one does.
        """
        prefix = id_prefix.strip().lower()
        found: builtins.list[Run] = []
        if re.fullmatch(r"[0-9a-f]+", prefix):
            rows = self._connection.read(RUNS, _FIELDS, f"starts_with(id, {sql_text(prefix)})", limit=5)
            found = [_run(row) for row in rows_of(rows)]
        if not found:
            raise UnknownNameError("run", id_prefix, hint="Type %runs to see the ids of the last ones.")
        if len(found) > 1:
            shown = ", ".join(sorted(run.id for run in found)[:4])
            raise AmbiguousNameError(
                f"More than one run's id begins with {prefix!r}: {shown}.", "Type more of it."
            )
        return found[0]

    def last_seq(self, session: str) -> int | None:
        """Return the last line of a session's journal that is here, None when none is."""
        return max(self.digests(session), default=None)

    def last_seqs(self) -> dict[str, int]:
        """Return the last line that is here of every session, by session."""
        rows = self._connection.read(RUNS, ["session", "seq"])
        if rows is None:
            return {}
        last = rows.group_by("session").aggregate([("seq", "max")])
        return dict(zip(last["session"].to_pylist(), last["seq_max"].to_pylist(), strict=True))

    def heads(self) -> dict[str, tuple[int, str]]:
        """Return the last line that is here of every session, as (seq, leaf digest)."""
        rows = self._connection.read(RUNS, ["session", "seq", "leaf_digest"])
        heads: dict[str, tuple[int, str]] = {}
        if rows is None:
            return heads
        columns = (rows[name].to_pylist() for name in ("session", "seq", "leaf_digest"))
        for session, seq, digest in zip(*columns, strict=True):
            if session not in heads or seq > heads[session][0]:
                heads[session] = (seq, digest)
        return heads

    def published_by(self, user: str, host: str) -> dict[str, dict[int, str]]:
        """Return the leaf digest of every line by session and seq, of one user on one host."""
        where = f"user = {sql_text(user)} AND host = {sql_text(host)}"
        rows = self._connection.read(RUNS, ["session", "seq", "leaf_digest"], where=where)
        published: dict[str, dict[int, str]] = {}
        if rows is None:
            return published
        columns = (rows[name].to_pylist() for name in ("session", "seq", "leaf_digest"))
        for session, seq, digest in zip(*columns, strict=True):
            published.setdefault(session, {})[seq] = digest
        return published

    def digests(self, session: str) -> dict[int, str]:
        """Return the leaf digest of every line of a session that is here, by seq."""
        rows = self._connection.read(RUNS, ["seq", "leaf_digest"], where=f"session = {sql_text(session)}")
        if rows is None:
            return {}
        return dict(zip(rows["seq"].to_pylist(), rows["leaf_digest"].to_pylist(), strict=True))


def _row(run: Run, site: str) -> dict[str, Any]:
    row = {name: _storable(getattr(run, name)) for name in _FIELDS if name != "leaf"}
    row["leaf"] = None if run.leaf is None else _leaf_text(run.leaf)
    row["site"] = site
    return row


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


def _run(row: dict[str, Any]) -> Run:
    values: dict[str, Any] = {}
    for name in _FIELDS:
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
