"""Named releases of the whole catalog, that open read-only later.

A snapshot is a Lance branch of every table. A branch costs a copy of the list of the table's files,
no data, on a folder as on a bucket, and upkeep keeps what it refers to: the vectors' indexes, too.
Lance's tags would do the same, but make LanceDB's cleaning stop with an error from then on. The row
in the table of snapshots is written last, so a killed snapshot leaves nothing that looks like one.
"""

from __future__ import annotations

import builtins
import json
import random
import re
import secrets
import time
import unicodedata
from collections.abc import Callable, Collection
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, NoReturn

from jupyter_llmops.catalog.connection import Connection, sql_text
from jupyter_llmops.catalog.leases import UPKEEP, UPKEEP_SECONDS, Leases, new_holder
from jupyter_llmops.catalog.migrations import Migrations
from jupyter_llmops.catalog.names import check_name
from jupyter_llmops.catalog.schemas import (
    CHANGES,
    COLLECTIONS,
    COSIGNATURES,
    HEADS,
    ITEMS_PREFIX,
    MEANINGS,
    MIGRATIONS,
    MODELS,
    NOT_UNDERSTOOD,
    PLACES,
    PROMPTS,
    RUNS,
    SIGNERS,
    SNAPSHOTS,
    rows_of,
    understood,
)
from jupyter_llmops.errors import CatalogError, UnknownNameError, UsageError
from jupyter_llmops.records.snapshot import Snapshot

if TYPE_CHECKING:
    import pyarrow as pa
    from lancedb.db import DBConnection
    from lancedb.table import Table

# What refers to others comes before what it refers to. A writer does it the other way round, so
# whatever a row names was there before the row, and is there when it is looked at after the row.
ORDER = (
    MIGRATIONS, COSIGNATURES, HEADS, SIGNERS, RUNS, CHANGES, MEANINGS, PLACES, COLLECTIONS, PROMPTS, MODELS
)  # fmt: skip

BRANCH_PREFIX = "snapshot-"
_BRANCH = re.compile(rf"{BRANCH_PREFIX}[0-9a-f]+-[0-9a-f]+")
# Upkeep goes on without an answer after so long; nobody waits for a killed one's lease.
_WAIT_SECONDS = 20.0
# A snapshot of that age without a row was killed.
_ORPHAN_AGE = timedelta(hours=1)
_COLUMNS = ("name", "versions", "description", "created_by", "created_at", "site")


