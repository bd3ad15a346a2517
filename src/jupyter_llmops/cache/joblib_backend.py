"""The sealed store as a backend of ``joblib.Memory``, for functions of plain JSON values; it can't run code.

It is registered as a virtual subclass of joblib's ``StoreBackendBase`` and inherits nothing: a method
that joblib may call one day and that is missing here raises AttributeError, where joblib's own mixin
would fall back on ``numpy_pickle.load``. joblib's file names (``output.pkl``, ``metadata.json``,
``func_code.py``) are neither read nor written.

What a memoized function computes is identified by its arguments alone. joblib wipes a function's
entries when its source changes, even in a comment; here `clear_path` does nothing, because two users
with two versions of this package would wipe each other's. So a function that is memoized over this
store names its version in its arguments.
"""
# ruff: noqa: ARG002 - joblib says what the methods take

from __future__ import annotations

import hashlib
import re
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from jupyter_llmops.cache.item_folder import SUFFIX
from jupyter_llmops.cache.item_format import ItemRejectedError
from jupyter_llmops.cache.plain_json import plain_dumps, plain_loads
from jupyter_llmops.cache.store import ItemStore
from jupyter_llmops.errors import TeamKeyError
from jupyter_llmops.keys.team import TeamKey

BACKEND: Final = "llmops"
_KEY: Final = re.compile(r"[0-9a-f]{64}", re.ASCII)

CallId = Sequence[str]


class JoblibStore:
    """One sealed file for every item; configured by joblib, see `configure`."""

    def __init__(self) -> None:
        self.location = ""
        self._store = ItemStore(Path())
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
            "key": a callable that returns the team's key; by default this user's for the folder.
        """
        key: Callable[[], TeamKey] | None = (backend_options or {}).get("key")
        self.location = location
        self._store = ItemStore(Path(location), key)

    def contains_item(self, call_id: CallId) -> bool:
        """Return whether a verified item is there; one that does not verify is a miss with a warning."""
        item_id = item_id_of(call_id)
        self._verified.item = None
        try:
            found = self._lookup(item_id)
        except ItemRejectedError as rejection:
            self._store.reject(item_id, str(rejection))
            return False
        except TeamKeyError as error:
            self._store.cannot_store(error)
            return False
        if found is None:
            return False
        self._verified.item = (item_id, found[0])
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
            found = self._lookup(item_id)
        except ItemRejectedError as rejection:
            raise KeyError(f"The item {item_id} {rejection}.") from rejection
        if found is None:
            raise KeyError(f"There is no item {item_id}.")
        return found[0]

    def dump_item(self, call_id: CallId, item: Any, verbose: int = 0) -> None:
        """Store a value; where that fails, warn once and let the computing go on."""
        try:
            body = plain_dumps(item)
        except (TypeError, ValueError) as error:
            self._store.cannot_store(error)
            return
        self._store.keep(item_id_of(call_id), body)

    def _lookup(self, item_id: str) -> tuple[Any] | None:
        found = self._store.lookup(item_id)
        if found is None:
            return None
        try:
            return (plain_loads(found[0]),)
        except ValueError as error:
            raise ItemRejectedError(f"holds no plain JSON ({error})") from error

    def clear(self) -> int:
        """Remove every item of this key and return how many; other files stay."""
        return self._store.clear()

    def clear_item(self, call_id: CallId) -> None:
        """Remove one item."""
        self._store.items.remove(item_id_of(call_id) + SUFFIX)

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


def register() -> None:
    """Make the store known to joblib under the name "llmops"."""
    from joblib import register_store_backend
    from joblib.memory import StoreBackendBase

    StoreBackendBase.register(JoblibStore)
    register_store_backend(BACKEND, JoblibStore)


def item_id_of(call_id: CallId) -> str:
    """Return an item's id: the arguments' id where that is a sha256 already, else one over the call."""
    if _KEY.fullmatch(call_id[-1]):
        return call_id[-1]
    return hashlib.sha256("\0".join(call_id).encode("utf-8")).hexdigest()
