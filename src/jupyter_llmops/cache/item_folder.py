"""Files of items: one each, in 256 folders, written atomically, never through a symbolic link.

Everything is reached through directory descriptors opened with ``O_NOFOLLOW``, so that whoever
can write to a shared folder can't lead a reader or a writer out of it. Files and folders get the
modes that the user's umask leaves, as a shared folder needs. Nothing is fsynced: an item that a
power loss cuts short does not verify and is computed again.
"""

from __future__ import annotations

import contextlib
import errno
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from jupyter_llmops.cache.item_format import ItemRejectedError

# The format's number is in the name, so two versions of this package that share a folder never see,
# and so never replace, each other's items.
SUFFIX: Final = ".v1.item"
_ITEM_NAME: Final = re.compile(r"[0-9a-f]{64}\.v[0-9]+\.item", re.ASCII)
_UNFINISHED_NAME: Final = re.compile(r"\.[0-9a-f]{64}\.[0-9]+-[0-9a-f]{16}\.tmp", re.ASCII)
_FOLDER_NAME: Final = re.compile(r"[0-9a-f]{2}", re.ASCII)
_UNFINISHED_SECONDS: Final = 600.0
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

FileMark = tuple[int, int, int, int]


class ItemFolder:
    """The items of one folder, which is created by the first write.

    Parameters
    ----------
    location : str
        The folder; it may itself be a link, nothing inside it may.
    largest : int
        Bytes; a longer file is not read.
    """

    def __init__(self, location: str, largest: int) -> None:
        self.location = location
        self.largest = largest

    def path(self, item_id: str) -> str:
        """Return where an item lies or would lie."""
        return f"{self.location}/{item_id[:2]}/{item_id}{SUFFIX}"

    def read(self, item_id: str) -> tuple[bytes, FileMark] | None:
        """Return an item's bytes and the mark of its file, None when there is none.

        Raises
        ------
        ItemRejectedError
            Something lies there that can't be an item, or can't be read.
        """
        try:
            with _opened(f"{self.location}/{item_id[:2]}", _FOLDER) as folder:
                return self._read_in(folder, item_id + SUFFIX)
        except FileNotFoundError:
            return None
        except OSError as error:
            raise ItemRejectedError(_why_unreadable(error)) from error

    def _read_in(self, folder: int, name: str) -> tuple[bytes, FileMark]:
        with _opened(name, _READ, folder) as file:
            status = os.fstat(file)
            if not stat.S_ISREG(status.st_mode):
                raise ItemRejectedError("is not a regular file")
            if status.st_size > self.largest:
                raise ItemRejectedError(f"is too large ({status.st_size} bytes, at most {self.largest})")
            # One byte more than promised, so that a file that grows meanwhile doesn't pass for whole.
            data = os.read(file, status.st_size + 1)
            return data, _mark(status)

    def mark(self, item_id: str) -> FileMark | None:
        """Return the mark of an item's file without reading it, None when there is none."""
        try:
            return _mark(os.stat(self.path(item_id), follow_symlinks=False))  # noqa: PTH116 - 2 µs, not 5
        except OSError:
            return None

    def write(self, item_id: str, data: bytes) -> FileMark:
        """Put an item in place, whole or not at all, and return the mark of its file.

        Raises
        ------
        OSError
            The folder can't be written, or the disk is full.
        """
        fan = Path(self.location, item_id[:2])
        if not fan.is_dir():
            fan.mkdir(parents=True, exist_ok=True)
        unfinished = f".{item_id}.{os.getpid()}-{secrets.token_hex(8)}.tmp"
        with _opened(str(fan), _FOLDER) as folder:
            try:
                with _opened(unfinished, _CREATE, folder) as file:
                    _write_all(file, data)
                    mark = _mark(os.fstat(file))
                _rename(unfinished, item_id + SUFFIX, folder)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(unfinished, dir_fd=folder)
                raise
        return mark

    def remove(self, item_id: str) -> None:
        """Remove one item; none is no error."""
        with contextlib.suppress(OSError), _opened(f"{self.location}/{item_id[:2]}", _FOLDER) as folder:
            os.unlink(item_id + SUFFIX, dir_fd=folder)

    def measure(self) -> tuple[int, int]:
        """Return the number of items and their bytes together."""
        count = size = 0
        for _, entry in self._files(_ITEM_NAME):
            with contextlib.suppress(OSError):
                size += entry.stat(follow_symlinks=False).st_size
                count += 1
        return count, size

    def clear(self) -> int:
        """Remove every item, of any format number, and return how many; other files stay."""
        count = 0
        for folder, entry in self._files(_ITEM_NAME):
            with contextlib.suppress(OSError):
                os.unlink(entry.name, dir_fd=folder)
                count += 1
        old = time.time() - _UNFINISHED_SECONDS
        for folder, entry in self._files(_UNFINISHED_NAME):  # left by a killed writer
            with contextlib.suppress(OSError):
                if entry.stat(follow_symlinks=False).st_mtime < old:
                    os.unlink(entry.name, dir_fd=folder)
        return count

    def _files(self, name: re.Pattern[str]) -> Iterator[tuple[int, os.DirEntry[str]]]:
        """Yield the regular files of this name with the descriptor of the folder that each is in."""
        try:
            fans = [fan for fan in os.listdir(self.location) if _FOLDER_NAME.fullmatch(fan)]  # noqa: PTH208
        except OSError:
            return
        for fan in fans:
            with (
                contextlib.suppress(OSError),
                _opened(f"{self.location}/{fan}", _FOLDER) as folder,
                os.scandir(folder) as entries,
            ):
                for entry in entries:
                    right = name.fullmatch(entry.name) and entry.name.lstrip(".").startswith(fan)
                    if right and entry.is_file(follow_symlinks=False):
                        yield folder, entry


class _opened:  # noqa: N801 - reads as a verb; contextlib's generator would cost 2 µs a file
    """A descriptor that is closed at the end of the block."""

    __slots__ = ("descriptor",)

    def __init__(self, path: str, flags: int, folder: int | None = None) -> None:
        self.descriptor = os.open(path, flags, 0o666, dir_fd=folder)

    def __enter__(self) -> int:
        return self.descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)


def _mark(status: os.stat_result) -> FileMark:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _write_all(file: int, data: bytes) -> None:
    rest = memoryview(data)
    while rest:
        rest = rest[os.write(file, rest) :]


def _rename(source: str, target: str, folder: int) -> None:
    try:
        os.rename(source, target, src_dir_fd=folder, dst_dir_fd=folder)
    except IsADirectoryError:
        # Somebody put a folder where an item belongs; an empty one may go.
        os.rmdir(target, dir_fd=folder)
        os.rename(source, target, src_dir_fd=folder, dst_dir_fd=folder)


def _why_unreadable(error: OSError) -> str:
    if error.errno == errno.ELOOP:
        return "is a symbolic link"
    if error.errno == errno.ENOTDIR:
        return "lies in something that is not a folder of this cache"
    return f"can't be read ({error.strerror or error})"
