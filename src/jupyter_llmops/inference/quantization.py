"""Which precision, and why; on which device."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_llmops.errors import InferenceError, UsageError, nearest
from jupyter_llmops.inference.memory import in_gib

if TYPE_CHECKING:
    from jupyter_llmops.inference.footprint import Footprint

QUANTIZATIONS = ("nf4", "int8", "bf16", "fp32")
PACKED = ("nf4", "int8")  # by bitsandbytes
CONVERSION_VERSION = 1


def choose_quantization(
    wanted: str, device: str = "cpu", footprint: Footprint | None = None, free: int | None = None
) -> tuple[str, str]:
    """Return the precision of the weights and one sentence why.

    "auto" takes the best that fits the free memory with the context asked for. On a CPU that is
    nf4: measured, it is the fastest one by one and the smallest. On a GPU, which computes in
    bfloat16 anyway, it is bf16 while that fits and nf4 where it does not (QLoRA, Dettmers et al.
    2023, section 4: nf4 loses little). int8 (LLM.int8, Dettmers et al. 2022) is slower than both
    and depends on what else is in the batch, so it is only used when asked for.

    Parameters
    ----------
    wanted : {"auto", "nf4", "int8", "bf16", "fp32"}
        What the user asked for.
    device : {"cpu", "cuda"}
        Where it will be loaded.
    footprint : Footprint, optional
        What the model needs; without it nothing is compared.
    free : int, optional
        Free memory of the device, bytes.

    Raises
    ------
    UsageError
        There is no such quantization.
    InferenceError
        It needs bitsandbytes, which is not installed.
    """
    if wanted not in ("auto", *QUANTIZATIONS):
        near = nearest(wanted, QUANTIZATIONS)
        choices = f"Did you mean {near[0]}? " if near else ""
        raise UsageError(
            f"There is no quantization named {wanted!r}.",
            f"{choices}Valid are auto, {', '.join(QUANTIZATIONS)}.",
        )
    has_bitsandbytes = importlib.util.find_spec("bitsandbytes") is not None
    if wanted in PACKED and not has_bitsandbytes:
        raise InferenceError(
            f"{wanted} needs bitsandbytes, which is not installed.",
            "Type: %pip install bitsandbytes, or use --quant bf16.",
        )
    if wanted != "auto":
        return wanted, f"{wanted} was asked for."
    ladder = _ladder(device, has_bitsandbytes=has_bitsandbytes)
    if footprint is None or free is None:
        return ladder[-1], f"auto is {ladder[-1]}: {_WHY[ladder[-1], device]}."
    for chosen in ladder:
        if footprint.needed(chosen, device) <= free:
            break
    else:
        return (
            chosen,
            f"auto is {chosen}, which needs the least, but {_sum(footprint, chosen, device, free)}.",
        )
    larger = [
        f"{name} would need {in_gib(footprint.needed(name, device))}"
        for name in ladder[: ladder.index(chosen)]
    ]
    why = "; ".join([_WHY[chosen, device], _sum(footprint, chosen, device, free), *larger])
    return chosen, f"auto is {chosen}: {why}."


_WHY = {
    ("nf4", "cpu"): "4 bits a weight need the least memory and are fastest one by one",
    ("nf4", "cuda"): "4 bits a weight need the least memory",
    ("bf16", "cpu"): "bitsandbytes, which nf4 needs, is not installed",
    ("bf16", "cuda"): "the weights as they are fit the GPU",
}


def _ladder(device: str, *, has_bitsandbytes: bool) -> tuple[str, ...]:
    if not has_bitsandbytes:
        return ("bf16",)
    return ("bf16", "nf4") if device == "cuda" else ("nf4",)


def _sum(footprint: Footprint, quantization: str, device: str, free: int) -> str:
    return (
        f"{in_gib(footprint.weights(quantization, device))} of weights and "
        f"{in_gib(footprint.cache(quantization, device))} for {footprint.context:,} tokens of context, "
        f"{in_gib(free)} free"
    )


def choose_device() -> str:
    """Return "cuda" where PyTorch can use a GPU, else "cpu"; PyTorch is only asked where one may be."""
    if not _gpu_possible():
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def engine_version(quantization: str, *, converted: bool) -> str:
    """Return the versions that decide an answer, e.g. ``transformers 5.23.0, torch 2.13.0+cpu``.

    Parameters
    ----------
    quantization : {"nf4", "int8", "bf16", "fp32"}
        nf4 and int8 add bitsandbytes and, where installed, the package that carries its CPU kernels.
    converted : bool
        Whether the weights come out of our conversion of a GGUF file.
    """
    packages = ["transformers", "torch"]
    if quantization in PACKED:
        packages += ["bitsandbytes", "kernels"]
    parts = [f"{package} {version}" for package in packages if (version := installed_version(package))]
    if converted:
        parts.append(f"conversion {CONVERSION_VERSION}")
    return ", ".join(parts)


@functools.cache
def installed_version(package: str) -> str:
    """Return the version of an installed package without importing it; empty when it is absent."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def bitsandbytes_settings(device: str, quantization: str = "nf4") -> Any:
    """Return bitsandbytes' settings of nf4 (QLoRA, section 3) or int8 (LLM.int8, section 3)."""
    from transformers import BitsAndBytesConfig

    if quantization == "int8":
        return BitsAndBytesConfig(load_in_8bit=True)
    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=weights_dtype("nf4", device)
    )


def weights_dtype(quantization: str, device: str) -> Any:
    """Return the torch dtype of everything that is not quantized, and of computing.

    nf4 and int8 on a CPU compute in float32: what is not a matrix product then has the precision of fp32,
    for 10 to 20 % of the speed. Matrix products are bitsandbytes' own choice: bfloat16 on a CPU
    with AVX512-BF16, where a batch may answer differently from one by one, else float32.
    """
    import torch

    full = quantization == "fp32" or (quantization in PACKED and device == "cpu")
    return torch.float32 if full else torch.bfloat16


def _gpu_possible() -> bool:
    if installed_version("torch").endswith("+cpu"):
        return False
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1"):
        return False
    if sys.platform != "linux":
        return sys.platform == "win32"
    return any(Path(node).exists() for node in ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/dev/kfd"))
