"""Answers one by one and side by side, token by token, from llama.cpp.

Side by side each answer has keys and values of its own, and no sum of it depends on the others: its
tokens are those it has alone (see `library.FLASH_ATTENTION`). A place that becomes free is taken by
the next prompt at once (iteration-level scheduling: Yu et al. 2022, "Orca"), and what all prompts begin
with is read once.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from jupyter_llmops.errors import LLMOpsError
from jupyter_llmops.inference.engine import OnDone
from jupyter_llmops.inference.llama.library import STEP, NativeContext, Step
from jupyter_llmops.inference.llama.sampling import Sampler
from jupyter_llmops.inference.streaming import CallbackFailed, TextStream
from jupyter_llmops.records.completion import FinishReason, Generation
from jupyter_llmops.records.request import InferenceRequest

if TYPE_CHECKING:
    from jupyter_llmops.inference.llama.chat import LlamaChat


@dataclass(slots=True, eq=False)
class LlamaRow:
    """A request on its way.

    Parameters
    ----------
    position : int
        Where the request is among those asked.
    request : InferenceRequest
        How to decode.
    prompt : list of int
        The tokens of its messages.
    sampler : Sampler
        Chooses its tokens.
    stream : TextStream
        Its answer so far.
    place : int
        Its sequence in the context.
    seconds : float
        Its share of the time so far.
    together : int
        Most answers that were computed together with it, itself included.
    """

    position: int
    request: InferenceRequest
    prompt: list[int]
    sampler: Sampler
    stream: TextStream
    place: int = 0
    seconds: float = 0.0
    together: int = 1
    failed: LLMOpsError | None = None

    @property
    def most_tokens(self) -> int:
        """Tokens of the prompt and of the longest answer allowed."""
        return len(self.prompt) + self.request.parameters.max_new_tokens

    def choose(self, context: NativeContext, index: int) -> None:
        """Take the next token; an error concerns this answer only."""
        try:
            self.stream.extend((self.sampler.choose(context, index),))
        except LLMOpsError as error:
            self.failed = error

    def ended(self, chat: LlamaChat) -> bool:
        """Whether the model ended the answer."""
        return bool(self.stream.token_ids) and chat.is_stop(self.stream.token_ids[-1])

    def is_done(self, chat: LlamaChat) -> bool:
        """Whether the answer has ended, reached its limit, or can't go on."""
        full = len(self.stream.token_ids) >= self.request.parameters.max_new_tokens
        return full or self.failed is not None or self.ended(chat)

    def generation(self, finish: FinishReason) -> Generation:
        """Return the answer."""
        self.stream.finish(complete=finish == "stop")
        return Generation(
            self.stream.text,
            tuple(self.stream.token_ids),
            len(self.prompt),
            self.seconds,
            finish,
            batch_size=self.together,
        )

    def outcome(self, chat: LlamaChat) -> Generation | LLMOpsError:
        """Return the answer, or why there is none."""
        return self.failed or self.generation("stop" if self.ended(chat) else "length")


def new_row(
    position: int,
    request: InferenceRequest,
    prompt: list[int],
    chat: LlamaChat,
    on_text: Callable[[str], None] | None = None,
) -> LlamaRow:
    """Return a row that has no token of its answer yet; its parameters were checked."""
    return LlamaRow(
        position, request, prompt, Sampler(request, chat, prompt), TextStream(chat.decode, on_text)
    )


def answer_alone(context: NativeContext, chat: LlamaChat, row: LlamaRow) -> Generation:
    """Answer one request; after Ctrl-C with what had come.

    Parameters
    ----------
    context : NativeContext
        With room for it; what is in it is forgotten.
    chat : LlamaChat
        The vocabulary.
    row : LlamaRow
        From `new_row`.

    Raises
    ------
    OutputSchemaError
        Its schema can't be followed any further.
    """
    began = time.perf_counter()
    try:
        context.forget()
        _read_prompt(context, row.prompt, row.place)
        row.choose(context, -1)
        while not row.is_done(chat):
            context.read((_last(row),))
            row.choose(context, 0)
        row.seconds = time.perf_counter() - began
        outcome = row.outcome(chat)
    except KeyboardInterrupt:
        row.seconds = time.perf_counter() - began
        return row.generation("interrupted")
    if isinstance(outcome, LLMOpsError):
        raise outcome
    return outcome


def answer_together(
    context: NativeContext, chat: LlamaChat, rows: Sequence[LlamaRow], on_done: OnDone
) -> None:
    """Answer many requests side by side; Ctrl-C passes through.

    Parameters
    ----------
    context : NativeContext
        With room for the longest; its last sequence is kept for what all prompts begin with.
    chat : LlamaChat
        The vocabulary.
    rows : sequence of LlamaRow
        From `new_row`.
    on_done : callable
        Told of each once, in this thread.
    """
    context.forget()
    # The longest first: the last ones, with few beside them, are short.
    waiting = deque(sorted(rows, key=lambda row: -row.most_tokens))
    free = list(range(context.sequences - 1))[::-1]
    beginning = shared_beginning([row.prompt for row in rows]) if context.model.has_attention_only else []
    if beginning:
        _read_prompt(context, beginning, context.sequences - 1)
    active: list[LlamaRow] = []
    while waiting or active:
        while waiting and free:
            row = waiting.popleft()
            row.place = free.pop()
            _start(context, row, len(beginning))
            active.append(row)
        for row in active:
            row.together = max(row.together, len(active))
        for row in [row for row in active if row.is_done(chat)]:
            active.remove(row)
            context.forget(row.place)
            free.append(row.place)
            _tell(on_done, row.position, row.outcome(chat))
        if active:
            _advance(context, active)


def shared_beginning(prompts: Sequence[list[int]]) -> list[int]:
    """Return what all prompts begin with, in whole steps, less at least one token of each."""
    if len(prompts) < 2:
        return []
    first, last = min(prompts), max(prompts)  # all others agree where these two do
    length = min(map(len, prompts)) - 1
    differs = next((i for i, (a, b) in enumerate(zip(first, last, strict=False)) if a != b), length)
    return first[: min(length, differs) // STEP * STEP]


def _start(context: NativeContext, row: LlamaRow, begun: int) -> None:
    started = time.perf_counter()
    if begun:
        context.copy(context.sequences - 1, row.place)
    _read_prompt(context, row.prompt, row.place, begun)
    row.choose(context, -1)
    row.seconds += time.perf_counter() - started


def _advance(context: NativeContext, active: list[LlamaRow]) -> None:
    started = time.perf_counter()
    active.sort(key=lambda row: row.place)  # neighbours are computed in one step
    context.read([_last(row) for row in active])
    for index, row in enumerate(active):
        row.choose(context, index)
    share = (time.perf_counter() - started) / len(active)
    for row in active:
        row.seconds += share


def _read_prompt(context: NativeContext, prompt: list[int], place: int, begun: int = 0) -> None:
    for start in range(begun, len(prompt), STEP):
        part = prompt[start : start + STEP]
        last = len(prompt) - 1
        context.read([Step(token, start + i, place, start + i == last) for i, token in enumerate(part)])


def _last(row: LlamaRow) -> Step:
    position = len(row.prompt) + len(row.stream.token_ids) - 1
    return Step(row.stream.token_ids[-1], position, row.place, scored=True)


def _tell(on_done: OnDone, position: int, answer: Generation | LLMOpsError) -> None:
    try:
        on_done(position, answer)
    except Exception as error:
        raise CallbackFailed(error) from error
