"""Workers that are processes of this machine, through loky, which joblib carries."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from jupyter_llmops.inference.backends import worker
from jupyter_llmops.inference.backends.distribution import Answer, Distribution
from jupyter_llmops.inference.engine import OnDone
from jupyter_llmops.inference.threads import SLEEPING
from jupyter_llmops.records.model import Model
from jupyter_llmops.records.request import InferenceRequest

# Idle workers keep their model so long for the next map, seconds.
_KEEP: Final = 300
# A process that answers takes so much beside its model, bytes.
_BESIDE: Final = 3 * 2**29


class LokyBackend:
    """Processes of this machine, each with the model in memory and its share of the cores.

    Parameters
    ----------
    folder : Path
        The models folder.
    offline : bool
        Never ask the Hugging Face hub.
    workers : int, optional
        How many; by default one a core, fewer where memory is short, one where there is a GPU.
    """

    name = "loky"

    def __init__(self, folder: Path, *, offline: bool, workers: int | None = None) -> None:
        self.notes: tuple[str, ...] = ()
        self._folder = folder
        self._offline = offline
        self._chosen = workers
        self._pool: _Pool | None = None

    def run(self, requests: Sequence[InferenceRequest], model: Model, on_done: OnDone) -> None:
        """Answer every request exactly once; see `Backend.run`."""
        if not requests:
            return
        count = self._chosen or default_workers(model)
        if self._pool is None or self._pool.count != count:
            self.close()
            self._pool = _Pool(count)
        self._pool.left_out = False
        distribution = Distribution(
            self._pool, requests, model, on_done, folder=self._folder, offline=self._offline
        )
        try:
            distribution.run()
        finally:
            self.notes = tuple(distribution.notes)

    def close(self) -> None:
        """End the workers."""
        if self._pool is not None:
            self._pool.stop(())
            self._pool = None


def default_workers(model: Model) -> int:
    """Return how many processes of this machine may each hold a model."""
    import joblib

    from jupyter_llmops.inference.memory import free_bytes
    from jupyter_llmops.inference.quantization import choose_device

    if choose_device() != "cpu":
        return 1
    free = free_bytes("cpu")
    fitting = joblib.cpu_count() if free is None else free // ((model.size_bytes or 0) * 2 + _BESIDE)
    return int(max(1, min(joblib.cpu_count(), fitting)))


def share_of_threads(workers: int) -> int:
    """Return how many threads each of several processes of this machine gets."""
    import joblib

    return max(1, int(joblib.cpu_count()) // workers)


def thread_environment(threads: int) -> dict[str, str]:
    """Return the environment in which the numeric libraries of a process take so many threads."""
    names = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS")
    # Workers share the cores with this process and with each other; see inference/threads.py.
    return {name: str(threads) for name in names} | SLEEPING


class _Pool:
    """A pool of processes that is made anew when one of them dies."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.left_out = False
        self._threads = share_of_threads(count)
        self._executor: Any = None

    def slots(self) -> int:
        # What one process of this machine can't load, the next one can't either.
        return 0 if self.left_out else self.count

    def submit(self, job: dict[str, Any]) -> Answer:
        from joblib.externals.loky.process_executor import BrokenProcessPool, ShutdownExecutorError

        try:
            answer: Answer = self._made().submit(worker.compute, job, threads=self._threads)
        except (BrokenProcessPool, ShutdownExecutorError):
            self._executor = None
            answer = self._made().submit(worker.compute, job, threads=self._threads)
        return answer

    def is_lost(self, error: BaseException) -> bool:
        from concurrent.futures import CancelledError

        from joblib.externals.loky.process_executor import BrokenProcessPool

        return isinstance(error, (BrokenProcessPool, CancelledError))

    def leave_out(self, worker: str) -> None:  # noqa: ARG002
        self.left_out = True

    def stop(self, running: Sequence[Answer]) -> None:  # noqa: ARG002
        executor, self._executor = self._executor, None
        if executor is not None:
            with contextlib.suppress(Exception):  # it may be broken already
                executor.shutdown(wait=True, kill_workers=True)

    def _made(self) -> Any:
        from joblib.externals.loky import ProcessPoolExecutor

        if self._executor is None:
            # A pool of our own: joblib's shared one is resized, and ended, by whatever else the notebook runs.
            self._executor = ProcessPoolExecutor(
                self.count,
                timeout=_KEEP,
                initializer=worker.ignore_interrupts,
                env=thread_environment(self._threads),
            )
        return self._executor
