"""GGUF files, from their header.

gguf.GGUFReader makes an array of every token (3 s for 49,152 of them); here the lists are skipped.
Layout: https://github.com/ggml-org/ggml/blob/master/docs/gguf.md, versions 2 and 3.
"""

from __future__ import annotations

import math
import re
import struct
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

from jupyter_llmops.errors import InferenceError
from jupyter_llmops.inference.scan.card import read_card, spdx
from jupyter_llmops.inference.scan.reading import NotAModelError, Reading, count, name_of, reason, text
from jupyter_llmops.inference.sources import files_in
from jupyter_llmops.records.model import Model, ModelKind

_SCALARS = {0: "B", 1: "b", 2: "H", 3: "h", 4: "I", 5: "i", 6: "f", 7: "?", 10: "Q", 11: "q", 12: "d"}
_STRING, _ARRAY = 8, 9
_MOST_FIELDS, _MOST_TENSORS, _MOST_TEXT, _MOST_ITEMS = 4096, 100_000, 16 << 20, 50_000_000
_PART = re.compile(r"-(\d{5})-of-(\d{5})\.gguf$")


@dataclass(frozen=True, slots=True)
class Header:
    """The metadata of a GGUF file (lists left out), and how many weights it holds of each tensor type."""

    fields: dict[str, Any]
    weights: Counter[int]


def describe_gguf(path: Path, reading: Reading) -> Model:
    """Return what a GGUF file holds, its other parts included where it is split; no tensor is read.

    Parameters
    ----------
    path : Path
        The file, or the first part.
    reading : Reading
        How files are read.

    Raises
    ------
    InferenceError
        It is damaged, a part is missing, or it is no model of its own.
    OSError
        It can't be read.
    """
    parts = files_in(path).files
    headers = [read_header(part) for part in parts]
    fields, weights = headers[0].fields, sum((header.weights for header in headers), Counter())
    family = text(fields.get("general.architecture"))
    if family == "clip" or text(fields.get("general.type")) == "mmproj":
        raise NotAModelError(f"The file {path} is the picture part of another model, no model of its own.")
    manifest, digest, size = reading.manifest(path.parent, parts)
    name = path.with_name(_PART.sub(".gguf", path.name))
    return Model(
        name=name_of(name),
        kind=_kind(fields, family),
        source=f"folder:{path}",
        digest=digest,
        family=family,
        license=spdx(text(fields.get("general.license"))) or read_card(path.parent).license,
        parameters=count(sum(weights.values())),
        context_length=count(fields.get(f"{family}.context_length")),
        size_bytes=size,
        format="gguf",
        quantizations=tuple(filter(None, [_quantization(fields, weights)])),
        base=_base(fields),
        files=manifest,
    )


def quantization_of(path: Path) -> str:
    """Return the precision of a GGUF file's weights, e.g. ``Q4_1``; empty where it does not say.

    Raises
    ------
    InferenceError
        It is not a GGUF file, or damaged.
    """
    header = read_header(path)
    return _quantization(header.fields, header.weights)


def read_header(path: Path) -> Header:
    """Return the header of a GGUF file.

    Raises
    ------
    InferenceError
        It is not a GGUF file, or damaged.
    """
    with path.open("rb") as file:
        try:
            return _header(file)
        except (struct.error, ValueError, OverflowError, MemoryError) as error:
            raise InferenceError(
                f"The file {path} is not a GGUF file that can be read: {_why(error)}",
                "Fetch it again.",
            ) from error


def _why(error: Exception) -> str:
    return "it ends too early." if isinstance(error, struct.error) else reason(error)


def _header(file: BinaryIO) -> Header:
    if file.read(4) != b"GGUF":
        raise ValueError("it does not begin with GGUF")
    version = struct.unpack("<I", file.read(4))[0]
    order = "<" if version & 0xFFFF else ">"  # a big-endian file has its version the other way round
    if (version if order == "<" else struct.unpack(">I", struct.pack("<I", version))[0]) not in (2, 3):
        raise ValueError(f"its version {version} is not known")
    reader = _Reader(file, order)
    tensors, fields = reader.number("Q"), reader.number("Q")
    if fields > _MOST_FIELDS or tensors > _MOST_TENSORS:
        raise ValueError(f"its header claims {fields} fields and {tensors} tensors")
    found: dict[str, Any] = {}
    for _ in range(fields):
        key = reader.string()
        value = reader.value(reader.number("I"))
        if value is not None:
            found[key] = value
    weights: Counter[int] = Counter()
    for _ in range(tensors):
        reader.string()
        shape = [reader.number("Q") for _ in range(min(reader.number("I"), 8))]
        kind = reader.number("I")
        reader.number("Q")
        weights[kind] += math.prod(shape)
    return Header(found, weights)


class _Reader:
    """Reads the header's values one after the other."""

    def __init__(self, file: BinaryIO, order: str) -> None:
        self._file = file
        self._order = order

    def number(self, code: str) -> Any:
        form = f"{self._order}{code}"
        return struct.unpack(form, self._file.read(struct.calcsize(form)))[0]

    def string(self) -> str:
        length = self.number("Q")
        if length > _MOST_TEXT:
            raise ValueError(f"its header claims a text of {length} bytes")
        data = self._file.read(length)
        if len(data) != length:
            raise ValueError("it ends too early")
        return data.decode("utf-8", "replace")

    def value(self, kind: int) -> Any:
        """Return a value, None for a list, which is skipped."""
        if kind == _STRING:
            return self.string()
        if kind in _SCALARS:
            return self.number(_SCALARS[kind])
        if kind != _ARRAY:
            raise ValueError(f"its header holds a value of the unknown type {kind}")
        inner, length = self.number("I"), self.number("Q")
        if length > _MOST_ITEMS:
            raise ValueError(f"its header claims a list of {length} items")
        if inner in _SCALARS:
            self._file.seek(length * struct.calcsize(f"<{_SCALARS[inner]}"), 1)
            return None
        for _ in range(length):
            if inner == _STRING:
                self._skip_string()
            else:
                self.value(inner)
        return None

    def _skip_string(self) -> None:
        length = self.number("Q")
        if length > _MOST_TEXT:
            raise ValueError(f"its header claims a text of {length} bytes")
        self._file.read(length)


def _kind(fields: dict[str, Any], family: str) -> ModelKind:
    if text(fields.get("general.type")) == "adapter":
        return "adapter"
    embeds = f"{family}.pooling_type" in fields or fields.get(f"{family}.attention.causal") is False
    return "encoder" if embeds else "llm"


def _quantization(fields: dict[str, Any], weights: Counter[int]) -> str:
    """Return the file's type, e.g. ``Q4_1``; where it does not say, the type of most weights."""
    from gguf.constants import GGMLQuantizationType, LlamaFileType

    try:
        return (
            str(LlamaFileType(fields["general.file_type"]).name).removeprefix("MOSTLY_").removeprefix("ALL_")
        )
    except (KeyError, ValueError):
        most = weights.most_common(1)
    try:
        return str(GGMLQuantizationType(most[0][0]).name) if most else ""
    except ValueError:
        return ""


def _base(fields: dict[str, Any]) -> str:
    url = text(fields.get("general.base_model.0.repo_url"))
    if url.startswith("https://huggingface.co/"):
        return url.removeprefix("https://huggingface.co/").strip("/")
    return text(fields.get("general.base_model.0.name"))
