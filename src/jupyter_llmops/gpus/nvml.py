"""The machine's NVIDIA GPUs, asked through NVML (``nvidia-ml-py``).

NVML answers each question on its own: a GPU may tell its memory and refuse its processes. So a
question that fails is a value here (None, and the reason in words in the device's ``problem``),
as nvitop does it; only the driver as a whole can be missing. pynvml's exceptions end in `_ask`
and `_open`: nothing above this file knows them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from jupyter_llmops.gpus.faults import driver_fault, metric_fault
from jupyter_llmops.gpus.processes import merge_processes
from jupyter_llmops.records.gpu import Device, DriverStatus

# NVML fills an integer that it can't know with all ones; such a number must not be shown.
_NOT_AVAILABLE = {2**64 - 1, 2**32 - 1}


@dataclass(frozen=True, slots=True)
class DriverAnswer:
    """How the driver answered, and the GPUs it named.

    Parameters
    ----------
    status : {"ok", "missing", "mismatched", "refused", "error"}
        As in `DeviceInventory`.
    message : str
        In plain words; empty when "ok".
    version : str
        The driver's version, empty when it did not answer.
    devices : tuple of Device
        One per GPU, or per MIG instance of a partitioned GPU.
    """

    status: DriverStatus
    message: str = ""
    version: str = ""
    devices: tuple[Device, ...] = ()


def read_gpus() -> DriverAnswer:
    """Return every GPU that NVML names on this machine; never raises.

    NVML is opened and closed again for each reading, so that a driver which is installed, updated
    or lost while a notebook is open is seen as it is now.
    """
    try:
        import pynvml
    except ImportError:
        return DriverAnswer(
            "error",
            "GPUs can't be asked for: the package nvidia-ml-py is missing. Type: %pip install nvidia-ml-py",
        )
    with _open(pynvml) as fault:
        if fault is not None:
            return fault
        version = _ask(pynvml, pynvml.nvmlSystemGetDriverVersion).value or ""
        count = _ask(pynvml, pynvml.nvmlDeviceGetCount)
        if count.code is not None:
            status, message = driver_fault(pynvml, count.code)
            return DriverAnswer(status, message, version)
        devices: list[Device] = []
        for index in range(int(count.value)):
            devices.extend(_read_gpu(pynvml, index))
        return DriverAnswer("ok", "", version, tuple(devices))


@dataclass(frozen=True, slots=True)
class _Answer:
    """A value, or the code of the error that came instead of it."""

    value: Any = None
    code: int | None = None


@dataclass(slots=True)
class _Questions:
    """Asks one GPU and keeps in words what it did not answer."""

    pynvml: Any
    handle: Any
    virtual: bool = False
    problems: list[str] = field(default_factory=list)

    def ask(self, metric: str, call: Callable[..., Any], *arguments: Any) -> Any:
        """Return the answer, or None after noting why there is none under the name `metric`."""
        answer = _ask(self.pynvml, call, self.handle, *arguments)
        if answer.code is not None:
            self.problems.append(f"{metric}: {metric_fault(self.pynvml, answer.code, self.virtual)}")
        return answer.value

    def silently(self, call: Callable[..., Any], *arguments: Any) -> Any:
        """Return the answer, or None where this GPU knows nothing of the question."""
        return _ask(self.pynvml, call, self.handle, *arguments).value


@contextmanager
def _open(pynvml: Any) -> Iterator[DriverAnswer | None]:
    """Open NVML for a block; yields the fault when it can't be opened."""
    answer = _ask(pynvml, pynvml.nvmlInit)
    if answer.code is not None:
        status, message = driver_fault(pynvml, answer.code)
        yield DriverAnswer(status, message)
        return
    try:
        yield None
    finally:
        _ask(pynvml, pynvml.nvmlShutdown)


def _ask(pynvml: Any, call: Callable[..., Any], *arguments: Any) -> _Answer:
    """Call NVML once: the boundary at which its exceptions become values."""
    try:
        return _Answer(call(*arguments))
    except pynvml.NVMLError as error:
        return _Answer(code=int(error.value))
    except pynvml.NVMLLibraryMismatchError:  # a driver older than this version of the function
        return _Answer(code=int(pynvml.NVML_ERROR_FUNCTION_NOT_FOUND))
    except (UnicodeDecodeError, AttributeError):  # a damaged string, a pynvml older than the call
        return _Answer(code=int(pynvml.NVML_ERROR_UNKNOWN))


