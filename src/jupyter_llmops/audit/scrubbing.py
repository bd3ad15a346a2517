"""A content sidecar that is exchanged for one without its secrets, so that a kill leaves no copy that stays."""

from __future__ import annotations

import os
import secrets
from pathlib import Path

from jupyter_llmops.audit.files import content_path
from jupyter_llmops.audit.sealing import sealing

# Beside the folder of contents, where an unfinished file would be a stranger.
_UNFINISHED = ".scrub-"


def replace_content(folder: Path, session: str, seq: int, data: bytes) -> None:
    """Put other content in place of a record's, unless it was deleted meanwhile.

    Raises
    ------
    OSError
        The disk refuses; what was there is there still.
    AuditError
        Another process has been at the logs for a minute.
    """
    path = content_path(folder, session, seq)
    with sealing(folder):  # all of it: `delete_unfinished` must not take the file away
        partial = folder / f"{_UNFINISHED}{secrets.token_hex(6)}"
        try:
            descriptor = os.open(partial, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(file.fileno())
            if path.exists():
                partial.rename(path)
        finally:
            partial.unlink(missing_ok=True)


def delete_unfinished(folder: Path) -> None:
    """Delete what a kill left of `replace_content`; its run may be forgotten. Only while `sealing` is held.

    Raises
    ------
    OSError
        It can't be deleted.
    """
    for path in folder.glob(f"{_UNFINISHED}*"):
        path.unlink(missing_ok=True)
