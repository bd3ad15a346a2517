"""Single-flight: of all that ask for the same answer at the same time, one computes it.

The others wait until the answer lies there, or until nobody is computing it any more: its process was
killed or frozen, or what it computed is not to be kept. Then the next one computes. Nobody waits without
end either: a holder may be seen to live as long as it likes and never give an answer.
"""

from __future__ import annotations

import math
import time
from collections.abc import Callable
from typing import Final

from jupyter_llmops.cache.holders import Holder
from jupyter_llmops.cache.leases import Claim, Leases
from jupyter_llmops.cache.warning import warn
from jupyter_llmops.cache.watch import Watch
from jupyter_llmops.display.elements import duration

Progress = Callable[[str, float | None], None]

_FIRST_PAUSE: Final = 0.005
_LONGEST_PAUSE: Final = 0.25
_FIRST_WORD_AFTER: Final = 0.5
_SECONDS_BETWEEN_WORDS: Final = 1.0
# After so many holders that left no answer it will not be kept (a secret, an error): waiting in a row
# for each other would only take longer than computing side by side.
_MOST_HOLDERS: Final = 3
# The longest answers that people ask of a CPU take some minutes. Two that compute the same do no harm.
LONGEST_WAIT: Final = 600.0


class Flight:
    """Waits and claims.

    Parameters
    ----------
    leases : callable
        Returns the leases of the cache's folder; asked when they are first needed.
    longest_wait : float
        Seconds that one waits for an answer at most, however much its holder is seen to live. Whoever has
        kept others waiting so long is not waited for, for as long again.
    """

    def __init__(self, leases: Callable[[], Leases], longest_wait: float = LONGEST_WAIT) -> None:
        self._leases = leases
        self._longest_wait = longest_wait
        self._lost: dict[str, Holder] = {}
        self._waited: dict[str, float] = {}  # item → seconds, over several waits
        self._given_up: dict[str, float] = {}  # process that held one → until when

    def turn(self, item: str, there: Callable[[], bool], progress: Progress | None = None) -> Claim:
        """Return at once where the answer is there, else when it is, or when it is ours to compute.

        Parameters
        ----------
        item : str
            Id of the item, 64 hexadecimal digits.
        there : callable
            Whether the answer is there now; cheap.
        progress : callable, optional
            Gets a sentence that says who is waited for; the fraction is unknown.

        Returns
        -------
        Claim
            To be released when the answer was stored, or there is none.

        Raises
        ------
        KeyboardInterrupt
            Ctrl-C while waiting; nothing is held then.
        """
        if there():
            return Claim()
        watch, patience = Watch(self._leases(), item), _Patience(progress)
        while True:
            claim = watch.claim()
            if claim is not None:
                return claim
            if there() or watch.holders > _MOST_HOLDERS:
                return Claim()
            if self._leases().holds_one():
                return Claim()  # two that wait while others wait for them could wait for each other
            if self._is_too_long(watch, patience.seconds):
                return Claim()
            patience.sleep(watch, self._longest_wait)

    def claim(self, item: str) -> Claim | None:
        """Return the right to compute an item, None where somebody else computes it; never waits.

        Whom a `wait` has found to be stale has lost it; whom one has waited for too long keeps nobody away.
        """
        leases, lost = self._leases(), self._lost.pop(item, None)
        if lost is not None and leases.holder(item) == lost:
            return leases.steal(item, lost)
        watch = Watch(leases, item)
        claim = watch.claim()
        if claim is None and self._is_too_long(watch, self._waited.get(item, 0.0)):
            return Claim()
        return claim

    def wait(
        self, item: str, there: Callable[[], bool], *, seconds: float, progress: Progress | None = None
    ) -> bool:
        """Return True as soon as the answer is there, False when nobody computes it or the time is over.

        Parameters
        ----------
        item, there, progress
            As for `turn`.
        seconds : float
            The longest wait.
        """
        watch, patience = Watch(self._leases(), item), _Patience(progress)
        before = self._waited.pop(item, 0.0)
        while not there():
            if watch.is_abandoned():
                if watch.seen is not None and not self._leases().has(watch.seen):
                    self._lost[item] = watch.seen
                return there()  # it may have come between the two looks
            if patience.seconds >= seconds or self._is_too_long(watch, before + patience.seconds):
                self._waited[item] = before + patience.seconds
                return there()
            patience.sleep(watch, seconds)
        return True

    def _is_too_long(self, watch: Watch, waited: float) -> bool:
        """Return whether its holder is not waited for any more, and say so when that begins."""
        now = time.monotonic()
        process = watch.seen.name.partition("-")[0] if watch.seen is not None else ""
        if process and self._given_up.get(process, 0.0) > now:
            return True
        if waited < self._longest_wait:
            return False
        self._given_up = {name: until for name, until in self._given_up.items() if until > now}
        self._given_up[process] = now + self._longest_wait
        who = watch.seen.who if watch.seen is not None else "Somebody"
        warn(
            f"{who} said for {duration(waited)} to be computing what was asked, and gave nothing. "
            "It is computed here; if that is nobody of yours, look who can write to the cache's folder."
        )
        return True


class _Patience:
    """Sleeps between two looks, longer and longer, and says for whom one waits."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress = progress
        self._begun = time.monotonic()
        self._pause = _FIRST_PAUSE
        self._next_word = _FIRST_WORD_AFTER

    @property
    def seconds(self) -> float:
        return time.monotonic() - self._begun

    def sleep(self, watch: Watch, longest: float = math.inf) -> None:
        waited = self.seconds
        if self._progress is not None and waited >= self._next_word:
            self._next_word = waited + _SECONDS_BETWEEN_WORDS
            self._progress(waiting_for(watch), None)
        time.sleep(max(0.0, min(self._pause, longest - waited)))
        self._pause = min(self._pause * 1.5, _LONGEST_PAUSE)


def waiting_for(watch: Watch) -> str:
    """Return who computes what is waited for, and since when one has been waiting."""
    who = watch.seen.who if watch.seen is not None else "Somebody"
    return f"{who} is computing this answer; waiting since {duration(watch.seconds)} (Ctrl-C stops)"
