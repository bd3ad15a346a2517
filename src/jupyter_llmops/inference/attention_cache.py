"""The library's attention cache of several rows: which rows are in it, and how two become one.

The rows of a batch end in the same column; what a row does not have in a column is masked. So rows
that are done can go, and rows whose prompt was just read can come, between any two tokens.
"""

from __future__ import annotations

from typing import Any, Literal

Kind = Literal["joins", "shrinks", "alone"]


def kind_of(net: Any) -> Kind:
    """Return what can be done with a model's attention cache.

    Parameters
    ----------
    net : transformers.PreTrainedModel
        The model.

    Returns
    -------
    {"joins", "shrinks", "alone"}
        Rows may come and go; rows may only go (sliding windows: the window of each row lies
        elsewhere); or each answer is computed alone (recurrent states, which padding would change).
    """
    from transformers.cache_utils import DynamicCache, DynamicLayer, DynamicSlidingWindowLayer

    kinds = {type(layer) for layer in DynamicCache(config=net.config).layers}
    if not kinds or net.config.is_encoder_decoder:
        return "alone"
    if kinds == {DynamicLayer}:
        return "joins"
    return "shrinks" if kinds <= {DynamicLayer, DynamicSlidingWindowLayer} else "alone"


def join(caches: list[Any], masks: list[Any]) -> tuple[Any, Any]:
    """Return one cache and mask that hold the rows of all, in that order.

    Parameters
    ----------
    caches : list of DynamicCache
        Of the kind "joins"; the first is reused.
    masks : list of tensor, (rows, columns)
        1 where a row has a token.
    """
    import torch
    from torch.nn.functional import pad

    if len(caches) == 1:
        return caches[0], masks[0]
    columns = max(mask.shape[1] for mask in masks)
    missing = [columns - mask.shape[1] for mask in masks]
    whole = caches[0]
    for index, layer in enumerate(whole.layers):
        for part in ("keys", "values"):
            states = [getattr(cache.layers[index], part) for cache in caches]
            padded = [pad(state, (0, 0, more, 0)) for state, more in zip(states, missing, strict=True)]
            setattr(layer, part, torch.cat(padded))
        for cache in caches[1:]:  # two copies of one layer at a time, not of all
            cache.layers[index].keys = cache.layers[index].values = None
    return whole, torch.cat([pad(mask, (more, 0)) for mask, more in zip(masks, missing, strict=True)])


def keep_rows(cache: Any, mask: Any, rows: list[int], *, trim: bool) -> Any:
    """Keep some rows of a cache and return their mask.

    Parameters
    ----------
    cache : DynamicCache
        Changed in place.
    mask : tensor, (rows, columns)
        1 where a row has a token.
    rows : list of int
        Which stay, in their new order.
    trim : bool
        Whether columns in which no row is left go too; only for the kind "joins".
    """
    import torch

    index = torch.tensor(rows, device=mask.device)
    mask = mask[index]
    used = mask.any(dim=0)
    if not trim or bool(used.all()):
        cache.batch_select_indices(index)
        return mask
    columns = used.nonzero().squeeze(-1)
    for layer in cache.layers:
        layer.keys = layer.keys[index].index_select(2, columns)
        layer.values = layer.values[index].index_select(2, columns)
    return mask[:, columns]


def repeated(cache: Any, rows: int) -> Any:
    """Return a copy of a cache of one row that holds it so many times."""
    import copy

    whole = copy.copy(cache)
    # Tensors are never changed in place by these layers, so the copies may share them.
    whole.layers = [copy.copy(layer) for layer in cache.layers]
    whole.batch_repeat_interleave(rows)
    return whole
