"""Many answers at once: batches of prompts of like length, as large as memory and the device allow.

Rows leave the batch when they are done and the next prompts take their places, between any two
tokens (iteration-level scheduling: Yu et al. 2022, "Orca"). What all prompts begin with, a system
message mostly, is computed once.
"""

from __future__ import annotations

import inspect
import time
import traceback
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from jupyter_llmops.errors import LLMOpsError
from jupyter_llmops.inference import attention_cache, exact
from jupyter_llmops.inference.answering import answer_one, check_context, check_request
from jupyter_llmops.inference.boundary import boundary
from jupyter_llmops.inference.decoding import check_parameters
from jupyter_llmops.inference.engine import OnDone
from jupyter_llmops.inference.memory import free_bytes, is_out_of_memory, need_memory
from jupyter_llmops.inference.quiet import quiet
from jupyter_llmops.inference.rows import Row, choose_tokens, new_row
from jupyter_llmops.inference.streaming import CallbackFailed
from jupyter_llmops.records.completion import Generation
from jupyter_llmops.records.model import Model
from jupyter_llmops.records.request import InferenceRequest

if TYPE_CHECKING:
    from jupyter_llmops.inference.loading import LoadedWeights

# Rows of a batch: beyond it a step takes as much longer as it has more rows.
MOST_ROWS = {"cpu": 64, "cuda": 256}
# Tokens that are read in one pass; their activations are what memory is needed for.
_TOKENS_A_PASS = {"cpu": 4096, "cuda": 32768}
# What all prompts begin with is computed once where it has at least so many tokens.
_SHORTEST_PREFIX = 8
# Part of the free memory that a batch may take, by a rough count.
_PART_OF_MEMORY = 0.6
# Rows that are done stay in the batch until they are this part of it: to go, all are copied.
_DONE_PART = 8


