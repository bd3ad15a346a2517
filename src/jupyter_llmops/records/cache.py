"""What a look-up in the cache gave, and how the cache does."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from jupyter_llmops.records.completion import Generation
from jupyter_llmops.records.cost import Cost


@dataclass(frozen=True, slots=True)
class CacheResult:
    """An answer, and whether it was reused.

    Parameters
    ----------
    generation : Generation
        The answer; `generation.seconds` is what computing it took when it was computed.
    hit : bool
        True when it was reused.
    key : str
        The request key, 64 hexadecimal digits; empty when the request can't have one.
    stored_at : datetime or None
        UTC; when the answer was stored, None when it is not stored.
    stored_by : str
        ``user@host`` that computed it, empty when it is not stored.
    why : str
        Why it was a hit or a miss, one sentence.
    provenance : str
        For a hit: who computed it, when and on what, one sentence.
    """

    generation: Generation
    hit: bool
    key: str
    stored_at: datetime | None
    stored_by: str
    why: str
    provenance: str = ""


@dataclass(frozen=True, slots=True)
class WrongMark:
    """The mark that a stored answer is wrong; it holds for everyone who uses the cache.

    Parameters
    ----------
    key : str
        The request key, 64 hexadecimal digits.
    text : str
        The wrong answer.
    by : str
        ``user@host`` that marked it.
    at : datetime
        UTC.
    why : str
        As they said it; may be empty.
    """

    key: str
    text: str
    by: str
    at: datetime
    why: str = ""


@dataclass(frozen=True, slots=True)
class CacheLimits:
    """What a cache may hold.

    Parameters
    ----------
    size_bytes : int or None
        Bytes of all items together; None for no limit.
    age_seconds : float or None
        Seconds since an item was stored; None for no limit.
    """

    size_bytes: int | None = None
    age_seconds: float | None = None


@dataclass(frozen=True, slots=True)
class CacheStats:
    """How the cache does: counts of this session, and what lies on disk.

    Parameters
    ----------
    hits, misses : int
        Look-ups of this session.
    bypassed : int
        Requests of this session that were not looked up: cache off, or not reusable by nature.
    rejected : int
        Items of this session that did not verify; each was a miss too.
    seconds_saved : float
        Seconds of computing that this session's hits saved, less the look-ups' own time.
    entries : int
        Items on disk.
    size_bytes : int
        Their size in bytes.
    folder : str
        Where they lie.
    enabled : bool
        False after ``%cache off``.
    problem : str
        Why answers can't be stored at present; empty when they can.
    others : int
        Items in the folder that were sealed with another key or by an older version; they are not used.
    saved : tuple of Cost
        What this session's hits would have cost, by currency, where a price is known.
    limits : CacheLimits or None
        What the folder may hold; None where nobody asked.
    """

    hits: int
    misses: int
    bypassed: int
    rejected: int
    seconds_saved: float
    entries: int
    size_bytes: int
    folder: str
    enabled: bool = True
    problem: str = ""
    others: int = 0
    saved: tuple[Cost, ...] = ()
    limits: CacheLimits | None = None

    @property
    def hit_rate(self) -> float | None:
        """Share of this session's look-ups that were hits, 0 to 1; None before the first."""
        asked = self.hits + self.misses
        return self.hits / asked if asked else None
