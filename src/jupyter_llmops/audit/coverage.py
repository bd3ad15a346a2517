"""What the trail does not cover: cells that ran and that no log has.

Known from the execution counts, which IPython gives without a gap; from cells that ran cells and never ended;
and from what the Jupyter server saw kernels run. Not known: silent runs, which have no count and which no
server is told of; where no server looks on, cells after the last that was stamped.
"""

from __future__ import annotations

import time
from array import array
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jupyter_llmops.audit.observations import (
    KernelCells,
    Observed,
    SeenKernel,
    micros,
    not_in_logs,
    whole,
)
from jupyter_llmops.audit.reading import list_journals, read_runs
from jupyter_llmops.records.run import Run
from jupyter_llmops.records.trail import Gap, GapReason

# Holes that a cell of another thread may still fill: it took its number before a cell that is stamped already.
_RECENT_HOLES = 64
_BIRTH_TOLERANCE = 5_000_000


def coverage_of(folder: Path) -> tuple[Gap, ...]:
    """Return what the logs of an audit folder do not cover, in the order of time.

    Parameters
    ----------
    folder : Path
        The audit folder of a user, with the journals of kernels and servers.

    Raises
    ------
    AuditError
        A journal can't be read.
    """
    coverage = Coverage()
    for path in list_journals(folder):
        for run in read_runs(path):
            if run.leaf is not None:
                coverage.take(run.leaf)
    return coverage.gaps()


def gaps(runs: Iterable[Run], observations: Iterable[Run] = ()) -> tuple[Gap, ...]:
    """Return what runs do not cover, given what the server saw.

    Parameters
    ----------
    runs : iterable of Run
        Of whole sessions, in the order of their journals.
    observations : iterable of Run
        Of kind "observation"; those among `runs` count, too.
    """
    coverage = Coverage()
    for source in (runs, observations):
        for run in source:
            if run.leaf is not None:
                coverage.take(run.leaf)
    return coverage.gaps()


def process_runs(pid: int, started_before: int) -> bool:
    """Return whether a process of this machine runs that began before a moment, microseconds since 1970."""
    import psutil

    try:
        process = psutil.Process(pid)
        born = process.create_time() * 1e6
        return bool(born <= started_before + _BIRTH_TOLERANCE and process.status() != psutil.STATUS_ZOMBIE)
    except (psutil.NoSuchProcess, ValueError, OverflowError):
        return False
    except psutil.Error:
        return True


@dataclass(slots=True)
class _Log:
    """What the leaves of one session say of the cells that it has."""

    session: str
    kernel: str = ""
    pid: int = 0
    host: str = ""
    notebook: str = ""
    opened: int = 0
    kernel_started: int | None = None
    counts: array[int] = field(default_factory=lambda: array("q"))
    begins: array[int] = field(default_factory=lambda: array("q"))
    ends: array[int] = field(default_factory=lambda: array("q"))
    # Cells whose own cells are stamped and they are not: (first count, begin) by run id.
    unfinished: dict[str, tuple[int, int]] = field(default_factory=dict)


@dataclass(slots=True)
class _Hole:
    first: int
    last: int
    after: int | None
    before: int
    log: _Log
    reason: GapReason
    shown_at: int  # when the cell began whose number shows it


