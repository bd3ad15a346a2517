"""Answers in which batches, padding and threads don't change a token.

What changes an answer with its company is not the sum but its order: a matrix product of one row
and of sixteen add up in different orders, padding shifts the blocks of attention, and bfloat16
makes another token of the last bit (He et al. 2025, "Defeating nondeterminism in LLM inference").
Here the rows of a batch are laid one behind the other without padding; each attends alone, in the
shape it has alone; all else is computed row by row in kernels whose result does not depend on the
number of rows: bitsandbytes' nf4 on a CPU with AVX512-BF16, and float32 elsewhere.
"""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jupyter_llmops.errors import LLMOpsError
from jupyter_llmops.inference.boundary import boundary
from jupyter_llmops.inference.memory import free_bytes, is_out_of_memory
from jupyter_llmops.inference.quiet import quiet
from jupyter_llmops.inference.rows import Row, choose_tokens, new_row
from jupyter_llmops.inference.streaming import TextStream
from jupyter_llmops.records.completion import FinishReason, Generation
from jupyter_llmops.records.model import Model
from jupyter_llmops.records.request import InferenceRequest

if TYPE_CHECKING:
    from jupyter_llmops.inference.loading import LoadedWeights

ATTENTION = "llmops_exact"
MOST_ROWS = 16
# Rows of one product of a layer that is not quantized; a fixed number, filled up with zeros.
_BLOCK = 4
_STEP = 64  # by how many tokens a row's keys and values grow
_now = threading.local()


@dataclass(slots=True, eq=False)
class ExactRow:
    """A row with keys and values of its own.

    Parameters
    ----------
    row : Row
        The request and its tokens so far.
    length : int
        Tokens that were read.
    fresh : int
        Tokens that are being read.
    states : dict
        Keys and values of each layer.
    """

    row: Row
    length: int = 0
    fresh: int = 0
    states: dict[int, tuple[Any, Any]] = field(default_factory=dict)

    def extended(self, layer: int, keys: Any, values: Any) -> tuple[Any, Any]:
        """Keep the keys and values of the fresh tokens and return those of all."""
        import torch

        end = self.length + self.fresh
        kept = self.states.get(layer)
        if kept is None or kept[0].shape[2] < end:
            room = -(-end // _STEP) * _STEP
            grown = []
            for index, new in enumerate((keys, values)):
                whole = torch.empty((1, new.shape[1], room, new.shape[3]), dtype=new.dtype, device=new.device)
                if kept is not None:
                    whole[:, :, : self.length] = kept[index][:, :, : self.length]
                grown.append(whole)
            kept = (grown[0], grown[1])
            self.states[layer] = kept
        kept[0][:, :, self.length : end] = keys
        kept[1][:, :, self.length : end] = values
        return kept[0][:, :, :end], kept[1][:, :, :end]


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
    with quiet(), torch.inference_mode(), _exact(weights), boundary("Answering with", model, device):
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
    _now.rows = active
    try:
        logits = weights.net(
            input_ids=torch.tensor([ids], device=device),
            position_ids=torch.tensor([positions], device=device),
            use_cache=False,
            logits_to_keep=torch.tensor(last, device=device),
        ).logits[0]
    finally:
        _now.rows = ()
    for one in active:
        one.length += one.fresh
    return logits


def _attend(
    module: Any,
    query: Any,
    key: Any,
    value: Any,
    attention_mask: Any,  # noqa: ARG001 - rows are apart
    scaling: float | None = None,
    sliding_window: int | None = None,
    **_: Any,
) -> tuple[Any, None]:
    """Let each row of a pass attend to its own tokens; an attention function of transformers."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    out = torch.empty(
        (1, query.shape[2], query.shape[1], value.shape[3]), dtype=query.dtype, device=query.device
    )
    begin = 0
    for one in _now.rows:
        part = slice(begin, begin + one.fresh)
        begin += one.fresh
        keys, values = one.extended(module.layer_idx, key[:, :, part], value[:, :, part])
        mask, causal = None, one.fresh > 1
        if sliding_window is not None and keys.shape[2] > sliding_window:
            if one.fresh == 1:
                keys, values = keys[:, :, -sliding_window:], values[:, :, -sliding_window:]
            else:
                at = torch.arange(keys.shape[2], device=query.device)
                distance = at[one.length :, None] - at[None, :]
                mask, causal = (distance >= 0) & (distance < sliding_window), False
        elif causal and one.length:
            at = torch.arange(keys.shape[2], device=query.device)
            mask, causal = at[one.length :, None] >= at[None, :], False
        attended = scaled_dot_product_attention(
            query[:, :, part], keys, values, attn_mask=mask, is_causal=causal, scale=scaling, enable_gqa=True
        )
        out[:, part] = attended.transpose(1, 2)
    return out, None


@contextlib.contextmanager
def _exact(weights: LoadedWeights) -> Iterator[None]:
    """Switch a model to exact attention and fixed shapes; on leaving all is as it was."""
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(ATTENTION, _attend)
    AttentionMaskInterface.register(ATTENTION, lambda *_, **__: None)
    config = weights.net.config
    configs = {id(one): one for one in (config, config.get_text_config())}.values()
    before = [one._attn_implementation for one in configs]
    plain = _unpacked_layers(weights) if weights.entry.quantization == "nf4" else []
    try:
        for one in configs:
            one._attn_implementation = ATTENTION
        for layer in plain:
            layer.forward = _in_blocks(layer)
        yield
    finally:
        for one, name in zip(configs, before, strict=True):
            one._attn_implementation = name
        for layer in plain:
            layer.__dict__.pop("forward", None)


def _unpacked_layers(weights: LoadedWeights) -> list[Any]:
    import torch

    return [layer for layer in weights.net.modules() if type(layer) is torch.nn.Linear]


def _in_blocks(layer: Any) -> Callable[[Any], Any]:
    """Return the layer's product in blocks of a fixed number of rows: each row's sum then has one order."""
    import torch
    from torch.nn.functional import linear, pad

    def forward(states: Any) -> Any:
        flat = states.reshape(-1, states.shape[-1])
        rows = flat.shape[0]
        filled = pad(flat, (0, 0, 0, -rows % _BLOCK))
        blocks = [linear(block, layer.weight, layer.bias) for block in filled.split(_BLOCK)]
        return torch.cat(blocks)[:rows].reshape(*states.shape[:-1], -1)

    return forward


def needs_float32(quantization: str, device: str) -> bool:
    """Return whether the exact mode computes with other weights in memory than the default one.

    nf4 on a CPU with AVX512-BF16 has a kernel whose rows don't depend on each other, and float32
    is exact enough; anything else is unpacked to float32 once.
    """
    if quantization == "fp32":
        return False
    if quantization == "nf4" and device == "cpu":
        from jupyter_llmops.inference.threads import import_torch

        import_torch()
        with quiet():
            from bitsandbytes.functional import has_avx512bf16

        return not has_avx512bf16()
    return True


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
