"""Answers in which batches, padding and threads don't change a token.

What changes an answer with its company is not the sum but its order: a matrix product of one row
and of sixteen add up in different orders, padding shifts the blocks of attention, and where numbers
are rounded to bfloat16 on the way the last bit makes another token (He et al. 2025, "Defeating
nondeterminism in LLM inference"). Here the rows of a batch are laid one behind the other without
padding, and each attends alone, in the shape that it has alone.

Weights in nf4 on a CPU with AVX512-BF16 stay as they are: the rows of bitsandbytes' product don't
depend on each other. What is not quantized is multiplied in blocks of a fixed number of rows, and
each token attends by itself, in a prompt as in an answer, so that every logit is bitwise the same.
All other weights are unpacked to float32, where the last bit is too small to change a token.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from jupyter_llmops.errors import LLMOpsError
from jupyter_llmops.inference.boundary import boundary
from jupyter_llmops.inference.exact_attention import ExactRow, exact_attention, reading
from jupyter_llmops.inference.memory import free_bytes, is_out_of_memory
from jupyter_llmops.inference.quiet import quiet
from jupyter_llmops.inference.rows import Row, choose_tokens, new_row
from jupyter_llmops.inference.streaming import TextStream
from jupyter_llmops.records.completion import FinishReason, Generation
from jupyter_llmops.records.model import Model
from jupyter_llmops.records.request import InferenceRequest

if TYPE_CHECKING:
    from jupyter_llmops.inference.loading import LoadedWeights

MOST_ROWS = 16


def takes_rows(net: Any) -> bool:
    """Return whether a model's rows can attend alone in one pass; else its answers are computed one by one."""
    from jupyter_llmops.inference.attention_cache import kind_of

    config = net.config.get_text_config()
    unusual = getattr(config, "attn_logit_softcapping", None) or config.model_type == "gpt_oss"
    return (
        bool(getattr(net, "_supports_attention_backend", False))
        and not unusual
        and kind_of(net) != "alone"
        and net.get_output_embeddings() is not None
    )


def takes_request(net: Any, request: InferenceRequest) -> bool:
    """Return whether a request can be answered among others; else alone, in the shape it always has."""
    return takes_rows(net) and dict(request.parameters.extra).get("num_beams") in (None, 1)


def answer_rows(
    weights: LoadedWeights,
    model: Model,
    rows: Sequence[Row],
    on_done: Callable[[Row, Generation | LLMOpsError], None],
    on_logits: Callable[[Row, Any], None] | None = None,
    most_rows: int = MOST_ROWS,
) -> None:
    """Answer rows, several at once.

    Parameters
    ----------
    weights : LoadedWeights
        A model that `takes_rows`, in the precision of the exact mode.
    model : Model
        For messages.
    rows : sequence of Row
        What is asked; when one is done the next takes its place.
    on_done : callable
        Told of each row once.
    on_logits : callable, optional
        Gets the logits of each next token, before it is chosen.
    most_rows : int
        Rows that are computed together.

    Raises
    ------
    ModelMemoryError
        Memory ran out.
    """
    import torch

    waiting, active = list(rows)[::-1], list[ExactRow]()
    device = weights.entry.device
    with (
        quiet(),
        torch.inference_mode(),
        exact_attention(weights.net, token_by_token=_is_bitwise(weights)),
        boundary("Answering with", model, device),
    ):
        while waiting or active:
            while waiting and len(active) < most_rows and (not active or _fits(weights, waiting[-1])):
                active.append(ExactRow(waiting.pop()))
            begun = time.perf_counter()
            try:
                logits = _read(weights, active)
            except Exception as error:
                if not is_out_of_memory(error) or len(active) == 1:
                    raise
                most_rows = len(active) // 2
                waiting += [_again(one.row) for one in active[most_rows:]][::-1]
                active = [ExactRow(_again(one.row)) for one in active[:most_rows]]
                continue
            if on_logits is not None:
                for index, one in enumerate(active):
                    on_logits(one.row, logits[index])
            choose_tokens([one.row for one in active], logits)
            seconds = (time.perf_counter() - begun) / len(active)
            going = []
            for one in active:
                one.row.seconds += seconds
                one.row.together = max(one.row.together, len(active))
                if one.row.is_done(weights.stop_ids):
                    on_done(one.row, one.row.failed or one.row.generation(weights))
                else:
                    going.append(one)
            active = going


def answer_without_cache(weights: LoadedWeights, model: Model, row: Row) -> None:
    """Answer one row, each token from the whole text before it; to see whether the cache matters."""
    import torch

    device = weights.entry.device
    with (
        quiet(),
        torch.inference_mode(),
        exact_attention(weights.net, token_by_token=_is_bitwise(weights)),
        boundary("Answering with", model, device),
    ):
        while not row.is_done(weights.stop_ids):
            choose_tokens([row], _read(weights, [ExactRow(row)]))


