"""What the trail does not cover: cells that ran and that no log has.

Known from the execution counts, which IPython gives without a gap; from cells that ran cells and never ended;
and from what the Jupyter server saw kernels run, and from when on. Of silent runs and
messages to widgets, which have no count and of which no server is told, each cell says how many there were before
it, and a session that ends how many after its last. Not known: those after the last cell of a kernel that was
killed; where no server looks on, cells after the last that was stamped.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from jupyter_llmops.audit.counts import Hole, Log, cut, holes_of
from jupyter_llmops.audit.files import RUNNING_SUFFIX, running_path
from jupyter_llmops.audit.gaps import (
    cells_of,
    gap_of,
    moment_of,
    said_seen,
    silent_gap,
    span_of,
    unfinished,
    when_of,
)
from jupyter_llmops.audit.observations import (
    KernelCells,
    Observed,
    SeenKernel,
    micros,
    not_in_logs,
    whole,
)
from jupyter_llmops.audit.reading import complete_lines, list_journals
from jupyter_llmops.audit.running import RunningCell, read_running
from jupyter_llmops.errors import AuditError, UsageError
from jupyter_llmops.records.run import Run
from jupyter_llmops.records.trail import Gap, GapReason

_TOLERANCE = 5_000_000
# How long before its leaf's beginning the server sees that of a cell, at most.
_CLOSE = 100_000
_DAY = 86_400_000_000
_KINDS = (b'"kind":"cell"', b'"kind":"session"', b'"kind":"observation"', b'"kind":"retention"')


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
    marked = {
        path.name.removesuffix(RUNNING_SUFFIX)
        for path in running_path(folder, "x").parent.glob(f"*{RUNNING_SUFFIX}")
    }
    for session in sorted(marked):
        coverage.expect(session, read_running(folder, session))
    for path in list_journals(folder):
        for leaf in _leaves(path):
            coverage.take(leaf)
    return coverage.gaps()


def _leaves(path: Path) -> Iterator[dict[str, Any]]:
    """Yield the leaves of a journal that coverage depends on; the others are not even parsed."""
    import orjson

    try:
        data = path.read_bytes()
    except OSError as error:
        raise AuditError(
            f"The journal {path} can't be read: {error.strerror}.", "Make it readable for your user."
        ) from error
    for line in complete_lines(data)[0]:
        if any(kind in line for kind in _KINDS):
            try:
                leaf = orjson.loads(line)
            except ValueError:
                continue  # verify names it
            if isinstance(leaf, dict):
                yield leaf


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


def born(pid: int) -> int | None:
    """Return when a process of this machine began, microseconds since 1970; None when there is none."""
    import psutil

    try:
        process = psutil.Process(pid)
        if process.status() == psutil.STATUS_ZOMBIE:
            return None
        return round(process.create_time() * 1e6)
    except (psutil.Error, ValueError, OverflowError):
        return None


class Coverage:
    """Takes leaves one by one and then says what they do not cover; some two microseconds a leaf.

    Parameters
    ----------
    born : callable
        Says when a running process, by its number, began, microseconds since 1970; None when none runs.
    """

    def __init__(self, born: Callable[[int], int | None] = born) -> None:
        # Whatever ended later may be missing in a journal that was read before.
        self._as_of = time.time_ns() // 1000
        self._born = born
        self._logs: dict[str, Log] = {}
        self._cells: dict[str, KernelCells] = {}
        self._observed = Observed()
        self._pruned_before: dict[str, int] = {}

    def expect(self, session: str, begun: Iterable[RunningCell]) -> None:
        """Take the marks of cells that began in a session, before any of its leaves."""
        log = self._logs.setdefault(session, Log(session))
        for cell in begun:
            moment = micros(cell.started_at)
            if moment is not None:
                log.unfinished[cell.id] = (whole(cell.execution_count), moment)
                log.kernel = log.kernel or cell.kernel
                log.opened = log.opened or moment

    def take(self, leaf: Mapping[str, Any]) -> None:
        """Take a leaf; those of one session in the order of its journal."""
        kind = leaf.get("kind")
        if kind == "cell":
            self._take_cell(leaf)
        elif kind == "session":
            self._take_session(leaf)
        elif kind == "observation":
            self._observed.take(leaf)
            self._take_silent(leaf)
        elif kind == "retention":
            self._take_retention(leaf)

    def _take_retention(self, leaf: Mapping[str, Any]) -> None:
        """Take which kernels' sessions were pruned: what a server saw of them before has no log any more."""
        from jupyter_llmops.audit.retention import parse_retention

        moment = micros(leaf.get("started_at"))
        try:
            age = parse_retention(str(leaf.get("age"))).total_seconds()
        except UsageError:
            return
        if moment is not None:
            rows = leaf.get("sessions")
            for row in rows if isinstance(rows, list) else ():
                if isinstance(row, dict) and (kernel := str(row.get("kernel") or "")):
                    before = moment - round(age * 1e6)
                    self._pruned_before[kernel] = max(self._pruned_before.get(kernel, 0), before)

    def _take_session(self, leaf: Mapping[str, Any]) -> None:
        log = self._log(leaf)
        log.kernel = str(leaf.get("kernel") or "")
        log.pid = whole(leaf.get("pid")) or 0
        log.host = str(leaf.get("host") or "")
        log.notebook = str(leaf.get("notebook") or "")
        log.opened = micros(leaf.get("started_at")) or 0
        log.born = micros(leaf.get("process_started_at"))
        if log.kernel and leaf.get("role", "kernel") == "kernel":
            self._cells.setdefault(log.kernel, KernelCells())

    def _log(self, leaf: Mapping[str, Any]) -> Log:
        session = str(leaf.get("session"))
        log = self._logs.get(session)
        if log is None:
            log = self._logs[session] = Log(session)
        return log

    def _take_cell(self, leaf: Mapping[str, Any]) -> None:
        log = self._log(leaf)
        if log.unfinished:
            log.unfinished.pop(str(leaf.get("id")), None)
        count = whole(leaf.get("execution_count"))
        begin = micros(leaf.get("started_at"))
        if count is None or begin is None:
            return
        if "silent_before" in leaf or "callbacks_before" in leaf:
            self._take_silent(leaf)
        end = begin + max(0, whole(leaf.get("microseconds")) or 0)
        parent = leaf.get("parent")
        if parent:
            # The cell that runs it is stamped at its own end. One that is neither stamped nor marked was left
            # out, unless it began after the marks were read.
            if begin >= self._as_of:
                log.unfinished.setdefault(str(parent), (count - 1, begin))
        elif log.kernel in self._cells:
            self._cells[log.kernel].add(count, begin)
        if leaf.get("store_history", True) is not False:
            log.counts.append(count)
            log.begins.append(begin)
            log.ends.append(end)
            log.notebook = log.notebook or str(leaf.get("notebook") or "")

    def _take_silent(self, leaf: Mapping[str, Any]) -> None:
        """Take how many silent runs and messages to widgets there were before a leaf."""
        silent, callbacks = (
            max(0, whole(leaf.get(name)) or 0) for name in ("silent_before", "callbacks_before")
        )
        moment = micros(leaf.get("started_at"))
        if (silent or callbacks) and moment is not None:
            log = self._log(leaf)
            log.silent += silent
            log.callbacks += callbacks
            log.silent_after = log.silent_after or (log.ends[-1] if log.ends else log.opened or moment)
            log.silent_before = moment

    def gaps(self) -> tuple[Gap, ...]:
        """Return what is not covered, in the order of time."""
        chains: dict[tuple[str, str, int], list[Log]] = {}
        for log in self._logs.values():
            chains.setdefault((log.host, log.kernel, log.pid), []).append(log)
        found: list[Gap] = []
        for logs in chains.values():
            found += self._gaps_of_process(logs)
        found += self._gaps_seen(found)
        return tuple(sorted(found, key=when_of))

    def _gaps_of_process(self, logs: list[Log]) -> list[Gap]:
        """Return the gaps in the counts of one process, whose sessions go on from each other."""
        logs.sort(key=lambda log: log.opened)
        holes = holes_of(logs)
        for hole in holes:
            if hole.reason == "before loading":
                hole.after = self._started(hole.log)
        found: list[Gap] = []
        holes = self._without_running(holes, logs, found)
        found += [silent_gap(log) for log in logs if log.silent or log.callbacks]
        return [*found, *map(gap_of, holes)]

    def _without_running(self, holes: list[Hole], logs: list[Log], found: list[Gap]) -> list[Hole]:
        """Return the holes without cells that run still, or never ended, which go to `found`."""
        for log in logs:
            for count, begin in log.unfinished.values():
                if count is not None:
                    holes = [part for hole in holes for part in cut(hole, count, begin)]
                if not self._runs(log.pid, begin):
                    found.append(unfinished(log.kernel, log.session, log.notebook, count, begin))
        return holes

    def _runs(self, pid: int, began: int) -> bool:
        """Return whether the process of a cell that began at a moment may still run."""
        if not pid:  # its first cell is not stamped yet, and with it nothing says which process it is
            return began > self._as_of - _DAY
        birth = self._born(pid)
        return birth is not None and birth <= began + _TOLERANCE

    def _started(self, log: Log) -> int | None:
        """Return when the process of a session began: as the server saw it, or while it runs."""
        for seen in self._observed.kernels.values():
            if seen.kernel == log.kernel and seen.pid == log.pid and seen.started:
                return seen.started
        birth = log.born or (self._born(log.pid) if log.pid else None)
        return birth if birth is not None and birth <= log.opened + _TOLERANCE else None

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
                found += self._unheard(seen)
                found += self._gaps_of_seen(seen, left[seen.process], logged is not None, covered)
        return found

    def _unheard(self, seen: SeenKernel) -> list[Gap]:
        """Return what a process may have run before the server heard it, unless its log's counts tell."""
        last, until = seen.unheard or (0, 0)
        if (last is not None and last <= 0) or until < self._pruned_before.get(seen.kernel, 0):
            return []
        for log in self._logs.values():
            if log.counts and log.kernel == seen.kernel and seen.pid in (None, log.pid):
                return []
        after = None if seen.started is None else moment_of(min(seen.started, until))
        gap = Gap(
            "not seen", "", seen.kernel, "", seen.notebook, None if last is None else 1, last, after, moment_of(until)
        )  # fmt: skip
        if last is None:
            told = f"whether kernel {seen.kernel} ran cells {span_of(gap)} is not known: the server did not hear it yet"
        else:
            told = f"{cells_of(gap)} ran {span_of(gap)}, before the server heard kernel {seen.kernel}, which has no log"
        return [replace(gap, message=told)]

    def _gaps_of_seen(
        self, seen: SeenKernel, left: list[tuple[int, int]], has_log: bool, known: list[Gap]
    ) -> list[Gap]:
        found: list[Gap] = []
        last: tuple[str, int] | None = None
        said_of: set[tuple[Gap, int]] = set()
        for count, begin in left:
            reason = self._why(seen, (count, begin), has_log)
            said = next(
                (gap for gap in known if _covers(gap, count, begin) and (gap, count) not in said_of), None
            )
            if said is not None:
                said_of.add((said, count))
            if reason is None or said is not None:
                last = None
                continue
            if reason == "not finished":
                found.append(unfinished(seen.kernel, "", seen.notebook, count, begin))
                last = None
                continue
            end = seen.cells[count, begin] or seen.ended_at or begin
            if last is not None and last[0] == reason and 0 <= count - last[1] <= 1:
                found[-1] = replace(found[-1], last_count=count, before=moment_of(end))
            else:
                found.append(
                    Gap(
                        reason,
                        "",
                        seen.kernel,
                        "",
                        seen.notebook,
                        count,
                        count,
                        moment_of(begin),
                        moment_of(end),
                    )
                )
            last = (reason, count)
        return [replace(gap, message=gap.message or said_seen(gap, seen)) for gap in found]

    def _why(self, seen: SeenKernel, cell: tuple[int, int], has_log: bool) -> GapReason | None:
        """Return why no log has a cell that the server saw, None when it may still be stamped."""
        end = seen.cells[cell]
        if cell[1] < self._pruned_before.get(seen.kernel, 0):
            return None
        if end is not None:
            if end >= self._as_of:
                return None
            return "not in the log" if has_log else "no log"
        if self._runs(seen.pid or 0, cell[1]):
            return None
        return "not finished" if has_log else "no log"


def _covers(gap: Gap, count: int, begin: int) -> bool:
    """Return whether a gap that is known from the log is the one of a cell that the server saw."""
    if gap.first_count is None or gap.last_count is None or not gap.first_count <= count <= gap.last_count:
        return False
    early, late = moment_of(begin - _CLOSE), moment_of(begin + _CLOSE)
    return (gap.after is None or late >= gap.after) and (gap.before is None or early <= gap.before)
