"""How a catalog becomes what this version of the package expects; each step is recorded in it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from jupyter_llmops.catalog.connection import Connection
from jupyter_llmops.catalog.run_rows import COST_IN_LEAF
from jupyter_llmops.catalog.schemas import (
    CHANGES,
    COLLECTIONS,
    CONTENTS,
    COSIGNATURES,
    HEADS,
    LEASES,
    MEANINGS,
    MIGRATIONS,
    MODELS,
    PLACES,
    PROMPTS,
    RUNS,
    SCHEMA_VERSION,
    SIGNERS,
    SNAPSHOTS,
)
from jupyter_llmops.errors import CatalogNewerError


@dataclass(frozen=True, slots=True)
class Migration:
    """One numbered step.

    Parameters
    ----------
    version : int
        Schema version that the catalog has afterwards.
    name : str
        What it does, in a few words.
    apply : callable
        Must be harmless when it is repeated, or run by two processes at once: a killed migration
        is begun again.
    """

    version: int
    name: str
    apply: Callable[[Connection], None]


def _create_first_tables(connection: Connection) -> None:
    for table in (MODELS, PROMPTS, RUNS):
        connection.create(table)


def _create_sharing_tables(connection: Connection) -> None:
    for table in (PLACES, COLLECTIONS, CHANGES, MEANINGS, SNAPSHOTS, LEASES):
        connection.create(table)
    for table in (MODELS, PROMPTS):
        connection.add_missing_columns(table)


def _create_trail_tables(connection: Connection) -> None:
    for table in (CONTENTS, HEADS, COSIGNATURES, SIGNERS):
        connection.create(table)
    connection.add_missing_columns(RUNS)
    connection.writing(RUNS, _fill_costs)


def _fill_costs(handle: Any) -> None:
    where = f"cost_millionths IS NULL AND {COST_IN_LEAF} IS NOT NULL"
    handle.update(where=where, values_sql={"cost_millionths": COST_IN_LEAF})


STEPS: tuple[Migration, ...] = (
    Migration(1, "models, prompts and runs", _create_first_tables),
    Migration(2, "aliases, collections and snapshots", _create_sharing_tables),
    Migration(3, "contents of runs, heads of logs and their witnesses", _create_trail_tables),
)


class Migrations:
    """The schema version of a catalog, and the steps towards this package's.

    Parameters
    ----------
    connection : Connection
        The catalog.
    site, user : str
        Recorded with each step.
    """

    def __init__(self, connection: Connection, site: str, user: str) -> None:
        self._connection = connection
        self._site = site
        self._user = user
        self._rows_when_ready: int | None = None

    def version(self) -> int | None:
        """Return the recorded schema version; None when the catalog does not exist yet."""
        rows = self._connection.read(MIGRATIONS, ["version"])
        if rows is None:
            return None
        return max(rows["version"].to_pylist(), default=0)

    def prepare_write(self) -> None:
        """Bring the catalog to this package's version before a write.

        Raises
        ------
        CatalogError
            It is a snapshot.
        CatalogNewerError
            A newer version of the package wrote it.
        """
        self._connection.check_writable()
        # Another process may migrate it while this one is open; a step more is a row more.
        if self._rows_when_ready is None or self._connection.count(MIGRATIONS) != self._rows_when_ready:
            self.migrate()

    def migrate(self) -> int:
        """Apply and record every step that is missing; return the version it has then.

        Raises
        ------
        CatalogNewerError
            A newer version of the package wrote it.
        """
        self._connection.check_writable()
        found = self.version()
        if found is None:
            self._connection.create(MIGRATIONS)
            found = self.version() or 0
        if found > SCHEMA_VERSION:
            raise CatalogNewerError(
                f"The catalog in {self._connection.location} was written by a newer version of "
                f"jupyter_llmops (schema {found}, this one knows {SCHEMA_VERSION}), so it is read only.",
                "Type: %pip install --upgrade jupyter-llmops",
            )
        for step in STEPS:
            if step.version > found:
                step.apply(self._connection)
                self._record(step)
        self._rows_when_ready = self._connection.count(MIGRATIONS)
        return SCHEMA_VERSION

    def _record(self, step: Migration) -> None:
        row = {
            "version": step.version,
            "name": step.name,
            "applied_by": self._user,
            "applied_at": datetime.now(UTC),
            "package_version": _package_version(),
            "site": self._site,
        }
        self._connection.insert_absent(MIGRATIONS, [row])


def _package_version() -> str:
    from importlib.metadata import PackageNotFoundError, version

    try:
        return version("jupyter-llmops")
    except PackageNotFoundError:
        return ""
