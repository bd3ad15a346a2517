"""The limits of one endpoint within this process, and the rests for which it asks."""

from __future__ import annotations

import random
import time
from collections import deque
from collections.abc import Callable

from jupyter_llmops.inference.endpoints.failures import Failure
from jupyter_llmops.inference.endpoints.policy import EndpointPolicy

MINUTE = 60.0
_LONGEST_REST = 600.0
_LONGEST_BACKOFF = 20.0
_FIRST_BACKOFF = 0.5
# Not the notebook's `random`: a cell's own numbers must not depend on ours.
_RANDOM = random.SystemRandom()


class Window:
    """Lets at most `limit` units pass in any 60 s.

    Parameters
    ----------
    limit : float or None
        Units a minute; None lets all pass.
    clock : callable
        Seconds, monotonic.
    """

    def __init__(self, limit: float | None, clock: Callable[[], float]) -> None:
        self._limit = limit
        self._clock = clock
        self._passed: deque[list[float]] = deque()
        self._sum = 0.0

    def delay(self, units: float) -> float:
        """Return after how many seconds so many units may pass; more than the limit pass alone."""
        if self._limit is None:
            return 0.0
        now = self._clock()
        while self._passed and self._passed[0][0] <= now - MINUTE:
            self._sum -= self._passed.popleft()[1]
        over = self._sum + min(units, self._limit) - self._limit
        for at, gone in self._passed:
            if over <= 0:
                break
            over -= gone
            wait = at + MINUTE - now
            if over <= 0:
                return max(wait, 0.001)
        return 0.0

    def note(self, units: float) -> list[float]:
        """Count units as passed now; the entry can be corrected with `correct`."""
        entry = [self._clock(), units]
        if self._limit is not None:
            self._passed.append(entry)
            self._sum += units
        return entry

    def correct(self, entry: list[float], units: float) -> None:
        """Replace the units of an entry by what they turned out to be."""
        if self._limit is not None and self._clock() - entry[0] < MINUTE:
            self._sum += units - entry[1]
            entry[1] = units


class Gate:
    """Who may ask one endpoint now; used by the thread of the event loop alone.

    Parameters
    ----------
    policy : EndpointPolicy
        Its limits.
    clock : callable
        Seconds, monotonic.
    """

    def __init__(self, policy: EndpointPolicy, clock: Callable[[], float] = time.monotonic) -> None:
        self.policy = policy
        self.in_flight = 0
        self._clock = clock
        self._requests = Window(policy.requests_per_minute, clock)
        self._tokens = Window(policy.tokens_per_minute, clock)
        self._rest_until = 0.0
        self._asked_until = 0.0
        self._rests_for: Failure | None = None

    @property
    def rests_for(self) -> Failure | None:
        """The failure with which the endpoint asked for the rest that it has now."""
        return self._rests_for if self._clock() < self._rest_until else None

    @property
    def rest(self) -> float:
        """Seconds until the moment that the endpoint named."""
        return max(0.0, self._asked_until - self._clock())

    def delay(self, tokens: int) -> float:
        """Return after how many seconds a request of so many tokens may start, whatever runs now."""
        rest = self._rest_until - self._clock()
        return max(0.0, rest, self._requests.delay(1), self._tokens.delay(tokens))

    def enter(self, tokens: int) -> list[float]:
        """Count a request as started; its token is for `leave`."""
        self.in_flight += 1
        self._requests.note(1)
        return self._tokens.note(tokens)

    def leave(self, entry: list[float], tokens: int) -> None:
        """Count a request as ended, with the tokens that it really took (0: not said)."""
        self.in_flight -= 1
        if tokens:
            self._tokens.correct(entry, tokens)

    def rest_as_asked(self, failure: Failure) -> None:
        """Let nobody in before the moment that a failure names."""
        if failure.wait is None:
            return
        rest = min(failure.wait, _LONGEST_REST)
        until = self._clock() + rest
        if until >= self._asked_until:
            # Not all at the same moment.
            self._asked_until, self._rests_for = until, failure
            self._rest_until = until + _RANDOM.uniform(0, 0.1 * rest + 0.05)


def backoff(failures: int) -> float:
    """Return a random rest in seconds that doubles with each failure: "full jitter", 20 s at most.

    M. Brooker, Exponential Backoff And Jitter, AWS Architecture Blog, 2015.
    """
    most: float = min(_LONGEST_BACKOFF, _FIRST_BACKOFF * 2.0 ** min(failures - 1, 10))
    return _RANDOM.uniform(most / 10, most)
