"""torch: tensors and modules, by their values and never by their own methods."""

from __future__ import annotations

from typing import Any, Final

from jupyter_llmops.audit.values.limits import CHUNK, SkippedError, told_size
from jupyter_llmops.audit.values.writer import Handler, ValueWriter, learn, learn_finder, mro_of, type_name

_MOST_MODULES: Final = 100_000


def learn_types() -> None:
    """Say how values of torch's types are written."""
    import torch

    learn({torch.Tensor: write_tensor, torch.nn.Parameter: write_tensor, torch.Generator: _generator})
    learn(dict.fromkeys((torch.dtype, torch.device, torch.Size), _named))
    learn_finder(_find_module)


def _find_module(kind: type, _: str) -> Handler | None:
    import torch

    return _module if any(base is torch.nn.Module for base in mro_of(kind)) else None


def _named(writer: ValueWriter, value: Any) -> None:
    writer.head("torch")
    writer.text(repr(value))


def _generator(writer: ValueWriter, value: Any) -> None:
    writer.head("Generator")
    write_tensor(writer, value.get_state())


def write_tensor(writer: ValueWriter, tensor: Any) -> None:
    """Write a dense tensor in C order, with its dtype and shape.

    Parameters
    ----------
    writer : ValueWriter
        Where to.
    tensor : torch.Tensor
        Of exactly this class, or a parameter.
    """
    import torch

    if tensor.is_meta:
        raise SkippedError("a tensor without data")
    if tensor.layout is not torch.strided or tensor.is_quantized:
        raise SkippedError(f"a tensor of layout {tensor.layout}, {tensor.dtype}")
    size = tensor.numel() * tensor.element_size()
    if not writer.thorough and tensor.device.type != "cpu":
        raise SkippedError(f"{told_size(size)} in the memory of {tensor.device}")
    writer.limits.allow(size)
    writer.head("tensor", *tensor.shape)
    writer.text(str(tensor.dtype))
    with torch.no_grad():
        plain = tensor.detach()
        if plain.is_conj() or plain.is_neg():
            plain = plain.resolve_conj().resolve_neg()
        if not plain.numel():
            return
        if plain.is_contiguous() and plain.device.type == "cpu":
            writer.data(_bytes_of(plain))
            return
        # In slices, so that no second copy of a large tensor is made.
        rows = plain if plain.dim() else plain.reshape(1)
        step = max(1, CHUNK * 16 // max(1, size // len(rows)))
        for start in range(0, len(rows), step):
            writer.data(_bytes_of(rows[start : start + step].contiguous().cpu()))


def _bytes_of(tensor: Any) -> memoryview:
    import torch

    return memoryview(tensor.reshape(-1).view(torch.uint8).numpy())


def _module(writer: ValueWriter, module: Any) -> None:
    """Write a model's parameters and kept buffers, as `state_dict` names them, and its classes.

    The dictionaries are read as `torch.nn.Module` keeps them: a model's class is its user's own, and so are its
    properties and its `state_dict`. Weights that two layers share are read once.
    """
    import torch

    attributes_of: Any = torch.nn.Module.__dict__["__dict__"].__get__
    read: dict[tuple[Any, ...], bytes] = {}
    pending = [("", module)]
    seen = 0
    while pending:
        place, one = pending.pop()
        seen += 1
        writer.limits.check()
        if seen > _MOST_MODULES or not any(base is torch.nn.Module for base in mro_of(type(one))):
            raise SkippedError(f"a module that holds {type_name(type(one))}")
        own = attributes_of(one)
        parts = [own.get(name) for name in ("_parameters", "_buffers", "_modules")]
        if any(type(part) is not dict for part in parts):
            raise SkippedError(f"a module that was not initialized, {type_name(type(one))}")
        transient = own.get("_non_persistent_buffers_set")
        writer.head("module")
        writer.text(place)
        writer.text(type_name(type(one)))
        for kind, tensors in zip("pb", parts[:2], strict=True):
            for name, tensor in tensors.items():
                if tensor is None or (kind == "b" and type(transient) is set and name in transient):
                    continue
                writer.head(kind)
                writer.text(name)
                writer.add(_digest_once(writer, tensor, read))
        pending.extend((f"{place}.{name}", part) for name, part in parts[2].items() if part is not None)


def _digest_once(writer: ValueWriter, tensor: Any, read: dict[tuple[Any, ...], bytes]) -> bytes:
    import torch

    kind = type(tensor)
    if kind is not torch.Tensor and kind is not torch.nn.Parameter:
        raise SkippedError(f"a module with weights of type {type_name(kind)}")
    where = (tensor.data_ptr(), tensor.dtype, tuple(tensor.shape), tensor.stride(), tensor.device)
    found = read.get(where)
    if found is None or not tensor.data_ptr():
        aside = writer.aside()
        write_tensor(aside, tensor)
        found = read[where] = aside.digest()
    return found
