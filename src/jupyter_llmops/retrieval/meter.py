"""How far a long piece of work is."""

from __future__ import annotations

import time
from collections.abc import Callable

from jupyter_llmops.display.elements import duration

Progress = Callable[[str, float | None], None]


class Meter:
    """How far a long piece of work is, how fast it goes and how long it will take.

    Parameters
    ----------
    size : int
        All of it, in whatever it is counted: characters or bytes.
    progress : callable or None
        Told in a sentence.
    """

    def __init__(self, size: int, progress: Progress | None) -> None:
        self._size = max(1, size)
        self._progress = progress
        self._begun = time.monotonic()
        self._chunks = 0
        self._finished = 0
        self._waiting = 0

    def wait(self, size: int) -> None:
        """Let a piece of that size wait for the next commit."""
        self._waiting += size

    def done(self, chunks: int) -> None:
        """Count what waited as done, and so many chunks as embedded for it."""
        self._chunks += chunks
        self._finished += self._waiting
        self._waiting = 0
        if chunks:
            self._tell(self._finished, self._chunks)

    def embedding(self, chunks: int) -> Progress:
        """Return what an encoder tells how far it is with so many chunks, which are what waits."""

        def tell(_sentence: str, fraction: float | None) -> None:
            share = fraction or 0.0
            self._tell(self._finished + self._waiting * share, self._chunks + round(chunks * share))

        return tell

    def _tell(self, finished: float, chunks: int) -> None:
        if self._progress is None:
            return
        elapsed = time.monotonic() - self._begun
        share = min(1.0, finished / self._size)
        parts = [f"Embedding: {chunks:,} chunk{'s' if chunks != 1 else ''}"]
        if elapsed > 1:
            parts.append(f"{chunks / elapsed:,.0f}/s")
            if 0 < share < 1:
                parts.append(f"{duration(elapsed / share - elapsed)} left")
        self._progress(" · ".join(parts), share)
