"""Exact reuse: the same whole request gets the same answer, from disk or memory, always verified."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

from jupyter_llmops.cache.answer import StoredAnswer, UnstoredAnswer, answer_from_json, answer_to_json
from jupyter_llmops.cache.difference import RecentRequests, describe_nearest
from jupyter_llmops.cache.item_format import ItemRejectedError
from jupyter_llmops.cache.memoize import Answer, Question, memoize
from jupyter_llmops.cache.recall import Recall
from jupyter_llmops.cache.request_key import canonical_json, key_of, request_key, why_not_reusable
from jupyter_llmops.cache.store import ItemStore
from jupyter_llmops.cache.warning import CacheWarning
from jupyter_llmops.display.elements import ago, duration
from jupyter_llmops.records.cache import CacheResult, CacheStats
from jupyter_llmops.records.completion import Generation
from jupyter_llmops.records.request import InferenceRequest

__all__ = ["CacheResult", "CacheStats", "CacheWarning", "ExactCache"]

Compute = Callable[[], Generation]


def _always(_: Generation) -> bool:
    return True


@dataclass(slots=True)
class _Counts:
    hits: int = 0
    misses: int = 0
    bypassed: int = 0
    seconds_saved: float = 0.0
    money_saved: dict[str, float] = field(default_factory=dict)


class ExactCache:
    """Answers by the whole request, through ``joblib.Memory`` over our own store.

    Parameters
    ----------
    folder : Path
        Where the items lie; created by the first answer that is stored. It may be shared.
    recall : Recall, optional
        The answers kept in memory.
    """

    def __init__(self, folder: Path, recall: Recall | None = None) -> None:
        self.folder = folder
        self.enabled = True
        self._recall = recall if recall is not None else Recall()
        self._recent = RecentRequests()
        self._counts = _Counts()
        self._lock = threading.Lock()
        self._last: str | StoredAnswer = "Nothing was looked up in this session yet."
        self._store = ItemStore()
        self._store.configure(
            str(folder), backend_options={"encode": answer_to_json, "decode": answer_from_json}
        )
        self._memoized: Callable[[str, str, Callable[[], Answer]], Answer] | None = None

    def fetch(
        self,
        request: InferenceRequest,
        compute: Compute,
        *,
        store: Callable[[Generation], bool] = _always,
        reuse: bool = False,
    ) -> CacheResult:
        """Return the stored answer to this very request, else compute it and store it.

        Parameters
        ----------
        request : InferenceRequest
            The whole request; every field counts.
        compute : callable
            Computes the answer; what it raises passes through and nothing is stored.
        store : callable
            Gets the computed answer; False keeps it out of the store. An interrupted answer never enters.
        reuse : bool
            Whether an answer that was sampled without a seed may be looked up and stored.
        """
        clock = time.perf_counter()
        if not self.enabled:
            return self.bypass(request, compute, "the cache is off (%cache on switches it on)")
        reason = "" if reuse else why_not_reusable(request)
        if reason:
            return self.bypass(request, compute, reason)
        try:
            canonical = canonical_json(request.canonical())
            key = key_of(canonical)
        except ValueError as error:
            return self.bypass(request, compute, f"the request has no canonical form ({error})")
        recalled = self._recalled(key)
        if recalled is not None:
            return self._hit(request, *recalled, clock)
        question = Question(request, key, compute, store, self._note_miss)
        answer = self._ask(question, canonical)
        if answer is None:
            return self._miss(question)
        return self._hit(request, answer, self._remember(answer), clock)

    def bypass(self, request: InferenceRequest, compute: Compute, reason: str) -> CacheResult:
        """Compute without reading or storing, and remember why; the request itself is not remembered.

        Parameters
        ----------
        request : InferenceRequest
            What is asked.
        compute : callable
            Computes the answer.
        reason : str
            Why, without a full stop: "the prompt seems to hold a secret".
        """
        with self._lock:
            self._counts.bypassed += 1
            self._last = why = f"Not looked up: {reason}."
        try:
            key = request_key(request)
        except ValueError:
            key = ""
        return CacheResult(compute(), hit=False, key=key, stored_at=None, stored_by="", why=why)

    def peek(self, request: InferenceRequest) -> bool:
        """Return whether `fetch` would hit; counts, warns and changes nothing."""
        if not self.enabled or why_not_reusable(request):
            return False
        try:
            key = request_key(request)
            found = self._store.lookup(key)
        except (ItemRejectedError, ValueError):
            return False
        return found is not None and found[0].key == key

    def stats(self) -> CacheStats:
        """Return this session's counts and what lies on disk; walks the folder."""
        entries, size_bytes = self._store.measure()
        with self._lock:
            return CacheStats(
                hits=self._counts.hits,
                misses=self._counts.misses,
                bypassed=self._counts.bypassed,
                rejected=self._store.rejected,
                seconds_saved=self._counts.seconds_saved,
                entries=entries,
                size_bytes=size_bytes,
                folder=str(self.folder),
                enabled=self.enabled,
                problem=self._store.problem,
            )

    def saved(self, currency: str) -> float:
        """Return what this session's hits would have cost in a currency, as far as that is known."""
        with self._lock:
            return self._counts.money_saved.get(currency, 0.0)

    def why(self) -> str:
        """Explain the last look-up in plain words."""
        last = self._last
        if isinstance(last, str):
            return last
        return _explain_hit(last, ago(last.stored_at))

    def clear(self) -> int:
        """Remove every stored answer in the folder, everybody's, and return how many; other files stay."""
        self._recall.clear()
        self._recent.clear()
        self._last = "Nothing was looked up since the cache was cleared."
        return self._store.clear()

    def _recalled(self, key: str) -> tuple[StoredAnswer, str] | None:
        found = self._recall.get(key)
        if found is None:
            return None
        answer, mark, sentence = found
        if self._store.mark(key) == mark:
            return answer, sentence
        self._recall.drop(key)
        return None

    def _ask(self, question: Question, canonical: str) -> StoredAnswer | None:
        """Return the stored answer; None on a miss, when the question has computed its own."""
        answer = self._memoized_answer()(canonical, question.key, question)
        if question.answer is not None:
            return None
        if isinstance(answer, StoredAnswer) and answer.key == question.key:
            return answer
        # Sealed under this id, yet another request's answer: somebody wrote it by hand.
        self._store.reject(question.key, "holds the answer to another request")
        self._store.dump_item((question.key,), question())
        return None

    def _memoized_answer(self) -> Callable[[str, str, Callable[[], Answer]], Answer]:
        if self._memoized is None:
            self._memoized = memoize(self._store)
        return self._memoized

    def _remember(self, answer: StoredAnswer) -> str:
        sentence, mark = _explain_hit(answer), self._store.last_mark()
        if mark is not None:
            self._recall.put(answer, mark, sentence)
        return sentence

    def _hit(self, request: InferenceRequest, answer: StoredAnswer, why: str, clock: float) -> CacheResult:
        self._recent.add(answer.key, request)
        saved = max(0.0, answer.generation.seconds - (time.perf_counter() - clock))
        with self._lock:
            self._counts.hits += 1
            self._counts.seconds_saved += saved
            cost = answer.generation.cost
            if cost.amount:
                spared = self._counts.money_saved
                spared[cost.currency] = spared.get(cost.currency, 0.0) + cost.amount
            self._last = answer
        return CacheResult(answer.generation, True, answer.key, answer.stored_at, answer.stored_by, why)

    def _miss(self, question: Question) -> CacheResult:
        answer, key, why = question.answer, question.key, question.why
        assert answer is not None
        if isinstance(answer, UnstoredAnswer) or self._store.last_mark() is None:
            unstored = answer.reason if isinstance(answer, UnstoredAnswer) else self._store.problem
            self._recent.add(key, question.request, unstored)
            return CacheResult(answer.generation, hit=False, key=key, stored_at=None, stored_by="", why=why)
        self._recent.add(key, question.request)
        self._remember(answer)
        return CacheResult(answer.generation, False, key, answer.stored_at, answer.stored_by, why)

    def _note_miss(self, key: str, request: InferenceRequest) -> str:
        why = self._explain_miss(key, request)
        with self._lock:
            self._counts.misses += 1
            self._last = why
        return why

    def _explain_miss(self, key: str, request: InferenceRequest) -> str:
        rejection = self._store.last_rejection()
        if rejection:
            return f"Miss: {rejection}; it was computed again."
        before = self._recent.get(key)
        if before is not None:
            when = ago(before.at)
            became = before.unstored.rstrip(".") or "it was removed since"
            return f"Miss: the same was asked {when}, but its answer is not stored: {became}."
        nearest = self._recent.nearest(request)
        if nearest is None:
            return f"Miss: nothing is stored yet for this request (key {key[:12]})."
        return f"Miss: nothing is stored yet for this request; {describe_nearest(*nearest)}."


def _explain_hit(answer: StoredAnswer, when: str = "") -> str:
    at = answer.stored_at.isoformat(" ", "minutes")[:16]
    # Beyond a day `when` is the date, which `at` has already.
    age = f" ({when})" if when and not at.startswith(when) else ""
    return (
        f"Hit: {answer.stored_by} computed this answer on {at} UTC{age} in "
        f"{duration(answer.generation.seconds)} ({answer.model}, {answer.engine_version}; "
        f"key {answer.key[:12]})."
    )
