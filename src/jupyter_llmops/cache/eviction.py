"""What may go when a cache is too large or too old, and taking it away without anybody waiting for it.

Which answers go first is GreedyDual-Size-Frequency's choice (L. Cherkasova, "Improving WWW Proxies Performance
with Greedy-Dual-Size-Frequency Caching Policy", HP Laboratories report HPL-98-69R1, 1998): an item is worth
``L + hits × seconds of computing / bytes``, and L rises to the worth of the last one that went, so what was
dear but is not asked for any more goes in the end, too. L only changes while items are evicted, so it is enough
to keep which L there was when an item came, or was used last.

No item is opened but for its header, no lock is taken, and all work is done in small pieces. Ages are told by
the file server's clock alone.
"""

from __future__ import annotations

import bisect
import contextlib
import heapq
import json
import os
import re
import secrets
import stat
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, NamedTuple

from jupyter_llmops.cache.item_folder import ITEM_NAME
from jupyter_llmops.cache.item_format import HEADER_BYTES, seconds_of
from jupyter_llmops.cache.leases import HOLDERS, LEASES, Leases
from jupyter_llmops.cache.usage import drop_read, read_usage, usage_folder
from jupyter_llmops.records.cache import CacheLimits

# So much goes beyond what has to, that the next answer does not begin it anew.
_DOWN_TO: Final = 0.9
# Whoever waited for an answer that has just come is about to read it.
_YOUNGEST_SECONDS: Final = 60.0
_FORGOTTEN_SECONDS: Final = 86_400.0
_BATCH: Final = 32
# Of each piece of work so many times its length is rest, so that readers of the same disk and core go first.
_REST: Final = 1.0
_STATE: Final = "worth.json"
_LARGEST_STATE: Final = 64 * 2**20
# More than any count, place in a file or time; a float holds every whole number up to it.
_LARGEST_NUMBER: Final = 2.0**53
_MOST_CLOCKS: Final = 1000
_FAN: Final = re.compile(r"[0-9a-f]{2}", re.ASCII)
_KEY_FOLDER: Final = re.compile(r"v[0-9]+-[0-9a-f]{8}", re.ASCII)
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_CREATE: Final = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


class Found(NamedTuple):
    """One item's file."""

    place: str
    name: str
    size: int
    modified: float


@dataclass(frozen=True, slots=True)
class Evicted:
    """What went.

    Parameters
    ----------
    items, size_bytes : int
        How many, and their bytes.
    """

    items: int = 0
    size_bytes: int = 0


@dataclass(slots=True)
class _Worth:
    """What one folder's items are worth: L at times of the file server, and who was used how often, at which L."""

    clocks: list[tuple[float, float]] = field(default_factory=list)
    used: dict[str, tuple[int, float]] = field(default_factory=dict)
    read: dict[str, int] = field(default_factory=dict)

    @property
    def now(self) -> float:
        return self.clocks[-1][1] if self.clocks else 0.0

    def of(self, item: str, modified: float, seconds: float, size: int) -> float:
        """Return an item's worth; what nobody used since it came was used once."""
        hits, clock = self.used.get(item, (0, 0.0))
        position = bisect.bisect(self.clocks, (modified, float("inf")))
        born = self.clocks[position - 1][1] if position else 0.0
        return max(clock, born) + (1 + hits) * seconds / max(size, 1)


