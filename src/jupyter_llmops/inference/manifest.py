"""The digest of a model: what its files are, whatever they are called and wherever they lie."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Callable, Iterable
from functools import lru_cache
from pathlib import Path

from jupyter_llmops.records.model import ModelFile

MANIFEST_SCHEMA = "llmops.model-manifest/1"
_BLOCK = 1 << 20
# In a model's folder, as transformers names them; those in folders below are other programs'.
_TOKENIZER = frozenset(
    {
        "tokenizer.json", "tokenizer_config.json", "tokenizer.model", "special_tokens_map.json", "added_tokens.json",
        "vocab.json", "vocab.txt", "merges.txt", "spiece.model", "sentencepiece.bpe.model", "source.spm",
        "target.spm", "tekken.json", "chat_template.jinja", "chat_template.json",
    }
)  # fmt: skip
_TEMPLATES = "additional_chat_templates/"
# Digests read by this process: also where the models folder can't be written, a file is read once.
_known: dict[tuple[str, int, int], str] = {}


def model_files(
    root: Path,
    files: Iterable[Path],
    memory: Path | None = None,
    on_bytes: Callable[[int], None] | None = None,
) -> tuple[ModelFile, ...]:
    """Return the manifest of `files`: relative path, size and SHA-256 of each, sorted by path.

    Parameters
    ----------
    root : Path
        Folder that the paths in the manifest are relative to.
    files : iterable of Path
        The files that decide the model's answers.
    memory : Path, optional
        Folder that remembers the digests of files by path, size and modification time, so that
        gigabytes are read once.
    on_bytes : callable, optional
        Called with the number of bytes of each block that was read.

    Raises
    ------
    OSError
        A file can't be read.
    """
    entries = (
        ModelFile(path.relative_to(root).as_posix(), path.stat().st_size, file_digest(path, memory, on_bytes))
        for path in files
    )
    return tuple(sorted(entries, key=lambda file: file.path))


def digest_of_files(files: Iterable[ModelFile]) -> str:
    """Return ``sha256:…`` over the sorted list of relative path, size and SHA-256 of the files: a model's digest."""
    manifest = {
        "files": sorted([file.path, file.size_bytes, file.sha256] for file in files),
        "schema": MANIFEST_SCHEMA,
    }
    text = json.dumps(manifest, sort_keys=True, separators=(",", ":"), ensure_ascii=False)
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


@lru_cache(maxsize=64)
def tokenizer_digest(files: tuple[ModelFile, ...]) -> str:
    """Return ``sha256:…`` over the manifest of the files that turn a chat into tokens and back; empty without any.

    A GGUF file holds weights and tokenizer in one, so its own manifest is returned.

    Parameters
    ----------
    files : tuple of ModelFile
        All files of a model.
    """
    if files and all(file.path.endswith(".gguf") for file in files):
        return digest_of_files(files)
    chosen = [file for file in files if file.path in _TOKENIZER or file.path.startswith(_TEMPLATES)]
    return digest_of_files(chosen) if chosen else ""


def file_digest(path: Path, memory: Path | None = None, on_bytes: Callable[[int], None] | None = None) -> str:
    """Return the SHA-256 of a file in hexadecimal, remembered in `memory` where that is writable."""
    status = path.stat()
    place = str(path.absolute())
    seen = (place, status.st_size, status.st_mtime_ns)
    if seen in _known:
        return _known[seen]
    facts = {"path": place, "size": status.st_size, "mtime_ns": status.st_mtime_ns}
    note = _note(memory, place) if memory else None
    if note is not None:
        known = _read_note(note)
        if known is not None and all(known.get(name) == value for name, value in facts.items()):
            return _known.setdefault(seen, str(known["sha256"]))
    digest = _read_through(path, on_bytes)
    after = path.stat()
    unchanged = (after.st_size, after.st_mtime_ns) == (status.st_size, status.st_mtime_ns)
    if unchanged:
        _known[seen] = digest
        if note is not None:
            _write_note(note, {**facts, "sha256": digest})
    return digest


def remember(path: Path, sha256: str, memory: Path | None = None) -> None:
    """Remember the digest of a file that was verified while it was written, so that it is not read again."""
    status = path.stat()
    place = str(path.absolute())
    _known[place, status.st_size, status.st_mtime_ns] = sha256
    if memory is not None:
        facts = {"path": place, "size": status.st_size, "mtime_ns": status.st_mtime_ns, "sha256": sha256}
        _write_note(_note(memory, place), facts)


def _note(memory: Path, place: str) -> Path:
    return memory / f"{hashlib.sha256(place.encode()).hexdigest()[:32]}.json"


def _read_through(path: Path, on_bytes: Callable[[int], None] | None) -> str:
    digest = hashlib.sha256()
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            digest.update(block)
            if on_bytes is not None:
                on_bytes(len(block))
    return digest.hexdigest()


def _read_note(note: Path) -> dict[str, object] | None:
    try:
        known = json.loads(note.read_text(encoding="utf-8"))
    except (OSError, ValueError):
        return None
    return known if isinstance(known, dict) and isinstance(known.get("sha256"), str) else None


def _write_note(note: Path, known: dict[str, object]) -> None:
    # A folder that can't be written only costs reading the file again next time.
    with contextlib.suppress(OSError):
        note.parent.mkdir(parents=True, exist_ok=True)
        draft = note.with_name(f"{note.name}.{os.getpid()}.tmp")
        draft.write_text(json.dumps(known), encoding="utf-8")
        draft.replace(note)
