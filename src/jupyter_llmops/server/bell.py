"""The event that tells every open page what changed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jupyter_events import EventLogger

CHANGED_SCHEMA = "https://schema.jupyter-llmops.org/changed/v1"
CHANGED_FILE = Path(__file__).with_name("changed.yaml")
TOPICS = ("runs", "prompts", "models", "collections", "gpus")


class Bell:
    """Emits the event, from whichever thread.

    Parameters
    ----------
    events : EventLogger
        The server's.
    on_loop : callable
        Runs a call on the server's event loop, soon; any thread may call it.
    """

    def __init__(self, events: EventLogger, on_loop: Callable[[Callable[[], object]], None]) -> None:
        self._events = events
        self._on_loop = on_loop
        self._lock = threading.Lock()
        # In milliseconds, so that it also grows from one start of the server to the next.
        self._revision = int(time.time() * 1000)
        events.register_event_schema(CHANGED_FILE)

    @property
    def revision(self) -> int:
        """The number of the last event."""
        return self._revision

    def ring(self, topic: str) -> None:
        """Say that `topic` changed; any thread may call it.

        Parameters
        ----------
        topic : {"runs", "prompts", "models", "collections", "gpus"}
            What changed.
        """
        with self._lock:
            self._revision = max(self._revision + 1, int(time.time() * 1000))
            data = {"revision": self._revision, "topic": topic}
        self._on_loop(lambda: self._events.emit(schema_id=CHANGED_SCHEMA, data=data))