class Coverage:
    """Takes leaves one by one and then says what they do not cover; half a microsecond a leaf.

    Parameters
    ----------
    alive : callable
        Whether a process, by its number, runs and began before a moment (microseconds since 1970).
    """

    def __init__(self, alive: Callable[[int, int], bool] = process_runs) -> None:
        # Whatever ended later may be missing in a journal that was read before.
        self._as_of = time.time_ns() // 1000
        self._alive = alive
        self._logs: dict[str, _Log] = {}
        self._cells: dict[str, KernelCells] = {}
        self._observed = Observed()

    def take(self, leaf: Mapping[str, Any]) -> None:
        """Take a leaf; those of one session in the order of its journal."""
        kind = leaf.get("kind")
        if kind == "cell":
            self._take_cell(leaf)
        elif kind == "session":
            self._take_session(leaf)
        elif kind == "observation":
            self._observed.take(leaf)

    def _take_session(self, leaf: Mapping[str, Any]) -> None:
        log = self._log(leaf)
        log.kernel = str(leaf.get("kernel") or "")
        log.pid = whole(leaf.get("pid")) or 0
        log.host = str(leaf.get("host") or "")
        log.notebook = str(leaf.get("notebook") or "")
        log.opened = micros(leaf.get("started_at")) or 0
        log.kernel_started = micros(leaf.get("process_started_at"))
        if log.kernel and leaf.get("role", "kernel") == "kernel":
            self._cells.setdefault(log.kernel, KernelCells())

    def _log(self, leaf: Mapping[str, Any]) -> _Log:
        session = str(leaf.get("session"))
        log = self._logs.get(session)
        if log is None:
            log = self._logs[session] = _Log(session)
        return log

    def _take_cell(self, leaf: Mapping[str, Any]) -> None:
        log = self._log(leaf)
        if log.unfinished:
            log.unfinished.pop(str(leaf.get("id")), None)
        count = whole(leaf.get("execution_count"))
        begin = micros(leaf.get("started_at"))
        if count is None or begin is None:
            return
        end = begin + max(0, whole(leaf.get("microseconds")) or 0)
        parent = leaf.get("parent")
        if parent:
            # The cell that runs it is stamped at its own end.
            log.unfinished.setdefault(str(parent), (count, begin))
        elif log.kernel in self._cells:
            self._cells[log.kernel].add(count, begin, end, log.pid)
        if leaf.get("store_history", True) is not False:
            log.counts.append(count)
            log.begins.append(begin)
            log.ends.append(end)
            log.notebook = log.notebook or str(leaf.get("notebook") or "")

    def gaps(self) -> tuple[Gap, ...]:
        """Return what is not covered, in the order of time."""
        chains: dict[tuple[str, str, int], list[_Log]] = {}
        for log in self._logs.values():
            chains.setdefault((log.host, log.kernel, log.pid), []).append(log)
        found: list[Gap] = []
        for logs in chains.values():
            found += self._gaps_of_process(logs)
        found += self._gaps_seen(found)
        return tuple(sorted(found, key=_when))

    def _gaps_of_process(self, logs: list[_Log]) -> list[Gap]:
        """Return the gaps in the counts of one process, whose sessions go on from each other."""
        holes = _holes(sorted(logs, key=lambda log: log.opened))
        found: list[Gap] = []
        holes = self._without_running(holes, logs, found)
        return [*found, *map(_gap, holes)]

    def _without_running(self, holes: list[_Hole], logs: list[_Log], found: list[Gap]) -> list[_Hole]:
        """Return the holes without cells that run still, or never ended, which go to `found`."""
        for log in logs:
            for first, begin in log.unfinished.values():
                holes = [part for hole in holes for part in _cut(hole, first - 1, begin)]
                if not self._alive(log.pid, log.opened):
                    found.append(_unfinished(log, first - 1, begin))
        return holes

    def _gaps_seen(self, known: list[Gap]) -> list[Gap]:
        """Return what the server saw and no log has; a gap that is known from the counts is not said twice."""
        by_kernel: dict[str, list[SeenKernel]] = {}
        for seen in self._observed.kernels.values():
            by_kernel.setdefault(seen.kernel, []).append(seen)
        found: list[Gap] = []
        for kernel, processes in by_kernel.items():
            logged = self._cells.get(kernel)
            left = not_in_logs(processes, logged)
            covered = [gap for gap in known if gap.kernel == kernel]
            for seen in processes:
                found += self._gaps_of_seen(seen, left[seen.process], logged is not None, covered)
        return found

    def _gaps_of_seen(
        self, seen: SeenKernel, left: list[tuple[int, int]], has_log: bool, known: list[Gap]
    ) -> list[Gap]:
        found: list[Gap] = []
        last: tuple[GapReason, int] | None = None
        for count, begin in left:
            reason = self._why(seen, (count, begin), has_log)
            if reason is None or any(_covers(gap, count, begin) for gap in known):
                last = None
                continue
            end = seen.cells[count, begin] or seen.ended_at or begin
            if last is not None and last[0] == reason and 0 <= count - last[1] <= 1:
                found[-1] = replace(found[-1], last_count=count, before=_moment(end))
            else:
                found.append(
                    Gap(
                        reason, "", seen.kernel, "", seen.notebook, count, count, _moment(begin), _moment(end)
                    )
                )
            last = (reason, count)
        return [replace(gap, message=_said_seen(gap, seen)) for gap in found]

    def _why(self, seen: SeenKernel, cell: tuple[int, int], has_log: bool) -> GapReason | None:
        """Return why no log has a cell that the server saw, None when it may still be stamped."""
        end = seen.cells[cell]
        if end is not None:
            if end >= self._as_of:
                return None
            return "not in the log" if has_log else "no log"
        if seen.ended_at is None and seen.pid and self._alive(seen.pid, cell[1]):
            return None
        return "not finished" if has_log else "no log"


