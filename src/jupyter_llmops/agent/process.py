"""The agent as a process of its own, for kernels that no Jupyter server of this package has started."""

from __future__ import annotations

import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

from jupyter_llmops.agent.election import Election
from jupyter_llmops.location import Location
from jupyter_llmops.settings import cache_folder, private_catalog, user_name

IDLE_SECONDS = 120.0
RETENTION_SECONDS = 600.0
# As `%config LLMOps.cache_limit` and `cache_age` have them.
CACHE_LIMITS = ("5GB", "off")
# Shorter than the idle time: an agent that was here at the last check has not left since.
SECONDS_BETWEEN_CHECKS = 30.0
_START_SECONDS = 30.0

log = logging.getLogger(__name__)


def run_agent(
    catalog: Location | Path | str,
    journals: Path,
    *,
    site: str = "",
    idle_seconds: float = IDLE_SECONDS,
    retention: float = RETENTION_SECONDS,
    cache_limits: tuple[str, str] = CACHE_LIMITS,
    witness: bool = True,
    retain: str = "",
) -> None:
    """Be the agent until idle, until another one is, or until SIGTERM.

    Parameters
    ----------
    catalog : Location, Path or str
        Where the catalog lies.
    journals : Path
        The audit folder of this user.
    site : str
        Recorded in the catalog's rows; the host's name by default.
    idle_seconds : float
        Leave when no journal changed for so long.
    retention : float
        Seconds that old versions of a table stay for those that still read them.
    cache_limits : tuple of two str
        Size and age of the catalog's cache, where its folder has no limits of its own.
    witness : bool
        Whether it countersigns the heads of colleagues' logs.
    retain : str
        How long sessions stay before they are pruned to their heads, e.g. "1y"; empty for ever.
    """
    from jupyter_llmops.agent.loop import AgentLoop
    from jupyter_llmops.cache.limits import limits_of
    from jupyter_llmops.cache.upkeep import CacheUpkeep
    from jupyter_llmops.catalog import Catalog

    def open_catalog(place: Location) -> Catalog:
        return Catalog(
            place,
            site=site or socket.gethostname(),
            user=user_name(),
            retention=timedelta(seconds=retention),
        )

    location, private = Location.parse(catalog), private_catalog()
    loop = AgentLoop(
        journals,
        open_catalog(location),
        maintains=[open_catalog(private)] if private != location else [],
        caches=[CacheUpkeep(cache_folder(location), limits_of(*cache_limits))],
        witness=witness,
        retain=retain,
        on_problem=log.warning,
    )
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, lambda *_: loop.stop())
    loop.run(idle_seconds=idle_seconds)


def start_if_absent(
    catalog: Location | Path | str,
    journals: Path,
    *,
    site: str = "",
    idle_seconds: float = IDLE_SECONDS,
    retention: float = RETENTION_SECONDS,
    cache_limits: tuple[str, str] = CACHE_LIMITS,
    witness: bool = True,
    retain: str = "",
) -> bool:
    """Start an agent process, detached, unless this host has an agent for the catalog; return whether it did.

    Harmless when several do it at once: all but one of the new processes leave at once. Takes some
    50 ms where it starts one.

    Parameters
    ----------
    catalog, journals, site, idle_seconds, retention, cache_limits, witness, retain
        As for `run_agent`.

    Raises
    ------
    OSError
        The journals' folder can't be written, or no process can be started.
    """
    election = Election(journals, catalog)
    if not election.is_vacant():
        return False
    command = [
        sys.executable,
        "-P",  # a notebook's folder may hold a file that is named like a module
        "-m",
        "jupyter_llmops.agent",
        "--detach",
        f"--catalog={Location.parse(catalog)}",
        f"--journals={Path(journals).resolve()}",
        f"--site={site}",
        f"--idle-seconds={idle_seconds}",
        f"--retention={retention}",
        f"--cache-limit={cache_limits[0]}",
        f"--cache-age={cache_limits[1]}",
        "--witness" if witness else "--no-witness",
        f"--retain={retain}",
    ]
    descriptor = os.open(election.log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    try:
        # The process forks and its parent ends at once, so that no zombie and no pipe of ours stays.
        subprocess.run(
            command,
            stdin=subprocess.DEVNULL,
            stdout=descriptor,
            stderr=descriptor,
            cwd=election.path.parent,
            start_new_session=True,
            check=True,
            timeout=_START_SECONDS,
        )
    except subprocess.SubprocessError as error:
        raise OSError(f"the agent can't be started: {error}") from error
    finally:
        os.close(descriptor)
    return True


class AgentStarter:
    """Sees to it that there is an agent while a notebook is being used; never in the notebook's way.

    Parameters
    ----------
    catalog, journals, site, retention, cache_limits, witness, retain
        As for `run_agent`.
    """

    def __init__(
        self,
        catalog: Location | Path | str,
        journals: Path,
        *,
        site: str = "",
        retention: float = RETENTION_SECONDS,
        cache_limits: tuple[str, str] = CACHE_LIMITS,
        witness: bool = True,
        retain: str = "",
    ) -> None:
        self._catalog = catalog
        self._journals = journals
        self._site = site
        self._retention = retention
        self._cache_limits = cache_limits
        self._witness = witness
        self._retain = retain
        self._wanted = threading.Event()
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()
        self.problem = ""

    def nudge(self) -> None:
        """Say that the journal grew: within half a minute there is an agent; returns at once."""
        if self._pid != os.getpid():
            return  # a forked child's journal is its parent's business
        self._wanted.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._keep, name="llmops-agent-starter", daemon=True)
            self._thread.start()

    def _keep(self) -> None:
        while self._wanted.wait():
            self._wanted.clear()
            self._check()
            time.sleep(SECONDS_BETWEEN_CHECKS)
            # Once more: the agent that was there may have been dying.
            self._check()

    def _check(self) -> None:
        try:
            start_if_absent(
                self._catalog,
                self._journals,
                site=self._site,
                retention=self._retention,
                cache_limits=self._cache_limits,
                witness=self._witness,
                retain=self._retain,
            )
            self.problem = ""
        except OSError as error:
            self.problem = f"No agent carries the journal into the catalog: {error}."
