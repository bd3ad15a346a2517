"""What every engine can do, and what it says of itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jupyter_llmops.errors import LLMOpsError
from jupyter_llmops.records.completion import Generation
from jupyter_llmops.records.model import Model
from jupyter_llmops.records.request import InferenceRequest, Message, Scalar

# Told of each request that is done: its position, and its answer or why there is none.
OnDone = Callable[[int, Generation | LLMOpsError], None]

# Called with what is being done and how far it is, 0 to 1, or None where nobody knows.
Progress = Callable[[str, float | None], None]


@dataclass(frozen=True, slots=True)
class EngineIdentity:
    """Which program would answer, at which precision, where, and why so.

    Parameters
    ----------
    engine, engine_version : str
        The program and the versions of every package that decides its answer.
    quantization : str
        Precision of the weights, "auto" resolved; see `InferenceRequest`.
    device : {"cpu", "cuda", ""}
        Where it computes; empty for an endpoint.
    reason : str
        Why this engine and quantization, one sentence.
    options : tuple of (name, value), sorted by name
        Whatever else of the engine decides an answer; goes into the request.
    """

    engine: str
    engine_version: str
    quantization: str
    device: str
    reason: str
    options: tuple[tuple[str, Scalar], ...] = ()


@dataclass(frozen=True, slots=True)
class LoadedModel:
    """A model in memory; `memory_bytes` counts its weights and buffers, bytes."""

    name: str
    quantization: str
    device: str
    memory_bytes: int


@runtime_checkable
class Engine(Protocol):
    """A program that answers prompts; every method raises only `LLMOpsError`s of its own."""

    name: str

    def identify(self, model: Model, quantization: str, *, exact: bool = False) -> EngineIdentity:
        """Return who would answer, without loading anything.

        `exact` asks for the mode in which batches, padding and threads don't change a token.
        """

    def load(
        self, model: Model, quantization: str, progress: Progress | None = None, *, exact: bool = False
    ) -> None:
        """Bring the model into memory, as the exact mode has it where asked for; it stays until `unload`."""

    def generate(
        self, request: InferenceRequest, model: Model, on_text: Callable[[str], None] | None = None
    ) -> Generation:
        """Answer one request; Ctrl-C ends it with finish_reason "interrupted"."""

    def generate_many(self, requests: Sequence[InferenceRequest], model: Model, on_done: OnDone) -> None:
        """Answer many requests for one model and quantization, in batches where that is faster.

        `on_done` is called once for each position, in any order, in this thread; a request that fails
        hands over its exception. Ctrl-C passes through (KeyboardInterrupt): what was not handed over is
        not done.
        """

    def count_tokens(self, model: Model, messages: Sequence[Message]) -> int:
        """Return how many tokens the rendered chat has."""

    def score(
        self, model: Model, quantization: str, messages: Sequence[Message], choices: Sequence[str]
    ) -> list[float]:
        """Return the probability of each choice as the answer; they sum to 1."""

    def loaded(self) -> list[LoadedModel]:
        """Return the models in memory."""

    def unload(self, name: str) -> None:
        """Free the memory of a model."""