class Evictor:
    """Keeps one cache's folder within its limits.

    Parameters
    ----------
    folder : Path
        The cache's folder, all keys' items in it.
    rest : float
        Seconds of rest for each second of work.
    only : str
        Name of the one key's folder in it that is looked at; by default all are.
    """

    def __init__(self, folder: Path, rest: float = _REST, only: str = "") -> None:
        self._folder = str(folder)
        self._only = only
        self._rest = rest
        self._done = 0
        self._since = time.perf_counter()

    def evict(self, limits: CacheLimits) -> Evicted:
        """Take away what is too old, then, if the rest is too large, what is worth least."""
        now = self._now()
        if now is None:
            return Evicted()
        old = self._too_old(now, limits.age_seconds)
        total = sum(item.size for item in self._items()) if limits.size_bytes is not None else 0
        if limits.size_bytes is None or total <= limits.size_bytes:
            return old
        return _sum(old, self._worth_least(total - int(limits.size_bytes * _DOWN_TO), now))

    def clear_older(self, seconds: float) -> Evicted:
        """Take away what was stored more than so many seconds ago."""
        now = self._now()
        return Evicted() if now is None else self._too_old(now, seconds)

    def tidy(self) -> None:
        """Take away what killed processes left long ago: leases, signs of life, logs that were read, records of gone items."""
        now = self._now()
        if now is None:
            return
        for place in self._places():
            for folder in (LEASES, HOLDERS):
                self._drop_forgotten(place, folder, now - _FORGOTTEN_SECONDS)
        self._keep_worth(now)

    # -- choosing -----------------------------------------------------------------------------

    def _too_old(self, now: float, age_seconds: float | None) -> Evicted:
        if age_seconds is None:
            return Evicted()
        return self._remove([item for item in self._items() if item.modified < now - age_seconds])

    def _worth_least(self, surplus: int, now: float) -> Evicted:
        """Remove items of `surplus` bytes together; only these are held in memory."""
        chosen: list[tuple[float, int, Found]] = []
        held = size = 0
        for place in self._places():
            worth = self._worth(place)
            for item in self._items_in(place):
                if item.modified > now - _YOUNGEST_SECONDS:
                    continue
                held += 1
                seconds = self._seconds(item)
                value = worth.of(item.name[:64], item.modified, seconds, item.size)
                heapq.heappush(chosen, (-value, held, item))
                size += item.size
                while size - chosen[0][2].size >= surplus:
                    size -= heapq.heappop(chosen)[2].size
        if not chosen:
            return Evicted()
        evicted = self._remove([item for _, _, item in sorted(chosen, reverse=True)])
        self._keep_worth(now, -chosen[0][0])
        return evicted

    def _worth(self, place: str) -> _Worth:
        """Return the worth of a folder's items, with the hits that were logged since the last time."""
        worth = _read_worth(place)
        for item, count in read_usage(place, worth.read).items():
            worth.used[item] = (worth.used.get(item, (0, 0.0))[0] + count, worth.now)
        return worth

    def _keep_worth(self, now: float, clock: float | None = None) -> None:
        """Write down who was used, of those that are still there, and the new L where it rose."""
        for place in self._places():
            if place == self._folder:  # items of older versions are not used any more
                continue
            worth = self._worth(place)
            # Gone by any way: evicted, cleared, marked as wrong.
            there = self._ids_in(place)
            worth.used = {item: used for item, used in worth.used.items() if item in there}
            if clock is not None:
                worth.clocks = [*worth.clocks, (now, max(clock, worth.now))][-_MOST_CLOCKS:]
            drop_read(place, worth.read, now - _FORGOTTEN_SECONDS)
            if worth != _Worth():
                _write_worth(place, worth)

    # -- files --------------------------------------------------------------------------------

    def _now(self) -> float | None:
        """Return the time by the clock that stamps the files; None where nothing can be written."""
        path = f"{self._folder}/.clock-{secrets.token_hex(8)}"
        try:
            file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        except OSError:
            return None
        try:
            return os.fstat(file).st_mtime
        finally:
            os.close(file)
            with contextlib.suppress(OSError):
                os.unlink(path)  # noqa: PTH108

    def _places(self) -> list[str]:
        """Return the folder itself, for items of older versions, and each key's."""
        if self._only:
            return [f"{self._folder}/{self._only}"]
        keys = sorted(name for name in _names(self._folder) if _KEY_FOLDER.fullmatch(name))
        return [self._folder, *(f"{self._folder}/{key}" for key in keys)]

    def _items(self) -> Iterator[Found]:
        for place in self._places():
            yield from self._items_in(place)

    def _items_in(self, place: str) -> Iterator[Found]:
        for fan in sorted(name for name in _names(place) if _FAN.fullmatch(name)):
            with contextlib.suppress(OSError), _opened(place) as items, _opened(fan, items) as folder:
                for name in os.listdir(folder):  # noqa: PTH208 - of a descriptor
                    if not ITEM_NAME.fullmatch(name):
                        continue
                    with contextlib.suppress(OSError):
                        status = os.stat(name, dir_fd=folder, follow_symlinks=False)
                        yield Found(place, name, status.st_size, status.st_mtime)
                    self._breathe()

    def _ids_in(self, place: str) -> set[str]:
        ids: set[str] = set()
        for fan in [name for name in _names(place) if _FAN.fullmatch(name)]:
            with contextlib.suppress(OSError), _opened(place) as items, _opened(fan, items) as folder:
                ids |= {name[:64] for name in os.listdir(folder) if ITEM_NAME.fullmatch(name)}  # noqa: PTH208
            self._breathe()
        return ids

    def _seconds(self, item: Found) -> float:
        """Return what computing an item took, 0 where its header does not say."""
        self._breathe()
        try:
            file = os.open(_path(item), _READ)
        except OSError:
            return 0.0
        try:
            return seconds_of(os.read(file, HEADER_BYTES))
        except OSError:
            return 0.0
        finally:
            os.close(file)

    def _remove(self, items: list[Found]) -> Evicted:
        """Remove what is still as it was found, and what nobody is computing; readers keep what they opened."""
        count = size = 0
        held: dict[str, set[str]] = {}
        for position, item in enumerate(items):
            if position % _BATCH == 0:
                held = {}
            if item.place not in held:
                held[item.place] = Leases(item.place).held()
            if item.name[:64] in held[item.place]:
                continue
            with (
                contextlib.suppress(OSError),
                _opened(item.place) as place,
                _opened(item.name[:2], place) as folder,
            ):
                status = os.stat(item.name, dir_fd=folder, follow_symlinks=False)
                if status.st_mtime == item.modified:
                    os.unlink(item.name, dir_fd=folder)
                    count += 1
                    size += item.size
            self._breathe()
        return Evicted(count, size)

    def _drop_forgotten(self, place: str, kind: str, before: float) -> None:
        # By descriptors all the way: a link that somebody planted must not lead to files outside.
        with contextlib.suppress(OSError), _opened(place) as root, _opened(kind, root) as folder:
            for name in os.listdir(folder):  # noqa: PTH208 - of a descriptor
                self._breathe()
                with contextlib.suppress(OSError):
                    if os.stat(name, dir_fd=folder, follow_symlinks=False).st_mtime >= before:
                        continue
                    if kind == HOLDERS:
                        os.unlink(name, dir_fd=folder)
                        continue
                    with _opened(name, folder) as lease:
                        for inner in os.listdir(lease):  # noqa: PTH208
                            os.unlink(inner, dir_fd=lease)
                    os.rmdir(name, dir_fd=folder)

    def _breathe(self) -> None:
        self._done += 1
        if self._done % _BATCH == 0:
            worked = time.perf_counter() - self._since
            time.sleep(min(worked * self._rest, 0.05))
            self._since = time.perf_counter()


