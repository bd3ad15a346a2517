"""Keeping the catalog small and fast: joining pieces, dropping old versions, building indexes.

Every commit leaves a piece, a list of all pieces and a filter of its keys, 75 KB at least, and an
unmaintained table grows with the square of its commits. One process of all hosts does the upkeep,
chosen by a lease when there is some to do. Neither readers nor writers wait for it, and two at once
are harmless.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Iterable, Mapping
from datetime import timedelta

from jupyter_llmops.catalog.connection import Connection
from jupyter_llmops.catalog.indexes import ensure_indexes, needs_indexes
from jupyter_llmops.catalog.leases import UPKEEP, UPKEEP_SECONDS, Leases, new_holder
from jupyter_llmops.catalog.migrations import Migrations
from jupyter_llmops.catalog.schemas import CONTENTS, ITEMS_PREFIX, RUNS
from jupyter_llmops.catalog.snapshots import drop_orphans
from jupyter_llmops.errors import CatalogError

COMMITS_BETWEEN_UPKEEP = 200
# A burst of commits that has ended leaves its last pieces for good, unless they are joined then.
COMMITS_BEFORE_QUIET = 10
QUIET_SECONDS = 60.0
# A reader may still be busy with a version that upkeep has just replaced: for seconds, a search or a
# copy for a minute. Longer is dear, as the keys that a commit adds lie in a filter of 32 KB of which
# Lance keeps two copies: at a commit a second 45 MB in ten minutes, 270 MB in an hour.
RETENTION = timedelta(minutes=10)
# So many versions that a former upkeep had to leave for a while are worth cleaning.
_LITTER = COMMITS_BETWEEN_UPKEEP // 4
# Looking into the tables that changed costs milliseconds on a disk, and money on a bucket.
_LOOK_SECONDS = 3.0
_BUCKET_LOOK_SECONDS = 30.0
# While another has the lease.
_RETRY_SECONDS = 60.0


class Upkeep:
    """The upkeep of one catalog.

    Parameters
    ----------
    connection : Connection
        The catalog.
    migrations : Migrations
        Its schema version.
    leases : Leases
        Elects the one that does it.
    retention : timedelta
        How long the old versions of a table stay for those that still read them.
    """

    def __init__(
        self, connection: Connection, migrations: Migrations, leases: Leases, retention: timedelta = RETENTION
    ) -> None:
        self.retention = retention
        self._connection = connection
        self._migrations = migrations
        self._leases = leases
        self._holder = new_holder()
        self._marks: dict[str, int] | None = None
        self._versions: dict[str, int] = {}
        self._clean_at: dict[str, float] = {}
        self._quiet_at: dict[str, float] = {}
        self._next_look = 0.0

    def look(self, marks: Mapping[str, int]) -> list[str]:
        """Do what is due, if something is and this one is elected; what a watcher calls all the time.

        Where no table changed it costs nothing and LanceDB is not loaded.

        Parameters
        ----------
        marks : mapping
            `Catalog.marks`, as they are now.

        Returns
        -------
        list of str
            The tables that were maintained.

        Raises
        ------
        CatalogError
            A table can't be read or written; the others were maintained.
        """
        now = time.monotonic()
        if now < self._next_look:
            return []
        if self._marks is None:
            self._marks = self._seen_before(marks, now)
        stale = {table for table in marks if self._is_stale(table, now)}
        changed = {table for table, mark in marks.items() if mark != self._marks.get(table, 0)}
        quiet = {table for table, since in self._quiet_at.items() if since <= now} - changed
        if not changed | stale | quiet:
            return []
        self._next_look = now + (
            _LOOK_SECONDS if self._connection.location.is_local else _BUCKET_LOOK_SECONDS
        )
        due, failures = self._each(sorted(changed - stale), self._is_due)
        settled, failed = self._each(sorted(quiet - stale), self._has_settled)
        due, failures = sorted({*due, *stale, *settled}), failures | failed
        done: list[str] = []
        if due:
            if not self._leases.acquire(UPKEEP, self._holder, UPKEEP_SECONDS):
                self._next_look = now + _RETRY_SECONDS
                return []
            try:
                done, failed = self._each(due, self._maintain_while_elected)
            finally:
                self._leases.release(UPKEEP, self._holder)
            failures |= failed
        self._marks |= {table: marks[table] for table in changed - set(failures)}
        self._quiet_at |= dict.fromkeys(changed - set(done), now + QUIET_SECONDS)
        for table in quiet - changed:
            del self._quiet_at[table]
        for failure in failures.values():
            raise failure
        return done

    def optimize(self, after: int = COMMITS_BETWEEN_UPKEEP) -> list[str]:
        """Maintain now, whoever is elected, the tables that have at least `after` commits.

        Unmaintained, a table of 5,000 commits reads 150 times slower.

        Parameters
        ----------
        after : int
            Number of pieces, about one a commit since the last time.

        Returns
        -------
        list of str
            The tables that were maintained.
        """
        due = [table for table in self._connection.tables() if self._is_due(table, after)]
        if due:
            self._migrations.prepare_write()
        for table in due:
            self._maintain(table)
        return due

    # -- within -------------------------------------------------------------------------------

    def _is_due(self, table: str, after: int = COMMITS_BETWEEN_UPKEEP) -> bool:
        # Rows that are replaced leave no pieces, but old versions.
        if self._connection.fragments(table) >= after or self._litter(table) >= after:
            return True
        return _has_indexes(table) and needs_indexes(self._connection, table)

    def _has_settled(self, table: str) -> bool:
        return self._connection.fragments(table) >= COMMITS_BEFORE_QUIET

    def _is_stale(self, table: str, now: float) -> bool:
        """Return whether versions can go now that an upkeep had to leave for their readers."""
        if now < self._clean_at.get(table, math.inf):
            return False
        if self._connection.location.is_local and self._litter(table) < 2:  # another was here meanwhile
            del self._clean_at[table]
            return False
        return True

    def _litter(self, table: str) -> int:
        """Return how many versions of `table` nobody reads any more."""
        if self._connection.location.is_local:
            return self._connection.old_versions(table, self.retention)
        # Of a bucket listing them is dear: as many as came since this process looked first.
        version = self._connection.version(table)
        return version - self._versions.setdefault(table, version)

    def _each(
        self, tables: Iterable[str], work: Callable[[str], bool]
    ) -> tuple[list[str], dict[str, CatalogError]]:
        """Return for which tables `work` was true, and which failed: a damaged one must not spoil the others."""
        done, failures = [], {}
        for table in tables:
            try:
                if work(table):
                    done.append(table)
            except CatalogError as error:
                failures[table] = error
        return done, failures

    def _maintain_while_elected(self, table: str) -> bool:
        if not self._leases.renew(UPKEEP, self._holder, UPKEEP_SECONDS):
            return False
        self._maintain(table)
        return True

    def _maintain(self, table: str) -> None:
        self._clean_at.pop(table, None)
        before = self._connection.version(table)
        drop_orphans(self._connection, table)
        if _has_indexes(table):
            ensure_indexes(self._connection, table)
        self._connection.optimize(table, self.retention)
        self._versions[table] = self._connection.version(table)
        if self.retention and self._versions[table] != before:
            # What was replaced just now can go when its readers have had their time.
            self._clean_at[table] = time.monotonic() + self.retention.total_seconds() + 1

    def _seen_before(self, marks: Mapping[str, int], now: float) -> dict[str, int]:
        """Return which tables need no look for now, at the first look of this process.

        Their lists of versions are counted, which needs no LanceDB: an idle server without
        collections never loads it. A collection may lack an index, which only LanceDB can tell.
        """
        seen = {}
        for table, mark in marks.items():
            if self._connection.old_versions(table, self.retention) > _LITTER:
                self._clean_at[table] = now
            few = self._connection.old_versions(table, timedelta(0)) <= _LITTER
            if few and not table.startswith(ITEMS_PREFIX):
                seen[table] = mark
        return seen


def _has_indexes(table: str) -> bool:
    return table in (CONTENTS, RUNS) or table.startswith(ITEMS_PREFIX)