class Snapshots:
    """The named releases of a catalog.

    Parameters
    ----------
    connection : Connection
        The catalog.
    migrations : Migrations
        Its schema version.
    leases : Leases
        Upkeep rests while a snapshot is made.
    site, user : str
        Recorded with every new one.
    """

    def __init__(
        self, connection: Connection, migrations: Migrations, leases: Leases, site: str, user: str
    ) -> None:
        self._connection = connection
        self._migrations = migrations
        self._leases = leases
        self._site = site
        self._user = user

    def list(self) -> builtins.list[Snapshot]:
        """Return every snapshot, newest first."""
        found = understood(rows_of(self._connection.read(SNAPSHOTS, _COLUMNS)), _snapshot)
        return sorted(found, key=_age, reverse=True)

    def get(self, name: str) -> Snapshot:
        """Return one.

        Raises
        ------
        UnknownNameError
            There is none of that name; the nearest names are in the hint.
        """
        return _named(self._connection, name)[0]

    def create(self, name: str, description: str = "") -> Snapshot:
        """Name the catalog as it is now.

        No row of it refers to something that it lacks, however many write meanwhile. Nobody waits.

        Parameters
        ----------
        name : str
            Not taken by another snapshot; capitals make no difference.
        description : str
            For people.

        Raises
        ------
        UsageError
            The name is taken or not valid.
        CatalogError
            The catalog can't be written.
        """
        name = check_name("snapshot", name)
        self._migrations.prepare_write()
        self._refuse_taken(name)
        branch = f"{BRANCH_PREFIX}{int(time.time()):x}-{secrets.token_hex(6)}"
        made: dict[str, int] = {}
        with _Rest(self._leases):
            try:
                for table in self._tables():
                    made[table] = self._connection.branch(table, branch)
                self._verify(name, branch, made)
                versions = tuple(made.items())
                snapshot = Snapshot(name, versions, description, self._user, datetime.now(UTC), self._site)
                self._announce(snapshot, branch)
            except Exception:
                self._drop(branch, made)
                raise
        return snapshot

    def _announce(self, snapshot: Snapshot, branch: str) -> None:
        if not self._connection.insert_absent(SNAPSHOTS, [_row(snapshot, branch)]):
            if self._is_announced(branch):
                return  # a commit whose success was not reported, and was tried again
            self._refuse_taken(snapshot.name)
            raise _taken(snapshot.name)

    def _is_announced(self, branch: str) -> bool:
        rows = self._connection.read(SNAPSHOTS, ["branch"], where=f"branch = {sql_text(branch)}")
        return rows is not None and rows.num_rows > 0

    def _tables(self) -> builtins.list[str]:
        there = self._connection.tables()
        items = [table for table in there if table.startswith(ITEMS_PREFIX)]
        return [table for table in ORDER if table in there] + items

    def _verify(self, name: str, branch: str, versions: dict[str, int]) -> None:
        """Read a little of everything, so that what can't be opened is never announced."""
        view = SnapshotConnection.of(self._connection, name, branch, versions)
        for table in versions:
            rows = view.read(table, limit=1)
            if rows is None or (rows.num_rows == 0 and view.count(table)):
                raise CatalogError(f"The snapshot {name!r} could not be made of {table}.", "Try again.")

    def _drop(self, branch: str, tables: Collection[str]) -> None:
        try:
            if self._is_announced(branch):
                return  # storage refused, and kept the row all the same
        except CatalogError:
            return  # nobody knows; upkeep does, in an hour
        for table in tables:
            try:
                self._connection.drop_branch(table, branch)
            except CatalogError:
                continue  # upkeep does it in an hour

    def _refuse_taken(self, name: str) -> None:
        for snapshot in self.list():
            if snapshot.name.casefold() == name.casefold():
                raise _taken(name, snapshot)


class SnapshotConnection(Connection):
    """A catalog as a snapshot holds it: every read sees that time, every write is refused.

    The snapshot is looked up at the first read.

    Parameters
    ----------
    location
        Of the whole catalog.
    name : str
        Of the snapshot.
    """

    def __init__(self, location: Any, name: str) -> None:
        super().__init__(location)
        self.snapshot = name
        self._branch = ""
        self._versions: dict[str, int] | None = None

    @classmethod
    def of(
        cls, connection: Connection, name: str, branch: str, versions: dict[str, int]
    ) -> SnapshotConnection:
        """Return one whose branch is known already."""
        made = cls(connection.location, name)
        made._branch, made._versions = branch, dict(versions)
        return made

    def versions(self) -> dict[str, int]:
        """Return the version of every table that belongs to the snapshot.

        Raises
        ------
        UnknownNameError
            There is no such snapshot.
        """
        if self._versions is None:
            found, self._branch = _named(Connection(self.location), self.snapshot)
            self._versions = dict(found.versions)
        return self._versions

    def has(self, table: str) -> bool:
        """Return whether `table` belongs to the snapshot."""
        return table in self.versions()

    def tables(self) -> list[str]:
        """Return the names of its tables, sorted."""
        return sorted(self.versions())

    def mark(self, table: str) -> int:
        """Return the same number always: nothing ever changes here."""
        return int(bool(table))

    def check_writable(self) -> NoReturn:
        """Refuse.

        Raises
        ------
        CatalogError
            Always.
        """
        raise CatalogError(
            f"{self.snapshot!r} is a snapshot: read only.",
            "Nothing was written. To write, open the catalog itself: no LLMOPS_SNAPSHOT, "
            "and %config LLMOps.snapshot = ''.",
        )

    def create(self, table: str, schema: pa.Schema | None = None) -> NoReturn:  # noqa: ARG002
        """Refuse; see `check_writable`."""
        self.check_writable()

    def _open(self, database: DBConnection, table: str) -> Table:
        version = self.versions()[table]
        return super()._open(database, table).branches.checkout(self._branch, version)

    def _attempt(self, table: str, write: Callable[[], Any]) -> NoReturn:  # noqa: ARG002
        self.check_writable()


