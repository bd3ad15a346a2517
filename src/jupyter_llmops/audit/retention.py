"""Pruning: of sessions that ended before a limit only their signed heads are left."""

from __future__ import annotations

import base64
import re
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_llmops.audit.deletions import SESSIONS_PER_LEAF, Deletions
from jupyter_llmops.audit.files import (
    JOURNAL_SUFFIX,
    content_path,
    head_path,
    is_session_name,
    journal_path,
    running_path,
)
from jupyter_llmops.audit.head_links import HEADS_FILE, keep_links
from jupyter_llmops.audit.reading import list_journals, parse_run, read_runs
from jupyter_llmops.audit.scrubbing import delete_unfinished
from jupyter_llmops.audit.sealing import log_folder, read_head, seal, sealing
from jupyter_llmops.audit.sharing import SHARING_FOLDER
from jupyter_llmops.errors import AuditError, UsageError
from jupyter_llmops.records.deletion import PrunedSession
from jupyter_llmops.records.run import Run

if TYPE_CHECKING:
    from jupyter_llmops.keys.signing import LogKeys

_AGE = re.compile(
    r"\s*(\d{1,6})\s*(?:(y)(?:ears?)?|(w)(?:eeks?)?|(d)(?:ays?)?|(h)(?:ours?)?)\s*", re.IGNORECASE
)
_KEPT = ("checkpoint", HEADS_FILE)
_HOURS = {"y": 365 * 24, "w": 7 * 24, "d": 24, "h": 1}
# So long a session of another machine that has not ended may still have nothing to do, beyond the limit.
_SILENCE = timedelta(days=30)
_TAIL = 1 << 17  # two lines at least, as a line has 60,000 bytes at most


def parse_retention(age: str) -> timedelta:
    """Return how long sessions stay, e.g. of "1y", "26w", "90d" or "12h"; a year has 365 days.

    Raises
    ------
    UsageError
        It is no such age.
    """
    found = _AGE.fullmatch(age)
    hours = int(found[1]) * _HOURS[next(filter(None, found.groups()[1:])).lower()] if found else 0
    if not 0 < hours < 100 * _HOURS["y"]:
        raise UsageError(f"{age!r} is not an age.", "Give for example 1y, 26w, 90d or 12h.")
    return timedelta(hours=hours)


def sessions_before(
    folder: Path, before: datetime, keys: LogKeys, *, host: str, but: Iterable[str] = ()
) -> tuple[list[PrunedSession], list[str]]:
    """Return the sessions that ended before a moment, sealed to their last line, and notes on those that stay.

    Parameters
    ----------
    folder : Path
        The audit folder.
    before : datetime
        UTC.
    keys : LogKeys
        Seals what is not sealed yet: only the signed head is left.
    host : str
        This one, as leaves name it: of a session of another one nobody here sees whether it runs.
    but : iterable of str
        Sessions that stay: this one.
    """
    found: list[PrunedSession] = []
    notes: list[str] = []
    kept = set(but)
    for path in list_journals(folder):
        session = path.name.removesuffix(JOURNAL_SUFFIX)
        last = None if session in kept else _last_run(path, session)
        if last is None or (ended_at := last.started_at + timedelta(seconds=last.seconds)) >= before:
            continue
        if _is_alive(Path(folder), path, session, ended_at, host=host, before=before):
            notes.append(f"Session {session} stays: its process still runs, or may on another machine.")
            continue
        try:
            checkpoint = seal(Path(folder), session, keys)
            data = path.read_bytes()
        except (AuditError, OSError) as error:
            said = error.message if isinstance(error, AuditError) else error
            notes.append(f"Session {session} stays, as it does not verify: {said}")
            continue
        lines = data.split(b"\n")
        if checkpoint is None or lines[-1] or checkpoint.size != len(lines) - 1:
            notes.append(f"Session {session} stays, as it is not sealed to its end: type %audit verify.")
            continue
        head = sha256(lines[-2]).hexdigest()
        size_bytes = sum(_size(place) for place in (*_files(Path(folder), session), path))
        found.append(
            PrunedSession(
                session,
                checkpoint.size,
                _base64(checkpoint.root),
                head,
                ended_at,
                size_bytes,
                _kernel_of(parse_run(lines[0], session, 0)),
            )
        )
    return found, notes


def retention_fields(age: str, sessions: Sequence[PrunedSession]) -> list[dict[str, Any]]:
    """Return the fields of the leaves that say which sessions, with their links, are pruned."""
    rows = [
        {
            "session": one.session,
            "size": one.size,
            "root": one.root,
            "head": one.head,
            "kernel": one.kernel,
            "links": True,
        }
        for one in sessions
    ]
    parts = [rows[start : start + SESSIONS_PER_LEAF] for start in range(0, len(rows), SESSIONS_PER_LEAF)]
    return [{"age": age, "sessions": part} for part in parts]


