"""The machine's CPU and RAM as one device, within the limits of its container."""

from __future__ import annotations

import os
import platform
import threading
import time
from dataclasses import dataclass
from pathlib import Path

from jupyter_llmops.gpus.cgroups import CpuLimit, cpu_limit, memory_limit
from jupyter_llmops.records.gpu import Device

# Busy time is a difference of two samples: a shorter window is noise, an older one is history.
_SHORTEST_WINDOW = 0.1
_LONGEST_WINDOW = 30.0


@dataclass(frozen=True, slots=True)
class _Sample:
    """CPU time so far: when it was read, and the busy and all seconds of the cores that count."""

    at: float
    busy: float
    total: float
    cores: float


def read_host() -> Device:
    """Return the CPU with the RAM; blocks for 0.1 s when there is no sample to compare with.

    Utilization is of the cores that this process may use; under a container's CPU quota it is of
    that quota. psutil's own ``cpu_percent`` is not used: it compares with whoever called it last.
    """
    import psutil

    memory = psutil.virtual_memory()
    total, free = int(memory.total), int(memory.available)
    limit = memory_limit(total)
    if limit is not None:
        total, free = limit.limit_bytes, min(free, limit.free_bytes)
    percent = _meter.percent()
    return Device(
        kind="cpu",
        name=_cpu_name(),
        memory_total_bytes=total,
        memory_free_bytes=free,
        utilization_percent=percent,
        problem="" if percent is not None else "utilization: the operating system does not tell it",
    )


class _Meter:
    """Keeps the last sample, so that the next reading needs no window of its own."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._previous: _Sample | None = None

    def percent(self) -> float | None:
        """Return the share of CPU time in use since the last reading, or over 0.1 s."""
        with self._lock:
            now = _sample()
            if now is None:
                return None
            before = self._previous
            if before is None or not _SHORTEST_WINDOW <= now.at - before.at <= _LONGEST_WINDOW:
                time.sleep(_SHORTEST_WINDOW)
                before, now = now, _sample()
            self._previous = now
        return None if now is None else _busy_percent(before, now)


_meter = _Meter()


def _busy_percent(before: _Sample, now: _Sample) -> float | None:
    total = now.total - before.total
    if total <= 0 or before.cores != now.cores:
        return None
    return round(min(100.0, max(0.0, 100.0 * (now.busy - before.busy) / total)), 1)


def _sample() -> _Sample | None:
    import psutil

    at = time.monotonic()
    limit = cpu_limit()
    cores = float(_usable_cores())
    if limit is not None and limit.cores < cores:
        return _Sample(at, limit.used_seconds, at * limit.cores, limit.cores)
    try:
        times = psutil.cpu_times(percpu=True)
    except (psutil.Error, OSError, RuntimeError):
        return None
    allowed = os.sched_getaffinity(0) if hasattr(os, "sched_getaffinity") else set(range(len(times)))
    counted = [one for number, one in enumerate(times) if number in allowed] or times
    # guest time is part of user time on Linux, so summing every field would count it twice
    total = sum(sum(one) - getattr(one, "guest", 0.0) - getattr(one, "guest_nice", 0.0) for one in counted)
    idle = sum(one.idle + getattr(one, "iowait", 0.0) for one in counted)
    return _Sample(at, total - idle, total, cores)


def _usable_cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def _cpu_name() -> str:
    limit: CpuLimit | None = cpu_limit()
    usable = float(_usable_cores())
    cores = usable if limit is None else min(usable, limit.cores)
    return f"{_model_name()}, {cores:g} core{'' if cores == 1 else 's'}"


def _model_name(cpuinfo: Path = Path("/proc/cpuinfo")) -> str:
    try:
        for line in cpuinfo.read_text(errors="replace").splitlines():
            key, _, value = line.partition(":")
            if key.strip().lower() in {"model name", "hardware", "cpu model"} and value.strip():
                return " ".join(value.split())
    except OSError:
        pass
    return platform.processor() or platform.machine() or "CPU"
