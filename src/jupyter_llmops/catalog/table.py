"""What the tables have in common whose rows are only added."""

from __future__ import annotations

from jupyter_llmops.catalog.connection import Connection
from jupyter_llmops.catalog.migrations import Migrations


class CatalogTable:
    """One table of a catalog.

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
