"""Attention in which each row of a pass, or each token, is computed as if it were alone."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from jupyter_llmops.inference.rows import Row

ATTENTION = "llmops_exact"
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


@contextlib.contextmanager
def reading(rows: Sequence[ExactRow]) -> Iterator[None]:
    """Say whose tokens the next pass reads, in their order."""
    _now.rows = rows
    try:
        yield
    finally:
        _now.rows = ()


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
        asked = query[:, :, part]
        if _now.token_by_token:
            out[:, part] = _token_by_token(one, asked, keys, values, scaling, sliding_window)
            continue
        mask = _mask(one, sliding_window, query.device)
        attended = scaled_dot_product_attention(
            asked, keys, values, attn_mask=mask, scale=scaling, enable_gqa=True
        )
        out[:, part] = attended.transpose(1, 2)
    return out, None


def _token_by_token(
    one: ExactRow, asked: Any, keys: Any, values: Any, scaling: float | None, window: int | None
) -> Any:
    """Return what each fresh token attends to, computed as if it were the only one."""
    import torch
    from torch.nn.functional import scaled_dot_product_attention

    found = []
    threads = torch.get_num_threads()
    torch.set_num_threads(1)  # PyTorch's sum over the keys of a single token depends on their number
    try:
        for index in range(one.fresh):
            end = one.length + index + 1
            seen = slice(max(0, end - window) if window is not None else 0, end)
            query = asked[:, :, index : index + 1]
            found.append(
                scaled_dot_product_attention(
                    query, keys[:, :, seen], values[:, :, seen], scale=scaling, enable_gqa=True
                )
            )
    finally:
        torch.set_num_threads(threads)
    return torch.cat(found, dim=2).transpose(1, 2)


def _mask(one: ExactRow, window: int | None, device: Any) -> Any:
    """Return which tokens each fresh one sees; None where it sees all."""
    import torch

    end = one.length + one.fresh
    if one.fresh == 1 and (window is None or end <= window):
        return None
    at = torch.arange(end, device=device)
    distance = at[one.length :, None] - at[None, :]
    seen = distance >= 0
    return seen if window is None else seen & (distance < window)


@contextlib.contextmanager
def exact_attention(net: Any, *, token_by_token: bool) -> Iterator[None]:
    """Let the rows of a model attend alone; on leaving all is as it was.

    Parameters
    ----------
    net : transformers.PreTrainedModel
        The model.
    token_by_token : bool
        Whether each token attends by itself, and what is not quantized is multiplied in blocks of
        a fixed number of rows, so that every logit is bitwise the same.
    """
    import torch
    from transformers import AttentionInterface
    from transformers.masking_utils import AttentionMaskInterface

    AttentionInterface.register(ATTENTION, _attend)
    AttentionMaskInterface.register(ATTENTION, lambda *_, **__: None)
    config = net.config
    configs = {id(one): one for one in (config, config.get_text_config())}.values()
    before = [one._attn_implementation for one in configs]
    plain = [layer for layer in net.modules() if type(layer) is torch.nn.Linear] if token_by_token else []
    _now.token_by_token = token_by_token
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
