"""Up to where the journals were carried into a catalog, as the catalog acknowledged it to this user."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path
from typing import Final

_SCHEMA: Final = "llmops.carried/1"


class CarriedMemory:
    """A file that only saves work: without it, the catalog is asked what it holds.

    Parameters
    ----------
    path : Path
        The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self) -> dict[str, int]:
        """Return the last line that was acknowledged of each session; empty where nothing is known."""
        try:
            values = json.loads(self._path.read_bytes())
            if values["schema"] != _SCHEMA:
                return {}
            return {str(session): int(seq) for session, seq in values["sessions"].items()}
        except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError):
            return {}

    def keep(self, sessions: dict[str, int]) -> None:
        """Note up to where some sessions were acknowledged; a disk that refuses is no obstacle."""
        known = self.read()
        if all(known.get(session) == seq for session, seq in sessions.items()):
            return
        text = json.dumps({"schema": _SCHEMA, "sessions": known | sessions})
        unfinished = self._path.with_name(f".{self._path.name}.{os.urandom(4).hex()}")
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            try:
                descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    file.write(text)
                unfinished.replace(self._path)
            finally:
                unfinished.unlink(missing_ok=True)
