"""Which cells have begun: a mark that outlives the process, so that a cell which never ends is known.

A leaf is written when its cell has ended. A cell that ends its own process (``os._exit``, a crash of a
library) or is ended with it (a kernel that is killed) leaves none, so its beginning is marked beside
the journal first; :mod:`jupyter_llmops.audit.files` says how the file looks.
"""

from __future__ import annotations

import json
import os
import threading
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyter_llmops.audit.files import make_folders, running_path
from jupyter_llmops.audit.own_file import OwnFile

SLOT_BYTES = 384
MOST_SLOTS = 64
_LONGEST = 64
# `json.dumps` would make one anew for every cell.
_encode = json.JSONEncoder(separators=(",", ":")).encode
_FLAGS = os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW


@dataclass(frozen=True, slots=True)
class RunningCell:
    """A cell that began, as its mark has it.

    Parameters
    ----------
    id : str
        The run id that its leaf has or would have had.
    started_at : str
        ISO 8601, UTC.
    execution_count : int or None
        None where the cell has none of its own.
    cell : str
        Id of the notebook's cell, empty where unknown.
    kernel : str
        Id of the kernel, empty outside of one.
    """

    id: str
    started_at: str
    execution_count: int | None = None
    cell: str = ""
    kernel: str = ""


class RunningCells:
    """Writes the marks of one session; no failure of the disk is ever raised, as the journal says it.

    Parameters
    ----------
    folder : Path
        The audit folder.
    session : str
        Name of the session.
    """

    def __init__(self, folder: Path, session: str) -> None:
        self._path = running_path(folder, session)
        self._folder = folder
        self._file: OwnFile | None = None
        self._process = os.getpid()
        self._lock = threading.RLock()
        self._free = list(range(MOST_SLOTS - 1, -1, -1))

    def begin(self, mark: Mapping[str, Any]) -> int:
        """Mark a cell as begun and return its slot, -1 where it could not be marked.

        Parameters
        ----------
        mark : mapping
            The values of a `RunningCell`; no text of the user's.
        """
        if os.getpid() != self._process:
            return -1
        slot = -1
        try:
            slot = self._free.pop()
            short = {key: value[:_LONGEST] if type(value) is str else value for key, value in mark.items()}
            data = _encode(short).encode("ascii")
            if len(data) >= SLOT_BYTES:  # escapes made it longer: what names the run is enough
                data = json.dumps({"id": short.get("id"), "started_at": short.get("started_at")}).encode()
            os.pwrite(self._own().descriptor, data.ljust(SLOT_BYTES - 1) + b"\n", slot * SLOT_BYTES)
        except (OSError, IndexError, TypeError, ValueError):
            self.end(slot)
            return -1
        return slot

    def end(self, slot: int) -> None:
        """Let a slot be used again; its mark stays, as the leaf of the same id says that it ended."""
        if slot >= 0 and slot not in self._free:
            self._free.append(slot)

    def close(self) -> None:
        """Remove the file, unless a cell is running: then its marks stay to say so."""
        if os.getpid() != self._process:
            return
        with self._lock:
            file, self._file = self._file, None
            try:
                if file is not None:
                    if file.is_at(self._path):
                        file.close()
                    if len(self._free) == MOST_SLOTS:
                        self._path.unlink()
            except OSError:
                return

    def _own(self) -> OwnFile:
        file = self._file
        size = file.size() if file is not None else None
        if file is not None and size is not None and not file.deleted:
            marked = size > 0 and size % SLOT_BYTES == 0
            if marked or file.is_at(self._path):  # else it may be a user's file that got the inode of ours
                return file
        with self._lock:
            try:
                self._file = OwnFile(os.open(self._path, _FLAGS, 0o600))
            except FileNotFoundError:
                make_folders(self._folder, self._path.parent)
                self._file = OwnFile(os.open(self._path, _FLAGS, 0o600))
            return self._file


def read_running(folder: Path, session: str) -> tuple[RunningCell, ...]:
    """Return the cells that are marked as begun; those whose id has a leaf have ended since.

    Parameters
    ----------
    folder : Path
        The audit folder.
    session : str
        Name of the session. A session that has no such file ended in order, or marked nothing.
    """
    try:
        data = running_path(Path(folder), session).read_bytes()
    except OSError:
        return ()
    return tuple(_marks(data))


def _marks(data: bytes) -> Iterator[RunningCell]:
    for start in range(0, len(data), SLOT_BYTES):
        try:
            values = json.loads(data[start : start + SLOT_BYTES])
            count = values.get("execution_count")
            texts = {key: values.get(key, "") for key in ("id", "started_at", "cell", "kernel")}
        except (ValueError, AttributeError, RecursionError):
            continue  # a torn mark, or a slot that was never used
        if texts["id"] and all(type(text) is str for text in texts.values()):
            yield RunningCell(**texts, execution_count=count if type(count) is int else None)
