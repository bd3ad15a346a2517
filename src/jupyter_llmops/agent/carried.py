"""Up to where the journals were carried into a catalog, as the catalog acknowledged it to this user."""

from __future__ import annotations

import contextlib
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

_SCHEMA: Final = "llmops.carried/1"
_MOST_MENDED = 20


class CarriedMemory:
    """A file that saves work, and tells what the catalog has lost; without it, the catalog is asked what it holds.

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
            return {str(session): int(seq) for session, seq in self._values()["sessions"].items()}
        except (ValueError, TypeError, KeyError, AttributeError):
            return {}

    def mended(self) -> list[str]:
        """Return what the agent found to be missing in the catalog and carried again, a sentence each."""
        found = self._values().get("mended")
        return [one for one in found if isinstance(one, str)] if isinstance(found, list) else []

    def keep(self, sessions: dict[str, int]) -> None:
        """Note up to where some sessions were acknowledged; a disk that refuses is no obstacle."""
        known = self.read()
        if all(known.get(session) == seq for session, seq in sessions.items()):
            return
        self._write({"sessions": known | sessions, "mended": self.mended()})

    def note(self, sentence: str) -> None:
        """Note that something was carried again; the last ones are kept."""
        said = f"{datetime.now(UTC):%Y-%m-%d}: {sentence}"
        self._write({"sessions": self.read(), "mended": [*self.mended(), said][-_MOST_MENDED:]})

    def _values(self) -> dict[str, Any]:
        try:
            values = json.loads(self._path.read_bytes())
            return values if isinstance(values, dict) and values.get("schema") == _SCHEMA else {}
        except (OSError, ValueError, RecursionError):
            return {}

    def _write(self, values: dict[str, Any]) -> None:
        text = json.dumps({"schema": _SCHEMA, **values})
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
