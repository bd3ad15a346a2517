"""Removing one request's stored answers for everyone, those that were marked as wrong included."""

from __future__ import annotations

from jupyter_llmops.cache.item_folder import MARK_SUFFIX, SUFFIX
from jupyter_llmops.cache.store import ItemStore
from jupyter_llmops.errors import TeamKeyError


def forget_item(store: ItemStore, item_id: str) -> int:
    """Remove an item and the marks beside it (a mark holds the answer too); return how many files went.

    What other kernels hold in memory is dropped by them, as its file is gone.

    Parameters
    ----------
    store : ItemStore
        The items of the team's key.
    item_id : str
        64 hexadecimal digits; anything else is none.
    """
    names = item_files(store, item_id)
    for name in names:
        store.items.remove(name)
    return len(names)


def item_files(store: ItemStore, item_id: str) -> list[str]:
    """Return the names of the files that `forget_item` would remove."""
    if len(item_id) != 64 or not set(item_id) <= set("0123456789abcdef"):
        return []
    try:
        items = store.items
    except TeamKeyError:
        return []
    return [name for suffix in (SUFFIX, MARK_SUFFIX) for name in items.names(item_id, suffix)]
