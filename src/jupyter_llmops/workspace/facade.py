"""The facade: everything that a notebook or a script reaches through this package."""

from __future__ import annotations

import threading
from pathlib import Path

from jupyter_llmops.location import Location
from jupyter_llmops.records.status import WorkspaceStatus
from jupyter_llmops.settings import LLMOps, find_catalog, find_snapshot, load_settings
from jupyter_llmops.workspace.audit_log import AuditLog
from jupyter_llmops.workspace.cascades import Cascades
from jupyter_llmops.workspace.collections import Collections
from jupyter_llmops.workspace.environment import Environment
from jupyter_llmops.workspace.finding import Finding
from jupyter_llmops.workspace.forgetting import Forgetting
from jupyter_llmops.workspace.inventory import Inventory
from jupyter_llmops.workspace.maps import Maps
from jupyter_llmops.workspace.model_files import ModelFiles
from jupyter_llmops.workspace.money import Money
from jupyter_llmops.workspace.reuse import Reuse
from jupyter_llmops.workspace.run_export import RunExports
from jupyter_llmops.workspace.snapshots import Snapshots
from jupyter_llmops.workspace.training import Trainings
from jupyter_llmops.workspace.verifying import Verifying


class Workspace(
    Maps,
    Trainings,
    Environment,
    Cascades,
    ModelFiles,
    Collections,
    Inventory,
    Finding,
    Snapshots,
    Money,
    Reuse,
    RunExports,
    Forgetting,
    AuditLog,
    Verifying,
):
    """Prompts, cascades, inventory and trail on one catalog; open it with `open_workspace`."""

    def status(self) -> WorkspaceStatus:
        """Return what `%llmops` shows, without loading anything."""
        from jupyter_llmops import __version__
        from jupyter_llmops.audit.observations import observed
        from jupyter_llmops.workspace.autoload import autoloads

        loaded = self.__dict__
        stats = self.cache.stats(disk=False) if "cache" in loaded else None
        return WorkspaceStatus(
            version=__version__,
            catalog=f"{self.location}{f' (snapshot {said})' if (said := self.opened_snapshot) else ''}",
            model=self.settings.model,
            quantization=self.settings.quantization,
            session=self.journal.session if self.settings.audit else "",
            runs=self.journal.stamped if self.settings.audit else 0,
            site=self.settings.site,
            user=self.user,
            server=self.doorbell.address,
            loaded_models=tuple(m.name for m in self.engine.loaded()) if "engine" in loaded else (),
            cache_hits=stats.hits if stats else 0,
            cache_misses=stats.misses if stats else 0,
            seconds_saved=stats.seconds_saved if stats else 0.0,
            autoload="; ".join(str(one) for one in autoloads()),
            observed=observed(),
        )

    def close(self) -> None:
        """Write what is left of the journal; what is stamped later begins a new session."""
        journal = self.__dict__.pop("journal", None)
        if journal is not None:
            journal.close()


_open: dict[tuple[Location, str], Workspace] = {}
_open_lock = threading.Lock()


def open_workspace(
    catalog: str | Path | Location | None = None,
    *,
    snapshot: str | None = None,
    settings: LLMOps | None = None,
) -> Workspace:
    """Return this process's workspace on a catalog; the same catalog gives the same workspace.

    Parameters
    ----------
    catalog : str, Path or Location, optional
        A folder, or ``s3://bucket/prefix``; found as the settings say by default.
    snapshot : str, optional
        Name of a snapshot: everything is read as it was then, and every write is refused. By
        default what ``LLMOPS_SNAPSHOT`` or the settings say; an empty name opens the catalog itself.
    settings : LLMOps, optional
        The settings in force; read from the configuration files by default.

    Raises
    ------
    SettingsError
        `catalog` is neither a path nor the URI of a bucket.
    """
    settings = settings or load_settings()
    location = Location.parse(catalog) if catalog else find_catalog(settings)
    place = (location, find_snapshot(settings) if snapshot is None else snapshot)
    with _open_lock:
        if place not in _open:
            _open[place] = Workspace(settings, *place)
        return _open[place]
