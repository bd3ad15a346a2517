"""A model's files into the team's storage."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from jupyter_llmops.errors import InferenceError, ModelNotAvailableError
from jupyter_llmops.inference.engine import Progress
from jupyter_llmops.inference.transfer.meter import Meter
from jupyter_llmops.inference.transfer.storage import (
    BLOCK_BYTES,
    LARGEST_SIGNATURE,
    PIECES_SCHEMA,
    Objects,
    check_manifest,
    confined,
    list_name,
    object_name,
    pieces_of,
    signature_name,
)
from jupyter_llmops.records.model import Model, ModelFile

PIECE_BYTES = 64 << 20


def push_files(
    objects: Objects,
    model: Model,
    root: Path,
    *,
    progress: Progress | None = None,
    check: bool = False,
    piece_bytes: int = PIECE_BYTES,
) -> int:
    """Bring a model's files into the storage; what is there already is not sent again.

    Two who push the same files at once do no harm: they write the same objects.

    Parameters
    ----------
    objects : Objects
        The storage.
    model : Model
        With its `files`.
    root : Path
        The folder that their paths are relative to.
    progress : callable, optional
        Told bytes and rate.
    check : bool
        Read every object that is there, and replace those whose content is damaged.
    piece_bytes : int
        Largest object, bytes.

    Returns
    -------
    int
        How many bytes were sent.

    Raises
    ------
    InferenceError
        A file would run code when loaded, or is not the one of the manifest any more.
    """
    check_manifest(model)
    meter = Meter(f"Pushing {model.name}", sum(file.size_bytes for file in model.files), progress)
    for file in model.files:
        path = root / confined(file.path)
        if not check and _is_there(objects, file):
            meter.add(file.size_bytes, moved=False)
            continue
        _push_file(_Pushing(objects, meter, check=check), file, path, piece_bytes)
    return meter.moved


def push_signature(objects: Objects, model: Model, signature: Path | None) -> None:
    """Bring the signature beside a model's files into the storage, where there is one.

    It is no part of the manifest: it signs what is.
    """
    if signature is None or signature.stat().st_size > LARGEST_SIGNATURE:
        return
    name = signature_name(model)
    data = signature.read_bytes()
    if objects.size(name) not in (None, len(data)):
        objects.delete(name)  # signed again since
    objects.write(name, [data])


@dataclass(frozen=True, slots=True)
class _Pushing:
    objects: Objects
    meter: Meter
    check: bool

    def write(self, data: bytes, sha256: str) -> None:
        """Keep one object unless it is there, whole and, where it is checked, undamaged."""
        name = object_name(sha256)
        there = self.objects.size(name)
        if there == len(data) and not (self.check and _digest(self.objects.read(name)) != sha256):
            self.meter.add(len(data), moved=False)
            return
        if there is not None:
            self.objects.delete(name)  # what is there under this name is not what the name says
        self.objects.write(name, self._counted(data))

    def _counted(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), BLOCK_BYTES):
            block = data[start : start + BLOCK_BYTES]
            yield block
            self.meter.add(len(block))


def _push_file(pushing: _Pushing, file: ModelFile, path: Path, piece_bytes: int) -> None:
    changed = InferenceError(
        f"The file {path} is not the one that the catalog names any more.",
        "Restore it, or add the model again under a new name.",
    )
    try:
        if path.stat().st_size != file.size_bytes:
            raise changed
        with path.open("rb") as source:
            if file.size_bytes <= piece_bytes:
                data = source.read()
                if hashlib.sha256(data).hexdigest() != file.sha256:
                    raise changed
                pushing.write(data, file.sha256)
                return
            whole, pieces = hashlib.sha256(), []
            while data := source.read(piece_bytes):
                whole.update(data)
                pieces.append([hashlib.sha256(data).hexdigest(), len(data)])
                pushing.write(data, pieces[-1][0])  # type: ignore[arg-type]
    except OSError as error:
        raise ModelNotAvailableError(
            f"The file {path} can't be read: {error}", "Check its permissions."
        ) from error
    if whole.hexdigest() != file.sha256:
        raise changed
    listed = {"schema": PIECES_SCHEMA, "size": file.size_bytes, "pieces": pieces}
    name = list_name(file.sha256)
    if pushing.objects.size(name) is not None:
        pushing.objects.delete(name)
    pushing.objects.write(name, [json.dumps(listed).encode()])


def _is_there(objects: Objects, file: ModelFile) -> bool:
    if objects.size(object_name(file.sha256)) == file.size_bytes:
        return True
    try:
        pieces = pieces_of(objects, file)
    except InferenceError:
        return False
    return all(objects.size(object_name(sha256)) == length for sha256, length in pieces)


def _digest(blocks: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()
