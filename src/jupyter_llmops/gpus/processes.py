"""Who holds a GPU's memory: NVML's process lists, named with psutil."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from jupyter_llmops.records.gpu import GpuProcess

# Inode of the host's own pid namespace (include/linux/proc_ns.h, PROC_PID_INIT_INO).
_HOST_PID_NAMESPACE = "pid:[4026531836]"

Running = Iterable[tuple[int, int | None]]


def merge_processes(compute: Running | None, graphics: Running | None) -> tuple[GpuProcess, ...] | None:
    """Return each process once, the largest first; None when the driver told neither list.

    Parameters
    ----------
    compute, graphics : iterable of (pid, memory in bytes or None), or None
        A process in both lists holds the memory once: the larger figure counts.
    """
    if compute is None and graphics is None:
        return None
    memory: dict[int, int | None] = {}
    for pid, held in (*(compute or ()), *(graphics or ())):
        known = memory.get(pid)
        memory[pid] = held if known is None else max(known, held or 0)
    here = _sees_host_processes()
    found = [GpuProcess(pid, held, _process_name(pid, here)) for pid, held in memory.items()]
    return tuple(sorted(found, key=lambda p: (-(p.memory_bytes or 0), p.pid)))


def _process_name(pid: int, sees_host: bool) -> str:
    """Return the process's name; empty when it is gone, may not be read, or is someone else's number.

    In a container the driver may name the host's pids, which belong to other processes here: there
    a name counts only when that process has the driver's library loaded.
    """
    import psutil

    if not sees_host and not _uses_the_driver(pid):
        return ""
    try:
        return psutil.Process(pid).name()
    except (psutil.Error, OSError, ValueError):
        return ""


def _sees_host_processes() -> bool:
    try:
        return str(Path("/proc/self/ns/pid").readlink()) == _HOST_PID_NAMESPACE
    except OSError:  # not Linux: no pid namespaces
        return not Path("/proc").exists()


def _uses_the_driver(pid: int) -> bool:
    try:
        maps = Path(f"/proc/{pid}/maps").read_text(errors="replace")
    except OSError:
        return False
    return "libcuda" in maps or "nvidia" in maps
