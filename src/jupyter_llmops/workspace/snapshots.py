"""Named releases of the whole catalog."""

from __future__ import annotations

from jupyter_llmops.records.listing import Listing
from jupyter_llmops.records.snapshot import Snapshot
from jupyter_llmops.workspace.parts import Parts


class Snapshots(Parts):
    """Making and listing snapshots; ``open_workspace(snapshot=NAME)`` opens one."""

    def snapshot(self, name: str, description: str = "") -> Snapshot:
        """Name the team's catalog as it is now; it opens read-only later.

        Parameters
        ----------
        name : str
            Not taken by another snapshot.
        description : str
            For people.

        Raises
        ------
        UsageError
            The name is taken or not valid.
        CatalogError
            The catalog can't be written.
        """
        return self.catalog.snapshots.create(name, description)

    def snapshots(self) -> Listing[Snapshot]:
        """Return the snapshots of the team's catalog, newest first."""
        hint = "Make one with %llmops snapshot NAME."
        if self.catalog.snapshot:
            hint = f"This is the snapshot {self.catalog.snapshot!r}, which knows those before it only."
        return Listing("snapshot", self.catalog.snapshots.list(), hint)
