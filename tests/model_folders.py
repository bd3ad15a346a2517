"""Folders that are models as far as their files say, of a few hundred bytes."""

from __future__ import annotations

import json
import os
import struct
from pathlib import Path


def write_model_folder(folder: Path, *, weights: bytes = b"", count: int = 16) -> Path:
    """Write config.json and model.safetensors with one tensor, of random numbers unless given.

    Parameters
    ----------
    folder : Path
        Made where it is not there.
    weights : bytes
        The tensor, 4 bytes a number.
    count : int
        How many random numbers where `weights` is empty.
    """
    folder.mkdir(parents=True, exist_ok=True)
    config = {"model_type": "llama", "architectures": ["LlamaForCausalLM"], "max_position_embeddings": 128}
    (folder / "config.json").write_text(json.dumps(config))
    data = weights or os.urandom(4 * count)
    header = {"weight": {"dtype": "F32", "shape": [len(data) // 4], "data_offsets": [0, len(data)]}}
    text = json.dumps(header).encode()
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", len(text)) + text + data)
    return folder
