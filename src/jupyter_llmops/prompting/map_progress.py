"""How a map goes: rows, rate, time left and money, in one sentence a few times a second."""

from __future__ import annotations

import time
from collections.abc import Callable

from jupyter_llmops.display.elements import duration
from jupyter_llmops.display.map import money
from jupyter_llmops.prompting.map_tally import MapTally

Progress = Callable[[str, float | None], None]

SECONDS_BETWEEN = 0.1
# Before that a rate is chance.
SECONDS_TO_A_RATE = 0.5


class MapProgress:
    """Tells a callback how far a map is, at most ten times a second.

    Parameters
    ----------
    tally : MapTally
        What is done.
    tell : callable or None
        Gets the sentence and the fraction that is done, 0 to 1.
    """

    def __init__(self, tally: MapTally, tell: Progress | None) -> None:
        self._tally = tally
        self._tell = tell
        self._told = float("-inf")
        self._computing = 0.0
        self._began = 0.0
        self._computed = 0
        self._tokens = 0

    def begin(self) -> None:
        """Start the clock of computing: what the cache has takes no time and would spoil the rate."""
        self._began = time.perf_counter()

    def pause(self) -> None:
        """Stop the clock of computing."""
        if self._began:
            self._computing += time.perf_counter() - self._began
        self._began = 0.0

    def computed(self, tokens: int) -> None:
        """Count a row that was computed."""
        self._computed += 1
        self._tokens += tokens

    def tell(self, note: str = "", *, now: bool = False) -> None:
        """Tell how far the map is, unless it was told just now.

        Parameters
        ----------
        note : str
            What is going on, behind the numbers.
        now : bool
            Whether to tell it in any case.
        """
        if self._tell is None:
            return
        clock = time.perf_counter()
        if not now and clock - self._told < SECONDS_BETWEEN:
            return
        self._told = clock
        total = len(self._tally)
        self._tell(self.sentence(note), self._tally.done / total if total else 1.0)

    def sentence(self, note: str = "") -> str:
        """Return one line: rows, rate, time left, what was reused, what it cost."""
        tally = self._tally
        parts = [f"{tally.done:,} of {len(tally):,} rows"]
        seconds = self._computing + (time.perf_counter() - self._began if self._began else 0.0)
        if self._computed and seconds > SECONDS_TO_A_RATE:
            parts.append(f"{_rate(self._computed / seconds)}, {self._tokens / seconds:.0f} tokens/s")
            if tally.done < len(tally):
                parts.append(f"{duration(self._left(seconds))} left")
        if tally.spared:
            parts.append(f"{tally.spared:,} reused")
        if tally.failed:
            parts.append(f"{tally.failed:,} failed")
        if tally.cost.amount:
            parts.append(money(tally.cost))
        if note:
            parts.append(note)
        return " · ".join(parts)

    def _left(self, seconds: float) -> float:
        """Return the seconds that the rest takes, if as many of it are computed as were so far."""
        tally = self._tally
        looked_up = max(1, tally.done + tally.pending - tally.resumed)
        share = (self._computed + tally.pending) / looked_up
        unseen = len(tally) - tally.done - tally.pending
        return (tally.pending + share * unseen) * seconds / self._computed


def _rate(rows_per_second: float) -> str:
    if rows_per_second < 1:
        return f"{rows_per_second * 60:.1f} rows/min"
    return f"{rows_per_second:.1f} rows/s"