def _path(item: Found) -> str:
    return f"{item.place}/{item.name[:2]}/{item.name}"


def _sum(one: Evicted, other: Evicted) -> Evicted:
    return Evicted(one.items + other.items, one.size_bytes + other.size_bytes)


def _read_worth(place: str) -> _Worth:
    """Return what was written; nothing where it is not there, or somebody wrote nonsense."""
    try:
        with usage_folder(place) as folder:
            said: Any = json.loads(_read_state(folder))
        worth = _Worth(
            [(_number(at), _number(clock)) for at, clock in said["clocks"]],
            {str(item): (int(_number(hits)), _number(clock)) for item, (hits, clock) in said["used"].items()},
            {str(name): int(_number(position)) for name, position in said["read"].items()},
        )
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return _Worth()
    worth.clocks.sort()
    return worth


def _read_state(folder: int) -> bytes:
    file = os.open(_STATE, _READ, dir_fd=folder)
    with open(file, "rb") as state:  # noqa: PTH123 - of a descriptor
        status = os.fstat(file)
        if not stat.S_ISREG(status.st_mode) or status.st_size > _LARGEST_STATE:
            raise ValueError("no state")
        return state.read(_LARGEST_STATE)


def _number(value: Any) -> float:
    if type(value) not in (int, float) or not 0 <= value <= _LARGEST_NUMBER:
        raise ValueError("no number that was written here")
    return float(value)


def _write_worth(place: str, worth: _Worth) -> None:
    said = {"clocks": worth.clocks, "used": worth.used, "read": worth.read}
    unfinished = f".{_STATE}.{secrets.token_hex(8)}"
    with contextlib.suppress(OSError), usage_folder(place, make=True) as folder:
        with open(os.open(unfinished, _CREATE, 0o666, dir_fd=folder), "wb") as file:  # noqa: PTH123
            file.write(json.dumps(said).encode("ascii"))
        os.rename(unfinished, _STATE, src_dir_fd=folder, dst_dir_fd=folder)


def _names(folder: str) -> list[str]:
    try:
        return os.listdir(folder)  # noqa: PTH208
    except OSError:
        return []


class _opened:  # noqa: N801 - reads as a verb
    """The descriptor of a folder that is no link, closed at the end of the block."""

    __slots__ = ("descriptor",)

    def __init__(self, path: str, folder: int | None = None) -> None:
        self.descriptor = os.open(path, _FOLDER, dir_fd=folder)

    def __enter__(self) -> int:
        return self.descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)
