"""What a container may use of the machine: the limits of this process's control groups.

Without them a notebook in a 4 GB container on a 512 GB host would be told that 500 GB are free.
Read as the kernel documents them: cgroup-v2.rst ("memory.max", "cpu.max") and, for the first
version, memory.rst and sched-bwc.rst.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path("/")


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """The tightest memory limit above this process, and what is left of it, in bytes."""

    limit_bytes: int
    free_bytes: int


@dataclass(frozen=True, slots=True)
class CpuLimit:
    """How many cores' worth of time a container may use, and the CPU seconds that it has used."""

    cores: float
    used_seconds: float


def memory_limit(total_bytes: int, root: Path = ROOT) -> MemoryLimit | None:
    """Return the memory limit below `total_bytes` that leaves the least; None without a limit.

    Parameters
    ----------
    total_bytes : int
        RAM of the machine; the kernel writes "no limit" as a number far above it.
    root : Path
        Where ``proc`` and ``sys`` are found.
    """
    found: MemoryLimit | None = None
    for folder in _folders("memory", root):
        limit = _integer(folder / "memory.max", folder / "memory.limit_in_bytes")
        used = _integer(folder / "memory.current", folder / "memory.usage_in_bytes")
        if limit is None or used is None or limit >= total_bytes:
            continue
        # Cached file pages count as used, but the kernel gives them up before it kills.
        free = max(0, limit - max(0, used - _reclaimable(folder)))
        if found is None or free < found.free_bytes:
            found = MemoryLimit(limit, free)
    return found


def cpu_limit(root: Path = ROOT) -> CpuLimit | None:
    """Return the tightest CPU quota above this process, None without one."""
    found: CpuLimit | None = None
    for folder in _folders("cpu", root):
        cores = _quota(folder)
        used = _cpu_seconds(folder)
        if cores is not None and used is not None and (found is None or cores < found.cores):
            found = CpuLimit(cores, used)
    return found


def _folders(controller: str, root: Path) -> Iterator[Path]:
    """Yield this process's folder for `controller` and every one above it, both versions."""
    try:
        lines = (root / "proc/self/cgroup").read_text().splitlines()
    except OSError:
        return
    mount = root / "sys/fs/cgroup"
    for line in lines:
        _, _, rest = line.partition(":")
        controllers, _, path = rest.partition(":")
        if not controllers:
            top = mount
        elif controller in controllers.split(","):
            top = mount / controller
        else:
            continue
        # A container often sees its own group as the top, whatever the path says: absent folders are
        # passed over, the top is always tried.
        folder = top / path.strip("/")
        while True:
            if folder.is_dir():
                yield folder
            if folder == top or top not in folder.parents:
                break
            folder = folder.parent


def _integer(*candidates: Path) -> int | None:
    for candidate in candidates:
        try:
            text = candidate.read_text().strip()
        except OSError:
            continue
        return int(text) if text.isdigit() else None  # "max" is no limit
    return None


def _reclaimable(folder: Path) -> int:
    values = _table(folder / "memory.stat")
    return values.get("total_inactive_file", values.get("inactive_file", 0))


def _table(path: Path) -> dict[str, int]:
    try:
        rows = [line.split() for line in path.read_text().splitlines()]
    except OSError:
        return {}
    return {row[0]: int(row[1]) for row in rows if len(row) == 2 and row[1].isdigit()}


def _quota(folder: Path) -> float | None:
    try:
        quota, period = (folder / "cpu.max").read_text().split()
    except (OSError, ValueError):
        first = _integer(folder / "cpu.cfs_quota_us")  # -1 is no limit, and no digit
        second = _integer(folder / "cpu.cfs_period_us")
        return first / second if first and second else None
    return int(quota) / int(period) if quota.isdigit() and int(period) else None


def _cpu_seconds(folder: Path) -> float | None:
    usage = _table(folder / "cpu.stat").get("usage_usec")
    if usage is not None:
        return usage / 1e6
    used = _integer(folder / "cpuacct.usage", folder.parent / "cpuacct" / "cpuacct.usage")
    return used / 1e9 if used is not None else None
