"""A store for ``joblib.Memory`` that keeps closed-type JSON and can't run code.

It is registered as a virtual subclass of joblib's ``StoreBackendBase`` and inherits nothing: a method
that joblib may call one day and that is missing here raises AttributeError, where joblib's own mixin
would fall back on ``numpy_pickle.load``. joblib's file names (``output.pkl``, ``metadata.json``,
``func_code.py``) are neither read nor written.

What a memoized function computes is identified by its arguments alone. joblib wipes a function's
entries when its source changes, even in a comment; here `clear_path` does nothing, because two users
with two versions of this package would wipe each other's. So a function that is memoized over this
store names its version in its arguments, as ``InferenceRequest.canonical`` does with "schema".
"""
# ruff: noqa: ARG002 - joblib says what the methods take

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from jupyter_llmops.cache.item_folder import FileMark, ItemFolder
from jupyter_llmops.cache.item_format import ItemRejectedError, decode_item, encode_item
from jupyter_llmops.cache.warning import warn

BACKEND: Final = "llmops"
LARGEST_ITEM: Final = 16 * 2**20
_KEY: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)

CallId = Sequence[str]


class ItemStore:
    """One file for every item; configured by joblib, see `configure`."""

    def __init__(self) -> None:
        self.location = ""
        self.rejected = 0
        self.problem = ""
        self._folder = ItemFolder("", LARGEST_ITEM)
        self._encode: Callable[[Any], Any] = _as_is
        self._decode: Callable[[Any], Any] = _as_is
        # joblib asks contains_item, then load_item: what the first verified the second hands out, so that
        # an item is read once and a bad one is a plain miss instead of an exception that joblib prints.
        self._verified = threading.local()

    def configure(
        self, location: str, verbose: int = 0, backend_options: Mapping[str, Any] | None = None
    ) -> None:
        """Take the folder and the options; touches no file.

        Parameters
        ----------
        location : str
            The folder of the items; it is created by the first write.
        verbose : int
            Not used: this store prints nothing.
        backend_options : mapping
            "encode": value → JSON value, or None for a value that is not to be stored;
            "decode": JSON value → value, raising ItemRejectedError on a wrong shape;
            "largest": bytes of the largest item.
        """
        options = backend_options or {}
        self.location = location
        self._folder = ItemFolder(location, options.get("largest", LARGEST_ITEM))
        self._encode = options.get("encode", _as_is)
        self._decode = options.get("decode", _as_is)

    def contains_item(self, call_id: CallId) -> bool:
        """Return whether a verified item is there; one that does not verify is a miss with a warning."""
        item_id = item_id_of(call_id)
        self._verified.item = self._verified.mark = None
        self._verified.rejection = ""
        try:
            found = self.lookup(item_id)
        except ItemRejectedError as rejection:
            self.reject(item_id, str(rejection))
            return False
        if found is None:
            return False
        self._verified.item = (item_id, found[0])
        self._verified.mark = found[1]
        return True

    def load_item(
        self, call_id: CallId, verbose: int = 0, timestamp: float | None = None, metadata: Any = None
    ) -> Any:
        """Return the value that `contains_item` verified, else read and verify it now.

        Raises
        ------
        KeyError
            There is no item, or it does not verify.
        """
        item_id = item_id_of(call_id)
        item = getattr(self._verified, "item", None)
        if item is not None and item[0] == item_id:
            self._verified.item = None
            return item[1]
        try:
            found = self.lookup(item_id)
        except ItemRejectedError as rejection:
            raise KeyError(f"The item {self._folder.path(item_id)} {rejection}.") from rejection
        if found is None:
            raise KeyError(f"There is no item {item_id}.")
        return found[0]

    def dump_item(self, call_id: CallId, item: Any, verbose: int = 0) -> None:
        """Store a value; where that fails, warn once and let the computing go on."""
        item_id = item_id_of(call_id)
        self._verified.mark = None
        try:
            value = self._encode(item)
            if value is None:
                return
            self._verified.mark = self._folder.write(item_id, encode_item(item_id, value))
            self.problem = ""
        except (OSError, TypeError, ValueError) as error:
            self._cannot_store(error)

    def lookup(self, item_id: str) -> tuple[Any, FileMark] | None:
        """Return a verified value and the mark of its file, None when there is none.

        Raises
        ------
        ItemRejectedError
            Something is there that does not verify.
        """
        found = self._folder.read(item_id)
        if found is None:
            return None
        data, mark = found
        return self._decode(decode_item(item_id, data)), mark

    def reject(self, item_id: str, reason: str) -> None:
        """Count an item that must not be used and warn of it; `reason` is the end of "the item …"."""
        self.rejected += 1
        self._verified.rejection = f"the item {self._folder.path(item_id)} {reason}"
        warn(f"Not used: {self._verified.rejection}. It is computed again and replaced.")

    def mark(self, item_id: str) -> FileMark | None:
        """Return the mark of the file that holds an item now."""
        return self._folder.mark(item_id)

    def last_mark(self) -> FileMark | None:
        """Return the mark of the file that this thread's last call verified or stored, None without one."""
        mark: FileMark | None = getattr(self._verified, "mark", None)
        return mark

    def last_rejection(self) -> str:
        """Return what this thread's last look-up rejected and why, or an empty string."""
        return str(getattr(self._verified, "rejection", ""))

    def measure(self) -> tuple[int, int]:
        """Return the number of items on disk and their bytes."""
        return self._folder.measure()

    def clear(self) -> int:
        """Remove every item of this format and return how many; other files stay."""
        return self._folder.clear()

    def clear_item(self, call_id: CallId) -> None:
        """Remove one item."""
        self._folder.remove(item_id_of(call_id))

    def clear_path(self, call_id: CallId) -> None:
        """Do nothing: a changed comment here must not wipe what others stored."""

    def get_metadata(self, call_id: CallId) -> dict[str, Any]:
        """Return nothing; provenance is inside the verified item."""
        return {}

    def store_metadata(self, call_id: CallId, metadata: Mapping[str, Any]) -> None:
        """Do nothing: joblib's metadata holds the arguments, here the text of prompts."""

    def get_cached_func_info(self, call_id: CallId) -> dict[str, str]:
        """Return where the items are."""
        return {"location": self.location}

    def get_cached_func_code(self, call_id: CallId) -> str:
        """Raise FileNotFoundError: the source of functions is not stored."""
        raise FileNotFoundError("The source of functions is not stored.")

    def store_cached_func_code(self, call_id: CallId, func_code: str | None = None) -> None:
        """Do nothing: items outlive the source of the function."""

    def _cannot_store(self, error: Exception) -> None:
        reason = (isinstance(error, OSError) and error.strerror) or str(error)
        problem = f"Answers can't be stored in {self.location}: {reason}."
        if problem != self.problem:
            self.problem = problem
            warn(f"{problem} They are still computed; make the folder writable or free space there.")


def register() -> None:
    """Make the store known to joblib under the name "llmops"."""
    from joblib import register_store_backend
    from joblib.memory import StoreBackendBase

    StoreBackendBase.register(ItemStore)
    register_store_backend(BACKEND, ItemStore)


def item_id_of(call_id: CallId) -> str:
    """Return an item's id: the arguments' id where that is a sha256 already, else one over the call."""
    if _KEY.fullmatch(call_id[-1]):
        return call_id[-1]
    return hashlib.sha256("\0".join(call_id).encode("utf-8")).hexdigest()


def _as_is(value: Any) -> Any:
    return value
