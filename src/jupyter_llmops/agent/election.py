"""Who is the agent of this host, this user and this catalog: whoever holds the lock."""

from __future__ import annotations

import hashlib
import socket
from pathlib import Path

from jupyter_llmops.location import Location


class Election:
    """The lock that the one agent holds; the system releases it when its process ends.

    Parameters
    ----------
    folder : Path
        The audit folder of this user.
    catalog : Location, Path or str
        Where the catalog lies.
    """

    def __init__(self, folder: Path, catalog: Location | Path | str) -> None:
        from filelock import FileLock

        self.path = agent_file(folder, catalog, "lock")
        # Not bound to a thread: the server acquires it in one and lets go in another.
        self._lock = FileLock(self.path, thread_local=False, mode=0o600)

    @property
    def log(self) -> Path:
        """Where an agent process writes what went wrong."""
        return self.path.with_suffix(".log")

    @property
    def holds(self) -> bool:
        """Whether this one is the agent."""
        return bool(self._lock.is_locked)

    def win(self) -> bool:
        """Become the agent, unless another one is; never waits.

        Raises
        ------
        OSError
            The lock can't be made there.
        """
        from filelock import Timeout

        self.path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            self._lock.acquire(timeout=0)
        except Timeout:
            return False
        return True

    def resign(self) -> None:
        """Let another become the agent."""
        self._lock.release(force=True)

    def is_vacant(self) -> bool:
        """Return whether there is no agent now."""
        if self.holds or not self.win():
            return False
        self.resign()
        return True


def agent_file(folder: Path, catalog: Location | Path | str, kind: str) -> Path:
    """Return where the agent of this host and a catalog keeps something of its own, e.g. its lock.

    Parameters
    ----------
    folder : Path
        The audit folder of this user.
    catalog : Location, Path or str
        Where the catalog lies.
    kind : str
        How the file's name ends.
    """
    digest = hashlib.sha256(str(Location.parse(catalog)).encode()).hexdigest()[:16]
    # The host is in the name because a home folder may be shared by many.
    return Path(folder) / "agent" / f"{socket.gethostname()}-{digest}.{kind}"
