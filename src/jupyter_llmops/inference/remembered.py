"""Models that names meant a moment ago, for as long as nothing that decides it has changed."""

from __future__ import annotations

import os
import threading
from collections.abc import Hashable
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from jupyter_llmops.errors import LLMOpsError
from jupyter_llmops.inference.sources import locate
from jupyter_llmops.records.model import Model

_MOST: Final = 64

_Mark = tuple[int, int, int, int]


@dataclass(frozen=True, slots=True)
class _Entry:
    model: Model
    catalogs: Hashable
    marks: tuple[tuple[str, _Mark], ...]


class RememberedModels:
    """What a name meant, with the marks of the catalogs and of every file that said so.

    Finding a model and its digest costs about a millisecond of looking at folders; a cached prompt has
    no more than that altogether. A name is remembered only while the catalogs that were asked and each
    file and folder of the model are what they were: device, inode, size and time of change.
    """

    def __init__(self) -> None:
        self._entries: dict[str, _Entry] = {}
        self._lock = threading.Lock()

    def get(self, name: str, catalogs: Hashable) -> Model | None:
        """Return the model that a name meant, None where anything changed since.

        Parameters
        ----------
        name : str
            As it was typed.
        catalogs : hashable
            The marks of the catalogs' tables, as they are now.
        """
        entry = self._entries.get(name)
        if entry is None or entry.catalogs != catalogs:
            return None
        try:
            same = all(_mark(path) == mark for path, mark in entry.marks)
        except OSError:
            same = False
        return entry.model if same else None

    def put(self, name: str, model: Model, catalogs: Hashable) -> None:
        """Remember what a name means; a model whose files can't be watched is left out."""
        marks = _marks(model)
        if marks is None:
            return
        with self._lock:
            if len(self._entries) >= _MOST:
                self._entries.clear()
            self._entries[name] = _Entry(model, catalogs, marks)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._entries.clear()


def _marks(model: Model) -> tuple[tuple[str, _Mark], ...] | None:
    if not model.digest or not model.source.startswith(("package:", "folder:")):
        return None
    watched: dict[str, _Mark] = {}
    try:
        for part in (model, model.adapter):
            for path in _watched(part) if part is not None else ():
                watched[str(path)] = _mark(str(path))
    except (LLMOpsError, OSError):
        return None
    return tuple(watched.items())


def _watched(model: Model) -> list[Path]:
    files = locate(model, offline=True)
    # A folder's own mark changes when a file is put beside the others, e.g. a signature.
    folders = {files.root, *(path.parent for path in files.files)}
    beside = [path for path in files.root.iterdir() if path.is_file()] if files.kind == "folder" else []
    return [*files.files, *folders, *beside]


def _mark(path: str) -> _Mark:
    status = os.stat(path)  # noqa: PTH116 - 2 µs, not 5
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns
