"""Who and where: what a journal's first leaf says of its session."""

from __future__ import annotations

import os
import platform
import re
import stat
import sys
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import jupyter_llmops
from jupyter_llmops.audit.leaf import instant

_MARK = re.compile(r"k[0-9a-f]{16}", re.ASCII)

Role = Literal["kernel", "agent", "server"]
"""Which process a session is: one that runs cells, or one that carries, seals and observes."""


def new_session_name(folder: Path | None = None, now: datetime | None = None) -> str:
    """Return a name that sorts by time and is unique, e.g. ``20261103T101502Z-5f0c2a9e-k0123456789abcdef``.

    Parameters
    ----------
    folder : Path, optional
        The audit folder. The name ends with the mark of the key of its logs, see `keys.signing`, which the first
        session of a home makes: so nobody can claim any log under another key. Where it can't, the name has no mark.
    now : datetime, optional
        The moment.
    """
    moment = now or datetime.now(UTC)
    name = f"{moment.astimezone(UTC):%Y%m%dT%H%M%SZ}-{os.urandom(4).hex()}"
    mark = _key_mark(folder) if folder is not None else ""
    return f"{name}-{mark}" if mark else name


def _key_mark(folder: Path) -> str:
    # Read without keys.signing, which would cost each kernel's start tens of milliseconds.
    keys = folder.parent / "keys"
    try:
        mark, moment, *_ = _read_id(keys / "log.id").split()
        if int(moment) == (keys / "log.key").stat().st_mtime_ns and _MARK.fullmatch(mark):
            return mark
    except (OSError, ValueError):
        pass
    return _first_mark(keys)


def _read_id(path: Path) -> str:
    """Return what is written down of a key, with the care of `keys.signing`: nothing of a link or others' file."""
    descriptor = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        mode = os.fstat(descriptor).st_mode
        trusted = stat.S_ISREG(mode) and not mode & 0o022
        return os.read(descriptor, 4096).decode("ascii") if trusted else ""
    finally:
        os.close(descriptor)


def _first_mark(keys: Path) -> str:
    """Return the mark of a home's key of which nothing is written down, and which is made where it is missing."""
    from jupyter_llmops.settings import user_folder  # brings traitlets

    if keys.parent != user_folder():
        return ""  # what signs there is not known
    present = os.path.lexists(keys / "log.key")
    # Asked first, as each kernel of a home that can't be written would load what makes keys in vain.
    place = next((one for one in (keys, *keys.parents) if os.path.lexists(one)), keys)
    if not os.access(keys / "log.key", os.R_OK) if present else not os.access(place, os.W_OK | os.X_OK):
        return ""
    try:
        from jupyter_llmops.keys.signing import log_mark

        return log_mark(keys)
    except Exception:  # noqa: BLE001 - cells run without keys; the agent says why there are none
        return ""


def session_fields(role: Role = "kernel") -> dict[str, Any]:
    """Return what a session's leaf says of its process: role, Python, platform, versions, kernel, notebook."""
    system = os.uname() if hasattr(os, "uname") else None
    return _process_start() | {
        "role": role,
        "pid": os.getpid(),
        "python": platform.python_version(),
        "implementation": sys.implementation.name,
        "platform": f"{sys.platform} {system.release} {system.machine}" if system else sys.platform,
        "version": jupyter_llmops.__version__,
        "kernel": kernel_id(),
        "notebook": os.environ.get("JPY_SESSION_NAME", ""),
    }


def _process_start() -> dict[str, str]:
    # Every kernel has loaded psutil; in a terminal it would cost 10 ms.
    psutil = sys.modules.get("psutil")
    try:
        began = datetime.fromtimestamp(psutil.Process().create_time(), UTC) if psutil else None
    except Exception:  # noqa: BLE001 - a process that may not look at itself
        began = None
    return {"process_started_at": instant(began)} if began else {}


def kernel_id() -> str:
    """Return the id that Jupyter gave this kernel, empty outside of a kernel."""
    # Only asks where ipykernel is loaded already: importing it would cost 100 ms in a terminal.
    connect = sys.modules.get("ipykernel.connect")
    if connect is None:
        return ""
    try:
        name = Path(connect.get_connection_file()).stem
    except Exception:  # noqa: BLE001 - no kernel application in this process
        return ""
    return name.removeprefix("kernel-")
