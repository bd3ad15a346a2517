"""Execution counts: IPython gives them without a gap, so a number that no leaf has is a cell that is in no log."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import dataclass, field
from operator import le

from jupyter_llmops.records.trail import GapReason

# Holes that a cell of another thread may still fill: it took its number before a cell that is stamped already.
_RECENT_HOLES = 64


@dataclass(slots=True)
class Log:
    """What the leaves of one session say of its cells, and of who ran them; moments in microseconds since 1970."""

    session: str
    kernel: str = ""
    pid: int = 0
    host: str = ""
    notebook: str = ""
    opened: int = 0
    counts: array[int] = field(default_factory=lambda: array("q"))
    begins: array[int] = field(default_factory=lambda: array("q"))
    ends: array[int] = field(default_factory=lambda: array("q"))
    born: int | None = None
    # Requests that ran silently and messages to widgets beside the cells, and between which moments.
    silent: int = 0
    callbacks: int = 0
    silent_after: int = 0
    silent_before: int = 0
    # Cells that began and are not stamped: (count, begin) by run id.
    unfinished: dict[str, tuple[int | None, int]] = field(default_factory=dict)


@dataclass(slots=True)
class Hole:
    """Counts that no leaf of a process has; moments in microseconds since 1970."""

    first: int
    last: int
    after: int | None
    before: int
    log: Log
    reason: GapReason
    shown_at: int  # when the cell began whose number shows it


def holes_of(logs: list[Log]) -> list[Hole]:
    """Return the counts that no leaf of a process has."""
    owners = [log for log in logs for _ in log.counts]
    counts = [count for log in logs for count in log.counts]
    begins = [begin for log in logs for begin in log.begins]
    ends = [end for log in logs for end in log.ends]
    holes: list[Hole] = []
    recent: list[Hole] = []
    top, top_end, latest_end = 0, None, 0
    session = ""
    for place in _places(counts, begins):
        count, begin, log = counts[place], begins[place], owners[place]
        if count <= top and begin < latest_end and _fill(recent, holes, count):
            latest_end = max(latest_end, ends[place])
            continue
        # A count that comes again: get_ipython().reset() began to count anew.
        wanted = top + 1 if count > top else 1
        if count > wanted:
            reason: GapReason = "missing count" if session else "before loading"
            after = top_end if session else None
            # Before loading they ran before the session was opened, not only before its first cell.
            before = begin if session else min(begin, log.opened or begin)
            hole = Hole(wanted, count - 1, after, before, log, reason, begin)
            holes.append(hole)
            recent = [*recent[-_RECENT_HOLES:], hole]
        if count <= top:
            recent = []
        top, top_end, session = count, ends[place], log.session
        latest_end = max(latest_end, ends[place])
    return holes


def _places(counts: list[int], begins: list[int]) -> Sequence[int]:
    """Return the places of the cells in the order in which they began.

    Of a million cells that follow each other the first shows all that there is to see.
    """
    in_row = counts == list(range(counts[0], counts[0] + len(counts))) if counts else True
    if in_row and all(map(le, begins, begins[1:])):
        return range(min(1, len(counts)))
    return sorted(range(len(counts)), key=begins.__getitem__)


def _fill(recent: list[Hole], holes: list[Hole], count: int) -> bool:
    """Take a count out of the hole that it was thought to be in; return whether there was one."""
    for hole in recent:
        if hole.first <= count <= hole.last:
            parts = cut(hole, count, hole.shown_at)
            for listing in (recent, holes):
                place = listing.index(hole)
                listing[place : place + 1] = parts
            return True
    return False


def cut(hole: Hole, count: int, begin: int) -> list[Hole]:
    """Return what is left of a hole without one count."""
    if not hole.first <= count <= hole.last or hole.shown_at < begin:
        return [hole]
    ranges = ((hole.first, count - 1), (count + 1, hole.last))
    return [
        Hole(first, last, hole.after, hole.before, hole.log, hole.reason, hole.shown_at)
        for first, last in ranges
        if first <= last
    ]
