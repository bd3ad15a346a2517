"""The measured grades of this machine, kept by this user and looked up for every record."""

from __future__ import annotations

import contextlib
import functools
import hashlib
import json
import os
import platform
from dataclasses import asdict
from datetime import datetime
from pathlib import Path
from typing import Any, Final

from jupyter_llmops.records.determinism import Determinism, Grade, Variation
from jupyter_llmops.records.request import InferenceRequest

FOLDER: Final = "determinism"
_SCHEMA: Final = "llmops.determinism/1"
# Instructions that decide which kernels compute.
_FLAGS: Final = (
    "avx2",
    "avx512f",
    "avx512_vnni",
    "avx512_bf16",
    "amx_bf16",
    "amx_int8",
    "asimd",
    "bf16",
    "sve",
)
_Key = tuple[str, str, str, str, str, str, bool, str]


class Grades:
    """Keeps what was measured and finds it again in microseconds.

    Parameters
    ----------
    folder : Path
        The user's own folder; its ``determinism`` holds one file for each measurement.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder / FOLDER
        self._known: dict[_Key, Determinism] = {}
        self._read_at: int | None = None

    def grade_of(self, request: InferenceRequest) -> Grade:
        """Return the grade of what answers a request on this machine; "" where nobody measured it."""
        found = self.find(request)
        return found.grade if found is not None else ""

    def find(self, request: InferenceRequest) -> Determinism | None:
        """Return what was measured of that which answers a request on this machine."""
        self._refresh()
        return self._known.get(
            (
                request.engine,
                request.engine_version,
                request.model_digest,
                request.adapter_digest,
                request.quantization,
                request.device,
                request.exact,
                machine(request.device),
            )
        )

    def keep(self, measured: Determinism) -> None:
        """Keep a measurement; it replaces an earlier one of the very same.

        Raises
        ------
        OSError
            The folder can't be written.
        """
        self._folder.mkdir(parents=True, exist_ok=True)
        name = hashlib.sha256(json.dumps(_key(measured)).encode()).hexdigest()[:32]
        draft = self._folder / f".{name}.{os.getpid()}.part"
        values = asdict(measured) | {"schema": _SCHEMA}
        values["measured_at"] = measured.measured_at.isoformat() if measured.measured_at else None
        draft.write_text(json.dumps(values, indent=1), encoding="utf-8")
        draft.replace(self._folder / f"{name}.json")
        self._read_at = None

    def all(self) -> list[Determinism]:
        """Return every measurement."""
        self._refresh()
        return list(self._known.values())

    def _refresh(self) -> None:
        try:
            changed = self._folder.stat().st_mtime_ns
        except OSError:
            self._known, self._read_at = {}, None
            return
        if changed == self._read_at:
            return
        found = [_read(path) for path in sorted(self._folder.glob("*.json"))]
        self._known = {_key(one): one for one in found if one is not None}
        self._read_at = changed


@functools.cache
def machine(device: str) -> str:
    """Return the processor or GPU with what of it decides an answer's last bits.

    Parameters
    ----------
    device : {"cpu", "cuda", ""}
        As in a request.
    """
    if device == "cuda":
        return _graphics()
    name, flags = platform.processor() or platform.machine(), set[str]()
    with contextlib.suppress(OSError):
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            word, _, value = line.partition(":")
            if word.strip() == "model name":
                name = value.strip()
            elif word.strip() in ("flags", "Features"):
                flags = set(value.split())
                break
    kernels = [flag for flag in _FLAGS if flag in flags]
    return f"{name} ({', '.join(kernels)})" if kernels else name


def _graphics() -> str:
    try:
        import pynvml

        pynvml.nvmlInit()
        name = pynvml.nvmlDeviceGetName(pynvml.nvmlDeviceGetHandleByIndex(0))
        return f"{name} (driver {pynvml.nvmlSystemGetDriverVersion()})"
    except Exception:  # noqa: BLE001 - another maker's GPU, or a driver that does not tell
        return "GPU"


def _key(measured: Determinism) -> _Key:
    return (
        measured.engine,
        measured.engine_version,
        measured.model_digest,
        measured.adapter_digest,
        measured.quantization,
        measured.device,
        measured.exact,
        measured.machine,
    )


def _read(path: Path) -> Determinism | None:
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if values.pop("schema") != _SCHEMA or values["grade"] not in ("bitwise", "same tokens", "none"):
            return None
        values["variations"] = tuple(Variation(**one) for one in values["variations"])
        at = values["measured_at"]
        values["measured_at"] = datetime.fromisoformat(at) if at else None
        return Determinism(**values)
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None  # damaged, or of another version: as if nobody had measured
