"""Requests spread over workers, each answered exactly once, whatever becomes of the workers."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from pathlib import Path
from typing import Any, Final, Protocol

from jupyter_llmops.errors import BackendError, InferenceError, LLMOpsError, UsageError
from jupyter_llmops.inference.backends.chunks import Chunk, Chunks
from jupyter_llmops.inference.backends.jobs import read_error, read_outcome, write_job
from jupyter_llmops.inference.engine import OnDone
from jupyter_llmops.records.model import Model
from jupyter_llmops.records.request import InferenceRequest

Answer = Future[dict[str, Any]]

# How often the cluster is looked at while nothing comes, seconds.
_LOOK: Final = 0.5
# So long a cluster may be without any worker, seconds; Dask's nanny replaces one in about three.
WITHOUT_WORKERS: Final = 30.0
# A chunk that lost two workers may be what kills them: its requests go on one by one, nothing beside them.
_SUSPECT: Final = 2
# So often one request may take a worker with it, alone.
_DEADLY: Final = 2
# So many lost jobs in a row for each worker, without one answer between, and the workers are at fault.
_HOPELESS: Final = 4


class Workers(Protocol):
    """Several workers that compute jobs; each library's cluster is made into one of these."""

    def slots(self) -> int:
        """Return how many jobs may run at once now: one a worker that can answer.

        Raises `BackendError` when the cluster is gone.
        """

    def submit(self, job: dict[str, Any]) -> Answer:
        """Start a job; its future gives `worker.compute`'s answer."""

    def is_lost(self, error: BaseException) -> bool:
        """Return whether an exception of a future means that its worker died, not that its job failed."""

    def leave_out(self, worker: str) -> None:
        """Give this worker nothing more."""

    def stop(self, running: Sequence[Answer]) -> None:
        """End what is running; its answers are not wanted any more."""


class Distribution:
    """One map over workers.

    Parameters
    ----------
    workers : Workers
        Who computes.
    requests, model, on_done
        As in `Backend.run`.
    folder, offline
        As in `jobs.write_job`.
    """

    def __init__(
        self,
        workers: Workers,
        requests: Sequence[InferenceRequest],
        model: Model,
        on_done: OnDone,
        *,
        folder: Path,
        offline: bool,
    ) -> None:
        self.notes: list[str] = []
        self._workers = workers
        self._requests = requests
        self._model = model
        self._on_done = on_done
        self._folder = folder
        self._offline = offline
        self._chunks = Chunks(requests)
        self._suspects: deque[Chunk] = deque()
        self._running: dict[Answer, Chunk] = {}
        self._refusal: LLMOpsError | None = None
        self._lost_in_a_row = 0
        self._seen_workers = time.monotonic()

    def run(self) -> None:
        """Compute everything; see `Backend.run`.

        Raises
        ------
        UsageError
            An endpoint computes the answers, not this project's workers.
        """
        if self._requests and not self._requests[0].device:
            # Its limits are kept by one process; several would ask more often than it allows.
            raise UsageError(
                f"The model {self._model.name!r} is an endpoint, which computes by itself.",
                "Type --backend kernel: it asks several at once.",
            )
        try:
            while self._chunks or self._suspects or self._running:
                try:
                    self._start_some()
                except LLMOpsError as error:
                    self._give_up(error)
                    return
                done, _ = wait(self._running, timeout=_LOOK, return_when=FIRST_COMPLETED)
                for future in done:
                    self._settle(future, self._running.pop(future))
        except BaseException:  # Ctrl-C, or whoever takes the answers failed
            self._workers.stop(list(self._running))
            raise

    def _start_some(self) -> None:
        slots = self._workers.slots()
        now = time.monotonic()
        if slots:
            self._seen_workers = now
        elif (self._refusal and not self._running) or now - self._seen_workers > WITHOUT_WORKERS:
            raise self._no_workers()
        if self._lost_in_a_row >= _HOPELESS * max(1, slots):
            raise BackendError(
                "The workers die before they answer.",
                "Memory may be too short for so many: use fewer, e.g. --backend loky:1, or read their logs.",
            )
        while self._chunks and len(self._running) < slots:
            self._start(self._chunks.take(slots))
        if self._suspects and not self._running and slots:
            self._start(self._suspects.popleft())

    def _start(self, chunk: Chunk) -> None:
        requests = [self._requests[position] for position in chunk.positions]
        job = write_job(requests, self._model, self._folder, offline=self._offline)
        self._running[self._workers.submit(job)] = chunk

    def _settle(self, future: Answer, chunk: Chunk) -> None:
        try:
            answer = future.result()
        except BaseException as error:
            if self._workers.is_lost(error):  # a cancelled future's may be no Exception
                self._lost(chunk)
            elif isinstance(error, Exception):
                self._fail(chunk.positions, _failed(error))
            else:
                raise
            return
        self._lost_in_a_row = 0
        if "refused" in answer:
            self._refused(answer, chunk)
        elif answer["outcomes"] is None:
            self._chunks.give_back(chunk)
        else:
            for position, values in zip(chunk.positions, answer["outcomes"], strict=True):
                self._on_done(position, read_outcome(values))

    def _lost(self, chunk: Chunk) -> None:
        self._lost_in_a_row += 1
        chunk.lost += 1
        if chunk.lost < _SUSPECT:
            self._chunks.give_back(chunk)
        elif len(chunk.positions) > 1 or chunk.lost == _SUSPECT:
            self._suspects.extend(Chunk((position,), lost=_SUSPECT) for position in chunk.positions)
        elif chunk.lost < _SUSPECT + _DEADLY:
            self._suspects.append(chunk)
        else:
            self._fail(
                chunk.positions,
                BackendError(
                    f"Each worker that was given this died of it, {chunk.lost} so far.",
                    "It may need more memory than a worker has: shorten the prompt, or type a smaller -n.",
                ),
            )

    def _refused(self, answer: dict[str, Any], chunk: Chunk) -> None:
        error = read_error(answer["refused"])
        if self._refusal is None:
            self._refusal = error
        if str(error) not in self.notes:
            self.notes.append(str(error))
        self._workers.leave_out(answer["worker"])
        self._chunks.give_back(chunk)

    def _no_workers(self) -> LLMOpsError:
        if self._refusal is not None:
            return self._refusal
        return BackendError(
            f"The cluster has had no worker for {WITHOUT_WORKERS:.0f} seconds.",
            "Start one, e.g. dask worker ADDRESS, or use --backend kernel.",
        )

    def _give_up(self, error: LLMOpsError) -> None:
        """Say of everything that is not done why; what is done stays."""
        running = dict(self._running)
        self._running.clear()
        self._workers.stop(list(running))
        for chunk in (*running.values(), *self._suspects):
            self._fail(chunk.positions, error)
        self._suspects.clear()
        self._fail(tuple(self._chunks.rest()), error)

    def _fail(self, positions: Sequence[int], error: LLMOpsError) -> None:
        for position in positions:
            self._on_done(position, error)


def _failed(error: BaseException) -> LLMOpsError:
    if isinstance(error, LLMOpsError):
        return error
    return InferenceError(
        f"A worker failed: {type(error).__name__}: {error}", "The worker's own log says more; ask again."
    )
