"""One answer among the others of a batch: its tokens so far, and how its next one is chosen.

A row is decoded as if it were alone: its own sampler with its own seed, its own penalties over its
own tokens without padding, its own limit.
"""

from __future__ import annotations

import secrets
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jupyter_llmops.errors import LLMOpsError
from jupyter_llmops.inference.constrained import logits_processors
from jupyter_llmops.inference.streaming import TextStream
from jupyter_llmops.records.completion import FinishReason, Generation
from jupyter_llmops.records.request import GenerationParameters, InferenceRequest

if TYPE_CHECKING:
    from jupyter_llmops.inference.loading import LoadedWeights


@dataclass(slots=True, eq=False)
class Row:
    """A request on its way.

    Parameters
    ----------
    position : int
        Where the request is among those asked.
    request : InferenceRequest
        How to decode.
    prompt : list of int
        The tokens of its messages.
    processors : list of callables
        Each turns (tokens, scores) into scores, as transformers' logits processors.
    generator : torch.Generator or None
        Draws its tokens; None is greedy.
    token_ids : list of int
        The answer so far.
    seconds : float
        Its share of the time so far.
    together : int
        Most rows that were in a batch with it, itself included.
    failed : LLMOpsError or None
        Why it can't go on.
    handed_over : bool
        Whether the caller has its answer.
    """

    position: int
    request: InferenceRequest
    prompt: list[int]
    processors: list[Any] = field(default_factory=list)
    generator: Any = None
    token_ids: list[int] = field(default_factory=list)
    seconds: float = 0.0
    together: int = 1
    failed: LLMOpsError | None = None
    handed_over: bool = False

    @property
    def tokens(self) -> list[int]:
        """The prompt and the answer so far."""
        return self.prompt + self.token_ids

    @property
    def most_tokens(self) -> int:
        """Tokens of the prompt and of the longest answer allowed."""
        return len(self.prompt) + self.request.parameters.max_new_tokens

    def is_done(self, stop_ids: Sequence[int]) -> bool:
        """Whether the answer has ended, reached its limit, or can't go on."""
        if self.failed is not None or len(self.token_ids) >= self.request.parameters.max_new_tokens:
            return True
        return bool(self.token_ids) and self.token_ids[-1] in stop_ids

    def generation(self, weights: LoadedWeights) -> Generation:
        """Return the answer, its text made token by token as `answer_one` does."""
        stream = TextStream(weights.chat.decode)
        for token in self.token_ids:
            stream.extend((token,))
        ended = bool(self.token_ids) and self.token_ids[-1] in weights.stop_ids
        stream.finish(complete=ended)
        finish: FinishReason = "stop" if ended else "length"
        return Generation(
            stream.text,
            tuple(self.token_ids),
            len(self.prompt),
            self.seconds,
            finish,
            batch_size=self.together,
        )


def new_row(weights: LoadedWeights, position: int, request: InferenceRequest, prompt: list[int]) -> Row:
    """Return a row that has no token of its answer yet.

    Parameters
    ----------
    weights : LoadedWeights
        The model.
    position : int
        Where the request is among those asked.
    request : InferenceRequest
        How to decode; its parameters were checked.
    prompt : list of int
        The tokens of its messages.
    """
    import torch

    parameters = request.parameters
    generator = None
    if parameters.sampled:
        generator = torch.Generator(weights.entry.device)
        generator.manual_seed(secrets.randbits(63) if parameters.seed is None else parameters.seed)
    found = logits_processors(request, weights.chat, weights.stop_ids, len(prompt))
    return Row(position, request, prompt, [*found, *processors(weights, parameters, len(prompt))], generator)


def processors(weights: LoadedWeights, parameters: GenerationParameters, tokens_in: int) -> list[Any]:
    """Return what changes a row's scores, in the order in which transformers' ``generate`` does it.

    Parameters
    ----------
    weights : LoadedWeights
        For the tokens that end an answer.
    parameters : GenerationParameters
        As asked for.
    tokens_in : int
        Number of the prompt's tokens.
    """
    import transformers as library

    extra = dict(parameters.extra)
    device = weights.entry.device
    found: list[Any] = []
    if (penalty := extra.get("repetition_penalty", 1.0)) != 1.0:
        found.append(library.RepetitionPenaltyLogitsProcessor(float(penalty or 1.0)))
    if size := extra.get("no_repeat_ngram_size"):
        found.append(library.NoRepeatNGramLogitsProcessor(int(size)))
    if least := extra.get("min_new_tokens"):
        found.append(
            library.MinNewTokensLengthLogitsProcessor(tokens_in, int(least), weights.stop_ids, device=device)
        )
    if parameters.sampled:
        found += _warpers(parameters.temperature, extra)
    if extra.get("renormalize_logits"):
        found.append(library.LogitNormalization())
    return found


def choose_tokens(rows: Sequence[Row], logits: Any) -> None:
    """Append to each row its next token.

    Parameters
    ----------
    rows : sequence of Row
        A row that can't go on gets `Row.failed`, or keeps its last state.
    logits : tensor, (rows, vocabulary)
        Of the next token.
    """
    best = logits.argmax(dim=-1).tolist()
    for index, row in enumerate(rows):
        if row.failed is not None:
            continue
        if not row.processors and row.generator is None:
            row.token_ids.append(best[index])
            continue
        try:
            row.token_ids.append(_choose(row, logits[index : index + 1]))
        except LLMOpsError as error:  # e.g. a schema that allows no token: it concerns this row only
            row.failed = error


def _choose(row: Row, logits: Any) -> int:
    import torch

    scores = logits.to(torch.float32, copy=True)
    if row.processors:
        tokens = torch.tensor([row.tokens], device=logits.device)
        for process in row.processors:
            scores = process(tokens, scores)
    if row.generator is None:
        return int(scores.argmax(dim=-1))
    chances = scores.softmax(dim=-1)
    return int(torch.multinomial(chances, num_samples=1, generator=row.generator))


def _warpers(temperature: float, extra: dict[str, Any]) -> list[Any]:
    import transformers as library

    found: list[Any] = []
    if temperature != 1.0:
        found.append(library.TemperatureLogitsWarper(float(temperature)))
    if top_k := extra.get("top_k"):
        found.append(library.TopKLogitsWarper(top_k))
    if extra.get("top_p", 1.0) < 1.0:
        found.append(library.TopPLogitsWarper(extra["top_p"]))
    if extra.get("min_p") is not None:
        found.append(library.MinPLogitsWarper(extra["min_p"]))
    if extra.get("typical_p", 1.0) < 1.0:
        found.append(library.TypicalLogitsWarper(extra["typical_p"]))
    return found
