"""How large and how old a shared cache may become: one small file in its folder, the same for everyone."""

from __future__ import annotations

import contextlib
import json
import os
import secrets
from pathlib import Path
from typing import Any, Final

from jupyter_llmops.errors import SettingsError
from jupyter_llmops.records.cache import CacheLimits
from jupyter_llmops.settings import parse_age, parse_size

LIMITS: Final = "limits.json"
_FORMAT: Final = "llmops-cache-limits/1"
_LARGEST_FILE: Final = 4096
_READ: Final = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC


def limits_of(size: str, age: str) -> CacheLimits:
    """Return the limits that two texts mean, such as "5GB" and "30d"; "off" is no limit.

    Raises
    ------
    SettingsError
        One of them can't be read.
    """
    return CacheLimits(parse_size(size), parse_age(age))


def read_limits(folder: Path, default: CacheLimits) -> CacheLimits:
    """Return the limits that hold in a cache's folder; `default` where nobody has set any there."""
    try:
        # Not blocking, as somebody may have put a pipe there that nobody writes to.
        with open(os.open(folder / LIMITS, _READ), "rb", buffering=0) as file:  # noqa: PTH123
            said: Any = json.loads(file.read(_LARGEST_FILE) or b"")
        if said["format"] != _FORMAT:
            return default
        return CacheLimits(_positive(said["size_bytes"], int), _positive(said["age_seconds"], float))
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return default


def write_limits(folder: Path, limits: CacheLimits) -> None:
    """Set the limits of a cache's folder, for everyone who uses it.

    Raises
    ------
    SettingsError
        The folder can't be written.
    """
    said = {"format": _FORMAT, "size_bytes": limits.size_bytes, "age_seconds": limits.age_seconds}
    unfinished = folder / f".{LIMITS}.{secrets.token_hex(8)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        unfinished.write_text(json.dumps(said), encoding="utf-8")
        unfinished.replace(folder / LIMITS)
    except OSError as error:
        raise SettingsError(
            f"The limits can't be written to {folder}: {error.strerror or error}.",
            "Ask whoever owns the folder, or make it writable.",
        ) from None
    finally:
        with contextlib.suppress(OSError):
            unfinished.unlink(missing_ok=True)


def _positive(value: Any, kind: type) -> Any:
    if value is None:
        return None
    if type(value) not in (int, float) or not value >= 0 or value > 2**63:
        raise ValueError("no limit")
    return kind(value)
