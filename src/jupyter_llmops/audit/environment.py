"""What cells ran on: Python, system, processor, GPUs, packages and the variables that matter.

This changes seldom, so it is a leaf of its own (kind "environment") and not a part of each cell's: it
holds for every leaf after it until the next one, and a session's first holds from the beginning.
"""

from __future__ import annotations

import atexit
import hashlib
import os
import platform
import re
import sys
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from importlib import import_module
from pathlib import Path
from typing import Any

from jupyter_llmops.audit.journal import Journal

START_SECONDS = 0.25
QUIET_SECONDS = 60.0

# By name only, as any other variable may hold something private; the values are redacted, too.
_NAMES = (
    "PYTHONHASHSEED PYTHONPATH PYTHONOPTIMIZE PYTHONUTF8 VIRTUAL_ENV CONDA_DEFAULT_ENV CONDA_PREFIX "
    "LANG LC_ALL TZ LD_LIBRARY_PATH LD_PRELOAD DYLD_LIBRARY_PATH SOURCE_DATE_EPOCH "
    "TOKENIZERS_PARALLELISM HF_HUB_OFFLINE TRANSFORMERS_OFFLINE HF_DATASETS_OFFLINE HF_HOME "
    "WORLD_SIZE RANK LOCAL_RANK LOCAL_WORLD_SIZE MASTER_ADDR MASTER_PORT SLURM_JOB_ID SLURM_PROCID "
    "TF_DETERMINISTIC_OPS TF_CUDNN_DETERMINISTIC TF_ENABLE_ONEDNN_OPTS TF_XLA_FLAGS "
    "TF_NUM_INTRAOP_THREADS TF_NUM_INTEROP_THREADS XLA_FLAGS LLMOPS_HOME LLMOPS_SNAPSHOT"
)
_VARIABLES = frozenset(_NAMES.split())
_PREFIXES = (
    "OMP_", "MKL_", "OPENBLAS_", "NUMEXPR_", "BLIS_", "VECLIB_", "KMP_", "GOMP_", "CUDA_", "CUBLAS_", "CUDNN_",
    "NVIDIA_", "NCCL_", "TORCH_", "PYTORCH_", "JAX_", "ROCR_", "HIP_",
)  # fmt: skip
_LONGEST_VALUE = 1000
_FLAGS_KEPT = re.compile(r"sse4_2|avx\w*|fma|f16c|bmi2|amx\w*|asimd\w*|sve\w*|neon|bf16|i8mm|popcnt")
_DISTRIBUTION = re.compile(
    r"(?P<name>[A-Za-z0-9._]+)-(?P<version>[^-]+)(?:-py[0-9.]+)?\.(?:dist|egg)-info", re.IGNORECASE
)
# What a cell that installs packages or alters the process most often has in its source.
_ALTERS = ("install", "pip", "conda", "env", "num_threads", "seterr", "import", "sys.path")


class EnvironmentWatch:
    """Stamps what a session runs on, from a thread of its own, again whenever it has changed.

    Parameters
    ----------
    journal : Journal
        Where to; the same that has the cells.
    devices : callable
        Returns the GPUs and their driver as JSON values; it may take its time and may raise.
    """

    def __init__(self, journal: Journal, devices: Callable[[], Mapping[str, Any]] = dict) -> None:
        self._journal = journal
        self._devices = devices
        self._found_devices: Mapping[str, Any] | None = None
        self._places: tuple[tuple[str, int], ...] = ()
        self._packages: tuple[str, ...] = ()
        self._stamped: Mapping[str, Any] | None = None
        self._wake = threading.Event()
        self._stop = threading.Event()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._looked_at = 0.0
        self._after = 0
        self._process = os.getpid()

    def start(self) -> None:
        """Stamp soon, and from then on whenever `cell_ended` gives a reason to look."""
        if self._thread is not None and not self._stop.is_set():
            return
        self._stop = threading.Event()
        # Registered after the journal's own, so called before it: a short session has its leaf, too.
        atexit.register(self.stop)
        self._looked_at = time.monotonic()
        self._wake.set()
        self._thread = threading.Thread(
            target=self._keep, args=(self._stop,), name="llmops-environment", daemon=True
        )
        self._thread.start()

    def stop(self) -> None:
        """Look no more; what was never stamped is stamped now."""
        atexit.unregister(self.stop)
        self._stop.set()
        self._wake.set()
        if os.getpid() == self._process and self._stamped is None and self._journal.stamped:
            self.look()

    def cell_ended(self, source: str) -> None:
        """Have the thread look again if the cell may have changed something, or after a minute; 1 µs."""
        now = time.monotonic()
        if now - self._looked_at > QUIET_SECONDS or any(word in source for word in _ALTERS):
            self._looked_at = now
            self._after = self._journal.stamped - 1
            self._wake.set()

    def look(self) -> bool:
        """Stamp the environment if it is another one than before; return whether it was."""
        with self._lock:
            if self._found_devices is None:
                try:
                    self._found_devices = dict(self._devices())
                except Exception as error:  # noqa: BLE001 - a driver may fail in any way
                    self._found_devices = {"problem": type(error).__name__}
            places = _places()
            if places != self._places:
                self._places, self._packages = places, installed_packages()
            fields = {**environment_fields(self._packages), "devices": self._found_devices}
            if fields == self._stamped:
                return False
            first = self._stamped is None
            self._stamped = fields
            self._journal.stamp(
                "environment",
                fields=fields if first else {**fields, "after": self._after},
                content={"packages": "\n".join(self._packages)},
            )
            return True

    def _keep(self, stop: threading.Event) -> None:
        while not stop.is_set():
            self._wake.wait()
            if stop.wait(START_SECONDS):
                return
            self._wake.clear()
            try:
                make_ready()
                self.look()
            except Exception as error:  # noqa: BLE001 - a session without this leaf is better than none
                self._journal.complain(
                    f"The environment could not be stamped: {type(error).__name__}: {error}"
                )


