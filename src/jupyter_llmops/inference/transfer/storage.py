"""What lies in the storage: which files may, what objects are called, how a large file is listed."""

from __future__ import annotations

import contextlib
import json
import re
from collections.abc import Iterable, Iterator
from pathlib import PurePosixPath
from typing import Protocol

from jupyter_llmops.errors import InferenceError, ModelNotAvailableError
from jupyter_llmops.inference.manifest import digest_of_files
from jupyter_llmops.records.model import Model, ModelFile

PIECES_SCHEMA = "llmops.pieces/1"
LARGEST_SIGNATURE = 64 << 20
BLOCK_BYTES = 1 << 20
# What loads without running code; everything else neither leaves this machine nor comes to it.
SAFE_SUFFIXES = frozenset(
    {".safetensors", ".gguf", ".json", ".jinja", ".txt", ".model", ".spm", ".onnx", ".skops"}
)
_LARGEST_LIST = 16 << 20
_HASH = re.compile(r"[0-9a-f]{64}")


class Objects(Protocol):
    """The team's storage; a name is there whole or not at all."""

    def size(self, name: str) -> int | None:
        """Return the size of an object in bytes; None where there is none."""

    def read(self, name: str) -> Iterator[bytes]:
        """Return an object's content in blocks."""

    def write(self, name: str, chunks: Iterable[bytes]) -> None:
        """Keep an object; one that is there stays as it is."""

    def delete(self, name: str) -> None:
        """Take an object away."""


def check_manifest(model: Model) -> None:
    """Refuse a manifest that is not the digest's own, or that names what must not be moved.

    Raises
    ------
    InferenceError
        See above; the sentence says which.
    """
    if not model.files:
        raise InferenceError(
            f"The catalog has no list of the files of {model.name!r}.",
            "Add the model again where its files are: %models add NAME SOURCE.",
        )
    for file in model.files:
        path = confined(file.path)
        if path.suffix.lower() not in SAFE_SUFFIXES:
            raise InferenceError(
                f"The file {file.path!r} of {model.name!r} can hold code that runs when it is loaded, so it is "
                "neither pushed nor pulled.",
                "Convert it to safetensors, GGUF, ONNX or skops.",
            )
        if not _HASH.fullmatch(file.sha256) or file.size_bytes < 0:
            raise InferenceError(
                f"The list of the files of {model.name!r} is damaged.",
                "Add the model again under a new name.",
            )
    if digest_of_files(model.files) != model.digest:
        raise InferenceError(
            f"The list of the files of {model.name!r} is not the one that its digest was made of.",
            "Somebody changed it: add the model again under a new name.",
        )


def confined(path: str) -> PurePosixPath:
    """Return a manifest's path, which stays below the folder it is used in.

    Raises
    ------
    InferenceError
        It would leave it.
    """
    parts = path.split("/")
    bad = any(part in ("", ".", "..") or part.strip() != part or ":" in part for part in parts)
    if bad or "\\" in path or not path.isprintable():
        raise InferenceError(
            f"The path {path!r} in the list of a model's files would leave its folder; nothing was fetched.",
            "Ask who registered the model; it was not this package.",
        )
    return PurePosixPath(*parts)


def pieces_of(objects: Objects, file: ModelFile) -> list[tuple[str, int]]:
    """Return the objects that a file consists of, as (SHA-256, size in bytes).

    Raises
    ------
    ModelNotAvailableError
        It is not in the storage, or not whole yet.
    InferenceError
        The list of its pieces is damaged.
    """
    if objects.size(object_name(file.sha256)) is not None:
        return [(file.sha256, file.size_bytes)]
    name = list_name(file.sha256)
    listed_bytes = objects.size(name)
    if listed_bytes is None:
        raise ModelNotAvailableError(
            f"The file {file.path!r} is not in the team's storage: a push has not come to its end.",
            "Ask for %models push again on a host that has the model; it goes on where it stopped.",
        )
    if listed_bytes <= _LARGEST_LIST:
        with contextlib.suppress(ValueError, TypeError, KeyError, OverflowError, RecursionError):
            listed = json.loads(b"".join(objects.read(name)))
            pieces = [(str(sha256), int(length)) for sha256, length in listed["pieces"]]
            known = all(_HASH.fullmatch(sha256) and length > 0 for sha256, length in pieces)
            if known and sum(length for _, length in pieces) == file.size_bytes:
                return pieces
    raise damaged(file.path)


def damaged(path: str) -> InferenceError:
    """Return the error for content that is not what its name says."""
    return InferenceError(
        f"The file {path!r} in the team's storage is damaged: its content differs from its digest, so it was "
        "not kept.",
        "Ask for %models push NAME --check on a host that has the model; it replaces what is damaged.",
    )


def signature_name(model: Model) -> str:
    """Return the name of the object that holds a model's signature."""
    return f"signatures/{model.digest.removeprefix('sha256:')}.sig"


def object_name(sha256: str) -> str:
    """Return the name of the object with this content."""
    return f"files/{sha256}"


def list_name(sha256: str) -> str:
    """Return the name of the object that lists the pieces of a file."""
    return f"files/{sha256}.pieces"
