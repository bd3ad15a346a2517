"""What was deleted of the trail, or would be: a run's content, the sessions before a moment."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True)
class Forgotten:
    """A run whose content is deleted everywhere, its children's too; the salted leaves stay.

    Parameters
    ----------
    run_id : str
        The run.
    runs : tuple of str
        Its own id and those of its children.
    done : bool
        False where this only says what would go.
    contents : int
        How many content sidecars, with the salts of their digests.
    rows : int
        How many rows of the catalog's contents.
    cache_items : int
        How many stored answers, everybody's.
    notes : tuple of str
        What holds the same and stays.
    """

    run_id: str
    runs: tuple[str, ...]
    done: bool
    contents: int = 0
    rows: int = 0
    cache_items: int = 0
    notes: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class PrunedSession:
    """A session that ended before the limit.

    Parameters
    ----------
    session : str
        Its name.
    size : int
        How many leaves it had.
    root : str
        RFC 6962 root over them, base64.
    head : str
        SHA-256 of its last line, hexadecimal.
    ended_at : datetime
        When its last run ended, UTC.
    size_bytes : int
        What its journal, contents and tiles take, bytes.
    kernel : str
        Id of the kernel that it was of, empty outside of one.
    """

    session: str
    size: int
    root: str
    head: str
    ended_at: datetime
    size_bytes: int
    kernel: str = ""


@dataclass(frozen=True, slots=True)
class Retained:
    """Sessions pruned down to their heads.

    Parameters
    ----------
    age : str
        As it was typed, e.g. "1y".
    before : datetime
        Sessions that ended before it go.
    sessions : tuple of PrunedSession
        What goes.
    done : bool
        False where this only says what would go.
    rows : int
        How many rows of the catalog went.
    notes : tuple of str
        Sessions that stay all the same, and why.
    """

    age: str
    before: datetime
    sessions: tuple[PrunedSession, ...]
    done: bool
    rows: int = 0
    notes: tuple[str, ...] = ()

    @property
    def size_bytes(self) -> int:
        """What goes, bytes."""
        return sum(session.size_bytes for session in self.sessions)

    @property
    def records(self) -> int:
        """How many leaves go."""
        return sum(session.size for session in self.sessions)
