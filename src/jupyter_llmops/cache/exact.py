"""Exact reuse: the same whole request gets the same answer, from disk or memory, always verified."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Final

from jupyter_llmops.cache.answer import StoredAnswer, answer_of, decode_answer, encode_answer
from jupyter_llmops.cache.explanation import describe_mark, explain_hit, provenance
from jupyter_llmops.cache.flight import Flight, Progress
from jupyter_llmops.cache.item_folder import SUFFIX, FileMark, mark_of
from jupyter_llmops.cache.item_format import ItemRejectedError
from jupyter_llmops.cache.recall import Recall, Recalled
from jupyter_llmops.cache.request_key import KnownKeys, why_not_reusable
from jupyter_llmops.cache.session import Session, not_looked_up
from jupyter_llmops.cache.shared_answers import SharedAnswers
from jupyter_llmops.cache.store import ItemStore
from jupyter_llmops.cache.warning import CacheWarning
from jupyter_llmops.cache.wrong_marks import WrongMarks
from jupyter_llmops.errors import TeamKeyError, UsageError
from jupyter_llmops.keys.team import TeamKey
from jupyter_llmops.records.cache import CacheResult, CacheStats, WrongMark
from jupyter_llmops.records.completion import Generation
from jupyter_llmops.records.request import InferenceRequest

__all__ = ["CacheResult", "CacheStats", "CacheWarning", "ExactCache"]

Compute = Callable[[], Generation]
MayStore = Callable[[Generation], bool]


_OFF: Final = "the cache is off (%cache on switches it on)"


def _always(_: Generation) -> bool:
    return True


class ExactCache(SharedAnswers):
    """Answers by the whole request.

    Parameters
    ----------
    folder : Path
        Where the items lie; created by the first answer that is stored. It may be shared.
    recall : Recall, optional
        The answers kept in memory.
    key : callable, optional
        Returns the team's key when it is first needed; by default this user's key for the folder.
    """

    def __init__(
        self,
        folder: Path,
        recall: Recall | None = None,
        *,
        key: Callable[[], TeamKey] | None = None,
    ) -> None:
        self.folder = folder
        self.enabled = True
        self.store = ItemStore(folder, key)
        self._marks = WrongMarks(self.store)
        self._recall = recall if recall is not None else Recall()
        self._keys = KnownKeys()
        self.session = Session()
        self._flight = Flight(lambda: self.store.leases)

    def fetch(
        self,
        request: InferenceRequest,
        compute: Compute,
        *,
        store: MayStore = _always,
        reuse: bool = False,
        progress: Progress | None = None,
    ) -> CacheResult:
        """Return the stored answer to this very request, else compute it and store it.

        Of all processes that ask the same at once, one computes; the others wait for its answer.

        Parameters
        ----------
        request : InferenceRequest
            The whole request; every field counts.
        compute : callable
            Computes the answer; what it raises passes through and nothing is stored.
        store : callable
            Gets the computed answer; False keeps it out of the store. An interrupted answer never enters.
        reuse : bool
            Whether an answer that was sampled without a seed is stored and reused, too.
        progress : callable, optional
            Gets a sentence that says who is waited for.
        """
        began = time.perf_counter()
        key, reason = self._identify(request, reuse=reuse)
        if reason:
            return self.bypass(request, compute, reason)
        found, rejection = self._look(key, request, began)
        if found is not None:
            return found
        with self._flight.turn(key, lambda: self.store.items.has(key + SUFFIX), progress):
            if not rejection:  # it may have come meanwhile
                found, rejection = self._look(key, request, began)
            if found is not None:
                return found
            why = self.session.miss(key, request, rejection)
            return self._keep(key, request, compute(), store, why)

    def find(self, request: InferenceRequest, *, reuse: bool = False) -> CacheResult | None:
        """Return the verified stored answer, None when there is none; never computes.

        Parameters
        ----------
        request, reuse
            As for `fetch`.
        """
        began = time.perf_counter()
        key, reason = self._identify(request, reuse=reuse)
        if reason:
            self.session.passed_by(reason)
            return None
        found, rejection = self._look(key, request, began)
        if found is None:
            self.session.miss(key, request, rejection)
        return found

    def keep(
        self,
        request: InferenceRequest,
        generation: Generation,
        *,
        store: MayStore = _always,
        reuse: bool = False,
    ) -> CacheResult:
        """Store a computed answer, unless it is not to be stored.

        Parameters
        ----------
        request, store, reuse
            As for `fetch`.
        generation : Generation
            What was computed.
        """
        key, reason = self._identify(request, reuse=reuse)
        if reason:
            return CacheResult(generation, False, key, None, "", not_looked_up(reason))
        return self._keep(key, request, generation, store, f"Miss: it was computed (key {key[:12]}).")

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
        why = self.session.passed_by(reason)
        return CacheResult(compute(), False, self._identify(request, reuse=True)[0], None, "", why)

    def peek(self, request: InferenceRequest, *, reuse: bool = False) -> bool:
        """Return whether `fetch` would hit; counts, warns and changes nothing."""
        if not self.enabled or (why_not_reusable(request) and not reuse):
            return False
        return self._stored(request) is not None

    def stats(self, *, disk: bool = True) -> CacheStats:
        """Return this session's counts and what lies on disk.

        Parameters
        ----------
        disk : bool
            Whether the folder is walked; without it entries and bytes are 0.
        """
        entries, size_bytes, others = self.store.measure() if disk else (0, 0, 0)
        counts = self.session.counts
        return CacheStats(
            hits=counts.hits,
            misses=counts.misses,
            bypassed=counts.bypassed,
            rejected=self.store.rejected,
            seconds_saved=counts.seconds_saved,
            entries=entries,
            size_bytes=size_bytes,
            folder=str(self.folder),
            enabled=self.enabled,
            problem=self.store.problem,
            others=others,
            saved=counts.costs(),
        )

    def saved(self, currency: str) -> float:
        """Return what this session's hits would have cost in a currency, as far as that is known."""
        return self.session.counts.saved.get(currency, 0.0)

    def why(self) -> str:
        """Explain the last look-up in plain words."""
        return self.session.why()

    def mark_wrong(self, why: str = "", request: InferenceRequest | None = None) -> WrongMark:
        """Mark an answer as wrong for everyone: it is never served again.

        Parameters
        ----------
        why : str
            For the others.
        request : InferenceRequest, optional
            Whose stored answer; by default the last one that this session was given.

        Raises
        ------
        UsageError
            There is no such answer, or the folder can't be written.
        """
        answer = self.session.last_answer if request is None else self._stored(request)
        if answer is None:
            raise UsageError(
                "There is no stored answer that could be marked.", "Type it after the answer came."
            )
        try:
            mark = self._marks.put(answer, why)
        except OSError as error:
            raise UsageError(
                f"The mark can't be written in {self.folder}: {error.strerror}.",
                "Make the folder writable; until then the answer is served.",
            ) from None
        self._recall.drop(answer.key)
        self.session.marked(answer.key, describe_mark(mark))
        return mark

    def mark_right(self, request: InferenceRequest | None = None) -> WrongMark:
        """Take back what `mark_wrong` said of a request's answers, and store the newest of them again.

        Parameters
        ----------
        request : InferenceRequest, optional
            Whose answer; by default the one that this session marked last, else was given last.

        Raises
        ------
        UsageError
            None of them is marked.
        """
        key = self._identify(request, reuse=True)[0] if request is not None else self.session.last_marked
        undone, planted = self._marks.undo(key) if key else ([], 0)
        if planted and not undone:
            raise UsageError("What lay beside it was no mark of the team's, and was removed.")
        if not undone:
            raise UsageError("No answer to it is marked as wrong.", "Name its run: %cache right In[7]")
        self._recall.drop(key)
        self.session.unmarked(key)
        return undone[-1].mark

    def reopen_key(self) -> None:
        """Use the team's key as it is now on disk, as somebody joined a team."""
        self._recall.clear()
        self.store.reopen_key()

    def clear(self, older: float | None = None) -> int:
        """Remove stored answers from the folder, everybody's, and return how many; other files stay.

        Parameters
        ----------
        older : float, optional
            Only those that were stored more than so many seconds ago.
        """
        if older is not None:
            from jupyter_llmops.cache.eviction import Evictor

            only = Path(self.store.items.location).name
            return Evictor(self.folder, only=only).clear_older(older).items
        self._recall.clear()
        self.session.forget()
        return self.store.clear()

    def _identify(self, request: InferenceRequest, *, reuse: bool) -> tuple[str, str]:
        """Return the request's key, empty where it has none, and why it is not looked up, empty when it is."""
        try:
            key = self._keys.key(request)
        except ValueError as error:
            return "", f"the request has no canonical form ({error})" if self.enabled else _OFF
        if not self.enabled:
            return key, _OFF
        reason = "" if reuse else why_not_reusable(request)
        if not reason:
            try:
                _ = self.store.items
            except TeamKeyError as error:
                self.store.cannot_store(error)
                reason = f"{error.message[:1].lower()}{error.message[1:].rstrip('.')}"
        return key, reason

    def _look(self, key: str, request: InferenceRequest, began: float) -> tuple[CacheResult | None, str]:
        """Return the verified answer from memory or disk and count the hit, or what was there that did not verify."""
        recalled = self._recalled(key)
        if recalled is None:
            recalled, rejection = self._read(key)
            if recalled is None:
                return None, rejection
        self.session.hit(request, recalled.answer, began)
        self.store.usage.note(key)
        return recalled.result, ""

    def _stored(self, request: InferenceRequest) -> StoredAnswer | None:
        try:
            found = self._verified(self._keys.key(request))
        except (ItemRejectedError, ValueError, TeamKeyError):
            return None
        return found[0] if found is not None else None

    def _recalled(self, key: str) -> Recalled | None:
        found = self._recall.get(key)
        if found is None:
            return None
        if mark_of(found.path) == found.mark:
            return found
        self._recall.drop(key)
        return None

    def _read(self, key: str) -> tuple[Recalled | None, str]:
        """Return the answer on disk, or why it was not used; both are empty when there is none."""
        try:
            found = self._verified(key)
        except ItemRejectedError as rejection:
            return None, self.store.reject(key, str(rejection))
        return (self._remember(*found) if found is not None else None), ""

    def _verified(self, key: str) -> tuple[StoredAnswer, FileMark] | None:
        found = self.store.lookup(key)
        if found is None:
            return None
        answer, mark = decode_answer(found[0]), found[1]
        if answer.key != key:
            # Sealed under this id by somebody who has the key, yet another request's answer.
            raise ItemRejectedError("holds the answer to another request")
        try:
            return None if self._marks.find(answer) is not None else (answer, mark)
        except ItemRejectedError as rejection:
            raise ItemRejectedError(
                f"has a mark beside it that {rejection}; %cache right removes it"
            ) from None

    def _remember(self, answer: StoredAnswer, mark: FileMark) -> Recalled:
        said = provenance(answer)
        result = CacheResult(
            generation=answer.generation,
            hit=True,
            key=answer.key,
            stored_at=answer.stored_at,
            stored_by=answer.stored_by,
            why=explain_hit(answer, said),
            provenance=said,
        )
        recalled = Recalled(answer, self.store.items.path(answer.key + SUFFIX), mark, result)
        self._recall.put(recalled)
        return recalled

    def _keep(
        self, key: str, request: InferenceRequest, generation: Generation, may_store: MayStore, why: str
    ) -> CacheResult:
        answer = answer_of(key, request, generation)
        unstored = self._why_unstored(answer, may_store)
        mark = None if unstored else self._put(answer)
        if mark is None:
            self.session.unstored(key, request, unstored or self.store.problem)
            return CacheResult(generation, False, key, None, "", why)
        self.session.stored(request, answer)
        return replace(self._remember(answer, mark).result, hit=False, why=why, provenance="")

    def _why_unstored(self, answer: StoredAnswer, may_store: MayStore) -> str:
        if answer.generation.finish_reason == "interrupted":
            return "it was interrupted"
        if not may_store(answer.generation):
            return "it was not to be kept (the answer seems to hold a secret)"
        try:
            marked = self._marks.find(answer)
        except ItemRejectedError as rejection:
            return f"the mark beside it {rejection}; %cache right removes it"
        return describe_mark(marked.mark) if marked is not None else ""

    def _put(self, answer: StoredAnswer) -> FileMark | None:
        try:
            body = encode_answer(answer)
        except (TypeError, ValueError) as error:
            self.store.cannot_store(error)
            return None
        mark = self.store.keep(answer.key, body, answer.generation.seconds)
        if mark is not None and self._marks.has(answer):  # since it was looked at
            self.store.items.remove(answer.key + SUFFIX)
            return None
        return mark
