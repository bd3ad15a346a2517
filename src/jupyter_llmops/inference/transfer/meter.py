"""How far a transfer is: bytes, and bytes a second."""

from __future__ import annotations

import time

from jupyter_llmops.display.elements import size
from jupyter_llmops.inference.engine import Progress

_SECONDS_BETWEEN_REPORTS = 0.2


class Meter:
    """Tells how many bytes of how many went, and how fast.

    Parameters
    ----------
    doing : str
        What is done, e.g. "Pushing smol".
    total : int
        Bytes in all.
    progress : callable, optional
        Told at most a few times a second.
    """

    def __init__(self, doing: str, total: int, progress: Progress | None) -> None:
        self._doing = doing
        self.total = total
        self._progress = progress
        self._done = 0
        self._began = self._told = time.monotonic()
        self.moved = 0

    def add(self, count: int, *, moved: bool = True) -> None:
        """Count bytes; `moved` is False for those that were there already."""
        self._done += count
        self.moved += count if moved else 0
        now = time.monotonic()
        if self._progress is None or now - self._told < _SECONDS_BETWEEN_REPORTS:
            return
        self._told = now
        rate = self.moved / max(now - self._began, 1e-9)
        sentence = f"{self._doing}: {size(self._done)} of {size(self.total)}, {size(int(rate))}/s"
        self._progress(sentence, min(1.0, self._done / self.total) if self.total else None)