def _read_gpu(pynvml: Any, index: int) -> list[Device]:
    """Return the GPU at `index`, or its MIG instances when it is partitioned."""
    answer = _ask(pynvml, pynvml.nvmlDeviceGetHandleByIndex, index)
    if answer.code is not None:
        return [Device("gpu", f"GPU {index}", index, problem=metric_fault(pynvml, answer.code))]
    questions = _Questions(pynvml, answer.value)
    mode = questions.silently(pynvml.nvmlDeviceGetMigMode)
    if mode is None or mode[0] != pynvml.NVML_DEVICE_MIG_ENABLE:
        return [_read_device(questions, index, _name(questions, index))]
    name = _name(questions, index)
    instances = list(_read_instances(questions, index, name))
    if instances:
        return instances
    # A partitioned GPU without partitions has memory that nobody can use: say so.
    whole = _read_device(questions, index, name)
    return [
        Device(
            "gpu",
            name,
            index,
            whole.uuid,
            whole.memory_total_bytes,
            None,
            None,
            whole.processes,
            problem="MIG is on but no instance was made, so nothing can run here; "
            f"make one with: sudo nvidia-smi mig -i {index} -cgi 0 -C",
        )
    ]


def _read_instances(parent: _Questions, index: int, parent_name: str) -> Iterator[Device]:
    """Yield the MIG instances of a partitioned GPU; empty slots are passed over."""
    pynvml = parent.pynvml
    slots = parent.silently(pynvml.nvmlDeviceGetMaxMigDeviceCount) or 0
    for slot in range(int(slots)):
        answer = _ask(pynvml, pynvml.nvmlDeviceGetMigDeviceHandleByIndex, parent.handle, slot)
        if answer.code is not None:
            continue
        questions = _Questions(pynvml, answer.value)
        name = questions.silently(pynvml.nvmlDeviceGetName) or parent_name
        if "MIG" not in name:
            name = f"{parent_name} MIG {slot}"
        yield _read_device(questions, index, name)


def _name(questions: _Questions, index: int) -> str:
    """Return the GPU's name, or a stand-in made from its index."""
    name = questions.ask("name", questions.pynvml.nvmlDeviceGetName)
    return str(name) if name else f"GPU {index}"


def _read_device(questions: _Questions, index: int, name: str) -> Device:
    """Ask one GPU or MIG instance for everything a table shows."""
    pynvml = questions.pynvml
    guest = questions.silently(pynvml.nvmlDeviceGetVirtualizationMode)
    questions.virtual = guest == pynvml.NVML_GPU_VIRTUALIZATION_MODE_VGPU
    uuid = questions.silently(pynvml.nvmlDeviceGetUUID) or ""
    memory = questions.ask("memory", pynvml.nvmlDeviceGetMemoryInfo)
    rates = questions.ask("utilization", pynvml.nvmlDeviceGetUtilizationRates)
    compute = _running(questions, "Compute")
    graphics = _running(questions, "Graphics")
    if compute is None and graphics is None:
        questions.ask("processes", pynvml.nvmlDeviceGetComputeRunningProcesses_v2)
    total = _number(memory.total) if memory is not None else None
    if not total:
        total = None  # a GPU that shares the RAM reports none of its own
    return Device(
        kind="gpu",
        name=name,
        index=index,
        uuid=str(uuid),
        memory_total_bytes=total,
        memory_free_bytes=_number(memory.free) if memory is not None and total else None,
        utilization_percent=_percent(rates.gpu) if rates is not None else None,
        processes=merge_processes(compute, graphics),
        problem="; ".join(questions.problems),
    )


def _running(questions: _Questions, what: str) -> list[tuple[int, int | None]] | None:
    """Return (pid, memory in bytes) of the "Compute" or "Graphics" processes, None when not told."""
    for version in ("_v3", "_v2"):  # drivers before 510 know only the second version
        call = getattr(questions.pynvml, f"nvmlDeviceGet{what}RunningProcesses{version}", None)
        found = questions.silently(call) if call is not None else None
        if found is not None:
            return [(int(p.pid), _number(p.usedGpuMemory)) for p in found]
    return None


def _number(value: Any) -> int | None:
    return None if value is None or int(value) in _NOT_AVAILABLE else int(value)


def _percent(value: Any) -> float | None:
    number = _number(value)
    return None if number is None or number > 100 else float(number)
