"""Workers of a Dask cluster, through the library's own futures."""

from __future__ import annotations

import contextlib
import json
import re
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from jupyter_llmops.errors import BackendError, MissingDependencyError
from jupyter_llmops.inference.backends import worker
from jupyter_llmops.inference.backends.distribution import Answer, Distribution
from jupyter_llmops.inference.backends.processes import (
    default_workers,
    share_of_threads,
    thread_environment,
)
from jupyter_llmops.inference.engine import OnDone
from jupyter_llmops.records.model import Model
from jupyter_llmops.records.request import InferenceRequest

# So long a scheduler has to answer, seconds.
CONNECT_SECONDS: Final = 10
# So often the cluster is asked who works there, seconds.
_LOOK: Final = 1.0
_MISSING: Final = re.compile(r"No module named '(\w+)")
_FORM: Final = (
    "Type --backend dask:tcp://HOST:8786 with its address, or --backend dask for one on this machine."
)


class DaskBackend:
    """The workers of a Dask cluster: the one at an address, the notebook's own, or one on this machine.

    A cluster trusts whoever reaches its scheduler, and what is asked and answered crosses the network as it
    is: use ``tls://`` beyond one machine.

    Parameters
    ----------
    folder : Path
        The models folder.
    offline : bool
        Never ask the Hugging Face hub.
    address : str
        The scheduler's, e.g. ``tcp://host:8786``, or the path of its ``--scheduler-file``; empty for the
        notebook's current client or else a cluster on this machine.
    workers : int, optional
        How many a cluster on this machine gets.

    Raises
    ------
    MissingDependencyError
        Dask is not installed.
    BackendError
        There is no scheduler, or none of its workers can be used.
    """

    name = "dask"

    def __init__(self, folder: Path, *, offline: bool, address: str = "", workers: int | None = None) -> None:
        self.notes: tuple[str, ...] = ()
        self._folder = folder
        self._offline = offline
        self._address = address
        self._chosen = workers
        self._client: Any = None
        self._cluster: Any = None
        self._foreign = False
        try:
            import distributed  # noqa: F401
        except ImportError as error:
            raise MissingDependencyError("A Dask cluster", "dask") from error
        if address:
            self._client = _connect(address)
            try:
                _Workers(self._client).check()
            except BaseException:
                self.close()
                raise

    def run(self, requests: Sequence[InferenceRequest], model: Model, on_done: OnDone) -> None:
        """Answer every request exactly once; see `Backend.run`."""
        if not requests:
            return
        workers = _Workers(self._connected(model))
        workers.check()
        distribution = Distribution(
            workers, requests, model, on_done, folder=self._folder, offline=self._offline
        )
        try:
            distribution.run()
        except BaseException:
            if self._cluster is not None:
                self.close()  # workers of ours need not end what nobody wants
            raise
        finally:
            self.notes = (*workers.notes, *distribution.notes)

    def close(self) -> None:
        """End the connection, and the cluster where this backend has started it."""
        client, cluster, foreign = self._client, self._cluster, self._foreign
        self._client = self._cluster = None
        with contextlib.suppress(Exception):  # it may be gone already
            if client is not None and not foreign:
                client.close(timeout=5)
        with contextlib.suppress(Exception):
            if cluster is not None:
                cluster.close(timeout=5)

    def _connected(self, model: Model) -> Any:
        if self._client is not None and self._client.status == "running":
            return self._client
        if self._address:
            self._client = _connect(self._address)
        else:
            self.close()
            self._client = _current_client()
            self._foreign = self._client is not None
            if self._client is None:
                self._cluster = _local_cluster(self._chosen or default_workers(model))
                self._client = self._cluster.get_client()
        return self._client


def compute(job: dict[str, Any]) -> dict[str, Any]:
    """Answer a job in a Dask worker, with as many threads as the worker has."""
    from distributed import get_worker

    here = get_worker()
    key = here.get_current_task()

    def cancelled() -> bool:
        task = here.state.tasks.get(key)
        return task is None or task.state == "cancelled"

    return worker.compute(job, threads=here.state.nthreads, worker=here.address, cancelled=cancelled)


