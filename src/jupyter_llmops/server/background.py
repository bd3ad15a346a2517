"""What goes on in the server's background: the agent's loop, and a look at what others published."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Sequence

from jupyter_llmops.agent.loop import AgentLoop
from jupyter_llmops.catalog import Catalog
from jupyter_llmops.catalog.schemas import (
    CHANGES,
    COLLECTIONS,
    ITEMS_PREFIX,
    MODELS,
    PLACES,
    PROMPTS,
    RUNS,
)
from jupyter_llmops.errors import CatalogError
from jupyter_llmops.server.bell import Bell

LOOK_SECONDS = 0.5
# Every look asks the bucket about each table, which costs time and money.
REMOTE_LOOK_SECONDS = 5.0
_STOP_SECONDS = 5.0

_TOPICS = {
    MODELS: ("models",),
    PLACES: ("models",),
    PROMPTS: ("prompts",),
    COLLECTIONS: ("collections",),
    # A commit does not say whose alias or description moved: whoever shows one looks again.
    CHANGES: ("models", "prompts", "collections"),
    RUNS: ("runs",),
}


class CatalogWatch:
    """Rings when a table changed, whoever changed it: another server, another host's kernel.

    Parameters
    ----------
    catalogs : sequence of Catalog
        Whose tables are watched, the user's own beside the team's; looking needs no LanceDB.
    bell : Bell
        Rung with the topics of the table.

    Attributes
    ----------
    seconds_between_looks : float
        How long another host's commit may take to be noticed, s.
    """

    def __init__(self, catalogs: Sequence[Catalog], bell: Bell) -> None:
        self._catalogs = tuple(catalogs)
        self._bell = bell
        self._lock = threading.Lock()
        local = all(catalog.location.is_local for catalog in self._catalogs)
        self.seconds_between_looks = LOOK_SECONDS if local else REMOTE_LOOK_SECONDS
        # A bucket is first asked by the watching thread: a server starts without waiting for it.
        self._marks: dict[tuple[int, str], int] | None = self._look() if local else None

    def hear(self, topic: str) -> None:
        """Ring for a topic that somebody rang for, and for whatever else changed since the last look.

        Looking comes first: a commit that it takes note of is never left to the ring before it.

        Parameters
        ----------
        topic : str
            One of `TOPICS`.
        """
        if self.seconds_between_looks > LOOK_SECONDS:
            self._bell.ring(topic)  # a bucket may take its time, or not answer at all
        else:
            self.look(topic)

    def look(self, *also: str) -> None:
        """Ring for every table that changed since the last look, and for the topics `also`."""
        with self._lock:
            marks = self._look()
            known = marks if self._marks is None else self._marks
            changed = {table for (_, table), _ in marks.items() ^ known.items()}
            self._marks = marks
        found = {topic for table in changed for topic in topics_of(table)}
        for topic in (*also, *sorted(found.difference(also))):
            self._bell.ring(topic)

    def _look(self) -> dict[tuple[int, str], int]:
        return {
            (place, table): mark
            for place, catalog in enumerate(self._catalogs)
            for table, mark in catalog.marks().items()
        }


def topics_of(table: str) -> tuple[str, ...]:
    """Return what the sidebar shows that a commit to `table` may have changed."""
    return ("collections",) if table.startswith(ITEMS_PREFIX) else _TOPICS.get(table, ())


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
        while not self._stop.wait(self._watch.seconds_between_looks):
            with contextlib.suppress(CatalogError):  # the routes say it to whoever asks
                self._watch.look()


def start_background(
    catalogs: Sequence[Catalog], bell: Bell, make_agent: Callable[[Callable[[int], None]], AgentLoop] | None
) -> tuple[Background, CatalogWatch]:
    """Start watching `catalogs` and, where `make_agent` is given, the agent's loop.

    Parameters
    ----------
    catalogs : sequence of Catalog
        The team's and the user's own.
    bell : Bell
        Rung for whatever changes.
    make_agent : callable, optional
        Gets what the loop must call after a flush, returns the loop.
    """
    watch = CatalogWatch(catalogs, bell)
    agent = None if make_agent is None else make_agent(lambda _: watch.hear("runs"))
    background = Background(watch, agent)
    background.start()
    return background, watch
