"""Files that hold a key: 0600, whole or not at all, and made by the first of several processes."""

from __future__ import annotations

import contextlib
import os
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Final

_LOCK_SECONDS: Final = 5.0


def put_key(path: Path, data: bytes, *, replace: bool = False) -> None:
    """Put a key's file in place; without `replace` the first of several processes wins, and its key counts.

    Raises
    ------
    OSError
        It can't be written; nothing was.
    """
    unfinished = path.with_name(f".{path.name}.{secrets.token_hex(8)}")
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    write_new(unfinished, data)
    try:
        if replace:
            unfinished.replace(path)
        else:
            _link(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def write_new(path: Path, data: bytes) -> None:
    """Write a file that is not there yet, 0600, and wait for the disk.

    Raises
    ------
    FileExistsError
        It is there, and was left as it is.
    OSError
        It can't be written; nothing was.
    """
    flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
    descriptor = os.open(path, flags, 0o600)
    try:
        os.fchmod(descriptor, 0o600)
        view = memoryview(data)
        while view:
            view = view[os.write(descriptor, view) :]
        os.fsync(descriptor)
    except OSError:
        # Half a key would be taken for one by nobody, and would be in the way of the next attempt.
        with contextlib.suppress(OSError):
            path.unlink()
        raise
    finally:
        os.close(descriptor)


def _link(source: Path, target: Path) -> None:
    try:
        os.link(source, target)
    except FileExistsError:
        return  # another process of this user was first
    except OSError:  # a file system without links
        with alone_with(target):
            if not target.exists():
                source.replace(target)


@contextlib.contextmanager
def alone_with(path: Path) -> Iterator[None]:
    """Keep other processes waiting that do the same to a small file of the home, where the file system can lock.

    Where it can't, or the other one hangs, the work is done after 5 seconds all the same: what it guards against
    is rare, and a home that can't be locked is worse without its keys and notes.

    Parameters
    ----------
    path : Path
        The file; the lock lies beside it, in a folder that is made where it is missing.
    """
    from filelock import FileLock

    lock = FileLock(path.with_name(f".{path.name}.lock"), timeout=_LOCK_SECONDS, mode=0o600)
    with contextlib.ExitStack() as stack:
        with contextlib.suppress(OSError, NotImplementedError):  # its Timeout is an OSError, too
            path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            stack.enter_context(lock)
        yield
