"""One event loop in a thread of its own: a kernel's main thread is busy with the cell."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Coroutine
from concurrent.futures import Future
from typing import Any


class LoopThread:
    """Runs coroutines in a daemon thread, which starts with the first one."""

    def __init__(self) -> None:
        self._loop: asyncio.AbstractEventLoop | None = None
        self._pid = 0
        self._lock = threading.Lock()

    @property
    def is_fresh(self) -> bool:
        """Whether nothing ran yet in this process; what a forked process got of its parent does not run."""
        return self._loop is None or self._pid != os.getpid()

    def submit(self, work: Coroutine[Any, Any, Any]) -> Future[Any]:
        """Run a coroutine there; cancelling its future cancels it."""
        with self._lock:
            if self.is_fresh:
                self._loop, self._pid = asyncio.new_event_loop(), os.getpid()
                threading.Thread(target=self._loop.run_forever, daemon=True, name="llmops-endpoints").start()
        assert self._loop is not None
        return asyncio.run_coroutine_threadsafe(work, self._loop)

    def stop(self) -> None:
        """End the thread; what runs there is dropped."""
        with self._lock:
            if self._loop is not None and not self.is_fresh:
                self._loop.call_soon_threadsafe(self._loop.stop)
            self._loop = None
