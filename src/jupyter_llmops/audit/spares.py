"""Files made ahead, so that no cell waits for the file system to find a place for a new one.

That takes 15 µs where the disk is quiet and a millisecond where many files were deleted just before, as
ext4 then looks through their places. A file made by ``O_TMPFILE`` has no name until it is linked, nobody
sees it, and it is gone with its process. It gets its name only when all is in it.

Once user code closes such a file, its inode is free and the next new file, the user's, gets the same number:
device and inode do not tell the two apart. So each gets a random time, which only it has.
"""

from __future__ import annotations

import errno
import os
from collections import deque
from typing import Final

from jupyter_llmops.audit.own_file import OwnFile

MOST_SPARES: Final = 32
_NAMELESS: Final = getattr(os, "O_TMPFILE", 0)
# Before 2007: every file system can hold it, and no file that is made now has it.
_MOST_NANOSECONDS: Final = 1 << 60


class _Spare(OwnFile):
    """A nameless file that is known by its time of change, random to the nanosecond, until it is written."""

    def __init__(self, descriptor: int) -> None:
        self._time = int.from_bytes(os.urandom(8), "big") % _MOST_NANOSECONDS
        os.utime(descriptor, ns=(self._time, self._time))
        super().__init__(descriptor)

    def is_untouched(self) -> bool:
        """Return whether the descriptor is still this file, nameless and empty."""
        try:
            status = os.fstat(self.descriptor)
        except OSError:
            return False
        return (
            (status.st_dev, status.st_ino) == self.identity
            and status.st_mtime_ns == self._time
            and status.st_size == status.st_nlink == 0
        )


class SpareFiles:
    """A few nameless files of one folder; where the system or the file system has none, it does nothing.

    Parameters
    ----------
    folder : str
        Where they get their names.
    """

    def __init__(self, folder: str) -> None:
        self._folder = folder
        self._spares: deque[_Spare] = deque()
        self._usable = bool(_NAMELESS)

    def fill(self) -> None:
        """Make as many as are lacking; for a thread, as it takes its time."""
        try:
            while self._usable and len(self._spares) < MOST_SPARES:
                flags = os.O_WRONLY | _NAMELESS | os.O_CLOEXEC
                spare = _Spare(os.open(self._folder, flags, 0o600))
                if not spare.is_untouched():
                    # The file system rounds times, or the number is somebody else's already: left open.
                    self._usable = False
                    return
                self._spares.append(spare)
        except OSError as error:
            # The folder comes with the first file that is written, room for more descriptors with time.
            self._usable = error.errno in (errno.ENOENT, errno.EMFILE, errno.ENFILE, errno.ENOSPC)

    def write(self, path: str, data: bytes) -> bool:
        """Write a whole new file; return False where that is left to the caller: nothing has its name then."""
        try:
            file = self._spares.popleft()
        except IndexError:
            return False
        if not file.is_untouched():
            return False  # user code closed or took the descriptor, which is none of ours then
        try:
            if os.write(file.descriptor, data) != len(data):
                return False  # the disk is full
            # With a folder's descriptor Python follows the link to the file; the path being absolute, which one
            # has no effect.
            os.link(f"/proc/self/fd/{file.descriptor}", path, src_dir_fd=file.descriptor)
        except OSError as error:
            self._usable &= error.errno in (
                errno.EEXIST,
                errno.ENOENT,
                errno.ENOSPC,
                errno.EDQUOT,
                errno.EBADF,
            )
            return False
        finally:
            file.close()
        return True

    def close(self) -> None:
        """Let go of them."""
        self._usable = False
        while self._spares:
            spare = self._spares.pop()
            if spare.is_untouched():
                os.close(spare.descriptor)
