"""What this session asked of the cache: counts, the last look-up, the requests to compare a miss with."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field

from jupyter_llmops.cache.answer import StoredAnswer
from jupyter_llmops.cache.difference import RecentRequests
from jupyter_llmops.cache.explanation import explain_hit, explain_miss, provenance
from jupyter_llmops.display.elements import ago
from jupyter_llmops.records.completion import Generation
from jupyter_llmops.records.cost import Cost
from jupyter_llmops.records.request import InferenceRequest


@dataclass(slots=True)
class Counts:
    """Look-ups of a session; `saved` is money by currency."""

    hits: int = 0
    misses: int = 0
    bypassed: int = 0
    seconds_saved: float = 0.0
    saved: dict[str, float] = field(default_factory=dict)

    def costs(self) -> tuple[Cost, ...]:
        """Return the money that was saved."""
        return tuple(Cost(amount, currency) for currency, amount in self.saved.items())


class Session:
    """Remembers what was looked up, for `%cache`, `%cache why` and `%cache wrong`."""

    def __init__(self) -> None:
        self.counts = Counts()
        self.last_answer: StoredAnswer | None = None
        self.recent = RecentRequests()
        self._marked: dict[str, str] = {}
        self._last: str | StoredAnswer = "Nothing was looked up in this session yet."
        self._lock = threading.Lock()

    def hit(self, request: InferenceRequest, answer: StoredAnswer, began: float) -> None:
        """Count a hit; `began` is when the look-up did, by `time.perf_counter`."""
        self.recent.add(answer.key, request)
        counts, generation = self.counts, answer.generation
        saved = generation.seconds - (time.perf_counter() - began)
        cost = generation.cost
        with self._lock:
            counts.hits += 1
            if saved > 0:
                counts.seconds_saved += saved
            if cost.amount:
                counts.saved[cost.currency] = counts.saved.get(cost.currency, 0.0) + cost.amount
            self._last = self.last_answer = answer

    def miss(self, key: str, request: InferenceRequest, rejection: str) -> str:
        """Count a miss and return why it is one; `rejection` names an item that was not used."""
        said = self._marked.get(key, "")
        why = f"Miss: {said}." if said else explain_miss(key, request, self.recent, rejection)
        with self._lock:
            self.counts.misses += 1
            self._last = why
        return why

    def reused(self, why: str, seconds: float, began: float) -> None:
        """Count a hit of a function that took so many seconds when it was computed."""
        with self._lock:
            self.counts.hits += 1
            self.counts.seconds_saved += max(0.0, seconds - (time.perf_counter() - began))
            self._last = why

    def repeated(self, generation: Generation) -> None:
        """Count a row of a map that takes an earlier row's answer: a hit that nothing was looked up for."""
        cost, counts = generation.cost, self.counts
        with self._lock:
            counts.hits += 1
            counts.seconds_saved += generation.seconds
            if cost.amount:
                counts.saved[cost.currency] = counts.saved.get(cost.currency, 0.0) + cost.amount

    def computed(self, why: str) -> None:
        """Count a miss of a function."""
        with self._lock:
            self.counts.misses += 1
            self._last = why

    def passed_by(self, reason: str) -> str:
        """Count a request that is not looked up and return the sentence about it."""
        with self._lock:
            self.counts.bypassed += 1
            self._last = why = not_looked_up(reason)
        return why

    def stored(self, request: InferenceRequest, answer: StoredAnswer) -> None:
        """Remember an answer that was computed and stored."""
        self.recent.add(answer.key, request)
        self.last_answer = answer

    def unstored(self, key: str, request: InferenceRequest, reason: str) -> None:
        """Remember a request whose answer was computed and not stored, and why."""
        self.recent.add(key, request, reason)

    def marked(self, key: str, said: str) -> None:
        """Remember an answer that was marked as wrong here; `said` is who marked it, when and why."""
        self._marked.pop(key, None)
        self._marked[key] = said
        self.say(f"Not stored any more: {said}.")

    def unmarked(self, key: str) -> None:
        """Remember that the mark was taken back."""
        self._marked.pop(key, None)

    @property
    def last_marked(self) -> str:
        """The key of the answer that was marked here last and still is, else of the last one given."""
        given = self.last_answer.key if self.last_answer is not None else ""
        return next(reversed(self._marked), given)

    def say(self, sentence: str) -> None:
        """Let `why` give a sentence."""
        self._last = sentence

    def why(self) -> str:
        """Explain the last look-up."""
        last = self._last
        return last if isinstance(last, str) else explain_hit(last, provenance(last, ago(last.stored_at)))

    def forget(self) -> None:
        """Forget requests and answers; the counts stay."""
        self.recent.clear()
        self.last_answer = None
        self._last = "Nothing was looked up since the cache was cleared."


def not_looked_up(reason: str) -> str:
    """Return the sentence about a request that is not looked up."""
    return f"Not looked up: {reason}."
