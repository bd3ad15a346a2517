"""A named release of a whole catalog."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Snapshot:
    """A whole catalog as it was at one time; it opens read-only.

    Parameters
    ----------
    name : str
        What a user types.
    versions : tuple of (table, version)
        The commit of each table that belongs to it.
    """

    name: str
    versions: tuple[tuple[str, int], ...]
    description: str = ""
    created_by: str = ""
    created_at: datetime | None = None
    site: str = ""