class _Rest:
    """The lease of upkeep, for the moment of a snapshot: what it cleans could be what is named now.

    With a retention of minutes that can't happen, so a lease that does not come is no obstacle.
    """

    def __init__(self, leases: Leases) -> None:
        self._leases = leases
        self._holder = new_holder()

    def __enter__(self) -> None:
        until = time.monotonic() + _WAIT_SECONDS
        while not self._leases.acquire(UPKEEP, self._holder, UPKEEP_SECONDS) and time.monotonic() < until:
            time.sleep(random.uniform(0.1, 0.5))  # noqa: S311 - no secret

    def __exit__(self, *_: object) -> None:
        self._leases.release(UPKEEP, self._holder)


def drop_orphans(connection: Connection, table: str) -> int:
    """Drop the branches of `table` that a killed snapshot left; return how many."""
    branches = [branch for branch in connection.branches(table) if branch.startswith(BRANCH_PREFIX)]
    if not branches:
        return 0
    rows = connection.read(SNAPSHOTS, ["branch"])
    named = set() if rows is None else set(rows["branch"].to_pylist())
    orphans = [branch for branch in branches if branch not in named and _is_old(branch)]
    for branch in orphans:
        connection.drop_branch(table, branch)
    return len(orphans)


def _is_old(branch: str) -> bool:
    try:
        made = int(branch.removeprefix(BRANCH_PREFIX).partition("-")[0], 16)
    except ValueError:
        return False
    return time.time() - made > _ORPHAN_AGE.total_seconds()


def _named(connection: Connection, name: str) -> tuple[Snapshot, str]:
    """Return a snapshot and its branch."""
    rows = rows_of(connection.read(SNAPSHOTS, (*_COLUMNS, "branch")))
    composed = unicodedata.normalize("NFC", name)
    for row in rows:
        if row["name"] == composed:
            return _checked(row)
    hint = "" if rows else "There is none yet: type %llmops snapshot NAME."
    raise UnknownNameError("snapshot", name, [row["name"] for row in rows], hint)


def _checked(row: dict[str, Any]) -> tuple[Snapshot, str]:
    try:
        snapshot, branch = _snapshot(row), str(row["branch"])
    except NOT_UNDERSTOOD:
        branch = ""
    if not _BRANCH.fullmatch(branch):
        raise CatalogError(
            f"The catalog's row of the snapshot {row['name']!r} can't be understood.",
            "Nothing was changed. A newer version of jupyter_llmops may have written it.",
        )
    return snapshot, branch


def _taken(name: str, by: Snapshot | None = None) -> UsageError:
    who = f" (by {by.created_by}, {by.created_at:%Y-%m-%d %H:%M} UTC)" if by and by.created_at else ""
    spelled = by.name if by else name
    return UsageError(
        f"There is already a snapshot named {spelled!r}{who}; a snapshot never changes.",
        f"Use for example {name + '-2'!r}.",
    )


def _age(snapshot: Snapshot) -> datetime:
    return snapshot.created_at or datetime.min.replace(tzinfo=UTC)


def _row(snapshot: Snapshot, branch: str) -> dict[str, Any]:
    row = {name: getattr(snapshot, name) for name in _COLUMNS}
    return row | {"versions": json.dumps(dict(snapshot.versions)), "branch": branch}


def _snapshot(row: dict[str, Any]) -> Snapshot:
    versions = json.loads(row["versions"] or "{}")
    return Snapshot(
        name=row["name"],
        versions=tuple((table, int(version)) for table, version in versions.items()),
        description=row["description"] or "",
        created_by=row["created_by"] or "",
        created_at=row["created_at"],
        site=row["site"] or "",
    )
