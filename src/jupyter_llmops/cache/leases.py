"""Who computes an answer now: leases in a shared folder, also where no file lock reaches, as on NFS.

The lease of an item is the folder ``leases/<item>``, and it is held while a file lies in it, named after
its holder. Three calls move it, each of which a file server does whole or not at all, and for one alone:

take
    A new folder with one's own file in it is renamed to the lease, which fails while a file lies there.
steal
    The holder's file is renamed to one's own name, which fails where somebody else did it first.
release
    One's own file is removed, then the empty folder.

A process shows that it lives by a number that it counts up in ``holders/<holder>``, one file for all
its leases. Whoever waits watches that number by its own clock, so no clocks of two hosts are compared:
a holder that was not seen to move for `stale_seconds` has lost its leases. A process of this machine that
was killed is known at once. Two that compute the same by mistake do no harm: both have the same answer.
"""

from __future__ import annotations

import contextlib
import errno
import os
import secrets
import threading
import time
import weakref
from pathlib import Path
from types import TracebackType
from typing import Final, Self

from jupyter_llmops.cache.holders import Holder, self_description
from jupyter_llmops.cache.item_folder import has_one_name

LEASES: Final = "leases"
HOLDERS: Final = "holders"
BEAT_SECONDS: Final = 2.0
# Long enough for a kernel whose interpreter is busy in one long call, and for NFS's cached attributes.
STALE_SECONDS: Final = 30.0
_FOLDER: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_WRITE: Final = os.O_WRONLY | os.O_CREAT | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_TAKEN: Final = {errno.ENOTEMPTY, errno.EEXIST}
_LARGEST_BEAT: Final = 1024


class Claim:
    """The right to compute an item; others wait until it is released, or its process is gone.

    Parameters
    ----------
    leases : Leases or None
        Where it is held; None for one that keeps nobody away.
    item, name : str
        What is leased, and the name of this taking.
    """

    __slots__ = ("_leases", "item", "name")

    def __init__(self, leases: Leases | None = None, item: str = "", name: str = "") -> None:
        self._leases = leases
        self.item = item
        self.name = name

    def release(self) -> None:
        """Let others have it; a second time does nothing."""
        leases, self._leases = self._leases, None
        if leases is not None:
            leases.release(self.item, self.name)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.release()

    def __del__(self) -> None:
        # One that was forgotten must not keep others waiting as long as this process lives.
        with contextlib.suppress(Exception):
            self.release()


