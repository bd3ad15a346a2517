"""The server extension: finds the catalog, passes it to the kernels, serves the routes."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

from jupyter_server.extension.application import ExtensionApp

from jupyter_llmops.agent.loop import AgentLoop
from jupyter_llmops.audit.journal import Journal
from jupyter_llmops.audit.observations import OBSERVER_VARIABLE
from jupyter_llmops.cache.limits import limits_of
from jupyter_llmops.cache.upkeep import CacheUpkeep
from jupyter_llmops.catalog import Catalog
from jupyter_llmops.errors import SettingsError
from jupyter_llmops.guard.redaction import Redactor
from jupyter_llmops.location import Location
from jupyter_llmops.server.background import Background, CatalogWatch, start_background
from jupyter_llmops.server.bell import Bell
from jupyter_llmops.server.observer import KERNEL_ACTIONS, KernelObserver, observes
from jupyter_llmops.server.routes import HANDLERS
from jupyter_llmops.settings import (
    CATALOG_VARIABLE,
    LLMOps,
    cache_folder,
    find_catalog,
    find_snapshot,
    load_settings,
    private_catalog,
    user_folder,
    user_name,
)

STATE = "jupyter_llmops_state"


@dataclass(frozen=True, slots=True)
class ServerState:
    """What the routes share.

    Parameters
    ----------
    settings : LLMOps
        The settings in force.
    settings_problem : str
        Why the configuration could not be read; empty when it could.
    catalog : Catalog
        The team's: the one that the kernels of this server use, too.
    own : Catalog
        The user's private one; the very same object where it is the team's.
    audit_folder : Path
        This user's journals and contents.
    user : str
        Who runs the server.
    bell : Bell
        Tells the pages what changed.
    watch : CatalogWatch
        Looks at what others published.
    background : Background
        The agent's loop and the watch.
    workers : ThreadPoolExecutor
        For what would block the event loop: LanceDB, NVML, files.
    observer : KernelObserver or None
        Notes which cells the kernels run; None where the settings switch the trail off.
    """

    settings: LLMOps
    settings_problem: str
    catalog: Catalog
    own: Catalog
    audit_folder: Path
    user: str
    bell: Bell
    watch: CatalogWatch
    background: Background
    workers: ThreadPoolExecutor
    observer: KernelObserver | None


class LLMOpsExtension(ExtensionApp):
    """Serves ``<base_url>/jupyter-llmops/``; configured with ``c.LLMOps`` in Jupyter's files."""

    name = "jupyter_llmops"
    classes = [LLMOps]  # noqa: RUF012 - traitlets' own way

    state: ServerState | None = None

    def initialize_settings(self) -> None:
        """Find the catalog, name it to the kernels to come, start the background."""
        server = self.serverapp
        assert server is not None
        settings, problem = self._settings()
        location, unusable = self._find_catalog(settings, Path(server.root_dir))
        problem = problem or unusable
        user = user_name()
        private = private_catalog()

        def open_catalog(place: Location, snapshot: str = "") -> Catalog:
            retention = timedelta(seconds=settings.retention)
            return Catalog(place, site=settings.site, user=user, snapshot=snapshot, retention=retention)

        # The journals are carried into the catalog itself, whatever the notebooks look at.
        live = open_catalog(location)
        snapshot = find_snapshot(settings)
        catalog = open_catalog(location, snapshot) if snapshot else live
        own = catalog if private == location else open_catalog(private)
        audit_folder = user_folder() / "audit"
        assert server.event_logger is not None

        def on_loop(call: Callable[[], object]) -> None:
            server.io_loop.add_callback(call)  # the loop is set after the extensions

        bell = Bell(server.event_logger, on_loop)

        def make_agent(on_flush: Callable[[int], None]) -> AgentLoop:
            return AgentLoop(
                audit_folder,
                live,
                maintains=catalogs[1:],
                caches=[
                    CacheUpkeep(cache_folder(location), limits_of(settings.cache_limit, settings.cache_age))
                ],
                witness=settings.witness,
                retain=settings.retain,
                on_flush=on_flush,
                on_problem=self.log.warning,
            )

        catalogs = (catalog,) if own is catalog else (catalog, own)
        background, watch = start_background(catalogs, bell, make_agent if settings.agent == "auto" else None)
        self.state = self.settings[STATE] = ServerState(
            settings=settings,
            settings_problem=problem,
            catalog=catalog,
            own=own,
            audit_folder=audit_folder,
            user=user,
            bell=bell,
            watch=watch,
            background=background,
            workers=ThreadPoolExecutor(max_workers=4, thread_name_prefix="llmops"),
            observer=self._observe(settings, audit_folder, user, location) if settings.audit else None,
        )

    def initialize_handlers(self) -> None:
        """Register the routes."""
        self.handlers.extend((rf"/jupyter-llmops/{route}", handler) for route, handler in HANDLERS.items())

    async def stop_extension(self) -> None:
        """End the background, so that the next agent can be elected."""
        if self.state is not None:
            if self.state.observer is not None:
                os.environ.pop(OBSERVER_VARIABLE, None)
                await self.state.observer.stop()
            await asyncio.get_running_loop().run_in_executor(None, self.state.background.stop)
            self.state.workers.shutdown(wait=False, cancel_futures=True)

    def _observe(
        self, settings: LLMOps, audit_folder: Path, user: str, location: Location
    ) -> KernelObserver | None:
        """Begin to look on as soon as the event loop runs."""
        server = self.serverapp
        assert server is not None
        kernels: Any = server.kernel_manager
        if not observes(kernels):
            self.log.info("jupyter_llmops does not see what the kernels of a gateway run.")
            return None
        journal = Journal(
            audit_folder,
            context={"user": user, "host": settings.site, "catalog": str(location)},
            role="server",
            redact=Redactor().redact,
            warn=self.log.warning,
        )
        observer = KernelObserver(kernels, server.session_manager, journal, self.log)
        assert server.event_logger is not None
        server.event_logger.add_listener(schema_id=KERNEL_ACTIONS, listener=observer.on_kernel_action)
        server.io_loop.add_callback(observer.start)
        os.environ[OBSERVER_VARIABLE] = str(os.getpid())
        return observer

    def _find_catalog(self, settings: LLMOps, root: Path) -> tuple[Location, str]:
        """Return the catalog, and why it is not the one that was chosen."""
        try:
            location = find_catalog(settings, root)
        except SettingsError as error:
            # The kernels find the same problem, and say it to the user.
            self.log.warning("jupyter_llmops uses the user's own catalog: %s", error)
            return private_catalog(), str(error)
        # Kernels inherit the environment: notebooks of all folders agree with the sidebar.
        os.environ[CATALOG_VARIABLE] = str(location)
        return location, ""

    def _settings(self) -> tuple[LLMOps, str]:
        try:
            return load_settings(self.serverapp), ""
        except SettingsError as error:
            self.log.warning("jupyter_llmops uses its default settings: %s", error)
            return LLMOps(), str(error)
