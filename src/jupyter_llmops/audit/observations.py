"""What the Jupyter server saw kernels run: its leaves, read back, and compared with the kernels' own logs.

The server hears of each cell on the kernel's IOPub channel (``execute_input``, then ``status: idle``), see
https://jupyter-client.readthedocs.io/en/stable/messaging.html. It hears nothing of a silent run, and nothing
of cells that a cell runs.
"""

from __future__ import annotations

import os
from array import array
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

ENDINGS = ("restarted", "died", "shut down", "server stopped")
"""Events after which a kernel's process runs no more cells."""

# How far a leaf may begin outside of what the server saw of its cell, by the same clock; microseconds.
_TOLERANCES = (1_000, 100_000)
LARGEST_COUNT = 2**53
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_MICROSECOND = timedelta(microseconds=1)

OBSERVER_VARIABLE = "LLMOPS_OBSERVED_BY"
"""Names the process of the server that looks on to the kernels that it starts."""


def observed() -> bool:
    """Return whether the Jupyter server that started this kernel notes which cells it runs."""
    return os.environ.get(OBSERVER_VARIABLE, "") == os.environ.get("JPY_PARENT_PID", "none")


@dataclass(slots=True)
class SeenKernel:
    """One process of a kernel, as the server saw it; moments are microseconds since 1970 in UTC.

    Parameters
    ----------
    kernel : str
        Id of the kernel, which survives a restart.
    process : str
        What tells this process from the kernel's others: the session of its messages.
    cells : dict of (count, begin) to end
        The end is None while it is not known.
    ended_at : int or None
        When the process ended, None as long as it may run.
    unheard : (int or None, int) or None
        Number of the last cell before the server heard the process, None where it is not known; when it did.
    """

    kernel: str
    process: str
    name: str = ""
    pid: int | None = None
    started: int | None = None
    notebook: str = ""
    cells: dict[tuple[int, int], int | None] = field(default_factory=dict)
    ended_at: int | None = None
    unheard: tuple[int | None, int] | None = None


class KernelCells:
    """The cells that a kernel's logs have, for comparison with those that the server saw."""

    def __init__(self) -> None:
        self.counts = array("q")
        self.begins = array("q")

    def add(self, count: int, begin: int) -> None:
        """Add a cell that no other cell ran."""
        self.counts.append(count)
        self.begins.append(begin)


def micros(moment: object) -> int | None:
    """Return an ISO 8601 moment of a leaf as microseconds since 1970 in UTC, None where it is none."""
    try:
        return (datetime.fromisoformat(moment) - _EPOCH) // _MICROSECOND  # type: ignore[arg-type]
    except (TypeError, ValueError, OverflowError):
        return None


def whole(value: object) -> int | None:
    """Return a number of a leaf, None where it is no number that RFC 8785 can write."""
    return value if type(value) is int and abs(value) < LARGEST_COUNT else None


class Observed:
    """All that servers saw, by process of a kernel."""

    def __init__(self) -> None:
        self.kernels: dict[tuple[str, str], SeenKernel] = {}

    def take(self, leaf: Mapping[str, Any]) -> None:
        """Take a leaf of kind "observation"; what in it is not as the server writes it is passed over."""
        kernel, process = leaf.get("kernel"), leaf.get("process")
        if not isinstance(kernel, str) or not isinstance(process, str) or not kernel:
            return
        seen = self.kernels.setdefault((kernel, process), SeenKernel(kernel, process))
        seen.name = _text(leaf, "kernel_name") or seen.name
        seen.notebook = _text(leaf, "notebook") or seen.notebook
        seen.pid = whole(leaf.get("kernel_pid")) or seen.pid
        seen.started = micros(leaf.get("kernel_started_at")) or seen.started
        for entry in _list(leaf, "cells"):
            if isinstance(entry, list) and len(entry) >= 3:
                self._take_cell(seen, entry)
        unheard = [whole(value) for value in _list(leaf, "unheard")]
        if len(unheard) == 2 and unheard[1] is not None:
            seen.unheard = unheard[0], unheard[1]
        for entry in _list(leaf, "events"):
            if isinstance(entry, list) and len(entry) == 2 and entry[0] in ENDINGS:
                seen.ended_at = whole(entry[1])

    @staticmethod
    def _take_cell(seen: SeenKernel, entry: list[Any]) -> None:
        count, begin, duration = (whole(value) for value in entry[:3])
        if count is None or begin is None:
            return
        # A long cell is noted twice: when it began and when it ended.
        end = None if duration is None else begin + max(0, duration)
        if end is not None or (count, begin) not in seen.cells:
            seen.cells[count, begin] = end

    def __bool__(self) -> bool:
        return bool(self.kernels)


def not_in_logs(seen: Iterable[SeenKernel], logged: KernelCells | None) -> dict[str, list[tuple[int, int]]]:
    """Return, by process, the cells (count, begin) of one kernel that the server saw and no log of it has.

    A leaf counts for one cell alone, whose count it has and within which it began: whatever a log's cells are
    renumbered to, an omitted one leaves a cell that the server saw without a leaf.

    Parameters
    ----------
    seen : iterable of SeenKernel
        All processes of one kernel.
    logged : KernelCells or None
        What that kernel's logs have; None where there is no log.
    """
    kernels = list(seen)
    if logged is None:
        return {kernel.process: sorted(kernel.cells, key=_begin) for kernel in kernels}
    free: dict[int, list[int]] = {}
    for place in range(len(logged.counts)):
        free.setdefault(logged.counts[place], []).append(place)
    left = {kernel.process: sorted(kernel.cells, key=_begin) for kernel in kernels}
    for tolerance in _TOLERANCES:
        for kernel in kernels:
            left[kernel.process] = [
                cell
                for cell in left[kernel.process]
                if not _pair(free.get(cell[0]), logged, cell[1], kernel.cells[cell], tolerance)
            ]
    return left


def _begin(cell: tuple[int, int]) -> tuple[int, int]:
    return cell[1], cell[0]


def _pair(free: list[int] | None, logged: KernelCells, begin: int, end: int | None, tolerance: int) -> bool:
    """Take the leaf of a cell out of the free ones: it begins within what the server saw of the cell."""
    for number, place in enumerate(free or ()):
        moment = logged.begins[place]
        if begin - tolerance <= moment and (end is None or moment <= end + tolerance):
            assert free is not None
            del free[number]
            return True
    return False


def _text(leaf: Mapping[str, Any], name: str) -> str:
    value = leaf.get(name)
    return value if isinstance(value, str) else ""


def _list(leaf: Mapping[str, Any], name: str) -> list[Any]:
    value = leaf.get(name)
    return value if isinstance(value, list) else []
