"""Folders in the layout of transformers and sentence-transformers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from jupyter_llmops.inference.scan.card import read_card
from jupyter_llmops.inference.scan.reading import Reading, count, name_of, read_json, text
from jupyter_llmops.inference.scan.weights import count_weights, packed_bits, tensors_of, weight_files
from jupyter_llmops.inference.sources import files_in
from jupyter_llmops.records.model import Model, ModelKind

_CONTEXT_KEYS = (
    "max_position_embeddings",
    "n_positions",
    "n_ctx",
    "seq_length",
    "max_seq_len",
    "max_sequence_length",
)
_WRITERS = ("ForCausalLM", "LMHeadModel", "ForConditionalGeneration", "Seq2SeqLM")
_CLASSIFIERS = (
    "ForSequenceClassification",
    "ForTokenClassification",
    "ForQuestionAnswering",
    "ForImageClassification",
)


def describe_folder(folder: Path, reading: Reading) -> Model:
    """Return what a folder with config.json and safetensors holds; no weight is loaded, no code is run.

    Parameters
    ----------
    folder : Path
        The folder.
    reading : Reading
        How files are read.

    Raises
    ------
    InferenceError
        It is not such a folder, or a part of it is damaged.
    OSError
        A file can't be read.
    """
    files = files_in(folder)
    config = read_json(folder / "config.json")
    inner = config.get("text_config") if isinstance(config.get("text_config"), dict) else {}
    parameters, dtype = count_weights(tensors_of(weight_files(folder)), config)
    manifest, digest, size = reading.manifest(folder, files.files)
    card = read_card(folder)
    return Model(
        name=name_of(folder),
        kind=_kind(folder, config),
        source=f"folder:{folder}",
        digest=digest,
        family=text(config.get("model_type")),
        license=card.license,
        parameters=parameters,
        context_length=_context_length(folder, {**config, **(inner or {})}),
        size_bytes=size,
        format="safetensors",
        quantizations=tuple(filter(None, [_quantization(config.get("quantization_config")) or dtype])),
        base=card.base or _made_from(config),
        files=manifest,
        tags=(card.task,) if card.task else (),
    )


def _kind(folder: Path, config: dict[str, Any]) -> ModelKind:
    if (folder / "modules.json").is_file():
        return "encoder"
    named = config.get("architectures")
    architectures = [str(name) for name in named] if isinstance(named, list) else []
    if any(name.endswith(_WRITERS) for name in architectures):
        return "llm"
    if any(name.endswith(_CLASSIFIERS) for name in architectures):
        return "classic"
    return "encoder" if architectures else "llm"


def _context_length(folder: Path, config: dict[str, Any]) -> int | None:
    lengths = [count(config.get(key)) for key in _CONTEXT_KEYS]
    bounds = [length for length in lengths if length][:1]
    encoder = folder / "sentence_bert_config.json"
    if encoder.is_file():
        # sentence-transformers cuts texts there, whatever the network could take.
        bounds += filter(None, [count(read_json(encoder).get("max_seq_length"))])
    return min(bounds, default=None)


def _quantization(quantized: object) -> str:
    """Return the precision that a quantization_config names, e.g. ``nf4`` or ``gptq-4bit``."""
    if not isinstance(quantized, dict):
        return ""
    method = text(quantized.get("quant_method")).lower()
    if method == "bitsandbytes" or quantized.get("load_in_4bit") or quantized.get("load_in_8bit"):
        return (
            text(quantized.get("bnb_4bit_quant_type")) or "fp4" if quantized.get("load_in_4bit") else "int8"
        )
    bits = packed_bits(quantized)
    return f"{method}-{bits}bit" if method and bits else method


def _made_from(config: dict[str, Any]) -> str:
    """Return the model that training began from, unless that is a path on somebody's machine."""
    base = text(config.get("_name_or_path"))
    local = base.startswith(("/", ".", "~")) or "\\" in base
    return "" if local else base
