"""Files of items: one each, in 256 folders, written atomically, never through a symbolic link.

Whatever is written or removed is reached through directory descriptors opened with ``O_NOFOLLOW``, so that
whoever can write to a shared folder can't lead a writer out of it; what is read proves itself by its seal,
wherever it lies. Files and folders get the modes that the user's umask leaves, as a shared folder needs. Nothing is fsynced: an item that a
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
SUFFIX: Final = ".v2.item"
# Beside an item: the mark that one answer to its request is wrong, with the answer's digest in the name.
MARK_SUFFIX: Final = ".v2.wrong"
ITEM_NAME: Final = re.compile(r"[0-9a-f]{64}\.v[0-9]+\.item", re.ASCII)
_UNFINISHED_NAME: Final = re.compile(r"\.[0-9a-f]{64}\.[0-9]+-[0-9a-f]{16}\.tmp", re.ASCII)
_FOLDER_NAME: Final = re.compile(r"[0-9a-f]{2}", re.ASCII)
_KEY_FOLDER: Final = re.compile(r"v[0-9]+-[0-9a-f]{8}", re.ASCII)
_UNFINISHED_SECONDS: Final = 600.0
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC

SIZES_ASKED: Final = 4000

FileMark = tuple[int, int, int, int]


class ItemFolder:
    """The items that one key sealed, in one folder, which is created by the first write.

    Parameters
    ----------
    location : str
        The folder, which is no link; neither is anything inside it.
    largest : int
        Bytes; a longer file is not read.
    """

    def __init__(self, location: str, largest: int) -> None:
        self.location = location
        self.largest = largest

    def path(self, name: str) -> str:
        """Return where a file lies or would lie; `name` begins with the id of its item."""
        return f"{self.location}/{name[:2]}/{name}"

    def read(self, name: str) -> tuple[bytes, FileMark] | None:
        """Return a file's bytes and mark, None when there is none.

        Raises
        ------
        ItemRejectedError
            Something lies there that can't be an item, or can't be read.
        """
        try:
            with _opened(self.path(name), _READ) as file:
                status = os.fstat(file)
                if not stat.S_ISREG(status.st_mode):
                    raise ItemRejectedError("is not a regular file")
                if status.st_size > self.largest:
                    raise ItemRejectedError(f"is too large ({status.st_size} bytes, at most {self.largest})")
                # One byte more than promised, so that a file that grows meanwhile doesn't pass for whole.
                return _read_all(file, status.st_size + 1), _mark(status)
        except OSError as error:
            # ESTALE: removed on another host of a network's folder between opening and reading.
            if error.errno in {errno.ENOENT, errno.ESTALE}:
                return None
            raise ItemRejectedError(_why_unreadable(error)) from error

    def has(self, name: str) -> bool:
        """Return whether something lies there, as fast as can be."""
        return os.access(self.path(name), os.F_OK)

    def names(self, item_id: str, suffix: str) -> list[str]:
        """Return the names of an item's files that end so."""
        try:
            found = os.listdir(f"{self.location}/{item_id[:2]}")  # noqa: PTH208 - no Path a file
        except OSError:
            return []
        return sorted(name for name in found if name.startswith(item_id) and name.endswith(suffix))

    def write(self, name: str, data: bytes) -> FileMark:
        """Put a file in place, whole or not at all, and return its mark.

        Raises
        ------
        OSError
            The folder can't be written, or the disk is full.
        """
        unfinished = f".{name[:64]}.{os.getpid()}-{secrets.token_hex(8)}.tmp"
        with self._made() as items, _opened(_made_fan(items, name[:2]), _FOLDER, items) as folder:
            try:
                with _opened(unfinished, _CREATE, folder) as file:
                    _write_all(file, data)
                    mark = _mark(os.fstat(file))
                _rename(unfinished, name, folder)
            except BaseException:
                with contextlib.suppress(OSError):
                    os.unlink(unfinished, dir_fd=folder)
                raise
        return mark

    def _made(self) -> _opened:
        """Return the folder, opened; made where it is not there yet."""
        try:
            return _opened(self.location, _FOLDER)
        except FileNotFoundError:
            Path(self.location).mkdir(parents=True, exist_ok=True)
            return _opened(self.location, _FOLDER)

    def remove(self, name: str) -> None:
        """Remove one file; none is no error."""
        with (
            contextlib.suppress(OSError),
            _opened(self.location, _FOLDER) as items,
            _opened(name[:2], _FOLDER, items) as folder,
        ):
            os.unlink(name, dir_fd=folder)

    def measure(self) -> tuple[int, int]:
        """Return the number of items and their bytes together.

        Asking the system for 50,000 sizes takes half a second, so beyond `SIZES_ASKED` the bytes are
        extrapolated; ids are digests, so what is asked first is a fair sample.
        """
        count = asked = size = 0
        for folder, name in self._files(ITEM_NAME):
            count += 1
            if asked < SIZES_ASKED:
                with contextlib.suppress(OSError):
                    size += os.stat(name, dir_fd=folder, follow_symlinks=False).st_size
                    asked += 1
        return count, size if asked in {0, count} else round(size * count / asked)

    def clear(self) -> int:
        """Remove every item and return how many; marks and other files stay."""
        count = 0
        for folder, name in self._files(ITEM_NAME):
            with contextlib.suppress(OSError):
                os.unlink(name, dir_fd=folder)
                count += 1
        old = time.time() - _UNFINISHED_SECONDS
        for folder, name in self._files(_UNFINISHED_NAME):  # left by a killed writer
            with contextlib.suppress(OSError):
                if os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime < old:
                    os.unlink(name, dir_fd=folder)
        return count

    def _files(self, pattern: re.Pattern[str]) -> Iterator[tuple[int, str]]:
        """Yield the regular files of this pattern, each with the descriptor of the folder that it is in."""
        for fan in _fans(self.location):
            with (
                contextlib.suppress(OSError),
                _opened(self.location, _FOLDER) as items,
                _opened(fan, _FOLDER, items) as folder,
                os.scandir(folder) as entries,
            ):
                for entry in entries:
                    right = pattern.fullmatch(entry.name) and entry.name.lstrip(".").startswith(fan)
                    if right and entry.is_file(follow_symlinks=False):
                        yield folder, entry.name


