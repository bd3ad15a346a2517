"""Which precision, and why; on which device."""

from __future__ import annotations

import functools
import importlib.metadata
import importlib.util
import os
import sys
from pathlib import Path
from typing import Any

from jupyter_llmops.errors import InferenceError, UsageError, nearest

QUANTIZATIONS = ("nf4", "bf16", "fp32")
CONVERSION_VERSION = 1


def choose_quantization(wanted: str) -> tuple[str, str]:
    """Return the precision of the weights and one sentence why.

    Parameters
    ----------
    wanted : {"auto", "nf4", "bf16", "fp32"}
        What the user asked for.

    Raises
    ------
    UsageError
        There is no such quantization.
    InferenceError
        nf4 was asked for and bitsandbytes is not installed.
    """
    if wanted not in ("auto", *QUANTIZATIONS):
        near = nearest(wanted, QUANTIZATIONS)
        choices = f"Did you mean {near[0]}? " if near else ""
        raise UsageError(
            f"There is no quantization named {wanted!r}.",
            f"{choices}Valid are auto, {', '.join(QUANTIZATIONS)}.",
        )
    has_bitsandbytes = importlib.util.find_spec("bitsandbytes") is not None
    if wanted == "auto":
        if has_bitsandbytes:
            return "nf4", "auto is nf4: 4 bits a weight need the least memory and are fastest one by one."
        return "bf16", "auto is bf16, as bitsandbytes, which nf4 needs, is not installed."
    if wanted == "nf4" and not has_bitsandbytes:
        raise InferenceError(
            "nf4 needs bitsandbytes, which is not installed.",
            "Type: %pip install bitsandbytes, or use --quant bf16.",
        )
    return wanted, f"{wanted} was asked for."


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
    quantization : {"nf4", "bf16", "fp32"}
        nf4 adds bitsandbytes and, where installed, the package that carries its CPU kernels.
    converted : bool
        Whether the weights come out of our conversion of a GGUF file.
    """
    packages = ["transformers", "torch"]
    if quantization == "nf4":
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


def bitsandbytes_settings(device: str) -> Any:
    """Return bitsandbytes' settings of nf4 (QLoRA, Dettmers et al. 2023, section 3)."""
    from transformers import BitsAndBytesConfig

    return BitsAndBytesConfig(
        load_in_4bit=True, bnb_4bit_quant_type="nf4", bnb_4bit_compute_dtype=weights_dtype("nf4", device)
    )


def weights_dtype(quantization: str, device: str) -> Any:
    """Return the torch dtype of everything that is not quantized, and of computing.

    nf4 on a CPU computes in float32: what is not a matrix product then has the precision of fp32,
    for 10 to 20 % of the speed. Matrix products are bitsandbytes' own choice: bfloat16 on a CPU
    with AVX512-BF16, where a batch may answer differently from one by one, else float32.
    """
    import torch

    full = quantization == "fp32" or (quantization == "nf4" and device == "cpu")
    return torch.float32 if full else torch.bfloat16


def _gpu_possible() -> bool:
    if installed_version("torch").endswith("+cpu"):
        return False
    if os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1"):
        return False
    if sys.platform != "linux":
        return sys.platform == "win32"
    return any(Path(node).exists() for node in ("/dev/nvidiactl", "/dev/nvidia0", "/dev/dxg", "/dev/kfd"))
