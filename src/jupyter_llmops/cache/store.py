"""The items of one cache folder that were sealed with the team's key: found, kept, refused, counted.

They lie in ``v2-<first 8 digits of the key's id>/`` of the folder, so that teams with different keys in
one folder, and different versions of this package, never replace each other's.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from pathlib import Path
from typing import Final

from jupyter_llmops.cache.answer import user_at_host
from jupyter_llmops.cache.item_folder import SUFFIX, FileMark, ItemFolder, count_others
from jupyter_llmops.cache.item_format import ItemRejectedError, Kind, decode_item, encode_item
from jupyter_llmops.cache.leases import Leases
from jupyter_llmops.cache.usage import UsageLog
from jupyter_llmops.cache.warning import warn
from jupyter_llmops.errors import TeamKeyError
from jupyter_llmops.keys.team import TeamKey, team_key

LARGEST_ITEM: Final = 256 * 2**20
_VERSION: Final = "v2"


class ItemStore:
    """One sealed file for every item.

    Parameters
    ----------
    folder : Path
        The cache's folder; it is created by the first write.
    key : callable, optional
        Returns the team's key when it is first needed; by default this user's key for the folder.
    largest : int
        Bytes of the largest item.
    """

    def __init__(
        self, folder: Path, key: Callable[[], TeamKey] | None = None, largest: int = LARGEST_ITEM
    ) -> None:
        self.folder = folder
        self.rejected = 0
        self.problem = ""
        self._open_key = key or (lambda: team_key(str(folder)))
        self._largest = largest
        self._key: TeamKey | None = None
        self._items = ItemFolder("", largest)
        self.leases = Leases("")
        self.usage = UsageLog("")
        self._lock = threading.Lock()
        self._rejection = threading.local()

    @property
    def key(self) -> TeamKey:
        """The team's key.

        Raises
        ------
        TeamKeyError
            It can't be read or made.
        """
        if self._key is None:
            with self._lock:
                if self._key is None:
                    self._use(self._open_key())
        assert self._key is not None
        return self._key

    @property
    def items(self) -> ItemFolder:
        """The files under this key.

        Raises
        ------
        TeamKeyError
            The key can't be read or made.
        """
        if self._key is None:
            _ = self.key
        return self._items

    def reopen_key(self) -> None:
        """Ask for the key anew at the next look-up, as somebody joined a team."""
        self._key = None

    def _use(self, key: TeamKey) -> None:
        self._items = ItemFolder(f"{self.folder}/{_VERSION}-{key.id[:8]}", self._largest)
        self.leases = Leases(self._items.location, who=user_at_host())
        self.usage = UsageLog(self._items.location)
        self._key = key

    def lookup(
        self, item_id: str, suffix: str = SUFFIX, kind: Kind = "item"
    ) -> tuple[bytes, FileMark] | None:
        """Return a verified body and the mark of its file, None when there is none.

        Parameters
        ----------
        item_id : str
            64 hexadecimal digits.
        suffix : str
            What the file's name has after the id.
        kind : {"item", "mark"}
            What it has to be.

        Raises
        ------
        ItemRejectedError
            Something is there that does not verify.
        TeamKeyError
            The key can't be read or made.
        """
        found = self.items.read(item_id + suffix)
        if found is None:
            return None
        data, mark = found
        return decode_item(self.key.secret, item_id, data, kind), mark

    def keep(self, item_id: str, body: bytes, seconds: float = 0.0) -> FileMark | None:
        """Store a body; where that fails, warn once, return None and let the computing go on.

        Parameters
        ----------
        item_id : str
            64 hexadecimal digits.
        body : bytes
            What it holds.
        seconds : float
            What computing it took.
        """
        try:
            data = encode_item(self.key.secret, item_id, body, seconds)
            if len(data) > self._largest:
                self.cannot_store(ValueError(f"{len(data)} bytes are more than {self._largest}"))
                return None
            mark = self.items.write(item_id + SUFFIX, data)
        except (OSError, TeamKeyError) as error:
            self.cannot_store(error)
            return None
        self.problem = ""
        return mark

    def put_mark(self, item_id: str, suffix: str, body: bytes) -> None:
        """Put a sealed mark beside an item.

        Raises
        ------
        OSError
            The folder can't be written.
        """
        self.items.write(item_id + suffix, encode_item(self.key.secret, item_id, body, kind="mark"))

    def cannot_store(self, error: Exception) -> None:
        """Remember and say once why answers can't be stored."""
        said = error.message if isinstance(error, TeamKeyError) else str(error)
        reason = (isinstance(error, OSError) and error.strerror) or said.rstrip(".")
        problem = f"Answers can't be stored in {self.folder}: {reason}."
        if problem != self.problem:
            self.problem = problem
            hint = "make the folder writable or free space there."
            if isinstance(error, TeamKeyError):
                hint = error.hint[:1].lower() + error.hint[1:]
            warn(f"{problem} They are still computed; {hint}")

    def reject(self, item_id: str, reason: str, suffix: str = SUFFIX) -> str:
        """Count an item that must not be used, warn of it and return what was said.

        Parameters
        ----------
        item_id : str
            64 hexadecimal digits.
        reason : str
            The end of "the item …".
        suffix : str
            What the file's name has after the id.
        """
        self.rejected += 1
        rejection = f"the item {self.items.path(item_id + suffix)} {reason}"
        warn(f"Not used: {rejection}. It is computed again and replaced.")
        return rejection

    def measure(self) -> tuple[int, int, int]:
        """Return the number of items, their bytes, and the number of items that other keys sealed."""
        try:
            count, size = self.items.measure()
        except TeamKeyError:
            count = size = 0
        return count, size, count_others(str(self.folder), Path(self._items.location).name)

    def clear(self) -> int:
        """Remove every item of this key and return how many; other files stay."""
        return self.items.clear()


__all__ = ["LARGEST_ITEM", "ItemRejectedError", "ItemStore"]
