"""One catalog: its tables, its state, its upkeep."""

from __future__ import annotations

import os
import time
from datetime import timedelta
from functools import cached_property
from pathlib import Path

from jupyter_llmops.catalog.changes import Changes
from jupyter_llmops.catalog.collections import Collections
from jupyter_llmops.catalog.connection import Connection
from jupyter_llmops.catalog.contents import Contents
from jupyter_llmops.catalog.heads import Cosignatures, Heads
from jupyter_llmops.catalog.leases import Leases
from jupyter_llmops.catalog.meanings import Meanings
from jupyter_llmops.catalog.migrations import Migrations
from jupyter_llmops.catalog.models import Models
from jupyter_llmops.catalog.objects import Objects, open_objects
from jupyter_llmops.catalog.probe import newest_commit, try_writing
from jupyter_llmops.catalog.prompts import Prompts
from jupyter_llmops.catalog.pruning import Pruning
from jupyter_llmops.catalog.run_search import RunSearch
from jupyter_llmops.catalog.runs import Runs
from jupyter_llmops.catalog.schemas import KEYS, LEASES, MIGRATIONS, RUNS, SCHEMA_VERSION
from jupyter_llmops.catalog.signers import Signers
from jupyter_llmops.catalog.snapshots import SnapshotConnection, Snapshots
from jupyter_llmops.catalog.upkeep import COMMITS_BETWEEN_UPKEEP, RETENTION, Upkeep
from jupyter_llmops.errors import CatalogError, UnknownNameError
from jupyter_llmops.location import Location
from jupyter_llmops.records.catalog import CatalogState, Freshness, TableState


