"""What an NVML error means to the person in front of the notebook."""

from __future__ import annotations

from typing import Any

from jupyter_llmops.records.gpu import DriverStatus

# By the name of pynvml's constant: NVML's return codes are documented in nvml.h, `nvmlReturn_t`.
_DRIVER: dict[str, tuple[DriverStatus, str]] = {
    "NVML_ERROR_LIBRARY_NOT_FOUND": (
        "missing",
        (
            "No NVIDIA driver on this machine (libnvidia-ml.so.1 was not found), so models run on the CPU. "
            "Where there is a GPU, install its driver; in a container, start it with the GPU (--gpus all)."
        ),
    ),
    "NVML_ERROR_DRIVER_NOT_LOADED": (
        "missing",
        (
            "The NVIDIA driver is installed but not loaded, so models run on the CPU. "
            "Load it with: sudo modprobe nvidia (or reboot)."
        ),
    ),
    "NVML_ERROR_LIB_RM_VERSION_MISMATCH": (
        "mismatched",
        (
            "The NVIDIA kernel module and library differ in version, usually after an update; "
            "reboot or reinstall the driver. Until then no GPU can be used."
        ),
    ),
    "NVML_ERROR_ARGUMENT_VERSION_MISMATCH": (
        "mismatched",
        "The NVIDIA driver and the package nvidia-ml-py differ in version; update both.",
    ),
    "NVML_ERROR_FUNCTION_NOT_FOUND": (
        "mismatched",
        "The NVIDIA driver is too old for the package nvidia-ml-py; update the driver.",
    ),
    "NVML_ERROR_NO_PERMISSION": (
        "refused",
        (
            "The NVIDIA driver refuses to answer this user; ask for access to /dev/nvidia* "
            "(often the group video or render)."
        ),
    ),
    "NVML_ERROR_OPERATING_SYSTEM": (
        "refused",
        "The operating system (or the container's device rules) keeps the NVIDIA driver from answering.",
    ),
    "NVML_ERROR_GPU_IS_LOST": (
        "error",
        "A GPU has fallen off the bus, and the NVIDIA driver does not answer; reboot this machine.",
    ),
    "NVML_ERROR_RESET_REQUIRED": ("error", "A GPU must be reset before the NVIDIA driver answers."),
    "NVML_ERROR_UNINITIALIZED": (
        "error",
        "The NVIDIA driver was shut down while it was being asked; type %gpus again.",
    ),
    "NVML_ERROR_NOT_SUPPORTED": (
        "error",
        "The NVIDIA driver does not support monitoring here, as on some virtual GPUs (vGPU).",
    ),
    "NVML_ERROR_IRQ_ISSUE": ("error", "A GPU's interrupts don't arrive; see dmesg, then reboot."),
    "NVML_ERROR_TIMEOUT": ("error", "The NVIDIA driver did not answer in time; type %gpus again."),
    "NVML_ERROR_INSUFFICIENT_POWER": ("error", "A GPU's external power cables are not attached."),
}

_METRIC: dict[str, str] = {
    "NVML_ERROR_NOT_SUPPORTED": "not supported by this GPU",
    "NVML_ERROR_FUNCTION_NOT_FOUND": "not known to this driver; a newer one may tell",
    "NVML_ERROR_NO_PERMISSION": "this user may not read it",
    "NVML_ERROR_OPERATING_SYSTEM": "the operating system refuses it",
    "NVML_ERROR_GPU_IS_LOST": "the GPU has fallen off the bus; reboot this machine",
    "NVML_ERROR_RESET_REQUIRED": "the GPU must be reset first",
    "NVML_ERROR_INSUFFICIENT_POWER": "the GPU's external power cables are not attached",
    "NVML_ERROR_CORRUPTED_INFOROM": "the GPU's infoROM is corrupted",
    "NVML_ERROR_IRQ_ISSUE": "the GPU's interrupts don't arrive; see dmesg",
    "NVML_ERROR_TIMEOUT": "the driver did not answer in time",
    "NVML_ERROR_UNINITIALIZED": "the driver was shut down while it was being asked",
    "NVML_ERROR_NOT_READY": "the driver is not ready yet",
    "NVML_ERROR_NO_DATA": "the driver has no data",
    "NVML_ERROR_IN_USE": "the GPU is held by another program",
}


def driver_fault(pynvml: Any, code: int) -> tuple[DriverStatus, str]:
    """Return the driver's status and a sentence for people, for an NVML error `code`."""
    known = _DRIVER.get(_constant(pynvml, code, _DRIVER))
    if known is not None:
        return known
    return "error", f"The NVIDIA driver answered with an error: {_words(pynvml, code)}."


def metric_fault(pynvml: Any, code: int, virtual: bool = False) -> str:
    """Return why one value is missing, as the end of a sentence, for an NVML error `code`."""
    name = _constant(pynvml, code, _METRIC)
    if virtual and name == "NVML_ERROR_NOT_SUPPORTED":
        return "not told by a virtual GPU (vGPU)"
    return _METRIC.get(name) or f"the driver answered: {_words(pynvml, code)}"


def _constant(pynvml: Any, code: int, names: dict[str, Any]) -> str:
    # An older pynvml lacks the newest constants, hence getattr.
    return next((name for name in names if getattr(pynvml, name, None) == code), "")


def _words(pynvml: Any, code: int) -> str:
    text = str(pynvml.NVMLError(code)).strip().rstrip(".")
    return f"{text} (NVML error {code})" if str(code) not in text else text