class Batches:
    """Answers rows in batches.

    Parameters
    ----------
    weights : LoadedWeights
        The model; its attention cache is not of the kind "alone".
    model : Model
        For messages.
    rows : sequence of Row
        What is asked, in any order.
    on_done : callable
        Told of each request once, in this thread.
    most_rows : int, optional
        Rows of a batch; by default what the device likes.
    """

    def __init__(
        self,
        weights: LoadedWeights,
        model: Model,
        rows: Sequence[Row],
        on_done: OnDone,
        most_rows: int | None = None,
    ) -> None:
        self._weights = weights
        self._model = model
        self._on_done = on_done
        self._device = weights.entry.device
        self._joins = attention_cache.kind_of(weights.net) == "joins"
        self._accepts = set(inspect.signature(weights.net.forward).parameters)
        # The longest first: if memory runs out it does at once, and the last batch is of short ones.
        self._queue = sorted(rows, key=lambda row: len(row.prompt))
        self._most = most_rows or MOST_ROWS[self._device]
        self._prefix: list[int] = _shared(self._queue) if self._joins else []
        self._prefix_cache: Any = None
        self._rows: list[Row] = []  # in the batch, those that are done and not dropped yet included
        self._next: list[Row] = []  # being read
        self._cache: Any = None
        self._mask: Any = None

    def run(self) -> None:
        """Answer all; Ctrl-C passes through, and what was not handed over is not done."""
        import torch

        with quiet(), torch.inference_mode():
            while self._queue or self._rows:
                for step in (self._admit, self._advance):
                    try:
                        step()
                    except Exception as error:  # noqa: BLE001 - one batch's failure is not the others'
                        self._failed(error)
                    self._hand_over()

    def _admit(self) -> None:
        """Read prompts into the places that are free, where enough are to be worth it."""
        places = self._places()
        if not self._queue or (self._rows and (not self._joins or places < max(1, self._most // 4))):
            return
        self._next = [self._queue.pop() for _ in range(min(max(places, 1), len(self._queue)))]
        groups = self._groups(self._next)
        if not self._joins:  # what was read in another pass can't be joined
            self._queue += [row for group in reversed(groups[1:]) for row in reversed(group)]
            groups, self._next = groups[:1], groups[0]
        if places < 1:
            need_memory(
                self._bytes_of(self._next[0].most_tokens), self._device, self._model, "Answering with"
            )
        caches, masks = ([self._cache], [self._mask]) if self._rows else ([], [])
        joined = list(self._rows)
        for group in groups:
            begun = time.perf_counter()
            cache, mask, logits = self._read(group)
            choose_tokens(group, logits)
            _share(group, time.perf_counter() - begun)
            caches.append(cache)
            masks.append(mask)
            joined += group
        self._cache, self._mask = attention_cache.join(caches, masks)
        self._rows, self._next = joined, []
        for row in self._rows:
            row.together = max(row.together, len(self._rows))

    def _places(self) -> int:
        free = free_bytes(self._device)
        places = self._most - len(self._rows)
        if free is None or not self._queue:
            return places
        waiting = self._queue[-max(places, 1) :]
        longest = max(row.most_tokens for row in [*waiting, *self._rows])
        still_to_come = sum(self._bytes_of(row.most_tokens - len(row.tokens)) for row in self._rows)
        return min(places, int((_PART_OF_MEMORY * free - still_to_come) / self._bytes_of(longest)))

    def _bytes_of(self, tokens: int) -> int:
        # A row's cache is copied once to join; its scores are copied in float32 to choose from.
        vocabulary = self._weights.net.config.get_text_config().vocab_size
        return 2 * self._weights.cache_bytes(tokens) + 3 * 4 * int(vocabulary)

    def _groups(self, rows: Sequence[Row]) -> list[list[Row]]:
        groups: list[list[Row]] = []
        for row in rows:  # the longest first, so the first of a group says how wide it is
            wide = len(groups[-1][0].tokens) if groups else 0
            if not groups or wide * (len(groups[-1]) + 1) > _TOKENS_A_PASS[self._device]:
                groups.append([])
            groups[-1].append(row)
        return groups

    def _read(self, rows: Sequence[Row]) -> tuple[Any, Any, Any]:
        """Return the attention cache of the rows, its mask, and the logits after their last tokens."""
        import torch
        from transformers.cache_utils import DynamicCache

        start = len(self._prefix)
        rests = [row.tokens[start:] for row in rows]
        longest = max(map(len, rests))
        ids = torch.full((len(rows), longest), self._weights.pad_id)
        mask = torch.zeros((len(rows), start + longest), dtype=torch.long)
        mask[:, :start] = 1
        for index, rest in enumerate(rests):  # padded on the left: the answers begin in one column
            ids[index, longest - len(rest) :] = torch.tensor(rest)
            mask[index, start + longest - len(rest) :] = 1
        ids, mask = ids.to(self._device), mask.to(self._device)
        if start:
            cache = attention_cache.repeated(self._prefix_states(), len(rows))
        else:
            cache = DynamicCache(config=self._weights.net.config)
        return cache, mask, self._forward(ids, mask, cache)

    def _prefix_states(self) -> Any:
        import torch
        from transformers.cache_utils import DynamicCache

        if self._prefix_cache is None:
            cache = DynamicCache(config=self._weights.net.config)
            ids = torch.tensor([self._prefix], device=self._device)
            self._forward(ids, torch.ones_like(ids), cache)
            self._prefix_cache = cache
        return self._prefix_cache

    def _forward(self, ids: Any, mask: Any, cache: Any) -> Any:
        values = {"input_ids": ids, "attention_mask": mask, "past_key_values": cache, "use_cache": True}
        if "position_ids" in self._accepts:
            values["position_ids"] = (mask.cumsum(-1) - 1).clamp(min=0)[:, -ids.shape[1] :]
        if "logits_to_keep" in self._accepts:
            values["logits_to_keep"] = 1
        return self._weights.net(**values, return_dict=True).logits[:, -1]

    def _advance(self) -> None:
        """Compute the next token of every row that is in the batch; a row that is done is computed in vain."""
        import torch
        from torch.nn.functional import pad

        going = [index for index, row in enumerate(self._rows) if not row.is_done(self._weights.stop_ids)]
        if not going:
            self._forget()
            return
        if len(going) < len(self._rows) and (len(self._rows) - len(going)) * _DONE_PART >= len(self._rows):
            self._mask = attention_cache.keep_rows(self._cache, self._mask, going, trim=self._joins)
            self._rows = [self._rows[index] for index in going]
            going = list(range(len(going)))
        begun = time.perf_counter()
        self._mask = pad(self._mask, (0, 1), value=1)
        last = torch.tensor([[row.tokens[-1]] for row in self._rows], device=self._device)
        logits = self._forward(last, self._mask, self._cache)
        active = [self._rows[index] for index in going]
        choose_tokens(active, logits if len(active) == len(self._rows) else logits[going])
        _share(active, time.perf_counter() - begun)

    def _hand_over(self) -> None:
        for row in self._rows:
            if row.is_done(self._weights.stop_ids) and not row.handed_over:
                row.handed_over = True
                _tell(self._on_done, row.position, row.failed or row.generation(self._weights))

    def _failed(self, error: Exception) -> None:
        """Put the rows back, half as many at once, where memory ran out; else say why to each."""
        done: list[Row] = []
        rows: list[Row] = []
        for row in [*self._rows, *self._next]:
            (done if row.is_done(self._weights.stop_ids) else rows).append(row)
        if not rows:
            raise error  # not about a row: it would come again and again
        together = len(done) + len(rows)
        self._forget()
        traceback.clear_frames(error.__traceback__)  # the failed pass, kept by it, is what memory is short of
        if is_out_of_memory(error) and together > 1:
            self._most = (together + 1) // 2
            # Their tokens so far and their samplers' states stay: they go on where they were.
            self._queue = sorted([*self._queue, *rows], key=lambda row: len(row.tokens))
        else:
            reason = self._reason(error)
            for row in rows:
                row.failed = reason
            done += rows
        self._give_back()
        self._rows = done  # to be handed over
        self._hand_over()
        self._forget()

    def _reason(self, error: Exception) -> LLMOpsError:
        try:
            with boundary("Answering with", self._model, self._device):
                raise error
        except LLMOpsError as reason:
            return reason

    def _give_back(self) -> None:
        from jupyter_llmops.inference.loading import give_memory_back

        give_memory_back(self._device)

    def _forget(self) -> None:
        self._rows, self._next = [], []
        self._cache = self._mask = None


def _share(rows: Sequence[Row], seconds: float) -> None:
    for row in rows:
        row.seconds += seconds / len(rows)


def _shared(rows: Sequence[Row]) -> list[int]:
    """Return what all prompts begin with, less at least one token of each; empty where it does not pay."""
    if len(rows) < 2:
        return []
    first = rows[0].prompt
    length = min(len(row.prompt) for row in rows) - 1
    for row in rows:
        while row.prompt[:length] != first[:length]:
            length -= 1
    return first[:length] if length >= _SHORTEST_PREFIX else []


def answer_many(
    weights: LoadedWeights, model: Model, requests: Sequence[InferenceRequest], on_done: OnDone
) -> None:
    """Answer many requests, in batches where the model and the request allow it, else one by one.

    Parameters
    ----------
    weights : LoadedWeights
        The model.
    model : Model
        For messages.
    requests : sequence of InferenceRequest
        What is asked of it.
    on_done : callable
        Told of each once; a request that fails hands over its error.
    """
    batched: list[Row] = []
    alone: list[Row] = []
    exactly: list[Row] = []
    takes_batches = attention_cache.kind_of(weights.net) != "alone"
    for position, request in enumerate(requests):
        try:
            row = _checked_row(weights, position, request)
        except LLMOpsError as error:
            _tell(on_done, position, error)
            continue
        if request.exact:
            (exactly if exact.takes_request(weights.net, request) else alone).append(row)
            continue
        beams = dict(request.parameters.extra).get("num_beams")
        (batched if takes_batches and beams in (None, 1) else alone).append(row)
    Batches(weights, model, batched, on_done).run()
    exact.answer_rows(weights, model, exactly, lambda row, answer: _tell(on_done, row.position, answer))
    for row in alone:
        _tell(on_done, row.position, _alone(weights, model, row))


def _checked_row(weights: LoadedWeights, position: int, request: InferenceRequest) -> Row:
    check_parameters(request.parameters)
    check_request(request, weights)
    prompt = weights.chat.encode(request.messages)
    check_context(len(prompt), request.parameters.max_new_tokens, weights.context_length)
    return new_row(weights, position, request, prompt)


def _alone(weights: LoadedWeights, model: Model, row: Row) -> Generation | LLMOpsError:
    device = weights.entry.device
    try:
        need_memory(weights.cache_bytes(row.most_tokens), device, model, "Answering with")
        with boundary("Answering with", model, device):
            generation = answer_one(weights, row.request, row.prompt)
    except LLMOpsError as error:
        return error
    if generation.finish_reason == "interrupted":
        raise KeyboardInterrupt
    return generation


def _tell(on_done: OnDone, position: int, answer: Generation | LLMOpsError) -> None:
    try:
        on_done(position, answer)
    except Exception as error:
        raise CallbackFailed(error) from error
