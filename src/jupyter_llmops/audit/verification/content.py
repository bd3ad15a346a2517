"""Checking the content sidecars of a session against the digests in its leaves."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

from jupyter_llmops.audit.files import content_path
from jupyter_llmops.audit.leaf import content_digest, sidecar_bytes
from jupyter_llmops.audit.verification.findings import Findings


class ContentCheck:
    """The sidecars of one session; its folder is listed once.

    Parameters
    ----------
    folder : Path
        The audit folder.
    session : str
        Name of the session.
    findings : Findings
        Gets what does not fit.
    """

    def __init__(self, folder: Path, session: str, findings: Findings) -> None:
        self._folder = folder
        self._session = session
        self._findings = findings
        self._place = content_path(folder, session, 0).parent
        self._names = _names(self._place)
        self._checked: set[int] = set()
        # Records whose content is gone, or is not what their digests say: a later record may explain it.
        self.deleted: list[tuple[int, str]] = []
        self.changed: list[tuple[int, str, str, dict[str, str]]] = []

    def check(self, number: int, run_id: str, digests: dict[str, Any]) -> None:
        """Compare the sidecar of a record with its digests."""
        name = f"{number}.json"
        # It may be younger than the list of names, where the writer is alive.
        if name not in self._names and not (self._place / name).exists():
            self.deleted.append((number, run_id))
            return
        self._checked.add(number)
        try:
            data = (self._place / name).read_bytes()
        except FileNotFoundError:
            data = b""
        except OSError as error:
            self._findings.problem(
                self._session, number, run_id, f"its content can't be read: {error.strerror}"
            )
            return
        if not data:  # deleted, or emptied by a loss of power
            self.deleted.append((number, run_id))
            return
        try:
            values = json.loads(data)
            salt, content = values["salt"], values["content"]
            # A salt in capitals has the same digests.
            whole = salt == bytes.fromhex(salt).hex()
            whole = whole and sidecar_bytes(self._session, number, run_id, salt, content) == data
            found = {name: content_digest(salt, name, text) for name, text in content.items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            whole, found = False, {}
        if found != digests:
            changed = sorted(name for name in {*found, *digests} if found.get(name) != digests.get(name))
            said = f"its content was changed ({', '.join(changed)})"
            self.changed.append((number, run_id, said, found if whole else {}))
        elif not whole:
            self._findings.problem(self._session, number, run_id, "its content's file was changed")

    def check_strangers(self, count: int, *, closed: bool) -> None:
        """Name the files that belong to no record; those for the records after the last are what a kill leaves.

        Older versions wrote all content that waited for the disk, and then the lines.

        Parameters
        ----------
        count : int
            How many records the journal has.
        closed : bool
            Whether its head says that it ended in order, or there is none: a kill leaves it open.
        """
        left = count
        while f"{left}.json" in self._names and (left == count or not closed):
            left += 1
        if left > count + 1:
            self._findings.notes.append(
                f"session {self._session}: its process was stopped while records waited for the disk: there is "
                f"content of {left - count} records ({count} to {left - 1}) that were not written"
            )
        for name in sorted(self._names):
            stem = name.removesuffix(".json")
            known = name.endswith(".json") and stem.isdecimal() and str(int(stem)) == stem
            seq = int(stem) if known else None
            if seq is None or (seq not in self._checked and not count <= seq < left):
                self._findings.problem(self._session, seq, "", f"{name} is content that belongs to no record")


def _names(folder: Path) -> frozenset[str]:
    try:
        with os.scandir(folder) as entries:
            return frozenset(entry.name for entry in entries)
    except OSError:
        return frozenset()
