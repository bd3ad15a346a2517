"""Deleting the rows of pruned sessions; the heads of their logs and who witnessed them stay."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from typing import TYPE_CHECKING

from jupyter_llmops.catalog.connection import Connection, sql_text
from jupyter_llmops.catalog.contents import Contents
from jupyter_llmops.catalog.migrations import Migrations
from jupyter_llmops.catalog.schemas import RUNS

if TYPE_CHECKING:
    from lancedb.table import Table

_SESSIONS_AT_ONCE = 200


class Pruning:
    """Deletes rows of whole sessions.

    Parameters
    ----------
    connection : Connection
        The catalog.
    migrations : Migrations
        Its schema version.
    contents : Contents
        What the runs said.
    """

    def __init__(self, connection: Connection, migrations: Migrations, contents: Contents) -> None:
        self._connection = connection
        self._migrations = migrations
        self._contents = contents

    def prune(self, sessions: Sequence[str], user: str) -> int:
        """Delete the runs of a user's sessions and what they said; return how many rows went.

        Older versions of the table of runs, which holds no content, go with the next upkeep; a
        snapshot keeps its own.

        Raises
        ------
        CatalogError
            The catalog can't be written.
        """
        deleted = 0
        for start in range(0, len(sessions), _SESSIONS_AT_ONCE):
            names = ", ".join(sql_text(session) for session in sessions[start : start + _SESSIONS_AT_ONCE])
            where = f"session IN ({names}) AND user = {sql_text(user)}"
            if self._connection.read(RUNS, ["id"], where, limit=1):
                self._migrations.prepare_write()
                deleted += self._connection.writing(RUNS, functools.partial(_delete, where=where))
        return deleted + self._contents.delete_sessions(sessions)


def _delete(handle: Table, where: str) -> int:
    return int(handle.delete(where).num_deleted_rows)
