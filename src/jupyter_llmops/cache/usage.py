"""How often items were reused, for whoever decides what may go: noted in memory, appended to a file by a thread.

Each process appends to a file of its own in ``usage/``, so nobody waits and nobody needs the right to touch
another's item. The times in which an item was reused follow from when its line is read; no clock is written.
"""

from __future__ import annotations

import atexit
import contextlib
import os
import re
import secrets
import threading
import weakref
from collections import Counter, deque
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from jupyter_llmops.cache.item_folder import has_one_name

USAGE: Final = "usage"
_SECONDS_BETWEEN_LINES: Final = 10.0
_MOST_NOTED: Final = 100_000
_LARGEST_FILE: Final = 16 * 2**20
_LINE: Final = re.compile(rb"([0-9a-f]{64}) ([0-9]{1,9})\n")
_APPEND: Final = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class UsageLog:
    """The hits of this process on the items of one folder.

    Parameters
    ----------
    location : str
        The folder of the items.
    """

    def __init__(self, location: str) -> None:
        self.location = location
        # A hit from memory takes microseconds, so it only drops its item here. Beyond the bound the oldest go.
        self._noted: deque[str] = deque(maxlen=_MOST_NOTED)
        self._wake = threading.Event()
        self._pid = 0
        self._name = ""

    def note(self, item: str) -> None:
        """Count one hit; takes a third of a microsecond."""
        if self._pid != os.getpid():  # a forked child, too
            self._begin()
        self._noted.append(item)

    def flush(self) -> None:
        """Append what was noted; where that fails it is forgotten, as it only decides what may go first."""
        hits: Counter[str] = Counter()
        with contextlib.suppress(IndexError):  # empty; others may flush, too, and each hit counts once
            for _ in range(_MOST_NOTED):
                hits[self._noted.popleft()] += 1
        if not hits:
            return
        lines = "".join(f"{item} {count}\n" for item, count in hits.items()).encode("ascii")
        with contextlib.suppress(OSError):
            Path(self.location).mkdir(parents=True, exist_ok=True)
            with usage_folder(self.location, make=True) as folder:
                file = os.open(self._name, _APPEND, 0o666, dir_fd=folder)
                try:
                    if has_one_name(file):
                        os.write(file, lines)
                    else:  # planted in its place: what comes next goes into another
                        self._name = secrets.token_hex(16)
                finally:
                    os.close(file)

    def _begin(self) -> None:
        if self._pid:
            self._noted.clear()  # what its parent noted
        self._pid, self._name = os.getpid(), secrets.token_hex(16)
        self._wake = threading.Event()
        weakref.finalize(self, self._wake.set)
        atexit.register(_flush_at_end, weakref.ref(self))
        threading.Thread(
            target=_keep_flushing, args=(weakref.ref(self), self._wake), name="llmops-usage", daemon=True
        ).start()


def _flush_at_end(reference: weakref.ref[UsageLog]) -> None:
    log = reference()
    if log is not None and log._pid == os.getpid():
        log.flush()


def _keep_flushing(reference: weakref.ref[UsageLog], ended: threading.Event) -> None:
    while not ended.wait(_SECONDS_BETWEEN_LINES):
        log = reference()
        if log is None:
            return
        log.flush()


def read_usage(location: str, read: dict[str, int]) -> Counter[str]:
    """Return the hits that were logged since the last time, by item.

    Parameters
    ----------
    location : str
        The folder of the items.
    read : dict
        Bytes that were read of each file before; brought up to date.
    """
    hits: Counter[str] = Counter()
    names: set[str] = set()
    with contextlib.suppress(OSError), usage_folder(location) as folder:
        names = {name for name in os.listdir(folder) if re.fullmatch(r"[0-9a-f]{32}", name)}  # noqa: PTH208
        for name in sorted(names):
            data = _from(folder, name, read.get(name, 0))
            whole = data.rfind(b"\n") + 1
            for item, count in _LINE.findall(data[:whole]):
                hits[item.decode("ascii")] += int(count)
            read[name] = read.get(name, 0) + whole
    for name in set(read) - names:
        del read[name]
    return hits


def drop_read(location: str, read: dict[str, int], before: float) -> None:
    """Remove the files that were read to their ends and did not grow since a time of the file server."""
    with contextlib.suppress(OSError), usage_folder(location) as folder:
        for name, position in list(read.items()):
            with contextlib.suppress(OSError):
                status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                if status.st_size <= position and status.st_mtime < before:
                    os.unlink(name, dir_fd=folder)
                    del read[name]


@contextlib.contextmanager
def usage_folder(location: str, *, make: bool = False) -> Iterator[int]:
    """Open the folder of the logs, so that no link planted in its place leads out of the cache.

    Parameters
    ----------
    location : str
        The folder of the items.
    make : bool
        Whether it is made where it is not there yet.

    Raises
    ------
    OSError
        It is not there, or it or the folder of the items is a link.
    """
    outer = os.open(location, _FOLDER)
    try:
        if make:
            with contextlib.suppress(FileExistsError):
                os.mkdir(USAGE, dir_fd=outer)
        inner = os.open(USAGE, _FOLDER, dir_fd=outer)
    finally:
        os.close(outer)
    try:
        yield inner
    finally:
        os.close(inner)


def _from(folder: int, name: str, position: int) -> bytes:
    try:
        file = os.open(name, _READ, dir_fd=folder)
    except OSError:
        return b""
    try:
        size = os.fstat(file).st_size
        return os.pread(file, min(max(0, size - position), _LARGEST_FILE), position)
    except OSError:
        return b""
    finally:
        os.close(file)