def make_ready() -> None:
    """Load what a leaf needs of libraries that are loaded themselves, so that no cell waits for it."""
    from jupyter_llmops.audit.values.writer import learn_loaded

    for module in ("orjson", "symtable"):
        import_module(module)
    learn_loaded()


def environment_fields(packages: tuple[str, ...]) -> dict[str, Any]:
    """Return what this process runs on, by field of the leaf.

    Parameters
    ----------
    packages : tuple of str
        From `installed_packages`. The leaf has their unsalted digest, so that sessions can be compared:
        names and versions are no secret.
    """
    flags = _cpu_flags()
    return {
        "python": platform.python_version(),
        "implementation": f"{sys.implementation.name} {platform.python_build()[0]} {platform.python_compiler()}",
        "executable": sys.executable or "",
        "os": _system(),
        "cpu": _cpu_name(),
        "cpu_flags": [flag for flag in flags if _FLAGS_KEPT.fullmatch(flag)],
        "cpu_flags_digest": _digest(" ".join(flags)),
        "threads": _threads(),
        "packages": _digest("\n".join(packages)),
        "packages_count": len(packages),
        "variables": _variables(os.environ),
    }


def installed_packages() -> tuple[str, ...]:
    """Return ``name==version`` of every distribution on `sys.path`, sorted.

    Read from the names of their folders alone: the metadata of 300 packages takes 0.2 s to read.
    """
    found: dict[str, str] = {}
    for place in sys.path:
        try:
            names = os.listdir(place or ".")  # noqa: PTH208 - a Path for each of a thousand names is slow
        except OSError:
            continue
        for name in names:
            match = _DISTRIBUTION.fullmatch(name) if name.endswith("-info") else None
            if match:
                # Of two the first on the path counts, as for import.
                found.setdefault(re.sub(r"[-_.]+", "-", match["name"]).lower(), match["version"])
    return tuple(sorted(f"{name}=={version}" for name, version in found.items()))


def _places() -> tuple[tuple[str, int], ...]:
    """Return the folders on the path with the time of their last change: installing changes one."""
    return tuple(_dated())


def _dated() -> Iterator[tuple[str, int]]:
    for place in tuple(sys.path):
        try:
            yield str(place), os.stat(place or ".").st_mtime_ns  # noqa: PTH116 - as above
        except (OSError, TypeError, ValueError):
            continue


def _digest(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogateescape")).hexdigest()


def _system() -> str:
    libc = " ".join(part for part in platform.libc_ver() if part)
    return f"{platform.platform()} {libc}".strip()


def _cpuinfo() -> Iterator[tuple[str, str]]:
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8", "replace")
    except OSError:
        return
    for line in text.partition("\n\n")[0].splitlines():
        key, _, value = line.partition(":")
        yield key.strip().lower(), " ".join(value.split())


def _cpu_name() -> str:
    named = next((value for key, value in _cpuinfo() if key in {"model name", "cpu model"} and value), "")
    return named or platform.processor() or platform.machine()


def _cpu_flags() -> list[str]:
    return sorted(next((value.split() for key, value in _cpuinfo() if key in {"flags", "features"}), []))


def _threads() -> dict[str, int]:
    counts = {"cpus": os.cpu_count() or 0}
    if hasattr(os, "sched_getaffinity"):
        counts["usable"] = len(os.sched_getaffinity(0))
    torch = sys.modules.get("torch")
    if torch is not None and hasattr(torch, "get_num_threads"):  # it may be half imported
        counts["torch"] = int(torch.get_num_threads())
    return counts


def _variables(environ: Mapping[str, str]) -> dict[str, str]:
    return {
        name: value[:_LONGEST_VALUE]
        for name, value in sorted(environ.items())
        if name in _VARIABLES or name.startswith(_PREFIXES)
    }