class Leases:
    """The leases of one folder.

    Parameters
    ----------
    location : str
        The folder; `LEASES` and `HOLDERS` are made in it by the first lease.
    who : str
        ``user@host``, for those who wait.
    beat_seconds : float
        How often a holder says that it lives.
    stale_seconds : float
        How long a holder must have been seen not to move until it has lost its leases.
    """

    def __init__(
        self,
        location: str,
        *,
        who: str = "",
        beat_seconds: float = BEAT_SECONDS,
        stale_seconds: float = STALE_SECONDS,
    ) -> None:
        self.location = location
        self.stale_seconds = stale_seconds
        self._who = who
        self._beat_seconds = beat_seconds
        self._begin()

    def _begin(self) -> None:
        # A forgotten claim is released by the garbage collector, in whatever this thread is doing.
        self._lock = threading.RLock()
        self._pid = os.getpid()
        self._holder = secrets.token_hex(16)
        self._taken = 0
        self._beats = 0
        self._held: dict[str, int] = {}  # name of the taking → thread
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None

    def take(self, item: str) -> Claim | None:
        """Take the lease of an item that nobody has.

        Returns
        -------
        Claim or None
            None while somebody has it. Where none can be written, a claim that keeps nobody away: whoever
            can't keep an answer for others can still compute it.
        """
        name = self._next_name()
        try:
            with _opened(self._made(LEASES)) as folder:
                return self._put(folder, item, name)
        except OSError:
            self._forget(name)
            return Claim()
        except BaseException:  # Ctrl-C between taking and telling: others would wait as long as we live
            self.release(item, name)
            raise

    def steal(self, item: str, holder: Holder) -> Claim | None:
        """Take the lease from a holder that is dead or stale; None where somebody was faster."""
        name = self._next_name()
        try:
            with _opened(f"{self.location}/{LEASES}") as leases, _opened(item, leases) as folder:
                os.rename(holder.name, name, src_dir_fd=folder, dst_dir_fd=folder)
                return Claim(self, item, name)
        except FileNotFoundError:
            self._forget(name)
            return None
        except OSError:  # another user's folder that is not ours to write
            self._forget(name)
            return Claim()
        except BaseException:
            self.release(item, name)
            raise

    def holder(self, item: str) -> Holder | None:
        """Return who has an item's lease, None where nobody has."""
        try:
            with _opened(f"{self.location}/{LEASES}") as leases, _opened(item, leases) as folder:
                names = os.listdir(folder)  # noqa: PTH208 - of a descriptor
        except OSError:
            return None
        name = min(names, default="")
        return Holder(name, self._beat_of(name)) if name else None

    def has(self, holder: Holder) -> bool:
        """Return whether this very thread took it."""
        if self._pid != os.getpid():
            return False
        with self._lock:
            return self._held.get(holder.name) == threading.get_ident()

    def holds_one(self) -> bool:
        """Return whether this very thread has any lease."""
        if self._pid != os.getpid():
            return False
        with self._lock:
            return threading.get_ident() in self._held.values()

    def held(self) -> set[str]:
        """Return the items that somebody may be computing now, the dead's among them."""
        try:
            with _opened(f"{self.location}/{LEASES}") as folder:
                names = os.listdir(folder)  # noqa: PTH208 - of a descriptor
                return {name for name in names if not name.startswith(".")}
        except OSError:
            return set()

    def release(self, item: str, name: str) -> None:
        """Give back what was taken under this name; nothing happens where another took it since."""
        if self._pid != os.getpid() or not name.startswith(self._holder):
            return  # a forked child's copy of its parent's claim
        self._forget(name)
        with contextlib.suppress(OSError), _opened(f"{self.location}/{LEASES}") as leases:
            with _opened(item, leases) as folder:
                os.unlink(name, dir_fd=folder)
            os.rmdir(item, dir_fd=leases)

    def close(self) -> None:
        """Remove what tells that this process lives; its leases are lost."""
        with contextlib.suppress(OSError):
            os.unlink(f"{self.location}/{HOLDERS}/{self._holder}")  # noqa: PTH108 - as everything here

    # -- within -------------------------------------------------------------------------------

    def _next_name(self) -> str:
        """Return a name that was never used, and see to it that this process is seen to live."""
        if (
            self._pid != os.getpid()
        ):  # a forked child is another holder, and no thread of it can have the lock
            self._begin()
        with self._lock:
            self._taken += 1
            name = f"{self._holder}-{self._taken}"
            self._held[name] = threading.get_ident()
            if self._thread is None:
                self._beat()
                path = f"{self.location}/{HOLDERS}/{self._holder}"
                weakref.finalize(self, _remove_at_end, path, self._pid, self._wake)
                self._thread = threading.Thread(
                    target=_keep_beating,
                    args=(weakref.ref(self), self._wake),
                    name="llmops-lease",
                    daemon=True,
                )
                self._thread.start()
            elif len(self._held) == 1:
                self._beat()  # the thread was at rest
            self._wake.set()
            return name

    def _forget(self, name: str) -> None:
        if self._pid == os.getpid():
            with self._lock:
                self._held.pop(name, None)

    def _put(self, leases: int, item: str, name: str) -> Claim | None:
        unfinished = f".{name}"
        os.mkdir(unfinished, dir_fd=leases)
        try:
            with _opened(unfinished, leases) as folder:
                os.close(os.open(name, _WRITE | os.O_EXCL, 0o666, dir_fd=folder))
            try:
                os.rename(unfinished, item, src_dir_fd=leases, dst_dir_fd=leases)
            except OSError as error:
                if error.errno not in _TAKEN:
                    raise
                self._forget(name)
                return None
            return Claim(self, item, name)
        finally:
            with contextlib.suppress(OSError):
                with _opened(unfinished, leases) as folder:
                    os.unlink(name, dir_fd=folder)
                os.rmdir(unfinished, dir_fd=leases)

    def _made(self, name: str) -> str:
        path = Path(self.location, name)
        if not path.is_dir():
            path.mkdir(parents=True, exist_ok=True)
        return str(path)

    def _beat(self) -> None:
        """Count up; a folder that can't be written is no reason to stop computing."""
        import json

        self._beats += 1
        said = {"beat": self._beats, **self_description(self._who)}
        with contextlib.suppress(OSError), _opened(self._made(HOLDERS)) as folder:
            # Closed each time, as NFS sends what was written only then.
            file = os.open(self._holder, _WRITE, 0o666, dir_fd=folder)
            if not has_one_name(file):  # planted in its place
                os.close(file)
                os.unlink(self._holder, dir_fd=folder)
                file = os.open(self._holder, _WRITE | os.O_EXCL, 0o666, dir_fd=folder)
            try:
                # The length hardly changes, and a torn one is just another state: never truncated.
                os.write(file, json.dumps(said).ljust(_LARGEST_BEAT // 2).encode("utf-8"))
            finally:
                os.close(file)

    def _beat_of(self, name: str) -> bytes:
        """Return what a holder last said; opened anew each time, as NFS asks its server only then."""
        try:
            with _opened(f"{self.location}/{HOLDERS}") as folder:
                file = os.open(name.partition("-")[0], _READ, dir_fd=folder)
                try:
                    return os.read(file, _LARGEST_BEAT)
                finally:
                    os.close(file)
        except (OSError, ValueError):
            return b""

    def _rounds(self) -> float | None:
        """Say that this process lives if somebody may be watching; return the seconds until the next time."""
        with self._lock:
            if self._held and self._pid == os.getpid():
                self._beat()
                return self._beat_seconds
            self._wake.clear()
            return None


class _opened:  # noqa: N801 - reads as a verb
    """The descriptor of a folder that is no link, closed at the end of the block."""

    __slots__ = ("descriptor",)

    def __init__(self, path: str, folder: int | None = None) -> None:
        self.descriptor = os.open(path, _FOLDER, dir_fd=folder)

    def __enter__(self) -> int:
        return self.descriptor

    def __exit__(self, *_: object) -> None:
        os.close(self.descriptor)


def _keep_beating(reference: weakref.ref[Leases], wake: threading.Event) -> None:
    """Let a process's leases beat while it has any; ends with them."""
    while True:
        leases = reference()
        if leases is None:
            return
        pause = leases._rounds()
        del leases
        if pause is None:
            wake.wait()
        else:
            time.sleep(pause)


def _remove_at_end(path: str, pid: int, wake: threading.Event) -> None:
    wake.set()
    if pid == os.getpid():
        with contextlib.suppress(OSError):
            os.unlink(path)  # noqa: PTH108
