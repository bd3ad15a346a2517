"""From which line on a session shares what its runs say, and what of it is found by its words.

A file ``audit/sharing/<session>`` holds a line ``SEQ on`` or ``SEQ off`` for every change; without one
a session shares. It is written before the first line that it is about, so that whoever read a line
knows whether it may be shared.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

SHARING_FOLDER = "sharing"
# What is searched by its words; longer texts go on in the sidecar.
LONGEST_TEXT = 100_000
_LONGEST_TITLE = 200
_NO_WORDS = frozenset({"token_ids", "output_schema", "kept_items"})


def note_sharing(folder: Path, session: str, seq: int, *, shared: bool) -> None:
    """Note that a session's lines from `seq` on may be shared, or may not.

    Raises
    ------
    OSError
        It can't be written.
    """
    path = _path(folder, session)
    path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, f"{seq} {'on' if shared else 'off'}\n".encode())
    finally:
        os.close(descriptor)


def may_share(folder: Path, session: str, seq: int) -> bool:
    """Return whether what a session's line says may be shared; not where that can't be read.

    Parameters
    ----------
    folder : Path
        The audit folder.
    session : str
        The journal.
    seq : int
        The line.
    """
    try:
        lines = _path(folder, session).read_text(encoding="ascii").splitlines()
    except FileNotFoundError:
        return True
    except (OSError, ValueError):
        return False
    shared = True
    for line in lines:
        start, _, word = line.partition(" ")
        if not start.isdecimal() or word not in ("on", "off"):
            return False
        if int(start) <= seq:
            shared = word == "on"
    return shared


def searchable(content: Mapping[str, str]) -> tuple[str, str]:
    """Return the title (its first line) and the text under which a run is found; empty where it says nothing.

    Parameters
    ----------
    content : mapping
        A run's redacted texts by name. Of a prompt its messages and its answer count, not its template;
        of anything else all but tokens and schemas.
    """
    messages = [name for name in content if name.startswith("message.")]
    asked = [name for name in messages if not name.endswith(".system")] or messages
    if asked:
        names = [*asked, *(["response"] if "response" in content else [])]
    else:
        names = [name for name in sorted(content) if name not in _NO_WORDS]
    text = "\n\n".join(content[name] for name in names if content[name].strip())[:LONGEST_TEXT]
    text = text.encode("utf-8", "replace").decode()  # half a character is in no row
    title = next((line.strip() for line in text.splitlines() if line.strip()), "")
    return title[:_LONGEST_TITLE], text


def _path(folder: Path, session: str) -> Path:
    return Path(folder) / SHARING_FOLDER / session