def _made_fan(items: int, fan: str) -> str:
    with contextlib.suppress(FileExistsError):
        os.mkdir(fan, dir_fd=items)
    return fan


def count_others(folder: str, own: str) -> int:
    """Return how many items of a cache folder lie there under other keys or from older versions.

    Parameters
    ----------
    folder : str
        The cache's folder.
    own : str
        The name of the folder in it that is not counted.
    """
    try:
        names = os.listdir(folder)  # noqa: PTH208
    except OSError:
        return 0
    places = [folder, *(f"{folder}/{name}" for name in names if _KEY_FOLDER.fullmatch(name) and name != own)]
    return sum(_count(f"{place}/{fan}") for place in places for fan in _fans(place))


def _fans(location: str) -> list[str]:
    try:
        return [fan for fan in os.listdir(location) if _FOLDER_NAME.fullmatch(fan)]  # noqa: PTH208
    except OSError:
        return []


def _count(fan: str) -> int:
    try:
        return sum(1 for name in os.listdir(fan) if ITEM_NAME.fullmatch(name))  # noqa: PTH208
    except OSError:
        return 0


class _opened:  # noqa: N801 - reads as a verb; contextlib's generator would cost 2 µs a file
    """A descriptor that is closed at the end of the block."""

    __slots__ = ("descriptor",)

    def __init__(self, path: str, flags: int, folder: int | None = None) -> None:
        self.descriptor = os.open(path, flags, 0o666, dir_fd=folder)

    def __enter__(self) -> int:
        return self.descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)


def has_one_name(file: int) -> bool:
    """Return whether an open file is a regular one that lies in one place only.

    Whoever can write to a shared folder can plant a second name of another's file there; a link of this
    kind is not seen by ``O_NOFOLLOW``.
    """
    status = os.fstat(file)
    return stat.S_ISREG(status.st_mode) and status.st_nlink == 1


def mark_of(path: str) -> FileMark | None:
    """Return the mark of a file without reading it, None when there is none."""
    try:
        return _mark(os.lstat(path))
    except OSError:
        return None


def _mark(status: os.stat_result) -> FileMark:
    return status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns


def _read_all(file: int, size: int) -> bytes:
    data = os.read(file, size)
    if len(data) >= size - 1:  # whole at once, as small files come
        return data
    parts = [data]
    while data and (size := size - len(data)):
        data = os.read(file, size)
        parts.append(data)
    return b"".join(parts)


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
