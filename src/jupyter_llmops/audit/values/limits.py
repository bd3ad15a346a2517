"""How much time and how many bytes a digest of a value may take."""

from __future__ import annotations

import math
import time
from typing import Final

# What is more than this is not begun, as it could not end in time: SHA-256 reads about 0.5 to 1.5 GB/s.
_BYTES_PER_SECOND: Final = 1e9
_ITEMS_PER_SECOND: Final = 2e7
CHUNK: Final = 256 * 1024


class SkippedError(Exception):
    """A value gets no digest; the message says why, as the end of "skipped: …"."""


class Limits:
    """The time that is left for all values of a cell, and the most bytes of one.

    Parameters
    ----------
    seconds : float
        From now on.
    largest : int
        Bytes.
    """

    __slots__ = ("_deadline", "_seconds", "largest")

    def __init__(self, seconds: float, largest: int) -> None:
        self._seconds = seconds
        self._deadline = time.perf_counter() + seconds
        self.largest = largest

    def over(self) -> bool:
        """Return whether the time is over."""
        return time.perf_counter() > self._deadline

    def extend(self, seconds: float) -> None:
        """Let what was no value's own doing not count."""
        self._deadline += seconds

    def check(self) -> None:
        """Raise `SkippedError` when the time is over."""
        if time.perf_counter() > self._deadline:
            raise SkippedError(f"not read within {told_time(self._seconds)}")

    def allow(self, size: int) -> None:
        """Raise `SkippedError` where so many bytes can't be read."""
        if size > self.largest:
            raise SkippedError(f"{told_size(size)}, more than {told_size(self.largest)}")
        left = self._deadline - time.perf_counter()
        if size > CHUNK and size > left * _BYTES_PER_SECOND:
            raise SkippedError(f"{told_size(size)}, too much to read within {told_time(self._seconds)}")
        if left < 0:
            raise SkippedError(f"not read within {told_time(self._seconds)}")

    def allow_items(self, count: int) -> None:
        """Raise `SkippedError` where so many items can't be read."""
        left = self._deadline - time.perf_counter()
        if count > 1000 and count > left * _ITEMS_PER_SECOND:
            raise SkippedError(f"{count:,} items, too many to read within {told_time(self._seconds)}")
        if left < 0:
            raise SkippedError(f"not read within {told_time(self._seconds)}")


def told_size(size: int) -> str:
    """Return bytes as people say them, e.g. ``10 GB``."""
    if size < 1000:
        return f"{size} bytes"
    power = min(int(math.log10(size)) // 3, 5)
    return f"{size / 1000**power:.3g} {('', 'kB', 'MB', 'GB', 'TB', 'PB')[power]}"


def told_time(seconds: float) -> str:
    """Return seconds as people say them, e.g. ``2 ms``."""
    return f"{seconds * 1000:.3g} ms" if seconds < 1 else f"{seconds:.3g} s"