class Catalog:
    """The shared catalog of a team in one folder or bucket.

    Nothing is imported, opened or created before the first read or write; only a write creates
    the folder.

    Parameters
    ----------
    location : Location, Path or str
        Where it lies; `settings.find_catalog` finds it.
    site : str
        Host or site, recorded in every row.
    user : str
        Who publishes, recorded in every row.
    snapshot : str
        Name of a snapshot: everything is read as it was then, and nothing can be written.
    retention : timedelta
        How long upkeep leaves old versions for those that still read them.

    Attributes
    ----------
    models, prompts, collections, runs, contents
        The tables.
    run_search
        Finds runs.
    changes
        Where aliases point, what is retired, what is said of things.
    meanings
        Vectors of what things are about.
    heads, cosignatures, signers
        What proves the runs: signed heads of the logs, what witnesses signed of them, and whose keys do.
    """

    def __init__(
        self,
        location: Location | Path | str,
        *,
        site: str,
        user: str,
        snapshot: str = "",
        retention: timedelta = RETENTION,
    ) -> None:
        self.location = Location.parse(location)
        self.site = site
        self.user = user
        self.snapshot = snapshot
        self._connection = (
            SnapshotConnection(self.location, snapshot) if snapshot else Connection(self.location)
        )
        self._migrations = Migrations(self._connection, site, user)
        self.changes = Changes(self._connection, self._migrations, site, user)
        self.meanings = Meanings(self._connection, self._migrations, site, user)
        self.models = Models(self._connection, self._migrations, self.changes, site, user)
        self.prompts = Prompts(self._connection, self._migrations, self.changes, site, user)
        self.collections = Collections(self._connection, self._migrations, self.changes, site, user)
        self.runs = Runs(self._connection, self._migrations, site)
        self.heads = Heads(self._connection, self._migrations, site)
        self.cosignatures = Cosignatures(self._connection, self._migrations, site)
        self.signers = Signers(self._connection, self._migrations, site)
        self.contents = Contents(self._connection, self._migrations, site)
        self.pruning = Pruning(self._connection, self._migrations, self.contents)
        self.run_search = RunSearch(self._connection, self.changes)
        leases = Leases(self._connection, self._migrations, site)
        self.upkeep = Upkeep(self._connection, self._migrations, leases, retention)
        self.snapshots = Snapshots(self._connection, self._migrations, leases, site, user)

    @property
    def folder(self) -> Path:
        """The catalog's folder.

        Raises
        ------
        CatalogError
            It lies in a bucket.
        """
        if self.location.folder is None:
            raise CatalogError(f"The catalog {self.location} lies in a bucket, not in a folder.")
        return self.location.folder

    @cached_property
    def objects(self) -> Objects:
        """The files beside the tables, e.g. those of models, by plain relative names."""
        return open_objects(self.location)

    def migrate(self) -> int:
        """Create the catalog or bring it to this package's schema; return the schema version.

        Raises
        ------
        CatalogError
            It can't be written.
        CatalogNewerError
            A newer version of the package wrote it.
        """
        return self._migrations.migrate()

    def revisions(self) -> dict[str, int]:
        """Return the number of the last commit of every table, 0 for one that is not there.

        They only grow, so two equal answers mean that nothing was published in between.
        """
        return {table: self._connection.version(table) for table in KEYS if table not in (MIGRATIONS, LEASES)}

    def marks(self) -> dict[str, int]:
        """Return a number for every table that differs after each commit, those of collections included.

        Of a folder it costs a file look-up each and needs no LanceDB, so a watcher can ask all the time.
        """
        return {table: self._connection.mark(table) for table in (*KEYS, *self._connection.items())}

    def mark(self, table: str) -> int:
        """Return a number for one table that differs after each commit to it; see `marks`."""
        return self._connection.mark(table)

    def is_there(self) -> bool:
        """Return whether there is a catalog in its place.

        Raises
        ------
        CatalogError
            It can't be read.
        """
        return self._migrations.version() is not None or self._connection.version(RUNS) > 0

    def describe(self) -> CatalogState:
        """Return its state without changing it; a problem is said in the answer, never raised."""
        exists, version, tables, problem = False, None, [], ""
        try:
            version = self._migrations.version()
            for table in KEYS:
                rows = self._connection.count(table)
                if rows is not None:
                    exists = True
                    tables.append(TableState(table, rows))
        except (CatalogError, UnknownNameError) as error:
            exists, version, tables, problem = True, None, [], str(error)
        newer = version is not None and version > SCHEMA_VERSION
        if newer:
            problem = (
                f"A newer version of jupyter_llmops wrote it (schema {version}), so it is read only. "
                "Type: %pip install --upgrade jupyter-llmops"
            )
        # Whether a bucket can be written is only known by writing: the doctor does, a status does not.
        permitted = self.location.folder is None or _may_write(self.location.folder)
        if not permitted and not problem:
            problem = (
                f"{self.location} can't be written. "
                "Ask its owner for write access, or set LLMOPS_CATALOG to a folder of your own."
            )
        return CatalogState(
            path=str(self.location),
            exists=exists,
            writable=permitted and not problem and not self.snapshot,
            problem=problem,
            schema_version=version,
            tables=tuple(tables),
        )

    def try_writing(self) -> None:
        """Write something to it, really, and take it away again; a folder that is not there is not made.

        Raises
        ------
        CatalogError
            It can't be written; the message says why.
        """
        self._connection.check_writable()
        try_writing(self.location)

    def freshness(self) -> Freshness:
        """Return when it was last written to, and how long it takes to see that.

        Raises
        ------
        CatalogError
            It can't be read.
        """
        self._connection.version(MIGRATIONS)  # opening is not measured
        clock = time.perf_counter()
        self._connection.version(MIGRATIONS)
        seconds = time.perf_counter() - clock
        return Freshness(newest_commit(self.location, (*KEYS, *self._connection.items())), seconds)

    def optimize(self, after: int = COMMITS_BETWEEN_UPKEEP) -> list[str]:
        """Maintain now the tables that have at least `after` commits; see `Upkeep.optimize`."""
        return self.upkeep.optimize(after)


def _may_write(folder: Path) -> bool:
    """Return whether files can be made in `folder`, or in the nearest folder above that exists."""
    for place in (folder, *folder.parents):
        if place.exists():
            return place.is_dir() and os.access(place, os.W_OK | os.X_OK)
    return False
