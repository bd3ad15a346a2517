"""One catalog: its tables, its state, its upkeep."""

from __future__ import annotations

import os
from datetime import timedelta
from pathlib import Path

from jupyter_llmops.catalog.changes import Changes
from jupyter_llmops.catalog.connection import Connection
from jupyter_llmops.catalog.meanings import Meanings
from jupyter_llmops.catalog.migrations import Migrations
from jupyter_llmops.catalog.models import Models
from jupyter_llmops.catalog.prompts import Prompts
from jupyter_llmops.catalog.runs import Runs
from jupyter_llmops.catalog.schemas import KEYS, MIGRATIONS, SCHEMA_VERSION
from jupyter_llmops.errors import CatalogError
from jupyter_llmops.records.catalog import CatalogState, TableState

# A reader may still be busy with a version that upkeep has just replaced.
KEEP_OLD_VERSIONS = timedelta(hours=1)
COMMITS_BETWEEN_UPKEEP = 200


class Catalog:
    """The shared catalog of a team in one folder.

    Nothing is imported, opened or created before the first read or write; only a write creates
    the folder.

    Parameters
    ----------
    folder : Path
        Where it lies; `settings.find_catalog` finds it.
    site : str
        Host or site, recorded in every row.
    user : str
        Who publishes, recorded in every row.

    Attributes
    ----------
    models, prompts, runs
        The tables.
    changes
        Where aliases point, what is retired, what is said of things.
    meanings
        Vectors of what things are about.
    """

    def __init__(self, folder: Path, *, site: str, user: str) -> None:
        self.folder = Path(folder)
        self.site = site
        self.user = user
        self._connection = Connection(self.folder)
        self._migrations = Migrations(self._connection, site, user)
        self.changes = Changes(self._connection, self._migrations, site, user)
        self.meanings = Meanings(self._connection, self._migrations, site, user)
        self.models = Models(self._connection, self._migrations, self.changes, site, user)
        self.prompts = Prompts(self._connection, self._migrations, site, user)
        self.runs = Runs(self._connection, self._migrations, site)

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
        return {table: self._connection.version(table) for table in KEYS if table != MIGRATIONS}

    def marks(self) -> dict[str, int]:
        """Return a number for every table that differs after each commit; costs a file look-up each.

        Unlike `revisions` it needs no LanceDB, so a watcher can ask every second.
        """
        return {table: self._connection.mark(table) for table in KEYS}

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
        except CatalogError as error:
            exists, version, tables, problem = True, None, [], str(error)
        newer = version is not None and version > SCHEMA_VERSION
        if newer:
            problem = (
                f"A newer version of jupyter_llmops wrote it (schema {version}), so it is read only. "
                "Type: %pip install --upgrade jupyter-llmops"
            )
        permitted = _may_write(self.folder)
        if not permitted and not problem:
            problem = (
                f"{self.folder} can't be written. "
                "Ask its owner for write access, or set LLMOPS_CATALOG to a folder of your own."
            )
        return CatalogState(
            path=str(self.folder),
            exists=exists,
            writable=permitted and not problem,
            problem=problem,
            schema_version=version,
            tables=tuple(tables),
        )

    def optimize(self, after: int = COMMITS_BETWEEN_UPKEEP) -> list[str]:
        """Join the small pieces that commits leave, in tables that have at least `after` of them.

        Unmaintained, a table of 5,000 commits reads 150 times slower. Neither readers nor writers
        wait for it; two at once are harmless.

        Parameters
        ----------
        after : int
            Number of pieces, about one a commit since the last time.

        Returns
        -------
        list of str
            The tables that were optimized.
        """
        done = []
        for table in KEYS:
            if self._connection.fragments(table) >= after:
                self._migrations.prepare_write()
                self._connection.optimize(table, KEEP_OLD_VERSIONS)
                done.append(table)
        return done


def _may_write(folder: Path) -> bool:
    """Return whether files can be made in `folder`, or in the nearest folder above that exists."""
    for place in (folder, *folder.parents):
        if place.exists():
            return place.is_dir() and os.access(place, os.W_OK | os.X_OK)
    return False
