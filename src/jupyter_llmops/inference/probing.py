"""Asks the same questions in every company, and looks at what comes back.

Alone, in batches of 2 to 16, beside a much longer one, with other numbers of threads, without a KV
cache; tokens, and where the engine shows them the logits before each, bit by bit.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING, Any, Final, cast

from jupyter_llmops.errors import LLMOpsError
from jupyter_llmops.inference.engine import Engine
from jupyter_llmops.records.completion import Generation
from jupyter_llmops.records.model import Model
from jupyter_llmops.records.request import InferenceRequest, Message

if TYPE_CHECKING:
    from jupyter_llmops.inference.rows import Row
    from jupyter_llmops.inference.transformers_engine import TransformersEngine

BATCHES: Final = (2, 4, 8, 16)
TOKENS: Final = 12
# So many of the questions are asked where each is computed alone; the batches get all.
FEW: Final = 4
QUESTIONS: Final = (
    "Why is the sky blue?",
    "Name three fruits.",
    "Write a haiku about the sea.",
    "What is 17 times 3?",
    "Explain photosynthesis to a child in two sentences, please, and mention the sun.",
    "Who was Ada Lovelace?",
    "Translate 'good morning' to French.",
    "List the planets of the solar system from the sun outward and say one fact about each of them.",
    "What is entropy?",
    "What does a GPU do?",
    "Give me a recipe for pancakes.",
    "Summarize: the cat sat on the mat. It was a warm day, and it slept until evening, when the rain came.",
    "Describe a sunset.",
    "How do vaccines work?",
    "Tell a joke.",
    "What is the capital of Australia, and why was it chosen over the two larger cities?",
)
LONG: Final = " ".join(QUESTIONS)


@dataclass(frozen=True, slots=True)
class Trace:
    """What came of one question: its tokens, and a digest of the logits before each; none where unknown."""

    tokens: tuple[int, ...]
    logits: tuple[str, ...] = ()


Traces = dict[int, Trace]


def asking(request: InferenceRequest, question: str) -> InferenceRequest:
    """Return a request for the same model that asks a question."""
    return replace(request, messages=(Message("user", question),))


def probe_for(engine: Engine, model: Model) -> AnswerProbe:
    """Return what can ask an engine, and looks as deep as it lets one."""
    if engine.name == "transformers":
        return LogitProbe(engine, model)
    return AnswerProbe(engine, model)


class AnswerProbe:
    """Asks an engine that shows its answers only."""

    def __init__(self, engine: Engine, model: Model) -> None:
        self._engine = engine
        self._model = model

    def alone(self, asked: Sequence[InferenceRequest]) -> Traces:
        """Return what comes of each request by itself."""
        return {
            index: _traced(self._engine.generate(request, self._model)) for index, request in enumerate(asked)
        }

    def steps(self, asked: Sequence[InferenceRequest]) -> Iterator[tuple[str, Callable[[], Traces]]]:
        """Yield each way to vary, by name, and what asks so."""
        for size in BATCHES:
            yield f"batch {size}", partial(self._together, asked, size)
        yield "padding", partial(self._padded, asked)

    def _together(self, asked: Sequence[InferenceRequest], size: int) -> Traces:
        found: Traces = {}
        for start in range(0, len(asked), size):
            part = asked[start : start + size]
            for index, trace in self._batch(part).items():
                found[start + index] = trace
        return found

    def _padded(self, asked: Sequence[InferenceRequest]) -> Traces:
        long = asking(asked[0], LONG)
        return {index: self._batch([request, long])[0] for index, request in enumerate(asked[:FEW])}

    def _batch(self, asked: Sequence[InferenceRequest]) -> Traces:
        answers: dict[int, Generation | LLMOpsError] = {}
        self._engine.generate_many(asked, self._model, answers.__setitem__)
        return {index: _traced(answer) for index, answer in answers.items()}


class LogitProbe(AnswerProbe):
    """Asks transformers, and looks at the logits."""

    def alone(self, asked: Sequence[InferenceRequest]) -> Traces:
        """Return what comes of each request by itself, and the logits of its steps."""
        found: Traces = {}
        for index, request in enumerate(asked):
            with self._listening(request) as heard:
                answer = self._engine.generate(request, self._model)
            found[index] = Trace(answer.token_ids, tuple(heard))
        return found

    def steps(self, asked: Sequence[InferenceRequest]) -> Iterator[tuple[str, Callable[[], Traces]]]:
        """Yield the ways of any engine, other numbers of threads, and no KV cache."""
        yield from super().steps(asked)
        import torch

        threads = torch.get_num_threads()
        for number in sorted({1, 2, threads} - {threads}):
            name = f"{number} thread{'s' if number > 1 else ''}"
            yield name, partial(self._with_threads, asked[:FEW], number)
        yield "no KV cache", partial(self._without_cache, asked[:FEW])

    def _with_threads(self, asked: Sequence[InferenceRequest], number: int) -> Traces:
        import torch

        before = torch.get_num_threads()
        torch.set_num_threads(number)
        try:
            return self.alone(asked)
        finally:
            torch.set_num_threads(before)

    def _batch(self, asked: Sequence[InferenceRequest]) -> Traces:
        from jupyter_llmops.inference import exact
        from jupyter_llmops.inference.batching import Batches
        from jupyter_llmops.inference.quiet import quiet

        weights, done = self._weights(asked[0]), dict[int, Generation | LLMOpsError]()
        rows = [self._row(weights, index, request) for index, request in enumerate(asked)]
        if asked[0].exact:
            if not exact.takes_rows(weights.net):
                return super()._batch(asked)
            exact.answer_rows(
                weights, self._model, [row for row, _ in rows], lambda r, a: done.__setitem__(r.position, a)
            )
        else:
            with quiet():
                Batches(weights, self._model, [row for row, _ in rows], done.__setitem__).run()
        return {index: Trace(_traced(answer).tokens, tuple(rows[index][1])) for index, answer in done.items()}

    def _without_cache(self, asked: Sequence[InferenceRequest]) -> Traces:
        return {index: self._uncached(request) for index, request in enumerate(asked)}

    def _uncached(self, request: InferenceRequest) -> Trace:
        """Return a trace in which every token is computed from the whole text before it."""
        import torch

        from jupyter_llmops.inference import exact
        from jupyter_llmops.inference.quiet import quiet

        weights = self._weights(request)
        row, heard = self._row(weights, 0, request)
        if request.exact and exact.takes_rows(weights.net):
            exact.answer_without_cache(weights, self._model, row)
            return Trace(tuple(row.token_ids), tuple(heard))
        with quiet(), torch.inference_mode():
            while not row.is_done(weights.stop_ids):
                ids = torch.tensor([row.tokens], device=weights.entry.device)
                logits = weights.net(input_ids=ids, use_cache=False).logits[:, -1]
                heard.append(_digest(logits))
                row.token_ids.append(int(logits.argmax(-1)))
        return Trace(tuple(row.token_ids), tuple(heard))

    def _row(self, weights: Any, position: int, request: InferenceRequest) -> tuple[Row, list[str]]:
        from jupyter_llmops.inference.rows import new_row

        row = new_row(weights, position, request, weights.chat.encode(request.messages))
        heard: list[str] = []

        def listen(_tokens: Any, scores: Any) -> Any:
            heard.append(_digest(scores))
            return scores

        row.processors.append(listen)
        return row, heard

    @contextmanager
    def _listening(self, request: InferenceRequest) -> Iterator[list[str]]:
        head = self._weights(request).net.get_output_embeddings()
        heard: list[str] = []
        # The last row of the last position: what a whole prompt gives before it is not looked at.
        hook = head.register_forward_hook(
            lambda _layer, _given, logits: heard.append(_digest(logits.reshape(-1, logits.shape[-1])[-1:]))
        )
        try:
            yield heard
        finally:
            hook.remove()

    def _weights(self, request: InferenceRequest) -> Any:
        engine = cast("TransformersEngine", self._engine)
        return engine.weights(self._model, request.quantization, exact=request.exact)


def _traced(answer: Generation | LLMOpsError) -> Trace:
    if isinstance(answer, LLMOpsError):
        raise answer
    if answer.finish_reason == "interrupted":
        raise KeyboardInterrupt
    # An engine that gives no tokens is compared by its text.
    return Trace(answer.token_ids or tuple(answer.text.encode()))


def _digest(logits: Any) -> str:
    import torch

    numbers = logits.detach().to(torch.float32).contiguous().cpu().numpy()
    return hashlib.blake2b(numbers.tobytes(), digest_size=8).hexdigest()