def words_to_carry(folder: Path, sessions: Sequence[PrunedSession]) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield kind and fields of leaves that go and say what else was deleted: they must be said anew."""
    going = {one.session for one in sessions}
    for one in sessions:
        for run in read_runs(journal_path(Path(folder), one.session)):
            leaf = run.leaf or {}
            if run.kind not in ("forget", "scrub", "retention"):
                continue
            fields: dict[str, Any] = {
                name: leaf[name] for name in ("age", "deleted", "sessions") if name in leaf
            }
            if run.kind != "retention":
                runs = leaf.get("runs")
                fields["runs"] = [
                    place
                    for place in (runs if isinstance(runs, list) else [])
                    if isinstance(place, dict) and place.get("of_session") not in going
                ]
                if not fields["runs"]:
                    continue
            said = leaf.get("said_at") or leaf.get("started_at")
            yield run.kind, fields | {"said_at": said}


def with_links(
    folder: Path, sessions: Sequence[PrunedSession], published: Mapping[str, Iterable[int]]
) -> tuple[list[PrunedSession], list[str]]:
    """Write down how the published heads of sessions lead to the last; return those of which it could be, and notes.

    Parameters
    ----------
    folder : Path
        The audit folder.
    sessions : sequence of PrunedSession
        Which.
    published : mapping of session to sizes
        Of the heads that were published.

    Raises
    ------
    OSError
        It can't be written.
    """
    ready: list[PrunedSession] = []
    notes: list[str] = []
    with sealing(Path(folder)):
        for one in sessions:
            try:
                keep_links(folder, one.session, published.get(one.session, ()))
            except AuditError as error:
                notes.append(f"Session {one.session} stays, as it does not verify: {error.message}")
            else:
                ready.append(one)
    return ready, notes


def prune(folder: Path, sessions: Iterable[str]) -> None:
    """Delete journals, contents and tiles of sessions, all but their heads; safe to repeat.

    Raises
    ------
    AuditError
        Something can't be deleted.
    """
    folder = Path(folder)
    with sealing(folder):
        for session in sessions:
            try:
                for path in (journal_path(folder, session), *_files(folder, session)):
                    if path.is_dir():
                        shutil.rmtree(path)
                    else:
                        path.unlink(missing_ok=True)
                delete_unfinished(folder)
            except OSError as error:
                raise AuditError(
                    f"Session {session} can't be pruned: {error.filename}: {error.strerror}.",
                    "Make it writable for your user and type it again.",
                ) from error


def unfinished(folder: Path, said: Deletions) -> list[str]:
    """Return the sessions that were said to be pruned and of which something is left."""
    folder = Path(folder)
    return [
        session
        for session in said.pruned
        if is_session_name(session)
        and not journal_path(folder, session).exists()
        and any(path.exists() for path in _files(folder, session))
    ]


def _files(folder: Path, session: str) -> list[Path]:
    """Return what goes of a session besides its journal; not all of it need be there."""
    log = log_folder(folder, session)
    tiles = [path for path in log.glob("*") if path.name not in _KEPT] if log.is_dir() else []
    return [
        content_path(folder, session, 0).parent,
        *tiles,
        head_path(folder, session),
        running_path(folder, session),
        folder / SHARING_FOLDER / session,
    ]


def _kernel_of(first: Run | None) -> str:
    return str((first.leaf or {}).get("kernel") or "") if first is not None else ""


def _last_run(path: Path, session: str) -> Run | None:
    with path.open("rb") as file:
        size = file.seek(0, 2)
        file.seek(max(0, size - _TAIL))
        lines = file.read().split(b"\n")
    return parse_run(lines[-2], session, 0) if len(lines) > 1 else None


def _is_alive(
    folder: Path, path: Path, session: str, ended_at: datetime, *, host: str, before: datetime
) -> bool:
    """Return whether a session's process may still run: its head, its host and its process say."""
    head = read_head(folder, session)
    if head is not None and head.closed:
        return False
    first = next(read_runs(path), None)
    leaf = (first.leaf if first is not None else None) or {}
    if leaf.get("host") != host:
        # Machines may share a home, and the number of a process says nothing on another one.
        return ended_at >= before - _SILENCE
    pid = leaf.get("pid")
    if not isinstance(pid, int) or pid <= 0:
        return False
    import psutil

    try:
        # A process that began after the session's last line has only got the number of its process.
        return bool(psutil.Process(pid).create_time() < ended_at.timestamp() + 60)
    except psutil.Error:
        return False


def _size(path: Path) -> int:
    try:
        if path.is_dir():
            return sum(one.stat().st_size for one in path.rglob("*") if one.is_file())
        return path.stat().st_size
    except OSError:
        return 0


def _base64(data: bytes) -> str:
    return base64.b64encode(data).decode("ascii")


def moment_before(age: timedelta, now: datetime | None = None) -> datetime:
    """Return the moment before which sessions must have ended, to the second, UTC."""
    return ((now or datetime.now(UTC)) - age).replace(microsecond=0)
