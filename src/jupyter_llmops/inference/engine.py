"""What every engine can do, and what it says of itself."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

from jupyter_llmops.records.completion import Generation
from jupyter_llmops.records.model import Model
from jupyter_llmops.records.request import InferenceRequest, Message

# Called with what is being done and how far it is, 0 to 1, or None where nobody knows.
Progress = Callable[[str, float | None], None]


@dataclass(frozen=True, slots=True)
class EngineIdentity:
    """Which program would answer, at which precision, where, and why so.

    Parameters
    ----------
    engine, engine_version : str
        The program and the versions of every package that decides its answer.
    quantization : {"nf4", "bf16", "fp32"}
        Precision of the weights, "auto" resolved.
    device : {"cpu", "cuda"}
        Where it computes.
    reason : str
        Why this quantization, one sentence.
    """

    engine: str
    engine_version: str
    quantization: str
    device: str
    reason: str


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

    def identify(self, model: Model, quantization: str) -> EngineIdentity:
        """Return who would answer, without loading anything."""

    def load(self, model: Model, quantization: str, progress: Progress | None = None) -> None:
        """Bring the model into memory; it stays until `unload`."""

    def generate(
        self, request: InferenceRequest, model: Model, on_text: Callable[[str], None] | None = None
    ) -> Generation:
        """Answer one request; Ctrl-C ends it with finish_reason "interrupted"."""

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
