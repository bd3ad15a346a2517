"""One call through ``joblib.Memory``: how it is identified, and what is computed on a miss."""

from __future__ import annotations

import socket
from collections.abc import Callable
from datetime import UTC, datetime
from functools import cache as once
from typing import Any

from jupyter_llmops.cache.answer import StoredAnswer, UnstoredAnswer
from jupyter_llmops.cache.store import BACKEND, ItemStore, register
from jupyter_llmops.records.completion import Generation
from jupyter_llmops.records.request import InferenceRequest

Answer = StoredAnswer | UnstoredAnswer


def answer_request(request_json: str, key: str, compute: Callable[[], Answer]) -> Answer:  # noqa: ARG001
    """Compute the answer to a request; the function that joblib memoizes.

    Parameters
    ----------
    request_json : str
        RFC 8785 form of the request with its schema version: all that decides the answer.
    key : str
        Its sha256.
    compute : callable
        Computes the answer; no part of the call's identity.
    """
    return compute()


def memoize(store: ItemStore) -> Callable[[str, str, Callable[[], Answer]], Answer]:
    """Return `answer_request` memoized by ``joblib.Memory`` over a store; imports joblib."""
    from joblib import Memory

    register()
    memory = Memory(location=store, backend=BACKEND, verbose=0)
    memoized: Callable[[str, str, Callable[[], Answer]], Answer] = _keyed_function_type()(
        answer_request,
        location=memory.store_backend,
        backend=BACKEND,
        ignore=["key", "compute"],
        verbose=0,
    )
    return memoized


@once
def _keyed_function_type() -> Any:
    """Return joblib's MemorizedFunc with two of its private steps shortened.

    joblib hashes the arguments (md5 of their pickle) and compares the function's source with the one
    stored; half of a hit's time. Here the arguments' id is the request key itself, and the schema
    version in the request stands for the source. The names are private: should joblib rename them, its
    own steps run again, which is slower and misses once a process but stays right, because the whole
    request key is in the item and is compared. A test notices.
    """
    from joblib.memory import MemorizedFunc

    def _get_args_id(_: object, request_json: str, key: str, compute: object) -> str:  # noqa: ARG001
        return key

    def _check_previous_func_code(_: object, stacklevel: int = 2) -> bool:  # noqa: ARG001
        return True

    steps = {"_get_args_id": _get_args_id, "_check_previous_func_code": _check_previous_func_code}
    return type("KeyedFunction", (MemorizedFunc,), steps)


class Question:
    """Computes the answer to one request on a miss, and knows afterwards whether it did.

    Parameters
    ----------
    request : InferenceRequest
        What is asked.
    key : str
        Its key.
    compute : callable
        Computes the generation.
    may_store : callable
        Gets the generation; False keeps it out of the store.
    on_miss : callable
        Called before computing; returns why it is a miss.
    """

    __slots__ = ("_compute", "_may_store", "_on_miss", "answer", "key", "request", "why")

    def __init__(
        self,
        request: InferenceRequest,
        key: str,
        compute: Callable[[], Generation],
        may_store: Callable[[Generation], bool],
        on_miss: Callable[[str, InferenceRequest], str],
    ) -> None:
        self._compute = compute
        self._may_store = may_store
        self._on_miss = on_miss
        self.request = request
        self.key = key
        self.why = ""
        self.answer: Answer | None = None

    def __call__(self) -> Answer:
        """Compute the answer and give it its provenance."""
        # Explained before computing, so that the explanation is there also when computing fails.
        self.why = self._on_miss(self.key, self.request)
        generation = self._compute()
        self.answer = self._with_provenance(generation)
        return self.answer

    def _with_provenance(self, generation: Generation) -> Answer:
        if generation.finish_reason == "interrupted":
            return UnstoredAnswer(generation, "it was interrupted")
        if not self._may_store(generation):
            return UnstoredAnswer(generation, "it was not to be kept (the answer seems to hold a secret)")
        return StoredAnswer(
            key=self.key,
            generation=generation,
            stored_at=datetime.now(UTC),
            stored_by=_user_at_host(),
            engine_version=self.request.engine_version,
            model=self.request.model,
        )


@once
def _user_at_host() -> str:
    from jupyter_llmops.settings import user_name  # brings traitlets, which this room needs for nothing else

    return f"{user_name()}@{socket.gethostname()}"
