"""Workers of a Ray cluster: one actor a node, or several on this machine."""

from __future__ import annotations

import contextlib
import logging
import os
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

_FORM: Final = "Type --backend ray:HOST:6379 with its address, or --backend ray for one on this machine."
# So often the cluster is asked which nodes are there, seconds.
_LOOK: Final = 2.0


class RayBackend:
    """The nodes of a Ray cluster: the one at an address, the notebook's own, or one on this machine.

    A cluster trusts whoever reaches it, and what is asked and answered crosses the network as it is.

    Parameters
    ----------
    folder : Path
        The models folder.
    offline : bool
        Never ask the Hugging Face hub.
    address : str
        Of the cluster, e.g. ``host:6379``, ``auto`` or ``ray://host:10001``; empty for the notebook's current
        connection or else a cluster on this machine.
    workers : int, optional
        How many actors: in all on this machine, by default as many as memory holds; a cluster has one a node.

    Raises
    ------
    MissingDependencyError
        Ray is not installed.
    BackendError
        There is no cluster at the address.
    """

    name = "ray"

    def __init__(self, folder: Path, *, offline: bool, address: str = "", workers: int | None = None) -> None:
        self.notes: tuple[str, ...] = ()
        self._folder = folder
        self._offline = offline
        self._address = address
        self._chosen = workers
        self._mine = False
        self._actors: _Actors | None = None
        try:
            import ray  # noqa: F401
        except ImportError as error:
            raise MissingDependencyError("A Ray cluster", "ray") from error
        if address:
            self._connect(None)

    def run(self, requests: Sequence[InferenceRequest], model: Model, on_done: OnDone) -> None:
        """Answer every request exactly once; see `Backend.run`."""
        if not requests:
            return
        self._connect(model)
        if self._actors is None:
            self._actors = _Actors(None if self._address else self._chosen or default_workers(model))
        self._actors.begin()
        distribution = Distribution(
            self._actors, requests, model, on_done, folder=self._folder, offline=self._offline
        )
        try:
            distribution.run()
        finally:
            self.notes = tuple(distribution.notes)

    def close(self) -> None:
        """End the actors, and the cluster where this backend has started it."""
        import ray

        actors, self._actors = self._actors, None
        if actors is not None:
            actors.stop(())
        if self._mine:
            self._mine = False
            with contextlib.suppress(Exception):
                ray.shutdown()

    def _connect(self, model: Model | None) -> None:
        import ray

        if ray.is_initialized():
            return
        self._actors = None  # of a connection that has ended
        # Ray reports its use to its makers unless it is told not to.
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        options: dict[str, Any] = {"address": self._address} if self._address else {"address": "local"}
        if not self._address and model is not None:
            options["num_cpus"] = self._chosen or default_workers(model)
            options["include_dashboard"] = False
        try:
            ray.init(**options, log_to_driver=False, logging_level=logging.ERROR)
        except Exception as error:  # ConnectionError, RuntimeError, ValueError, grpc's own …
            place = f"at {self._address} that answers" if self._address else "that can be started here"
            raise BackendError(f"There is no Ray cluster {place}: {_first_line(error)}", _FORM) from error
        self._mine = True


class _Actors:
    """One actor a node; `Distribution` gives them jobs, one at a time."""

    def __init__(self, local: int | None) -> None:
        self._local = local
        self._looked = 0.0
        self._actors: dict[str, tuple[str, Any]] = {}
        self._busy: dict[Answer, str] = {}
        self._left_out: set[str] = set()
        self._number = 0

    def begin(self) -> None:
        """Forget who could not load the last model."""
        self._left_out.clear()
        self._looked = 0.0

    def slots(self) -> int:
        import ray

        if not ray.is_initialized():
            raise BackendError("The connection to the Ray cluster was lost.", "Run the same cell again.")
        self._free()
        if time.monotonic() - self._looked > _LOOK:
            self._look()
        return len(self._actors)

    def submit(self, job: dict[str, Any]) -> Answer:
        busy = set(self._busy.values())
        name = next(name for name in self._actors if name not in busy)
        answer: Answer = self._actors[name][1].compute.remote(job).future()
        self._busy[answer] = name
        return answer

    def is_lost(self, error: BaseException) -> bool:
        from concurrent.futures import CancelledError

        from ray import exceptions

        kinds = (
            exceptions.RayActorError,
            exceptions.WorkerCrashedError,
            exceptions.NodeDiedError,
            exceptions.OutOfMemoryError,
            exceptions.ObjectLostError,
            CancelledError,
        )
        return isinstance(error, kinds)

    def leave_out(self, worker: str) -> None:
        self._left_out.add(self._actors[worker][0])
        self._end(worker)

    def stop(self, running: Sequence[Answer]) -> None:  # noqa: ARG002
        for name in list(self._actors):
            self._end(name)
        self._busy.clear()
        self._looked = 0.0

    def _free(self) -> None:
        """Give the actors that are done something new, and forget those that died."""
        for answer in [answer for answer in self._busy if answer.done()]:
            name = self._busy.pop(answer)
            if answer.cancelled() or answer.exception() is not None:
                self._end(name)
                self._looked = 0.0  # look at once for where one is missing

    def _end(self, name: str) -> None:
        import ray

        actor = self._actors.pop(name, None)
        if actor is not None:
            with contextlib.suppress(Exception):
                ray.kill(actor[1])

    def _look(self) -> None:
        """Start an actor wherever one is missing."""
        self._looked = time.monotonic()
        for node, threads, count in self._places():
            having = sum(1 for where, _ in list(self._actors.values()) if where == node)
            for _ in range(count - having):
                self._start(node, threads)

    def _places(self) -> list[tuple[str, int, int]]:
        """Return each node that may compute: its id, the threads of an actor, how many actors."""
        import ray

        try:
            nodes = [node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")]
        except Exception as error:
            raise BackendError(
                f"The Ray cluster does not answer: {_first_line(error)}",
                "Start it again, and run the same cell.",
            ) from error
        if self._local is not None:
            here = {ray.get_runtime_context().get_node_id()}
            nodes = [node for node in nodes if node["NodeID"] in here]
            threads, count = share_of_threads(self._local), self._local
            return [(n["NodeID"], threads, count) for n in nodes if n["NodeID"] not in self._left_out]
        return [
            (node["NodeID"], max(1, int(node["Resources"]["CPU"])), 1)
            for node in nodes
            if node["NodeID"] not in self._left_out
        ]

    def _start(self, node: str, threads: int) -> None:
        import ray
        from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

        self._number += 1
        name = f"{node[:12]}-{self._number}"
        made = ray.remote(_Actor).options(
            num_cpus=0 if self._local is not None else threads,
            max_restarts=0,
            scheduling_strategy=NodeAffinitySchedulingStrategy(node, soft=False),
            runtime_env={"env_vars": thread_environment(threads)},
        )
        self._actors[name] = (node, made.remote(name, threads))


class _Actor:
    """A worker process of Ray."""

    def __init__(self, name: str, threads: int) -> None:
        worker.ignore_interrupts()
        self._name = name
        self._threads = threads

    def compute(self, job: dict[str, Any]) -> dict[str, Any]:
        return worker.compute(job, threads=self._threads, worker=self._name)


def _first_line(error: BaseException) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0]
