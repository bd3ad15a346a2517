"""The files of a log's tiles: where each lies, and that none is ever written over."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from jupyter_llmops.errors import AuditError

WIDTH = 256
CHECKPOINT = "checkpoint"

# A listing that runs while files come and go may show neither the old one nor the new.
_EMPTY_LOOKS = 2


def tile_path(level: int | str, index: int, width: int = WIDTH) -> str:
    """Return where a tile lies below the log's folder, e.g. ``tile/0/x001/234`` or ``tile/0/000.p/7``.

    Parameters
    ----------
    level : int or "entries"
        Its level, or the leaves themselves.
    index : int
        Its place in the level, from 0.
    width : int
        How many hashes it has; 256 are a full tile.
    """
    parts = [f"{index % 1000:03d}"]
    while index := index // 1000:
        parts.append(f"x{index % 1000:03d}")
    path = f"tile/{level}/{'/'.join(reversed(parts))}"
    return path if width == WIDTH else f"{path}.p/{width}"


class TileFiles:
    """Reads and writes the files below one log's folder.

    Parameters
    ----------
    folder : Path
        The log's folder; made, with its parents, when the first file comes.
    sync : bool
        Wait for the disk at each file.
    """

    def __init__(self, folder: Path, *, sync: bool) -> None:
        self.folder = folder
        self._sync = sync

    def has(self, path: str) -> bool:
        """Return whether a file is there."""
        return (self.folder / path).is_file()

    def widths(self, level: int | str, index: int) -> list[int]:
        """Return which partial files of a tile are there."""
        folder = self.folder / f"{tile_path(level, index)}.p"
        try:
            names = [entry.name for entry in folder.iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return []
        return [int(name) for name in names if _is_width(name)]

    def read(self, level: int | str, index: int, width: int) -> tuple[int, bytes] | None:
        """Return the narrowest file that has the first `width` of a tile, and its width; None without any."""
        # What is listed may be gone a moment later, in favour of a wider one, as often as a tile can grow.
        empty = 0
        for _ in range(WIDTH):
            if (found := self._read_one(level, index, width)) is not None:
                return found
            # Only where the very file is not there is it looked for which wider ones are.
            wider = sorted(one for one in self.widths(level, index) if one > width)
            for one in (*wider, WIDTH):
                if (found := self._read_one(level, index, one)) is not None:
                    return found
            empty += not wider
            if empty == _EMPTY_LOOKS:
                break
        return None

    def read_checkpoint(self) -> bytes | None:
        """Return the file `checkpoint`, None where there is none."""
        try:
            return (self.folder / CHECKPOINT).read_bytes()
        except FileNotFoundError:
            return None

    def write_checkpoint(self, data: bytes) -> None:
        """Put the file `checkpoint` in place of the one that is there: the only one that changes."""
        self._make(self.folder)
        unfinished = self._write_unfinished(self.folder / CHECKPOINT, data)
        try:
            unfinished.replace(self.folder / CHECKPOINT)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise

    def missing(self, path: str) -> AuditError:
        """Return what to say where a file should be."""
        return AuditError(f"The log in {self.folder} lacks {path}.", "Type: %audit verify")

    def damaged(self, path: str) -> AuditError:
        """Return what to say of a file that can't be one of a log."""
        return AuditError(f"{self.folder / path} is damaged.", "Type: %audit verify")

    def write(self, path: str, data: bytes) -> None:
        """Write a file that is not there yet; one that has this very content may stay."""
        target = self.folder / path
        if self._holds(target, data):
            return
        self._make(target.parent)
        unfinished = self._write_unfinished(target, data)
        try:
            # Unlike a rename a link never takes the place of a file that another process wrote meanwhile.
            os.link(unfinished, target)
        except FileExistsError:
            self._holds(target, data)
        except OSError:  # a file system without links
            if not self._holds(target, data):
                unfinished.replace(target)
        finally:
            unfinished.unlink(missing_ok=True)

    def drop_partials(self, level: int | str, index: int) -> None:
        """Remove the partial tiles of one that is full."""
        full = self.folder / tile_path(level, index)
        _unfinished(full).unlink(missing_ok=True)  # of a kill after the link and before this
        folder = full.with_name(f"{full.name}.p")
        try:
            names = [entry.name for entry in folder.iterdir()]
        except (FileNotFoundError, NotADirectoryError):
            return
        for name in names:
            if _is_width(name) or name.endswith(".unfinished"):
                (folder / name).unlink(missing_ok=True)
        with contextlib.suppress(OSError):  # what others put there is theirs
            folder.rmdir()

    def drop(self, level: int | str, index: int, width: int) -> None:
        """Remove one partial tile."""
        (self.folder / tile_path(level, index, width)).unlink(missing_ok=True)

    def _read_one(self, level: int | str, index: int, width: int) -> tuple[int, bytes] | None:
        try:
            return width, (self.folder / tile_path(level, index, width)).read_bytes()
        except FileNotFoundError:
            return None

    def _make(self, folder: Path) -> None:
        if not folder.is_dir():
            self._make(folder.parent)
            folder.mkdir(exist_ok=True, mode=0o700)

    def _holds(self, target: Path, data: bytes) -> bool:
        try:
            found = target.read_bytes()
        except FileNotFoundError:
            return False
        if found != data:
            raise AuditError(
                f"{target} is there with another content, and a log never says two things of one place.",
                "Type: %audit verify",
            )
        return True

    def _write_unfinished(self, target: Path, data: bytes) -> Path:
        # One name per target, so that the next try removes what a kill left behind. It is never written
        # over: it may be a link to the finished file.
        unfinished = _unfinished(target)
        unfinished.unlink(missing_ok=True)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(unfinished, flags, 0o600)
        try:
            view = memoryview(data)
            while view:
                view = view[os.write(descriptor, view) :]
            if self._sync:
                os.fsync(descriptor)
        except OSError:
            unfinished.unlink(missing_ok=True)
            raise
        finally:
            os.close(descriptor)
        return unfinished


def _is_width(name: str) -> bool:
    return name.isascii() and name.isdigit() and name[0] != "0" and len(name) <= 3 and int(name) < WIDTH


def _unfinished(target: Path) -> Path:
    return target.with_name(f".{target.name}.unfinished")
