"""How much memory is free, how much is needed, and what to type when it is too little."""

from __future__ import annotations

import errno
from collections.abc import Iterable
from pathlib import Path

from jupyter_llmops.errors import ModelMemoryError
from jupyter_llmops.records.model import Model

_CGROUP = Path("/sys/fs/cgroup")
_SAYINGS = (
    "out of memory",
    "can't allocate memory",
    "cannot allocate memory",
    "not enough memory",
    "unable to allocate",
    "bad_alloc",
    "os error 12",
)


def is_out_of_memory(error: BaseException) -> bool:
    """Return whether an exception of any library means that memory ran out."""
    if isinstance(error, MemoryError) or type(error).__name__ == "OutOfMemoryError":
        return True
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return True
    said = str(error).lower()
    return isinstance(error, Exception) and any(saying in said for saying in _SAYINGS)


def free_bytes(device: str) -> int | None:
    """Return the free memory of the device, bytes; None where it can't be read.

    On the CPU the smaller of the host's available memory and what the container's limit
    leaves (cgroup v2).
    """
    try:
        if device == "cuda":
            import torch

            return int(torch.cuda.mem_get_info()[0])
        import psutil

        available = int(psutil.virtual_memory().available)
    except Exception:  # noqa: BLE001 - a platform that does not tell
        return None
    left = _container_left()
    return available if left is None else min(available, left)


def need_memory(needed: int, device: str, model: Model, doing: str) -> None:
    """Refuse before the operating system kills the kernel.

    Parameters
    ----------
    needed : int
        Bytes that it is going to take, roughly.
    device : {"cpu", "cuda"}
        Where.
    model : Model
        For the message.
    doing : str
        As the beginning of a sentence, e.g. "Loading".

    Raises
    ------
    ModelMemoryError
        More is needed than is free.
    """
    free = free_bytes(device)
    if free is not None and needed > free:
        raise memory_error(model, doing, device, needed=needed, free=free)


def memory_error(
    model: Model, doing: str, device: str, *, needed: int | None = None, free: int | None = None
) -> ModelMemoryError:
    """Return the one-line error: what is needed, what is free, what to type."""
    free = free_bytes(device) if free is None else free
    place = "GPU memory" if device == "cuda" else "memory"
    facts = [f"about {in_gib(needed)} needed"] if needed is not None else []
    facts += [f"{in_gib(free)} free"] if free is not None else []
    told = f" ({', '.join(facts)})" if facts else ""
    return ModelMemoryError(
        f"{doing} {model.name!r} needs more {place} than is free{told}.",
        "Type a smaller -n, --quant nf4, or %models unload to free other models.",
    )


def in_gib(size: int) -> str:
    """Return a size in GiB or MiB, for a sentence."""
    return f"{size / 2**30:.1f} GiB" if size >= 2**30 else f"{size / 2**20:.0f} MiB"


def weights_bytes(files: Iterable[Path]) -> int:
    """Return the size of the safetensors among the files, bytes."""
    return sum(path.stat().st_size for path in files if path.suffix == ".safetensors")


def _container_left() -> int | None:
    try:
        limit = (_CGROUP / "memory.max").read_text().strip()
        used = int((_CGROUP / "memory.current").read_text())
        stat = dict(line.split() for line in (_CGROUP / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    # Pages of files that the kernel may drop count as used there, but they are not lost to us.
    return None if limit == "max" else int(limit) - used + int(stat.get("inactive_file", 0))
