"""A change of something that may change: where an alias points, whether a thing is retired, what is said of it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any


@dataclass(frozen=True, slots=True)
class Change:
    """One revision of one field of one thing; revisions are only ever added.

    Parameters
    ----------
    noun : str
        "model", "prompt" or "collection".
    name : str
        Of the thing; empty for an alias of models, which belongs to the whole catalog.
    field : str
        ``alias:NAME``, ``retired``, ``description``, ``tags``, ``examples`` …
    value : JSON value
        What it is from now on; None where it was taken away.
    revision : int
        1 for the first, then counted up.
    reason : str
        Why, in the words of who did it.
    private : bool
        Whether it lies in the user's own catalog; the workspace says so on reading.
    """

    noun: str
    name: str
    field: str
    value: Any
    revision: int
    reason: str = ""
    created_by: str = ""
    created_at: datetime | None = None
    site: str = ""
    private: bool = False
