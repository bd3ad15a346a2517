"""A model's files from the team's storage to this machine."""

from __future__ import annotations

import errno
import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

from jupyter_llmops.display.elements import size
from jupyter_llmops.errors import ModelNotAvailableError
from jupyter_llmops.inference.engine import Progress
from jupyter_llmops.inference.signing import SIGNATURE_NAME
from jupyter_llmops.inference.transfer.meter import Meter
from jupyter_llmops.inference.transfer.storage import (
    BLOCK_BYTES,
    LARGEST_SIGNATURE,
    Objects,
    check_manifest,
    confined,
    damaged,
    object_name,
    pieces_of,
    signature_name,
)
from jupyter_llmops.records.model import Model, ModelFile


def pull_files(objects: Objects, model: Model, folder: Path, *, progress: Progress | None = None) -> int:
    """Bring a model's files from the storage into `folder`, each verified while it comes.

    Files that are not whole yet end in ``.part``; the next call goes on behind their last whole piece.

    Parameters
    ----------
    objects : Objects
        The storage.
    model : Model
        With its `files`.
    folder : Path
        Gets them; made where it is not there.
    progress : callable, optional
        Told bytes and rate.

    Returns
    -------
    int
        How many bytes were fetched.

    Raises
    ------
    ModelNotAvailableError
        A file is not in the storage, or the disk is full.
    InferenceError
        The manifest is not that of the digest, a path leaves the folder, or content differs from its
        digest; such a file is not kept.
    """
    check_manifest(model)
    meter = Meter(f"Pulling {model.name}", sum(file.size_bytes for file in model.files), progress)
    try:
        for file in model.files:
            target = folder / confined(file.path)
            target.parent.mkdir(parents=True, exist_ok=True)
            if target.is_file() and target.stat().st_size == file.size_bytes:
                meter.add(file.size_bytes, moved=False)
            else:
                _pull_file(objects, file, target, meter)
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise ModelNotAvailableError(
                f"The files of {model.name!r} can't be written to {folder}: {error.strerror or error}.",
                "Check its permissions, or set LLMOPS_HOME to another folder.",
            ) from error
        raise ModelNotAvailableError(
            f"The disk is full: {model.name!r} takes {size(meter.total)} in {folder}.",
            f"Free some space and type %models pull {model.name} again; it goes on where it stopped.",
        ) from error
    return meter.moved


def pull_signature(objects: Objects, model: Model, folder: Path) -> None:
    """Bring a model's signature into its folder, where the storage has one; loading verifies it."""
    length = objects.size(signature_name(model))
    if length is None or length > LARGEST_SIGNATURE:
        return
    alone = len(model.files) == 1 and model.files[0].path.endswith(".gguf")
    name = f"{model.files[0].path}.sig" if alone else SIGNATURE_NAME
    (folder / name).write_bytes(b"".join(objects.read(signature_name(model))))


def _pull_file(objects: Objects, file: ModelFile, target: Path, meter: Meter) -> None:
    pieces = pieces_of(objects, file)
    part = target.with_name(f"{target.name}.part")
    with part.open("r+b" if part.exists() else "w+b") as out:
        done, whole = _whole_pieces(out, pieces, meter)
        for sha256, length in pieces[done:]:
            begins = out.tell()
            digest, seen = hashlib.sha256(), 0
            for block in objects.read(object_name(sha256)):
                seen += len(block)
                if seen > length:
                    break
                digest.update(block)
                whole.update(block)
                out.write(block)
                meter.add(len(block))
            if seen != length or digest.hexdigest() != sha256:
                out.truncate(begins)
                raise damaged(file.path)
    if whole.hexdigest() != file.sha256:
        part.unlink()
        raise damaged(file.path)
    part.replace(target)


def _whole_pieces(
    out: BinaryIO, pieces: Sequence[tuple[str, int]], meter: Meter
) -> tuple[int, hashlib._Hash]:
    """Return how many pieces an earlier try has left whole, and their hash; cuts off what follows them."""
    whole = hashlib.sha256()
    for index, (sha256, length) in enumerate(pieces):
        begins, left = out.tell(), length
        longer, digest = whole.copy(), hashlib.sha256()
        while left and (block := out.read(min(BLOCK_BYTES, left))):
            longer.update(block)
            digest.update(block)
            left -= len(block)
        if left or digest.hexdigest() != sha256:
            out.seek(begins)
            out.truncate()
            return index, whole
        whole = longer
        meter.add(length, moved=False)
    out.truncate()
    return len(pieces), whole
