"""Who has a lease: what a process says of itself in the shared folder, and whether it still lives."""

from __future__ import annotations

import os
from dataclasses import dataclass
from functools import cache as once
from pathlib import Path
from typing import Any, Final

_LONGEST_NAME: Final = 80
_BIRTH_TOLERANCE: Final = 2.0


@dataclass(frozen=True, slots=True)
class Holder:
    """Who has a lease, as far as one can see.

    Parameters
    ----------
    name : str
        Name of this very taking, which no other has.
    beat : bytes
        What its process last wrote of itself; anything at all where somebody else wrote it.
    """

    name: str
    beat: bytes

    @property
    def who(self) -> str:
        """``user@host`` as the holder says it, fit to be shown."""
        said = str(self._said().get("who", ""))[:_LONGEST_NAME]
        return said if said.isprintable() and said.strip() else "Somebody"

    @property
    def dead(self) -> bool:
        """Whether it is a process of this machine that has ended."""
        said = self._said()
        pid, born = said.get("pid"), said.get("born")
        if said.get("machine") != machine() or type(pid) is not int or type(born) is not float:
            return False
        return not _lives(pid, born)

    def _said(self) -> dict[str, Any]:
        import json

        try:
            said = json.loads(self.beat)
        except (ValueError, RecursionError):
            return {}
        return said if isinstance(said, dict) else {}


def self_description(who: str) -> dict[str, Any]:
    """Return what a process says of itself, for `Holder` to read."""
    return {"who": who, "machine": machine(), "pid": os.getpid(), "born": _born_as(os.getpid())}


@once
def machine() -> str:
    """Return what tells this machine, boot and set of process numbers from others."""
    try:
        boot = Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()
        return f"{boot} {os.readlink('/proc/self/ns/pid')}"  # noqa: PTH115 - no path
    except OSError:
        import platform

        return platform.node()


@once
def _born_as(pid: int) -> float:
    import psutil

    return float(psutil.Process(pid).create_time())


def _lives(pid: int, born: float) -> bool:
    import psutil

    try:
        process = psutil.Process(pid)
        if abs(process.create_time() - born) > _BIRTH_TOLERANCE:
            return False
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False
    except (psutil.Error, ValueError, OverflowError):  # no number of a process: whoever planted it lives
        return True
