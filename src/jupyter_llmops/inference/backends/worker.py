"""What runs in a worker: engines that stay, one job at a time."""

from __future__ import annotations

import os
import socket
import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from jupyter_llmops.errors import BackendError, Interrupted, LLMOpsError
from jupyter_llmops.inference.backends.jobs import (
    Outcome,
    read_error,
    read_model,
    read_requests,
    write_error,
    write_outcome,
)
from jupyter_llmops.inference.engine import EngineIdentity
from jupyter_llmops.inference.engines import Engines
from jupyter_llmops.records.completion import Generation
from jupyter_llmops.records.model import Model
from jupyter_llmops.records.request import InferenceRequest

_ENGINES: dict[tuple[str, bool], Engines] = {}
# A worker with several threads still computes one job at a time, with all of its threads.
_TURN = threading.Lock()


def facts() -> dict[str, str]:
    """Return what must be the same here and where the requests come from."""
    from jupyter_llmops._version import __version__

    return {"version": __version__, "host": socket.gethostname()}


def ignore_interrupts() -> None:
    """Leave Ctrl-C to the notebook's process, which ends this one; a terminal sends it to both."""
    import signal

    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGINT, signal.SIG_IGN)


def compute(
    job: dict[str, Any], *, threads: int, worker: str = "", cancelled: Callable[[], bool] | None = None
) -> dict[str, Any]:
    """Answer the requests of a job.

    Parameters
    ----------
    job : dict
        From `jobs.write_job`.
    threads : int
        How many threads compute.
    worker : str
        Name of this worker in its cluster.
    cancelled : callable, optional
        Asked after each answer whether the rest is still wanted.

    Returns
    -------
    dict
        ``worker``, ``host``, and either ``outcomes`` (in the order of the requests) or ``refused``: why this
        worker can answer nothing for this model.
    """
    host = socket.gethostname()
    answer: dict[str, Any] = {"worker": worker, "host": host}
    with _TURN:
        try:
            engines, model, requests = _prepared(job, threads)
        except LLMOpsError as error:
            return answer | {"refused": write_error(_of_worker(error, host))}
        outcomes: list[Outcome | None] = [None] * len(requests)

        def on_done(position: int, outcome: Outcome) -> None:
            outcomes[position] = (
                replace(outcome, served_by=outcome.served_by or host)
                if isinstance(outcome, Generation)
                else outcome
            )
            if cancelled is not None and cancelled():
                raise Interrupted("The notebook stopped this work.")

        try:
            engines.generate_many(requests, model, on_done)
        except KeyboardInterrupt:
            return answer | {"outcomes": None}
    return answer | {"outcomes": [write_outcome(outcome or _unanswered(host)) for outcome in outcomes]}


def _prepared(job: dict[str, Any], threads: int) -> tuple[Engines, Model, list[InferenceRequest]]:
    """Return everything that a job needs, its model in memory."""
    mine = facts()
    if job["version"] != mine["version"]:
        raise BackendError(
            f"It has jupyter-llmops {mine['version']}, and this notebook {job['version']}.",
            "Install the same version there.",
        )
    model, requests = read_model(job["model"]), read_requests(job)
    engines = _engines(Path(job["folder"]), bool(job["offline"]))
    first = requests[0]
    engine = engines.engine_of(first)
    _check_identity(engine.identify(model, first.quantization, exact=first.exact), first)
    _set_threads(threads, first.engine)
    engine.load(model, first.quantization, exact=first.exact)
    return engines, model, requests


def _engines(folder: Path, offline: bool) -> Engines:
    if not folder.is_dir():
        from jupyter_llmops.settings import user_folder

        folder = user_folder() / "models"
    key = (str(folder), offline)
    if key not in _ENGINES:
        _ENGINES[key] = Engines(folder, offline=offline)
    return _ENGINES[key]


def _check_identity(here: EngineIdentity, request: InferenceRequest) -> None:
    # The request names the program that answers, and goes into key and record as it is.
    wanted = (request.engine, request.engine_version, request.device)
    if (here.engine, here.engine_version, here.device) != wanted:
        raise BackendError(
            f"It would answer with {here.engine_version} on {here.device or 'an endpoint'}, and the request is "
            f"for {request.engine_version} on {request.device or 'an endpoint'}.",
            "Install the same versions there.",
        )


def _set_threads(threads: int, engine: str) -> None:
    # This process is the cluster's worker and nothing else, so its environment may be set.
    os.environ["OMP_NUM_THREADS"] = str(threads)
    if engine != "transformers" and "torch" not in sys.modules:
        return
    from jupyter_llmops.inference.threads import import_torch

    import_torch()
    import torch

    # For this thread and those it starts: a cluster may call from another thread each time.
    torch.set_num_threads(threads)


def _of_worker(error: LLMOpsError, host: str) -> LLMOpsError:
    said = read_error(write_error(error))
    return type(said)(f"The worker on {host} can't answer: {said.message}", said.hint)


def _unanswered(host: str) -> BackendError:
    return BackendError(f"The worker on {host} came back without an answer to this.", "Ask again.")
