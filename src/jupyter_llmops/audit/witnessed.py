"""What this user's witness key has signed, remembered here: the catalog could be made to forget it.

``audit/witnessed.json`` holds for each log of somebody else the largest head that was countersigned, and
what was refused. What came since is added to ``audit/witnessed.jsonl``, a line each time a log changes; a
line without its end was never acknowledged. Now and then both become the first, which is replaced as a whole.
"""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

from jupyter_llmops.audit.sealing import sealing
from jupyter_llmops.errors import AuditError
from jupyter_llmops.records.run import Problem

FILE: Final = "witnessed.json"
ADDED: Final = "witnessed.jsonl"
_SCHEMA: Final = "llmops.witnessed/1"
# Lines of so many bytes are read in some milliseconds; more of them go into the other file.
_MOST_ADDED_BYTES: Final = 1 << 20


@dataclass(frozen=True, slots=True)
class WitnessedLog:
    """What is known of one log of somebody else.

    Parameters
    ----------
    size : int
        How many leaves the largest countersigned head covers; 0 where none was countersigned.
    root : str
        Its root, base64.
    key : str
        The log's public key, hexadecimal: the first that signed it counts.
    user, host : str
        Whose it is, as the team's signers say.
    heads : str
        Fingerprint of the rows that the catalog had of it when it was looked at.
    line : str
        What the catalog shall hold of the cosignature while it has not taken it yet.
    problem : str
        Why no more of it is countersigned, a sentence; empty where all is well.
    since : str
        When that was found, ISO 8601 in UTC.
    doubt : bool
        The problem is that a proof lacks, which may still come.
    notes : tuple of str
        What others did to it, which is no fault of its owner: heads that another key signed.
    catalog : str
        In which catalog its heads were.
    """

    size: int = 0
    root: str = ""
    key: str = ""
    user: str = ""
    host: str = ""
    heads: str = ""
    line: str = ""
    problem: str = ""
    since: str = ""
    doubt: bool = False
    notes: tuple[str, ...] = ()
    catalog: str = ""


def read_witnessed(folder: Path) -> dict[str, WitnessedLog]:
    """Return what is remembered, by session.

    Parameters
    ----------
    folder : Path
        The audit folder.

    Raises
    ------
    AuditError
        The file is there and can't be read: who forgets what was signed must not sign anew.
    """
    # The lines first: they only go once the other file holds them.
    added = _read(Path(folder) / ADDED, lambda data: [json.loads(line) for line in data.splitlines()])
    known = _read(Path(folder) / FILE, lambda data: [json.loads(data)])
    return {session: log for logs in (*known, *added) for session, log in logs.items()}


def _read(path: Path, parse: Callable[[bytes], list[Any]]) -> list[dict[str, WitnessedLog]]:
    try:
        data = path.read_bytes()
        if path.name == ADDED:
            data = data[: data.rfind(b"\n") + 1]
        return [
            {str(session): _log(known) for session, known in values[_SCHEMA].items()}
            for values in parse(data)
        ]
    except FileNotFoundError:
        return []
    except (OSError, ValueError, TypeError, KeyError, AttributeError, RecursionError) as error:
        raise AuditError(
            f"What this user has witnessed can't be read from {path}: {error}.",
            f"Move {path} away to begin anew; the catalog still holds the cosignatures.",
        ) from None


def remember(folder: Path, logs: dict[str, WitnessedLog]) -> None:
    """Keep what is known of some logs; what another agent of this user knows of them is not forgotten.

    Raises
    ------
    AuditError
        What is there can't be read.
    OSError
        It can't be written; what was there is as it was.
    """
    folder = Path(folder)
    line = _text(logs).encode() + b"\n"
    with sealing(folder):
        descriptor = os.open(folder / ADDED, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
        with os.fdopen(descriptor, "r+b") as file:
            data = file.read()
            whole = data.rfind(b"\n") + 1
            file.truncate(whole)
            file.seek(whole)
            file.write(line)
            file.flush()
            os.fsync(file.fileno())
        if whole + len(line) > _MOST_ADDED_BYTES:
            _join(folder)


def _join(folder: Path) -> None:
    """Put what was added into the other file."""
    text = _text(dict(sorted(read_witnessed(folder).items())))
    path = folder / FILE
    unfinished = path.with_name(f".{FILE}.{os.urandom(4).hex()}")
    try:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
        (folder / ADDED).unlink()
    finally:
        unfinished.unlink(missing_ok=True)


def _text(logs: dict[str, WitnessedLog]) -> str:
    return json.dumps({_SCHEMA: {session: asdict(log) for session, log in logs.items()}})


def refusals(folder: Path) -> tuple[Problem, ...]:
    """Return what this user's witness refused to countersign, as problems of those sessions.

    Parameters
    ----------
    folder : Path
        The audit folder.

    Raises
    ------
    AuditError
        The file can't be read.
    """
    return tuple(
        Problem(session, None, "", sentence)
        for session, log in sorted(read_witnessed(folder).items())
        for sentence in (log.problem, *log.notes)
        if sentence
    )


def now() -> str:
    """Return the moment, ISO 8601 in UTC."""
    return datetime.now(UTC).isoformat(timespec="seconds")


def _log(values: dict[str, Any]) -> WitnessedLog:
    log = WitnessedLog(**{**values, "notes": tuple(values.get("notes", ()))})
    texts = (
        log.root, log.key, log.user, log.host, log.heads, log.line, log.problem, log.since, *log.notes,
        log.catalog,
    )  # fmt: skip
    if type(log.size) is not int or not all(isinstance(text, str) for text in texts):
        raise TypeError("a value of another type")
    return log
