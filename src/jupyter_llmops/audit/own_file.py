"""A file of ours in a process whose descriptors user code may close or take."""

from __future__ import annotations

import os
from pathlib import Path


class OwnFile:
    """A descriptor that is used only while it is still our file.

    User code may close every descriptor (`os.closerange`) and the number may then belong to a file
    of the user's: writing a line there would damage it. So the file is looked at before each use.
    The inode of a file that was also deleted may be a user's file's next: where its size is not the
    one that was left, `is_at` tells.
    """

    def __init__(self, descriptor: int) -> None:
        self.descriptor = descriptor
        status = os.fstat(descriptor)
        self.identity = (status.st_dev, status.st_ino)
        self.deleted = False

    def size(self) -> int | None:
        """Return the file's size in bytes, None when the descriptor is not ours any more."""
        try:
            status = os.fstat(self.descriptor)
        except OSError:
            return None
        if (status.st_dev, status.st_ino) != self.identity:
            return None
        self.deleted = status.st_nlink == 0
        return status.st_size

    def is_at(self, path: Path) -> bool:
        """Return whether the file of this name is the one that was opened."""
        try:
            status = path.stat()
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self.identity

    def close(self) -> None:
        """Close the descriptor, unless the number is somebody else's file now."""
        if self.size() is not None:
            os.close(self.descriptor)
