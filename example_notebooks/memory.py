"""How much memory a process and all that it started hold at one time."""

from __future__ import annotations

import threading
import time
from pathlib import Path
from types import TracebackType
from typing import Self

import psutil

INTERVAL_SECONDS = 0.25
# The system walks over every page to count them, tens of milliseconds a gigabyte, while the process that is
# measured waits: a look that took long is followed by a pause that keeps looking below a twentieth of the time.
PAUSE = 20


class PeakMemory:
    """Samples the memory of this process and its descendants while a block runs.

    A page that several processes share is counted once in all (Linux's proportional set size); where
    the system doesn't tell that, each process's resident memory counts in full.

    Attributes
    ----------
    peak : int
        The largest sum that was seen, in bytes.
    """

    def __init__(self) -> None:
        self.peak = 0
        self._process = psutil.Process()
        self._ended = threading.Event()
        self._thread = threading.Thread(target=self._sample, name="peak-memory", daemon=True)

    def __enter__(self) -> Self:
        """Start sampling."""
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Stop sampling."""
        self._ended.set()
        self._thread.join()

    def _sample(self) -> None:
        pause = INTERVAL_SECONDS
        while not self._ended.wait(pause):
            begun = time.monotonic()
            self.peak = max(self.peak, self._held())
            pause = max(INTERVAL_SECONDS, PAUSE * (time.monotonic() - begun))

    def _held(self) -> int:
        try:
            family = [self._process, *self._process.children(recursive=True)]
        except psutil.Error:
            return 0
        return sum(_held_by(process) for process in family)


def _held_by(process: psutil.Process) -> int:
    try:
        text = Path(f"/proc/{process.pid}/smaps_rollup").read_text(encoding="ascii")
        return next(int(line.split()[1]) * 1024 for line in text.splitlines() if line.startswith("Pss:"))
    except (OSError, StopIteration):
        pass  # not Linux, or it just ended
    try:
        return int(process.memory_info().rss)
    except psutil.Error:
        return 0
