"""Where many requests are computed: in this process, or on workers."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Protocol, runtime_checkable

from jupyter_llmops.inference.engine import OnDone
from jupyter_llmops.records.model import Model
from jupyter_llmops.records.request import InferenceRequest


@runtime_checkable
class Backend(Protocol):
    """A place that answers many requests; opened by `open_backend`, free to be used again until closed."""

    name: str

    @property
    def notes(self) -> tuple[str, ...]:
        """What the user should know of the last run, one sentence each, e.g. a worker that was left out."""

    def run(self, requests: Sequence[InferenceRequest], model: Model, on_done: OnDone) -> None:
        """Answer every request exactly once; see `Engine.generate_many`.

        Parameters
        ----------
        requests : sequence of InferenceRequest
            For one model, quantization and engine.
        model : Model
            The model that they name by its digest.
        on_done : callable
            Gets each position, from 0, with its answer or its `LLMOpsError`; once each, in any order, in
            this thread. Work that is lost with a worker is done again by another one.

        Raises
        ------
        KeyboardInterrupt
            Ctrl-C; what was not handed over is not done, and no worker goes on computing it.
        """

    def close(self) -> None:
        """End the workers that this backend has started and leave the others alone."""
