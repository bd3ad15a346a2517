"""Answers that several processes want at once: the right to compute one, and waiting for another's."""

from __future__ import annotations

from abc import ABC, abstractmethod

from jupyter_llmops.cache.answer import StoredAnswer
from jupyter_llmops.cache.flight import Flight, Progress
from jupyter_llmops.cache.item_folder import SUFFIX
from jupyter_llmops.cache.leases import Claim
from jupyter_llmops.cache.store import ItemStore
from jupyter_llmops.records.cache import CacheResult
from jupyter_llmops.records.request import InferenceRequest


class SharedAnswers(ABC):
    """Claims and waits for answers; for whoever computes many at once."""

    store: ItemStore
    _flight: Flight

    @abstractmethod
    def find(self, request: InferenceRequest, *, reuse: bool = False) -> CacheResult | None:
        """Return the verified stored answer, None when there is none; never computes."""

    @abstractmethod
    def _identify(self, request: InferenceRequest, *, reuse: bool) -> tuple[str, str]:
        """Return the request's key, and why it is not looked up."""

    @abstractmethod
    def _stored(self, request: InferenceRequest) -> StoredAnswer | None:
        """Return the verified stored answer; counts nothing."""

    def claim(self, request: InferenceRequest, *, reuse: bool = False) -> Claim | None:
        """Return the right to compute an answer; None where it is there, or somebody else computes it.

        Never waits. To be released when the answer was kept, or there is none; whoever has several computes
        and releases all of them before it waits for others.

        Parameters
        ----------
        request, reuse
            As for `fetch`.
        """
        key, reason = self._identify(request, reuse=reuse)
        if reason:
            return Claim()
        claim = self._flight.claim(key)
        if claim is not None and claim.name and self._stored(request) is not None:
            claim.release()
            return None
        return claim

    def wait(
        self,
        request: InferenceRequest,
        *,
        seconds: float,
        reuse: bool = False,
        progress: Progress | None = None,
    ) -> CacheResult | None:
        """Return the answer that somebody else computes; None when nobody does any more, or it takes longer.

        Parameters
        ----------
        request, reuse, progress
            As for `fetch`.
        seconds : float
            The longest wait.
        """
        key, reason = self._identify(request, reuse=reuse)
        if reason:
            return None
        there = self._flight.wait(
            key, lambda: self.store.items.has(key + SUFFIX), seconds=seconds, progress=progress
        )
        return self.find(request, reuse=reuse) if there else None
