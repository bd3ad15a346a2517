"""Who does a piece of work for the whole catalog now: leases that expire, moved by compare-and-set.

They lie in the catalog itself, so they hold between users and hosts, on a folder as on a bucket, where
no lock of a file system reaches. A holder that was killed loses its lease when it expires.
"""

from __future__ import annotations

import os
import secrets
import socket
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

from jupyter_llmops.catalog.connection import Connection, sql_text
from jupyter_llmops.catalog.migrations import Migrations
from jupyter_llmops.catalog.schemas import LEASES, rows_of

UPKEEP = "upkeep"
"""The lease of whoever maintains the catalog, or makes a snapshot of it."""
# Longer than any one table takes; it is renewed between tables.
UPKEEP_SECONDS = 600.0
_LONGEST = timedelta(days=1)

_COLUMNS = ("name", "holder", "revision", "expires_at")


class Leases:
    """The leases of a catalog.

    Each taking and releasing is a commit, so they are for work that is rare and takes seconds. The
    hosts' clocks decide when one expires: where they differ by more than its length two may hold it
    for a while, so what it guards must be harmless when it is done twice.

    Parameters
    ----------
    connection : Connection
        The catalog.
    migrations : Migrations
        Its schema version.
    site : str
        Recorded with each lease.
    now : callable, optional
        The clock, an aware datetime.
    """

    def __init__(
        self,
        connection: Connection,
        migrations: Migrations,
        site: str,
        now: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        self._connection = connection
        self._migrations = migrations
        self._site = site
        self._now = now

    def acquire(self, name: str, holder: str, seconds: float) -> bool:
        """Take a lease that nobody holds, or prolong one's own; return whether `holder` has it now.

        Parameters
        ----------
        name : str
            What is leased.
        holder : str
            Who wants it, unique among all processes; `new_holder` makes one.
        seconds : float
            How long it lasts unless it is renewed.

        Raises
        ------
        CatalogError
            The catalog can't be written.
        """
        self._migrations.prepare_write()
        row = self._row(name)
        if row is None:
            wanted = self._wanted(name, holder, 1, seconds)
            if self._connection.insert_absent(LEASES, [wanted]):
                return True
            row = self._row(name)
        # Looked at before it is tried: an update that changes nothing is a commit all the same.
        if row is None or (row["holder"] != holder and not self._has_expired(row)):
            return False
        return self._move(row, self._wanted(name, holder, row["revision"] + 1, seconds))

    def renew(self, name: str, holder: str, seconds: float) -> bool:
        """Prolong a lease that `holder` has; False where another took it since it expired."""
        row = self._row(name)
        if row is None or row["holder"] != holder:
            return False
        return self._move(row, self._wanted(name, holder, row["revision"] + 1, seconds))

    def release(self, name: str, holder: str) -> None:
        """Let others take it at once; nothing happens where `holder` has it no more."""
        row = self._row(name)
        if row is not None and row["holder"] == holder:
            self._move(row, self._wanted(name, "", row["revision"] + 1, 0.0))

    def holder(self, name: str) -> str:
        """Return who holds a lease now; empty where nobody does."""
        row = self._row(name)
        return "" if row is None or self._has_expired(row) else str(row["holder"])

    def _row(self, name: str) -> dict[str, Any] | None:
        found = rows_of(self._connection.read(LEASES, _COLUMNS, where=f"name = {sql_text(name)}"))
        return found[0] | {"revision": found[0]["revision"] or 0} if found else None

    def _has_expired(self, row: dict[str, Any]) -> bool:
        if not row["holder"] or row["expires_at"] is None:
            return True
        left: timedelta = row["expires_at"] - self._now()
        # No lease is that long: a clock that was wrong must not keep everybody away for years.
        return left <= timedelta(0) or left > _LONGEST

    def _wanted(self, name: str, holder: str, revision: int, seconds: float) -> dict[str, Any]:
        return {
            "name": name,
            "holder": holder,
            "revision": revision,
            "expires_at": self._now() + timedelta(seconds=seconds),
            "site": self._site,
        }

    def _move(self, seen: dict[str, Any], wanted: dict[str, Any]) -> bool:
        """Replace the row that was seen, unless another replaced it first."""
        where = f"name = {sql_text(wanted['name'])} AND coalesce(revision, 0) = {int(seen['revision'])}"
        values = {name: value for name, value in wanted.items() if name != "name"}
        if self._connection.update(LEASES, where, values):
            return True
        # A commit whose success was not reported was tried again and found its own row.
        row = self._row(wanted["name"])
        return row is not None and row["holder"] == wanted["holder"] and row["revision"] == wanted["revision"]


def new_holder() -> str:
    """Return a name for this process that no other has."""
    return f"{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(4)}"
