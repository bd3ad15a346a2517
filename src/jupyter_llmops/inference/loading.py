"""Weights into memory, ready to answer."""

from __future__ import annotations

import sys
from dataclasses import dataclass, field
from typing import Any

from jupyter_llmops.errors import InferenceError
from jupyter_llmops.inference.chat import ChatTokenizer
from jupyter_llmops.inference.engine import LoadedModel
from jupyter_llmops.inference.memory import need_memory, weights_bytes
from jupyter_llmops.inference.preparation import Prepared
from jupyter_llmops.inference.quantization import weights_dtype
from jupyter_llmops.inference.quiet import quiet
from jupyter_llmops.records.model import Model

# Bytes of a float32 weight over those of a weight in the file, roughly.
_FLOAT32_GROWTH = {"nf4": 8, "int8": 4, "bf16": 2, "fp32": 2}


@dataclass(slots=True)
class LoadedWeights:
    """A model in memory.

    Parameters
    ----------
    net : transformers.PreTrainedModel
        In evaluation mode.
    chat : ChatTokenizer
        Its tokenizer.
    entry : LoadedModel
        What it is and what it takes.
    digest : str
        Of the model's files.
    context_length : int or None
        Most tokens of prompt and answer together.
    stop_ids : list of int
        Tokens that end an answer.
    pad_id : int
        Token that fills up a batch.
    adapters : dict
        The adapters over it in memory, by digest.
    adapter_digest : str
        The one that is switched on; empty for the base alone.
    """

    net: Any
    chat: ChatTokenizer
    entry: LoadedModel
    digest: str
    context_length: int | None
    stop_ids: list[int]
    pad_id: int
    adapters: dict[str, LoadedModel] = field(default_factory=dict)
    adapter_digest: str = ""

    def cache_bytes(self, tokens: int) -> int:
        """Return what attention keeps for that many tokens, bytes, roughly; 0 for recurrent models."""
        config = self.net.config.get_text_config()
        if getattr(config, "num_attention_heads", None) is None:
            return 0
        heads = getattr(config, "num_key_value_heads", None) or config.num_attention_heads
        size = getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads
        return int(2 * config.num_hidden_layers * heads * size * self.net.dtype.itemsize * tokens)


def load_weights(
    model: Model,
    prepared: Prepared,
    chat: ChatTokenizer,
    quantization: str,
    device: str,
    *,
    float32: bool = False,
    unsafe: bool = False,
) -> LoadedWeights:
    """Load a prepared model; an interruption leaves nothing behind.

    Parameters
    ----------
    model : Model
        For its name and context length.
    prepared : Prepared
        From `prepare`.
    chat : ChatTokenizer
        Its tokenizer.
    quantization : {"nf4", "int8", "bf16", "fp32"}
        Precision of the weights.
    device : {"cpu", "cuda"}
        Where.
    float32 : bool
        Unpack them to float32, for the exact mode.
    unsafe : bool
        Whether this user allowed the model to run code of its own.

    Raises
    ------
    ModelMemoryError
        It does not fit.
    """
    from transformers import AutoModelForCausalLM

    size = weights_bytes(prepared.weights.glob("*.safetensors"))
    if float32 or quantization == "fp32":
        size *= _FLOAT32_GROWTH[quantization]
    need_memory(int(1.1 * size), device, model, "Loading")
    with quiet():
        net: Any = AutoModelForCausalLM.from_pretrained(
            prepared.weights,
            dtype=weights_dtype(quantization, device),
            device_map=device,
            trust_remote_code=unsafe,
            use_safetensors=None if unsafe else True,
            local_files_only=True,
        )
        net.eval()
        if float32:
            from jupyter_llmops.inference.exact import to_float32

            net = to_float32(net)
        stop_ids = _stop_ids(net, chat)
        pad_id = chat.inner.pad_token_id
        _neutralize(net)
        _first_pass(net, device)
    entry = LoadedModel(model.name, quantization, device, int(net.get_memory_footprint()))
    context = getattr(net.config.get_text_config(), "max_position_embeddings", None) or model.context_length
    return LoadedWeights(
        net=net,
        chat=chat,
        entry=entry,
        digest=model.digest,
        context_length=context,
        stop_ids=stop_ids,
        pad_id=stop_ids[0] if pad_id is None else int(pad_id),
    )


def give_memory_back(device: str) -> None:
    """Return freed memory to the device and, where the C library can, to the system."""
    import ctypes
    import gc

    gc.collect()
    if device == "cuda":
        import torch

        torch.cuda.empty_cache()
    if sys.platform == "linux":
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)
        if trim is not None:
            trim(0)


def _stop_ids(net: Any, chat: ChatTokenizer) -> list[int]:
    found: list[int] = []
    for value in (net.generation_config.eos_token_id, net.config.eos_token_id, chat.inner.eos_token_id):
        found += [] if value is None else [int(v) for v in (value if isinstance(value, list) else [value])]
    if not found:
        raise InferenceError("The model does not say which token ends an answer.", "Choose another model.")
    return list(dict.fromkeys(found))


def _neutralize(net: Any) -> None:
    # Defaults in the folder's generation_config.json (sampling, penalties) would silently fill
    # every field that a request leaves out.
    from transformers import GenerationConfig

    net.generation_config = GenerationConfig()


def _first_pass(net: Any, device: str) -> None:
    # The first forward pass repacks nf4 weights on some CPUs, layer by layer. Here nobody uses
    # the model yet, so Ctrl-C in the middle can't leave a half-packed one behind.
    import torch

    with torch.inference_mode():
        net(torch.zeros((1, 1), dtype=torch.long, device=device))
