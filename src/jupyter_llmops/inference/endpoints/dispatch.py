"""Gives each request to one of several endpoints, again and elsewhere where that can help."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from jupyter_llmops.errors import EndpointLimitError, InferenceError
from jupyter_llmops.inference.endpoints.client import EndpointClient
from jupyter_llmops.inference.endpoints.failures import AttemptFailed, Failure, limit_error
from jupyter_llmops.inference.endpoints.gate import Gate, backoff
from jupyter_llmops.inference.endpoints.policy import CONCURRENCY
from jupyter_llmops.inference.endpoints.protocol import Answer

# Seconds for which a single prompt is tried again, as somebody waits for it.
SHORT_PATIENCE = 15.0
# And an endpoint that has not answered once in this run: it is down rather than busy.
_FIRST_PATIENCE = 3.0
# So many failures in a row open the circuit: the endpoint is left alone, but for a probe now and then.
_FAILURES = 3
_PROBE_SECONDS = 30.0
_LONGEST_NAP = 1.0
_RANDOM = random.SystemRandom()


@dataclass(slots=True)
class Member:
    """One endpoint of a run.

    Parameters
    ----------
    client : EndpointClient
        Speaks with it.
    gate : Gate
        Its limits, shared by all runs of this process.
    key : str
        Its secret.
    weight : float
        Its share of the requests against the others'.
    slots : int
        Most requests at once.
    """

    client: EndpointClient
    gate: Gate
    key: str = field(repr=False)
    weight: float = 1.0
    slots: int = CONCURRENCY
    # The least of such numbers over weights is a draw by weight: also a run of one request keeps to them.
    start: float = field(default_factory=lambda: _RANDOM.expovariate(1.0))
    sent: int = 0
    answered: int = 0
    failures: int = 0
    lasting: int = 0
    failing_since: float = 0.0
    next_probe: float = 0.0
    rest_until: float = 0.0
    last: Failure | None = None

    def is_suspect(self, patience: float) -> bool:
        """Return whether it has failed too often, or for too long, to be asked more (its circuit is open)."""
        if self.failures < _FAILURES:
            return False
        return self.lasting >= _FAILURES or time.monotonic() - self.failing_since > patience

    def delay(self, tokens: int) -> float:
        """Return after how many seconds a request of so many tokens may start."""
        return max(self.rest_until - time.monotonic(), self.gate.delay(tokens))

    @property
    def trouble(self) -> Failure | None:
        """Why it rests now, in this run or since an earlier one."""
        return self.last or self.gate.rests_for

    def answered_once(self) -> None:
        """Note an answer, also one that says what is wrong with a request."""
        self.failures = self.lasting = 0
        self.last = None
        self.answered += 1

    def failed(self, failure: Failure, started: float) -> None:
        """Note a failure of its own; those that ran together rest as long as one."""
        now = time.monotonic()
        if not self.failures:
            self.failing_since = now
        self.failures += 1
        if self.failures >= _FAILURES and started >= self.rest_until:
            self.rest_until = now + backoff(self.failures)
        self.lasting = self.lasting + 1 if failure.kind == "lasting" else 0
        self.next_probe = now + _PROBE_SECONDS
        self.last = failure


@dataclass(frozen=True, slots=True)
class Served:
    """An answer, the seconds that it took, and the address of the endpoint that gave it."""

    answer: Answer
    seconds: float
    base: str


@dataclass(frozen=True, slots=True)
class Asked:
    """A request as it is sent: its body for a served name, and about how many tokens it may take."""

    body: Callable[[str], dict[str, Any]]
    tokens: int


class Dispatch:
    """One run: a prompt, or the rows of a map.

    Parameters
    ----------
    members : sequence of Member
        At least one.
    patience : float
        Seconds for which a request is tried again.
    """

    def __init__(self, members: Sequence[Member], patience: float) -> None:
        self._members = members
        self._patience = patience
        self.slots = sum(member.slots for member in members)
        self._changed = asyncio.Event()

    async def ask(
        self,
        asked: Asked,
        answers: list[Answer] | None = None,
        on_piece: Callable[[str], None] | None = None,
        *,
        again_after_text: bool = False,
    ) -> Served:
        """Return the answer to one request.

        Parameters
        ----------
        asked : Asked
            The request.
        answers : list of Answer, optional
            Gets the answer of each attempt while it comes: what is left of a cancelled one.
        on_piece : callable, optional
            Gets each piece of text; once it got one, the request is not tried again unless
            `again_after_text` says that pieces may come twice.

        Raises
        ------
        InferenceError
            Every attempt failed; the last failure says why.
        """
        began, tried, failures = time.monotonic(), set[int](), 0
        while True:
            member = await self._enter(asked, tried, began)
            answer = Answer()
            if answers is not None:
                answers.append(answer)
            try:
                return await self._attempt(member, asked, answer, on_piece)
            except AttemptFailed as failed:
                failure = failed.failure
            if failure.kind == "request" or (answer.pieces and on_piece is not None and not again_after_text):
                raise failure.error
            tried.add(id(member))
            failures += 1
            others = [one for one in self._members if id(one) not in tried and self._usable(one)]
            if others:
                continue
            if failure.kind == "lasting" and not any(map(self._usable_later, self._members)):
                raise failure.error
            tried.clear()
            wait = 0.0 if failure.wait is not None else backoff(failures)
            if time.monotonic() + wait - began > self._patience_with(member):
                raise failure.error
            await asyncio.sleep(wait)

    async def _attempt(
        self, member: Member, asked: Asked, answer: Answer, on_piece: Callable[[str], None] | None
    ) -> Served:
        """Ask one member, which was entered."""
        started = time.monotonic()
        entry = member.gate.enter(asked.tokens)
        member.sent += 1
        try:
            body = asked.body(member.client.address.served)
            await member.client.ask(body, member.key, answer, on_piece)
        except AttemptFailed as failed:
            if failed.failure.kind == "request":
                member.answered_once()
                raise
            member.failed(failed.failure, started)
            member.gate.rest_as_asked(failed.failure)
            raise
        finally:
            member.gate.leave(entry, answer.tokens_in + answer.tokens_out)
            self._wake()
        member.answered_once()
        return Served(answer, time.monotonic() - started, member.client.address.base)

    async def _enter(self, asked: Asked, tried: set[int], began: float) -> Member:
        """Return a member that may be asked now; waits for one as long as the patience lasts."""
        while True:
            usable = [one for one in self._members if self._usable(one)]
            if not usable:
                raise self._why()
            fresh = [one for one in usable if id(one) not in tried] or usable
            delays = {id(one): one.delay(asked.tokens) for one in fresh}
            ready = [
                one
                for one in fresh
                if not delays[id(one)] and one.gate.in_flight < one.slots and not self._suspect(one)
            ]
            ready = self._probes(tried) or ready
            if ready:
                return min(ready, key=lambda one: (one.sent + one.start) / one.weight)
            soonest = min(delays.values())
            resting = [one for one in fresh if one.trouble is not None and delays[id(one)] > 0]
            waited_for = any(one.gate.in_flight for one in fresh)  # an answer on its way may end a rest
            if (
                len(resting) == len(fresh)
                and not waited_for
                and time.monotonic() + soonest - began > self._patience
            ):
                raise _later(min(resting, key=lambda one: delays[id(one)]))
            await self._nap(soonest or _LONGEST_NAP)

    def _usable(self, member: Member) -> bool:
        """Return whether a member may be asked, now or later; what still runs there may clear it."""
        return member.gate.in_flight > 0 or not self._suspect(member)

    def _suspect(self, member: Member) -> bool:
        return member.is_suspect(self._patience_with(member))

    def _probes(self, tried: set[int]) -> list[Member]:
        """Return a member that is left alone and due for one request, which may show that it is back."""
        now = time.monotonic()
        due = [
            one
            for one in self._members
            if not self._usable(one)
            and id(one) not in tried
            and now >= one.next_probe
            and not one.gate.delay(0)
        ]
        return due[:1]

    def _usable_later(self, member: Member) -> bool:
        return self._usable(member) and (member.last is None or member.last.kind == "passing")

    def _patience_with(self, member: Member) -> float:
        """Return for how long a member may fail: briefly where it never answered, unless it asks to wait."""
        limited = member.trouble is not None and isinstance(member.trouble.error, EndpointLimitError)
        return self._patience if member.answered or limited else min(self._patience, _FIRST_PATIENCE)

    def _why(self) -> InferenceError:
        """Return the last failure of the member that is best known for it."""
        failures = [one.last for one in self._members if one.last is not None]
        passing = [failure for failure in failures if failure.kind == "passing"]
        return (passing or failures)[0].error

    def _wake(self) -> None:
        self._changed.set()
        self._changed = asyncio.Event()

    async def _nap(self, seconds: float) -> None:
        """Wait until a request ends, a second at most: the time for which somebody rests can change."""
        changed = self._changed
        try:
            async with asyncio.timeout(min(seconds, _LONGEST_NAP)):
                await changed.wait()
        except TimeoutError:
            return


def _later(member: Member) -> InferenceError:
    """Return why a member rests; where it named a moment, with the seconds until then."""
    trouble = member.trouble
    assert trouble is not None
    if trouble.wait is None or not isinstance(trouble.error, EndpointLimitError):
        return trouble.error
    return limit_error(member.client.address.base, member.gate.rest)


def share_slots(weights: Sequence[float], limits: Sequence[int | None]) -> list[int]:
    """Return how many requests at once each endpoint gets: its limit, else by weight, 8 each on average."""
    total = sum(weights)
    fair = [max(1, round(CONCURRENCY * len(weights) * weight / total)) for weight in weights]
    return [one if limit is None else limit for one, limit in zip(fair, limits, strict=True)]
