"""PEFT adapters: a few trained weights on top of a base model."""

from __future__ import annotations

from pathlib import Path

from jupyter_llmops.errors import InferenceError
from jupyter_llmops.inference.scan.card import read_card
from jupyter_llmops.inference.scan.reading import Reading, name_of, read_json, text
from jupyter_llmops.inference.scan.weights import count_weights, tensors_of
from jupyter_llmops.inference.sources import files_in
from jupyter_llmops.records.model import Model


def describe_adapter(folder: Path, reading: Reading) -> Model:
    """Return what a folder with adapter_config.json and adapter_model.safetensors holds.

    The digest is of the adapter's files alone; `Model.base` names the base, whose digest `scan` adds.

    Parameters
    ----------
    folder : Path
        As PEFT saves it.
    reading : Reading
        How files are read.

    Raises
    ------
    InferenceError
        The weights are missing, damaged, or only there as a pickle.
    OSError
        A file can't be read.
    """
    config = read_json(folder / "adapter_config.json")
    weights = folder / "adapter_model.safetensors"
    if not weights.is_file():
        if (folder / "adapter_model.bin").is_file():
            raise InferenceError(
                f"The adapter in {folder} is only there as a pickle (adapter_model.bin), which runs code "
                "when it is loaded; it is refused.",
                "Save it again with safe_serialization=True.",
            )
        raise InferenceError(f"The adapter in {folder} has no adapter_model.safetensors.", "Fetch it again.")
    files = files_in(folder)
    parameters, dtype = count_weights(tensors_of([weights]), {})
    manifest, digest, size = reading.manifest(folder, files.files)
    card = read_card(folder)
    return Model(
        name=name_of(folder),
        kind="adapter",
        source=f"folder:{folder}",
        digest=digest,
        family=text(config.get("peft_type")).lower(),
        license=card.license,
        parameters=parameters,
        size_bytes=size,
        format="adapter",
        quantizations=(dtype,) if dtype else (),
        base=text(config.get("base_model_name_or_path")) or card.base,
        files=manifest,
        tags=tuple(filter(None, [text(config.get("task_type")).lower()])),
    )
