"""Processors that can run a model."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

DriverStatus = Literal["ok", "missing", "mismatched", "refused", "error"]


@dataclass(frozen=True, slots=True)
class GpuProcess:
    """A process that holds GPU memory; the name is empty when it may not be read."""

    pid: int
    memory_bytes: int | None
    name: str = ""


@dataclass(frozen=True, slots=True)
class Device:
    """One processor; None is a value that could not be measured, never 0.

    Parameters
    ----------
    kind : {"gpu", "cpu"}
        The host's CPU and RAM are its last device.
    name : str
        As the driver names it.
    index : int or None
        The driver's index of a GPU.
    uuid : str
        The driver's id, empty for a CPU.
    memory_total_bytes, memory_free_bytes : int or None
        GPU memory, or the RAM for a CPU, bytes.
    utilization_percent : float or None
        0 to 100.
    processes : tuple of GpuProcess or None
        Who uses it; None when the driver does not tell.
    price_per_hour : float or None
        Only where one is configured.
    problem : str
        In plain words, why a value is missing; empty when nothing is.
    """

    kind: Literal["gpu", "cpu"]
    name: str
    index: int | None = None
    uuid: str = ""
    memory_total_bytes: int | None = None
    memory_free_bytes: int | None = None
    utilization_percent: float | None = None
    processes: tuple[GpuProcess, ...] | None = None
    price_per_hour: float | None = None
    problem: str = ""


@dataclass(frozen=True, slots=True)
class DeviceInventory:
    """What a host has, when it was read, and how the GPU driver answered.

    Parameters
    ----------
    site : str
        The host or site.
    devices : tuple of Device
        GPUs first, the CPU with the RAM last.
    driver_status : {"ok", "missing", "mismatched", "refused", "error"}
        How the NVIDIA driver answered.
    driver_message : str
        In plain words, for people; empty when "ok".
    driver_version : str
        As the driver says, empty when it did not answer.
    measured_at : datetime
        UTC.
    currency : str
        Of the prices, e.g. "USD".
    """

    site: str
    devices: tuple[Device, ...]
    driver_status: DriverStatus
    driver_message: str
    driver_version: str
    measured_at: datetime
    currency: str = "USD"
