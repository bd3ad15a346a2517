"""The engines of this process as one: each request goes to the program that answers for its model."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_llmops.errors import UsageError
from jupyter_llmops.inference.endpoints.address import is_endpoint
from jupyter_llmops.inference.endpoints.policy import EndpointOptions
from jupyter_llmops.inference.engine import Engine, EngineIdentity, LoadedModel, OnDone, Progress
from jupyter_llmops.inference.quantization import QUANTIZATIONS, choose_device
from jupyter_llmops.records.completion import Generation
from jupyter_llmops.records.model import Model
from jupyter_llmops.records.request import InferenceRequest, Message

if TYPE_CHECKING:
    from jupyter_llmops.inference.endpoints.engine import EndpointEngine
    from jupyter_llmops.inference.llama_engine import LlamaEngine
    from jupyter_llmops.inference.transformers_engine import TransformersEngine


class Engines:
    """Every engine behind the one interface of `Engine`.

    Parameters
    ----------
    folder : Path
        The models folder: converted models, saved quantized copies, remembered digests.
    offline : bool
        Never ask the Hugging Face hub.
    endpoint_options : callable
        Returns what the settings say of endpoints; asked anew for each run.
    """

    name = "engines"

    def __init__(
        self,
        folder: Path,
        offline: bool = False,
        endpoint_options: Callable[[], EndpointOptions] = EndpointOptions,
    ) -> None:
        self.folder = folder
        self._offline = offline
        self._endpoint_options = endpoint_options

    @property
    def offline(self) -> bool:
        """Whether the Hugging Face hub is never asked."""
        return self._offline

    @offline.setter
    def offline(self, value: bool) -> None:
        self._offline = value
        if "transformers" in self.__dict__:
            self.transformers.offline = value
        if "llama" in self.__dict__:
            self.llama.offline = value

    @cached_property
    def endpoints(self) -> EndpointEngine:
        """Answers of OpenAI-compatible endpoints."""
        from jupyter_llmops.inference.endpoints.engine import EndpointEngine

        return EndpointEngine(self._endpoint_options)

    @cached_property
    def transformers(self) -> TransformersEngine:
        """Local inference through transformers and bitsandbytes."""
        from jupyter_llmops.inference.transformers_engine import TransformersEngine

        return TransformersEngine(self.folder, offline=self._offline)

    @cached_property
    def llama(self) -> LlamaEngine:
        """Local inference of GGUF files through llama.cpp."""
        from jupyter_llmops.inference.llama_engine import LlamaEngine

        return LlamaEngine(self.folder, offline=self._offline)

    def engine_for(self, model: Model, quantization: str, *, exact: bool = False) -> Engine:  # noqa: ARG002
        """Return the engine that answers for a model at a quantization.

        A GGUF file as it is belongs to llama.cpp. That is what "auto" means for one where llama.cpp is
        installed and no GPU is: one stream is about four times as fast there as in transformers.

        Raises
        ------
        UsageError
            None can.
        """
        if is_endpoint(model):
            return self.endpoints
        if quantization == "auto":
            takes = self.llama.takes(model) and choose_device() == "cpu"
            return self.llama if takes else self.transformers
        if quantization in QUANTIZATIONS:
            return self.transformers
        # "gguf", or a file's own such as "Q4_1"; whatever else was typed, transformers says what is valid.
        return self.llama if quantization == "gguf" or self.llama.takes(model) else self.transformers

    def engine_of(self, request: InferenceRequest) -> Engine:
        """Return the engine that a request names.

        Raises
        ------
        UsageError
            There is none of that name here.
        """
        if request.engine == self.transformers.name:
            return self.transformers
        if request.engine == "llama.cpp":
            return self.llama
        if request.engine == "endpoint":
            return self.endpoints
        raise UsageError(
            f"There is no engine named {request.engine!r} here.",
            "Ask again without the record, with %%prompt.",
        )

    def identify(self, model: Model, quantization: str, *, exact: bool = False) -> EngineIdentity:
        """Return who would answer; see `Engine.identify`."""
        return self.engine_for(model, quantization, exact=exact).identify(model, quantization, exact=exact)

    def load(
        self, model: Model, quantization: str, progress: Progress | None = None, *, exact: bool = False
    ) -> None:
        """Bring a model into memory; see `Engine.load`."""
        self.engine_for(model, quantization, exact=exact).load(model, quantization, progress, exact=exact)

    def generate(
        self, request: InferenceRequest, model: Model, on_text: Callable[[str], None] | None = None
    ) -> Generation:
        """Answer one request; see `Engine.generate`."""
        return self.engine_of(request).generate(request, model, on_text)

    def generate_many(self, requests: Sequence[InferenceRequest], model: Model, on_done: OnDone) -> None:
        """Answer many requests; see `Engine.generate_many`."""
        if requests:
            self.engine_of(requests[0]).generate_many(requests, model, on_done)

    def count_tokens(self, model: Model, messages: Sequence[Message]) -> int:
        """Return how many tokens the rendered chat has."""
        return self.engine_for(model, "auto").count_tokens(model, messages)

    def rendered(self, model: Model, messages: Sequence[Message]) -> str:
        """Return the text that a local model reads, its chat template applied."""
        engine = self.engine_for(model, "auto")
        return (self.llama if engine is self.llama else self.transformers).rendered(model, messages)

    def with_digest(self, model: Model, progress: Progress | None = None) -> Model:
        """Return a local model with the digest of its files; an endpoint's has none."""
        return model if is_endpoint(model) else self.transformers.with_digest(model, progress)

    def identify_scorer(self, model: Model, quantization: str) -> EngineIdentity:
        """Return who would weigh choices: transformers, whose batches share prompts."""
        if is_endpoint(model):
            return self.endpoints.identify(model, quantization)
        return self.transformers.identify(model, _of_transformers(quantization))

    def score(
        self,
        model: Model,
        quantization: str,
        messages: Sequence[Message],
        choices: Sequence[str],
        **prior: Any,
    ) -> list[float]:
        """Return the probability of each choice; see `TransformersEngine.score_many`."""
        if is_endpoint(model):
            return self.endpoints.score(model, quantization, messages, choices)
        return self.transformers.score(model, _of_transformers(quantization), messages, choices, **prior)

    def score_many(
        self,
        model: Model,
        quantization: str,
        chats: Sequence[Sequence[Message]],
        choices: Sequence[str],
        **options: Any,
    ) -> list[list[float]]:
        """Return the probability of each choice for each chat; see `TransformersEngine.score_many`."""
        if is_endpoint(model):
            return [self.endpoints.score(model, quantization, chat, choices) for chat in chats]
        return self.transformers.score_many(model, _of_transformers(quantization), chats, choices, **options)

    def loaded(self) -> list[LoadedModel]:
        """Return the models in memory, of every engine."""
        return [entry for engine in self._made() for entry in engine.loaded()]

    def unload(self, name: str) -> None:
        """Free the memory of a model in whichever engine has it.

        Raises
        ------
        UnknownNameError
            It is not in memory.
        """
        having = [engine for engine in self._made() if any(entry.name == name for entry in engine.loaded())]
        for engine in having or [self.transformers]:
            engine.unload(name)

    def _made(self) -> list[Engine]:
        return [self.__dict__[name] for name in ("transformers", "llama") if name in self.__dict__]


def _of_transformers(quantization: str) -> str:
    return "auto" if quantization == "gguf" else quantization