def _fits(weights: LoadedWeights, row: Row) -> bool:
    free = free_bytes(weights.entry.device)
    return free is None or 2 * weights.cache_bytes(row.most_tokens) < free


def _again(row: Row) -> Row:
    """Return a row at its beginning: read in another shape, its tokens so far could give other logits."""
    row.token_ids.clear()
    seed = row.request.parameters.seed
    if row.generator is not None and seed is not None:
        row.generator.manual_seed(seed)
    return row


def answer_exactly(
    weights: LoadedWeights,
    model: Model,
    request: InferenceRequest,
    prompt: list[int],
    on_text: Callable[[str], None] | None = None,
) -> Generation:
    """Answer one request with its text as it comes; after Ctrl-C with what had come.

    Raises
    ------
    LLMOpsError
        It can't be answered.
    """
    row = new_row(weights, 0, request, prompt)
    stream = TextStream(weights.chat.decode, on_text)
    done: list[Generation | LLMOpsError] = []
    finish: FinishReason = "interrupted"
    begun = time.perf_counter()

    def take(_row: Row, _logits: Any) -> None:
        stream.extend(row.token_ids[len(stream.token_ids) :])

    try:
        answer_rows(weights, model, [row], lambda _, answer: done.append(answer), take, most_rows=1)
        if row.failed is not None:
            raise row.failed
        stream.extend(row.token_ids[len(stream.token_ids) :])
        ended = bool(row.token_ids) and row.token_ids[-1] in weights.stop_ids
        stream.finish(complete=ended)
        finish = "stop" if ended else "length"
    except KeyboardInterrupt:
        stream.finish(complete=False)
    seconds = time.perf_counter() - begun
    return Generation(stream.text, tuple(stream.token_ids), len(row.prompt), seconds, finish)


def _read(weights: LoadedWeights, active: Sequence[ExactRow]) -> Any:
    """Return the logits after the last token of each row, (rows, vocabulary)."""
    import torch

    ids: list[int] = []
    positions: list[int] = []
    last: list[int] = []
    for one in active:
        fresh = one.row.tokens[one.length :]
        one.fresh = len(fresh)
        ids += fresh
        positions += range(one.length, one.length + len(fresh))
        last.append(len(ids) - 1)
    device = weights.entry.device
    with reading(active):
        logits = weights.net(
            input_ids=torch.tensor([ids], device=device),
            position_ids=torch.tensor([positions], device=device),
            use_cache=False,
            logits_to_keep=torch.tensor(last, device=device),
        ).logits[0]
    for one in active:
        one.length += one.fresh
    return logits


def _is_bitwise(weights: LoadedWeights) -> bool:
    return weights.entry.quantization == "nf4" and not needs_float32("nf4", weights.entry.device)


def needs_float32(quantization: str, device: str) -> bool:
    """Return whether the exact mode computes with other weights in memory than the default one.

    Parameters
    ----------
    quantization : {"nf4", "int8", "bf16", "fp32"}
        Precision of the weights.
    device : {"cpu", "cuda"}
        Where.
    """
    return quantization != "fp32" and not (quantization == "nf4" and device == "cpu" and _has_kernel())


def _has_kernel() -> bool:
    from jupyter_llmops.inference.threads import import_torch

    import_torch()
    with quiet():
        from bitsandbytes.functional import has_avx512bf16

    return bool(has_avx512bf16())


def to_float32(net: Any) -> Any:
    """Unpack every quantized layer and make all numbers float32; returns the model."""
    import bitsandbytes as bnb
    import torch

    for name, layer in list(net.named_modules()):
        if isinstance(layer, bnb.nn.Linear4bit):
            weight = bnb.functional.dequantize_4bit(layer.weight.data, layer.weight.quant_state)
        elif isinstance(layer, bnb.nn.Linear8bitLt):
            packed, scale = layer.weight, layer.state.SCB if layer.weight.SCB is None else layer.weight.SCB
            weight = bnb.functional.int8_vectorwise_dequant(packed.data, scale)
        else:
            continue
        plain = torch.nn.Linear(1, 1, bias=layer.bias is not None, device="meta")
        plain.weight = torch.nn.Parameter(weight.float(), requires_grad=False)
        if layer.bias is not None:
            plain.bias = torch.nn.Parameter(layer.bias.data.float(), requires_grad=False)
        parent, _, own = name.rpartition(".")
        setattr(net.get_submodule(parent), own, plain)
    for holder in net.modules():
        for table in (holder._parameters, holder._buffers):
            for name, tensor in table.items():
                if tensor is not None and tensor.is_floating_point() and tensor.dtype != torch.float32:
                    if isinstance(tensor, torch.nn.Parameter):
                        tensor.data = tensor.data.float()
                    else:
                        table[name] = tensor.float()
    return net
