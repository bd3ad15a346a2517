"""The backend that computes in this process."""

from __future__ import annotations

from collections.abc import Sequence

from jupyter_llmops.inference.engine import OnDone
from jupyter_llmops.inference.engines import Engines
from jupyter_llmops.records.model import Model
from jupyter_llmops.records.request import InferenceRequest


class KernelBackend:
    """The engines of this process, with their batches.

    Parameters
    ----------
    engines : Engines
        The engines of this process.
    """

    name = "kernel"
    notes: tuple[str, ...] = ()

    def __init__(self, engines: Engines) -> None:
        self._engines = engines

    def run(self, requests: Sequence[InferenceRequest], model: Model, on_done: OnDone) -> None:
        """Answer every request exactly once; see `Backend.run`."""
        self._engines.generate_many(requests, model, on_done)

    def close(self) -> None:
        """Do nothing: the models in memory are the kernel's."""
