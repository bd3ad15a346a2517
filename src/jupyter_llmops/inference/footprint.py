"""How much memory a model needs, from its configuration; no weight is read."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyter_llmops.inference.memory import weights_bytes
from jupyter_llmops.inference.sources import ModelFiles

# Bytes a weight; bitsandbytes keeps a float32 scale for each block of 64 nf4 weights.
_PACKED_WIDTH = {"nf4": 0.5 + 4 / 64, "int8": 1.0}
# Of a context that nobody asked for, so much counts: whole windows of 128k tokens are rarely used.
DEFAULT_CONTEXT = 4096
# Activations, logits and the buffers of the libraries, besides a tenth of the weights.
_OVERHEAD_BYTES = 64 << 20


@dataclass(frozen=True, slots=True)
class Footprint:
    """What decides how much memory a model takes.

    Parameters
    ----------
    parameters : int
        Number of weights, all of them.
    unpacked : int
        Of them those that stay as they are under nf4 and int8: embeddings and the output layer.
    cache_values : int
        Numbers that attention keeps for each token, over all layers.
    context : int
        Tokens of prompt and answer that there has to be room for.
    """

    parameters: int
    unpacked: int
    cache_values: int
    context: int = DEFAULT_CONTEXT

    def weights(self, quantization: str, device: str) -> int:
        """Return the bytes of the weights."""
        wide = _width(quantization, device)
        narrow = _PACKED_WIDTH.get(quantization, wide)
        return int(self.unpacked * wide + (self.parameters - self.unpacked) * narrow)

    def cache(self, quantization: str, device: str) -> int:
        """Return the bytes of keys and values for the context."""
        return int(self.cache_values * _width(quantization, device) * self.context)

    def needed(self, quantization: str, device: str) -> int:
        """Return all that it needs, bytes: weights, context and a tenth more."""
        return (
            int(1.1 * self.weights(quantization, device)) + self.cache(quantization, device) + _OVERHEAD_BYTES
        )


def footprint_of(
    files: ModelFiles, converted: Path | None = None, context: int | None = None
) -> Footprint | None:
    """Return what a model needs; None where its files do not say.

    Parameters
    ----------
    files : ModelFiles
        Where they are.
    converted : Path, optional
        The folder that a GGUF was converted to, if it was.
    context : int, optional
        Tokens that there has to be room for; else the model's, at most `DEFAULT_CONTEXT`.
    """
    if files.kind == "gguf" and (converted is None or not (converted / "config.json").is_file()):
        return _of_gguf(files, context)
    folder = files.path if files.kind == "folder" else converted
    assert folder is not None
    try:
        config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
        text: dict[str, Any] = config.get("text_config") or config
        width = 4 if (text.get("dtype") or text.get("torch_dtype")) == "float32" else 2
        parameters = weights_bytes(folder.glob("*.safetensors")) // width
        hidden, heads = int(text["hidden_size"]), int(text["num_attention_heads"])
        size = int(text.get("head_dim") or hidden // heads)
        keys = int(text.get("num_key_value_heads") or heads)
        layers = int(text["num_hidden_layers"])
        tied = text.get("tie_word_embeddings", config.get("tie_word_embeddings", True))
        unpacked = int(text["vocab_size"]) * hidden * (1 if tied else 2)
        window = int(text.get("max_position_embeddings") or DEFAULT_CONTEXT)
    except (OSError, ValueError, KeyError, TypeError, AttributeError, ZeroDivisionError):
        return None
    if text.get("quantization_config") or config.get("quantization_config"):
        return None  # its files are packed already: their size says nothing of the number of weights
    return Footprint(
        parameters, min(unpacked, parameters), 2 * layers * keys * size, _context(context, window)
    )


def _of_gguf(files: ModelFiles, context: int | None) -> Footprint | None:
    from jupyter_llmops.errors import LLMOpsError
    from jupyter_llmops.inference.scan.gguf_file import read_header

    try:
        headers = [read_header(path) for path in files.files]
        fields = headers[0].fields
        family = fields["general.architecture"]
        hidden = int(fields[f"{family}.embedding_length"])
        heads = int(fields[f"{family}.attention.head_count"])
        keys = int(fields.get(f"{family}.attention.head_count_kv") or heads)
        size = int(fields.get(f"{family}.attention.key_length") or hidden // heads)
        layers = int(fields[f"{family}.block_count"])
        window = int(fields.get(f"{family}.context_length") or DEFAULT_CONTEXT)
        unpacked = int(fields.get(f"{family}.vocab_size") or 0) * hidden
    except (LLMOpsError, OSError, ValueError, KeyError, TypeError, ZeroDivisionError, IndexError):
        return None
    parameters = sum(sum(header.weights.values()) for header in headers)
    return Footprint(
        parameters, min(unpacked, parameters), 2 * layers * keys * size, _context(context, window)
    )


def _context(asked: int | None, window: int) -> int:
    return min(asked or DEFAULT_CONTEXT, window)


def _width(quantization: str, device: str) -> int:
    """Return the bytes of a number that is not packed; see `quantization.weights_dtype`."""
    return 4 if quantization == "fp32" or (quantization in _PACKED_WIDTH and device == "cpu") else 2
