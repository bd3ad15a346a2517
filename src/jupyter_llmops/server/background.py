"""What goes on in the server's background: the agent's loop, and a look at what others published."""

from __future__ import annotations

import threading
from collections.abc import Callable

from jupyter_llmops.agent.loop import AgentLoop
from jupyter_llmops.catalog import Catalog
from jupyter_llmops.server.bell import TOPICS, Bell

LOOK_SECONDS = 0.5
_STOP_SECONDS = 5.0


class CatalogWatch:
    """Rings when a table changed, whoever changed it: another server, another host's kernel.

    Parameters
    ----------
    catalog : Catalog
        Whose tables are watched; looking needs no LanceDB.
    bell : Bell
        Rung with the table's name.
    """

    def __init__(self, catalog: Catalog, bell: Bell) -> None:
        self._catalog = catalog
        self._bell = bell
        self._lock = threading.Lock()
        self._marks = catalog.marks()

    def look(self, rung: str = "") -> None:
        """Ring for every table that changed since the last look.

        Parameters
        ----------
        rung : str
            A topic that was rung just now, so that it is not rung twice.
        """
        with self._lock:
            marks = self._catalog.marks()
            changed = [table for table in TOPICS if marks.get(table) != self._marks.get(table)]
            self._marks = marks
        for table in changed:
            if table != rung:
                self._bell.ring(table)


class Background:
    """The two threads of a server; they end with it.

    Parameters
    ----------
    watch : CatalogWatch
        Looks at the catalog.
    agent : AgentLoop or None
        Carries journals; None when the settings switch it off.
    """

    def __init__(self, watch: CatalogWatch, agent: AgentLoop | None) -> None:
        self._watch = watch
        self._agent = agent
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=self._look, name="llmops-watch", daemon=True)]
        if agent is not None:
            self._threads.append(threading.Thread(target=agent.run, name="llmops-agent", daemon=True))

    def start(self) -> None:
        """Start the threads."""
        for thread in self._threads:
            thread.start()

    def wake(self) -> None:
        """Let the agent look at the journals now."""
        if self._agent is not None:
            self._agent.wake()

    def stop(self) -> None:
        """End the threads and wait for them."""
        self._stop.set()
        if self._agent is not None:
            self._agent.stop()
        for thread in self._threads:
            thread.join(_STOP_SECONDS)

    def _look(self) -> None:
        while not self._stop.wait(LOOK_SECONDS):
            self._watch.look()


def start_background(
    catalog: Catalog, bell: Bell, make_agent: Callable[[Callable[[int], None]], AgentLoop] | None
) -> tuple[Background, CatalogWatch]:
    """Start watching `catalog` and, where `make_agent` is given, the agent's loop.

    Parameters
    ----------
    catalog : Catalog
        The server's.
    bell : Bell
        Rung for whatever changes.
    make_agent : callable, optional
        Gets what the loop must call after a flush, returns the loop.
    """
    watch = CatalogWatch(catalog, bell)
    agent = None if make_agent is None else make_agent(lambda _: watch.look())
    background = Background(watch, agent)
    background.start()
    return background, watch
