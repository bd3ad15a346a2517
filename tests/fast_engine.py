"""An engine that answers at once, for tests of what stands around an engine.

Its real counterpart, the default model, is used in tests/unit/test_inference_*.py and tests/notebooks/.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from jupyter_llmops.errors import LLMOpsError
from jupyter_llmops.inference.engine import EngineIdentity, LoadedModel, OnDone
from jupyter_llmops.records.completion import Generation
from jupyter_llmops.records.model import Model
from jupyter_llmops.records.request import InferenceRequest, Message


class FastEngine:
    """Answers with the last message, word by word; counts how often it was asked."""

    name = "fast"

    def __init__(self) -> None:
        self.asked = 0
        self.interrupt_after: int | None = None
        self.fail: Exception | None = None
        self._loaded: dict[str, LoadedModel] = {}

    def identify(self, model: Model, quantization: str, *, exact: bool = False) -> EngineIdentity:
        return EngineIdentity(
            "fast", "fast 1", "nf4" if quantization == "auto" else quantization, "cpu", "it is fast"
        )

    def identify_scorer(self, model: Model, quantization: str) -> EngineIdentity:
        return self.identify(model, quantization)

    def load(
        self,
        model: Model,
        quantization: str,
        progress: Callable[[str, float | None], None] | None = None,
        *,
        exact: bool = False,
    ) -> None:
        if progress:
            progress(f"Loading {model.name}", 0.5)
        self._loaded[model.name] = LoadedModel(model.name, quantization, "cpu", 1)

    def generate(
        self, request: InferenceRequest, model: Model, on_text: Callable[[str], None] | None = None
    ) -> Generation:
        self.asked += 1
        if self.fail is not None:
            raise self.fail
        words = request.messages[-1].content.split()[: request.parameters.max_new_tokens]
        written: list[str] = []
        for index, word in enumerate(words):
            if self.interrupt_after == index:
                return self._generation(written, "interrupted")
            written.append(word)
            if on_text:
                on_text(word + " ")
        return self._generation(written, "stop")

    def generate_many(self, requests: Sequence[InferenceRequest], model: Model, on_done: OnDone) -> None:
        for index, request in enumerate(requests):
            try:
                generation = self.generate(request, model)
            except LLMOpsError as error:
                on_done(index, error)
                continue
            if generation.finish_reason == "interrupted":
                raise KeyboardInterrupt
            on_done(index, generation)

    def _generation(self, words: list[str], finish: str) -> Generation:
        return Generation(" ".join(words), tuple(len(w) for w in words), 5, 0.25, finish)  # type: ignore[arg-type]

    def count_tokens(self, model: Model, messages: Sequence[Message]) -> int:
        return sum(len(message.content.split()) for message in messages)

    def loaded(self) -> list[LoadedModel]:
        return list(self._loaded.values())

    def unload(self, name: str) -> None:
        self._loaded.pop(name, None)
