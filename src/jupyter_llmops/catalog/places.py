"""Where the files of models are known to lie: one row a model, site and source."""

from __future__ import annotations

from collections import defaultdict
from datetime import UTC, datetime

from jupyter_llmops.catalog.changes import SEPARATOR
from jupyter_llmops.catalog.connection import Connection
from jupyter_llmops.catalog.migrations import Migrations
from jupyter_llmops.catalog.schemas import PLACES, rows_of
from jupyter_llmops.records.model import Place

STORAGE_SITE = "storage"
"""The site of files that lie in the team's storage, beside the catalog."""

_COLUMNS = ("model", "digest", "site", "source", "created_by", "created_at")


class Places:
    """Places of models besides the one that a model was registered from, which its row names.

    Parameters
    ----------
    connection : Connection
        The catalog.
    migrations : Migrations
        Its schema version.
    site, user : str
        Recorded with every new row.
    """

    def __init__(self, connection: Connection, migrations: Migrations, site: str, user: str) -> None:
        self._connection = connection
        self._migrations = migrations
        self._site = site
        self._user = user

    def add(self, model: str, digest: str, source: str, *, site: str = "") -> Place:
        """Say that a model's files lie at `source` too; what is known already stays as it is.

        Parameters
        ----------
        model : str
            Name of the model.
        digest : str
            Digest of the files that were seen there.
        source : str
            As in `Model.source`; ``storage:DIGEST`` in the team's storage.
        site : str
            Where that is; this site by default.
        """
        place = Place(site or self._site, source, self._user, datetime.now(UTC))
        self._migrations.prepare_write()
        row = {
            "key": SEPARATOR.join((model, place.site, source)),
            "model": model,
            "digest": digest,
            "site": place.site,
            "source": source,
            "created_by": place.created_by,
            "created_at": place.created_at,
        }
        self._connection.insert_absent(PLACES, [row])
        return place

    def by_model(self) -> dict[tuple[str, str], list[Place]]:
        """Return the places of all models, by name and digest, the oldest first."""
        found: dict[tuple[str, str], list[Place]] = defaultdict(list)
        for row in rows_of(self._connection.read(PLACES, _COLUMNS)):
            place = Place(row["site"] or "", row["source"] or "", row["created_by"] or "", row["created_at"])
            found[row["model"], row["digest"] or ""].append(place)
        for places in found.values():
            places.sort(key=lambda place: (place.created_at is None, place.created_at, place.site))
        return found
