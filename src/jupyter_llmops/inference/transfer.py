"""A model's files to the team's storage and back: addressed by content, resumed at the next piece.

A file of up to `PIECE_BYTES` is one object, ``files/SHA256``. A larger one is cut into pieces, each an
object of that form, and ``files/SHA256.pieces`` lists them; it is written last, so that a file is either
whole in the storage or not there.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import json
import re
import time
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO, Protocol

from jupyter_llmops.display.elements import size
from jupyter_llmops.errors import InferenceError, ModelNotAvailableError
from jupyter_llmops.inference.engine import Progress
from jupyter_llmops.inference.manifest import digest_of_files
from jupyter_llmops.records.model import Model, ModelFile

PIECE_BYTES = 64 << 20
PIECES_SCHEMA = "llmops.pieces/1"
# What loads without running code; everything else neither leaves this machine nor comes to it.
SAFE_SUFFIXES = frozenset(
    {".safetensors", ".gguf", ".json", ".jinja", ".txt", ".model", ".spm", ".onnx", ".skops"}
)
_BLOCK = 1 << 20
_LARGEST_LIST = 16 << 20
_SECONDS_BETWEEN_REPORTS = 0.2
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


class Meter:
    """Tells how many bytes of how many went, and how fast.

    Parameters
    ----------
    doing : str
        What is done, e.g. "Pushing smol".
    total : int
        Bytes in all.
    progress : callable, optional
        Told at most a few times a second.
    """

    def __init__(self, doing: str, total: int, progress: Progress | None) -> None:
        self._doing = doing
        self.total = total
        self._progress = progress
        self._done = 0
        self._began = self._told = time.monotonic()
        self.moved = 0

    def add(self, count: int, *, moved: bool = True) -> None:
        """Count bytes; `moved` is False for those that were there already."""
        self._done += count
        self.moved += count if moved else 0
        now = time.monotonic()
        if self._progress is None or now - self._told < _SECONDS_BETWEEN_REPORTS:
            return
        self._told = now
        rate = self.moved / max(now - self._began, 1e-9)
        sentence = f"{self._doing}: {size(self._done)} of {size(self.total)}, {size(int(rate))}/s"
        self._progress(sentence, min(1.0, self._done / self.total) if self.total else None)


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


@dataclass(frozen=True, slots=True)
class _Pushing:
    objects: Objects
    meter: Meter
    check: bool

    def write(self, data: bytes, sha256: str) -> None:
        """Keep one object unless it is there, whole and, where it is checked, undamaged."""
        name = _object(sha256)
        there = self.objects.size(name)
        if there == len(data) and not (self.check and _digest(self.objects.read(name)) != sha256):
            self.meter.add(len(data), moved=False)
            return
        if there is not None:
            self.objects.delete(name)  # what is there under this name is not what the name says
        self.objects.write(name, self._counted(data))

    def _counted(self, data: bytes) -> Iterator[bytes]:
        for start in range(0, len(data), _BLOCK):
            block = data[start : start + _BLOCK]
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
    name = _list_object(file.sha256)
    if pushing.objects.size(name) is not None:
        pushing.objects.delete(name)
    pushing.objects.write(name, [json.dumps(listed).encode()])


def _is_there(objects: Objects, file: ModelFile) -> bool:
    if objects.size(_object(file.sha256)) == file.size_bytes:
        return True
    try:
        pieces = _pieces(objects, file)
    except InferenceError:
        return False
    return all(objects.size(_object(sha256)) == length for sha256, length in pieces)


def _pull_file(objects: Objects, file: ModelFile, target: Path, meter: Meter) -> None:
    pieces = _pieces(objects, file)
    part = target.with_name(f"{target.name}.part")
    with part.open("r+b" if part.exists() else "w+b") as out:
        done, whole = _whole_pieces(out, pieces, meter)
        for sha256, length in pieces[done:]:
            begins = out.tell()
            digest, seen = hashlib.sha256(), 0
            for block in objects.read(_object(sha256)):
                seen += len(block)
                if seen > length:
                    break
                digest.update(block)
                whole.update(block)
                out.write(block)
                meter.add(len(block))
            if seen != length or digest.hexdigest() != sha256:
                out.truncate(begins)
                raise _damaged(file.path)
    if whole.hexdigest() != file.sha256:
        part.unlink()
        raise _damaged(file.path)
    part.replace(target)


def _whole_pieces(
    out: BinaryIO, pieces: Sequence[tuple[str, int]], meter: Meter
) -> tuple[int, hashlib._Hash]:
    """Return how many pieces an earlier try has left whole, and their hash; cuts off what follows them."""
    whole = hashlib.sha256()
    for index, (sha256, length) in enumerate(pieces):
        begins, left = out.tell(), length
        longer, digest = whole.copy(), hashlib.sha256()
        while left and (block := out.read(min(_BLOCK, left))):
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


def _pieces(objects: Objects, file: ModelFile) -> list[tuple[str, int]]:
    if objects.size(_object(file.sha256)) is not None:
        return [(file.sha256, file.size_bytes)]
    name = _list_object(file.sha256)
    listed_bytes = objects.size(name)
    if listed_bytes is None:
        raise ModelNotAvailableError(
            f"The file {file.path!r} is not in the team's storage: a push has not come to its end.",
            "Ask for %models push again on a host that has the model; it goes on where it stopped.",
        )
    if listed_bytes <= _LARGEST_LIST:
        with contextlib.suppress(ValueError, TypeError, KeyError):
            listed = json.loads(b"".join(objects.read(name)))
            pieces = [(str(sha256), int(length)) for sha256, length in listed["pieces"]]
            known = all(_HASH.fullmatch(sha256) and length > 0 for sha256, length in pieces)
            if known and sum(length for _, length in pieces) == file.size_bytes:
                return pieces
    raise _damaged(file.path)


def _damaged(path: str) -> InferenceError:
    return InferenceError(
        f"The file {path!r} in the team's storage is damaged: its content differs from its digest, so it was "
        "not kept.",
        "Ask for %models push NAME --check on a host that has the model; it replaces what is damaged.",
    )


def _digest(blocks: Iterable[bytes]) -> str:
    digest = hashlib.sha256()
    for block in blocks:
        digest.update(block)
    return digest.hexdigest()


def _object(sha256: str) -> str:
    return f"files/{sha256}"


def _list_object(sha256: str) -> str:
    return f"files/{sha256}.pieces"