class _Workers:
    """The workers of a cluster that have our version; `Distribution` gives them jobs."""

    def __init__(self, client: Any) -> None:
        self.notes: list[str] = []
        self._client = client
        self._looked = 0.0
        self._known: set[str] = set()
        self._fit: set[str] = set()

    def check(self) -> None:
        """Raise `BackendError` when the cluster has workers and none of them can be used."""
        self._look()
        if self._known and not self._fit:
            raise BackendError(self.notes[0], "Install what this notebook has on the cluster's workers.")

    def slots(self) -> int:
        if self._client.status != "running":
            raise BackendError(
                "The connection to the Dask scheduler was lost.", "Start it again, and run the same cell."
            )
        if time.monotonic() - self._looked > _LOOK:
            self._look()
        return len(self._fit)

    def submit(self, job: dict[str, Any]) -> Answer:
        # Without a need it is the scheduler's choice, so that it can go elsewhere when a worker dies.
        chosen = sorted(self._fit) if self._known - self._fit else None
        executor = self._client.get_executor(pure=False, workers=chosen)
        answer: Answer = executor.submit(compute, job)
        return answer

    def is_lost(self, error: BaseException) -> bool:
        import asyncio
        from concurrent.futures import CancelledError

        from distributed import KilledWorker
        from distributed.client import FutureCancelledError
        from distributed.comm import CommClosedError

        kinds = (KilledWorker, CommClosedError, FutureCancelledError, CancelledError, asyncio.CancelledError)
        return isinstance(error, kinds)

    def leave_out(self, worker: str) -> None:
        self._fit.discard(worker)

    def stop(self, running: Sequence[Answer]) -> None:
        for answer in running:
            answer.cancel()  # and Dask's own future with it

    def _look(self) -> None:
        """Learn who has come and gone."""
        self._looked = time.monotonic()
        try:
            there = set(self._client.scheduler_info()["workers"])
            new = there - self._known
            found = self._client.run(worker.facts, workers=sorted(new), on_error="return") if new else {}
        except (OSError, TimeoutError) as error:
            raise BackendError(
                f"The Dask scheduler does not answer: {error}", "Start it again, and run the same cell."
            ) from error
        for address, facts in found.items():
            reason = _unfit(facts)
            if reason:
                self.notes.append(f"The worker {address} is left out: {reason}")
            else:
                self._fit.add(address)
        self._known = (self._known & there) | set(found)
        self._fit &= there


def _unfit(facts: Any) -> str:
    from jupyter_llmops._version import __version__

    if isinstance(facts, BaseException):
        # What a worker can't even read comes back as a plain exception with the text of the real one.
        missing = _MISSING.search(str(facts))
        return f"it has no package {missing[1]}." if missing else f"{type(facts).__name__}: {facts}"
    if facts["version"] != __version__:
        return f"it has jupyter-llmops {facts['version']}, and this notebook {__version__}."
    return ""


def _connect(typed: str) -> Any:
    from distributed import Client
    from distributed.comm.addressing import parse_address
    from distributed.comm.registry import get_backend

    try:
        address = _scheduler_in(typed) if typed.endswith(".json") else typed
        get_backend(parse_address(address)[0])  # before a client begins that could only fail
        return Client(address, timeout=CONNECT_SECONDS, set_as_default=False)
    except (OSError, TimeoutError) as error:
        raise BackendError(f"There is no Dask scheduler at {typed} that answers.", _FORM) from error
    except (ValueError, TypeError, KeyError, ImportError) as error:
        raise BackendError(f"The Dask scheduler at {typed} can't be used: {error}.", _FORM) from error


def _scheduler_in(path: str) -> str:
    """Return the address in a ``--scheduler-file``; Dask itself would wait for one without end."""
    return str(json.loads(Path(path).expanduser().read_text(encoding="utf-8"))["address"])


def _current_client() -> Any:
    from distributed.client import default_client

    try:
        client = default_client()
    except ValueError:
        return None
    return None if client.asynchronous else client


def _local_cluster(count: int) -> Any:
    from distributed import LocalCluster

    threads = share_of_threads(count)
    try:
        return LocalCluster(
            n_workers=count,
            threads_per_worker=threads,
            processes=True,
            dashboard_address=None,
            # The engine asks for memory before it takes any; Dask's own limit would only kill the worker.
            memory_limit=0,
            env=thread_environment(threads),
            preload=[_PRELOAD],
        )
    except (OSError, RuntimeError, TimeoutError) as error:
        raise BackendError(f"A Dask cluster can't be started here: {error}", "Use --backend loky.") from error


# A module that Dask loads in each worker; its dask_setup is called there.
_PRELOAD: Final = "jupyter_llmops.inference.backends.dask_cluster"


def dask_setup(worker_here: Any) -> None:  # noqa: ARG001
    """Leave Ctrl-C to the notebook: called by Dask in each worker of a cluster on this machine."""
    worker.ignore_interrupts()