def _holes(logs: list[_Log]) -> list[_Hole]:
    """Return the counts that no leaf of a process has."""
    owners = [log for log in logs for _ in log.counts]
    counts = [count for log in logs for count in log.counts]
    begins = [begin for log in logs for begin in log.begins]
    ends = [end for log in logs for end in log.ends]
    holes: list[_Hole] = []
    recent: list[_Hole] = []
    top, top_end, latest_end = 0, None, 0
    session = ""
    for place in sorted(range(len(counts)), key=begins.__getitem__):
        count, begin, log = counts[place], begins[place], owners[place]
        if count <= top and begin < latest_end and _fill(recent, holes, count):
            latest_end = max(latest_end, ends[place])
            continue
        # A count that comes again: %reset began to count anew.
        wanted = top + 1 if count > top else 1
        if count > wanted:
            reason: GapReason = "missing count" if session else "before loading"
            after = top_end if session else log.kernel_started
            # Before loading they ran before the session was opened, not only before its first cell.
            before = begin if session else min(begin, log.opened or begin)
            hole = _Hole(wanted, count - 1, after, before, log, reason, begin)
            holes.append(hole)
            recent = [*recent[-_RECENT_HOLES:], hole]
        if count <= top:
            recent = []
        top, top_end, session = count, ends[place], log.session
        latest_end = max(latest_end, ends[place])
    return holes


def _fill(recent: list[_Hole], holes: list[_Hole], count: int) -> bool:
    """Take a count out of the hole that it was thought to be in; return whether there was one."""
    for hole in recent:
        if hole.first <= count <= hole.last:
            parts = _cut(hole, count, hole.shown_at)
            for listing in (recent, holes):
                place = listing.index(hole)
                listing[place : place + 1] = parts
            return True
    return False


def _cut(hole: _Hole, count: int, begin: int) -> list[_Hole]:
    """Return what is left of a hole without one count."""
    if not hole.first <= count <= hole.last or hole.shown_at < begin:
        return [hole]
    ranges = ((hole.first, count - 1), (count + 1, hole.last))
    return [
        _Hole(first, last, hole.after, hole.before, hole.log, hole.reason, hole.shown_at)
        for first, last in ranges
        if first <= last
    ]


def _gap(hole: _Hole) -> Gap:
    log = hole.log
    after = None if hole.after is None else _moment(min(hole.after, hole.before))
    gap = Gap(
        hole.reason, "", log.kernel, log.session, log.notebook, hole.first, hole.last, after,
        _moment(hole.before),
    )  # fmt: skip
    if hole.reason == "before loading":
        return replace(gap, message=f"{_cells(gap)} ran before the extension was loaded, {_span(gap)}")
    return replace(gap, message=f"{_cells(gap)} ran {_span(gap)}, and no log has them")


def _unfinished(log: _Log, count: int, begin: int) -> Gap:
    gap = Gap(
        "not finished", "", log.kernel, log.session, log.notebook, count, count, None, _moment(begin)
    )  # fmt: skip
    return replace(gap, message=f"{_cells(gap)} began {_span(gap)}, and the kernel ended before the cell did")


def _said_seen(gap: Gap, seen: SeenKernel) -> str:
    if gap.reason == "not finished":
        return f"{_cells(gap)} began {_span(gap)}, and the kernel ended before the cell did"
    if gap.reason == "no log":
        kernel = f"kernel {seen.kernel}" + (f" ({seen.name})" if seen.name else "")
        return f"the server saw {kernel} run {_cells(gap)} {_span(gap)}, and no log has any of that kernel"
    return f"the server saw {_cells(gap)} run {_span(gap)}, and the log of the kernel does not have them"


def _cells(gap: Gap) -> str:
    counts = (
        f"cell {gap.first_count}"
        if gap.first_count == gap.last_count
        else f"cells {gap.first_count} to {gap.last_count}"
    )
    return f"{counts} of {gap.notebook}" if gap.notebook else counts


def _span(gap: Gap) -> str:
    before = "an unknown moment" if gap.before is None else f"{gap.before:%Y-%m-%d %H:%M:%S}"
    if gap.after is None:
        return f"before {before} UTC"
    return f"between {gap.after:%Y-%m-%d %H:%M:%S} and {before} UTC"


def _covers(gap: Gap, count: int, begin: int) -> bool:
    if gap.first_count is None or gap.last_count is None or gap.before is None:
        return False
    moment = _moment(begin)
    if not gap.first_count <= count <= gap.last_count or moment > gap.before:
        return False
    return gap.after is None or moment >= gap.after


def _moment(value: int) -> datetime:
    try:
        return datetime.fromtimestamp(value / 1e6, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime(1970, 1, 1, tzinfo=UTC)


def _when(gap: Gap) -> tuple[datetime, str, int]:
    return gap.after or gap.before or _moment(0), gap.session, gap.first_count or 0
