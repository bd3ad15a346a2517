"""How many weights safetensors files hold, from their headers: no tensor is loaded."""

from __future__ import annotations

import math
import re
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyter_llmops.errors import InferenceError
from jupyter_llmops.inference.scan.reading import count, one_line, read_json, reason

_DTYPES = {"F64": "fp64", "F32": "fp32", "F16": "fp16", "BF16": "bf16", "F8_E4M3": "fp8", "F8_E5M2": "fp8"}
# Numbers about packed weights (scales, zero points, lookup tables), no weights themselves.
_ABOUT = re.compile(
    r"\.(absmax|quant_map|nested_absmax|nested_quant_map|quant_state\.[\w.]+|SCB|weight_format|qzeros|g_idx"
    r"|weight_scale|weight_scale_inv|weight_zero_point|weight_shape|weight_g_idx|input_scale|output_scale"
    r"|k_scale|v_scale)$|_scales$"
)
_PACKED_BITS = {"I32": 32, "U32": 32, "I16": 16, "U8": 8, "I8": 8}


@dataclass(frozen=True, slots=True)
class Tensor:
    """One tensor of a header: its name, safetensors' type and shape."""

    name: str
    dtype: str
    shape: tuple[int, ...]


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files that transformers would load, each weight once.

    Parameters
    ----------
    folder : Path
        In transformers' layout; an index names the shards, else ``model.safetensors`` is all.

    Raises
    ------
    InferenceError
        The index can't be read, or a shard is missing.
    """
    index = folder / "model.safetensors.index.json"
    if index.is_file():
        placed = read_json(index).get("weight_map")
        names = sorted({str(name) for name in placed.values()}) if isinstance(placed, dict) else []
        if any("/" in name or "\\" in name for name in names):
            raise InferenceError(f"The index {index} names files outside of its folder.")
        missing = [name for name in names if not (folder / name).is_file()]
        if missing:
            raise InferenceError(
                f"The model in {folder} is not complete: {one_line(missing[0])} is missing.",
                "Fetch it again.",
            )
        return [folder / name for name in names]
    whole = folder / "model.safetensors"
    return [whole] if whole.is_file() else sorted(folder.glob("*.safetensors"))


def tensors_of(files: Iterable[Path]) -> Iterator[Tensor]:
    """Yield the tensors that the headers of safetensors files name.

    Raises
    ------
    InferenceError
        A header is damaged, or the file is shorter than its header says.
    """
    from safetensors import SafetensorError, safe_open

    for path in files:
        try:
            with safe_open(path, framework="numpy") as file:  # maps the file, reads the header
                for name in file.keys():  # noqa: SIM118 - not a dict
                    part = file.get_slice(name)
                    yield Tensor(str(name), str(part.get_dtype()), tuple(part.get_shape()))
        except (SafetensorError, OSError, ValueError) as error:
            raise InferenceError(
                f"The weights in {path} can't be read: {reason(error)}", "Fetch them again."
            ) from error


def count_weights(tensors: Iterable[Tensor], config: dict[str, Any]) -> tuple[int | None, str]:
    """Return the number of weights, packed ones unpacked, and the precision of most of them.

    Parameters
    ----------
    tensors : iterable of Tensor
        From `tensors_of`.
    config : dict
        config.json of the model; its ``quantization_config`` says how weights are packed.
    """
    found = list(tensors)
    names = {tensor.name for tensor in found}
    quantized = config.get("quantization_config")
    bits = packed_bits(quantized) if isinstance(quantized, dict) else None
    total, by_dtype = 0, Counter[str]()
    for tensor in found:
        elements = math.prod(tensor.shape)
        if tensor.dtype in {"I64", "U64", "BOOL"}:  # positions and masks
            continue
        if _ABOUT.search(tensor.name) or (
            tensor.name.endswith(".scales") and tensor.name[:-7] + ".qweight" in names
        ):
            continue
        weights = elements * _packing(tensor, names, bits)
        total += weights
        by_dtype[_DTYPES.get(tensor.dtype, tensor.dtype.lower())] += weights
    return count(total), by_dtype.most_common(1)[0][0] if by_dtype else ""


def packed_bits(quantized: dict[str, Any]) -> int | None:
    """Return how many bits a packed weight has, None where the configuration does not say."""
    for key in ("bits", "w_bit", "weight_bits"):
        if count(quantized.get(key)):
            return count(quantized[key])
    groups = quantized.get("config_groups")  # compressed-tensors
    for group in groups.values() if isinstance(groups, dict) else ():
        weights = group.get("weights") if isinstance(group, dict) else None
        if isinstance(weights, dict) and count(weights.get("num_bits")):
            return count(weights["num_bits"])
    return None


def _packing(tensor: Tensor, names: set[str], bits: int | None) -> int:
    """Return how many weights one element of the tensor holds."""
    width = _PACKED_BITS.get(tensor.dtype)
    if width is None:
        return 1
    if tensor.name.endswith((".qweight", ".weight_packed")):
        return max(width // (bits or 4), 1)
    four_bits = tensor.name.endswith("_blocks") or any(  # MXFP4; bitsandbytes' nf4 and fp4
        f"{tensor.name}.quant_state.bitsandbytes__{kind}" in names for kind in ("nf4", "fp4")
    )
    return width // 4 if four_bits else 1
