"""The state of the shared catalog, for status cards and checks."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class TableState:
    """One table of the catalog: its name and how many rows it holds."""

    name: str
    rows: int


@dataclass(frozen=True, slots=True)
class CatalogState:
    """What is known of a catalog without changing it.

    Parameters
    ----------
    path : str
        Its folder, or the URI of its bucket.
    exists : bool
        False until something was published.
    writable : bool
        Whether this user and this version of the package can write to it; of a bucket it is only known
        by writing, so there it is what nothing speaks against.
    problem : str
        In plain words, what is wrong and what to do; empty when nothing is.
    schema_version : int or None
        Number of the last migration that was applied; None when it does not exist or can't be read.
    tables : tuple of TableState
        Empty when it does not exist or can't be read.
    """

    path: str
    exists: bool
    writable: bool
    problem: str = ""
    schema_version: int | None = None
    tables: tuple[TableState, ...] = ()


@dataclass(frozen=True, slots=True)
class Freshness:
    """How new what a catalog says is.

    Parameters
    ----------
    newest : datetime or None
        When something was last written to it; None when nothing was yet.
    seconds_to_read : float
        How long a look at the newest commit takes now, s.
    """

    newest: datetime | None
    seconds_to_read: float
