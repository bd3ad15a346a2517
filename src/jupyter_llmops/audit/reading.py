"""Reading journals and content back; tolerant, as a reader must live beside a writer that may be killed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from jupyter_llmops.audit.files import JOURNAL_FOLDER, JOURNAL_SUFFIX, content_path, is_session_name
from jupyter_llmops.audit.leaf import CONTENT_SCHEMA, line_digest
from jupyter_llmops.errors import AuditError
from jupyter_llmops.records.run import LEAF_SCHEMAS, Run

_BLOCK = 1 << 16
_FORWARD_BLOCK = 1 << 20
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def list_journals(folder: Path) -> list[Path]:
    """Return the journals in an audit folder, the oldest session first."""
    return sorted((Path(folder) / JOURNAL_FOLDER).glob(f"*{JOURNAL_SUFFIX}"))


def complete_lines(data: bytes) -> tuple[list[bytes], bytes]:
    """Return a journal's whole lines without their newlines, and the unfinished rest.

    A writer that was killed may leave the beginning of a line; it was never acknowledged.
    """
    *lines, rest = data.split(b"\n")
    return lines, rest


def read_runs(path: Path, *, after: int = -1) -> Iterator[Run]:
    """Yield the runs of a journal in the order of their lines.

    A leaf of a newer schema is yielded with `read_only` set and its leaf as it is. A line that is
    no leaf at all is passed over: `verify` names it.

    Parameters
    ----------
    path : Path
        A journal.
    after : int
        Only lines with a larger number.

    Raises
    ------
    AuditError
        The file can't be read.
    """
    session = Path(path).name.removesuffix(JOURNAL_SUFFIX)
    try:
        for number, line in _lines_after(Path(path), after):
            run = parse_run(line, session, number)
            if run is not None:
                yield run
    except OSError as error:
        raise AuditError(
            f"The journal {path} can't be read: {error.strerror}.", "Make it readable for your user."
        ) from error


def _lines_after(path: Path, after: int) -> Iterator[tuple[int, bytes]]:
    """Yield the whole lines after one, numbered; of those before it little more is done than to count them."""
    number = 0
    parts: list[bytes] = []
    with path.open("rb", buffering=0) as file:
        left = os.fstat(file.fileno()).st_size  # what is added meanwhile is for the next reader
        while left > 0 and (data := file.read(min(_FORWARD_BLOCK, left))):
            left -= len(data)
            count = data.count(b"\n")
            if count and number + count - 1 <= after:
                parts = [data[data.rfind(b"\n") + 1 :]]
            elif count:
                *lines, rest = b"".join((*parts, data)).split(b"\n")
                parts = [rest]
                for place, line in enumerate(lines, number):
                    if place > after:
                        yield place, line
            else:
                parts.append(data)
            number += count


def read_newest(path: Path) -> Iterator[Run]:
    """Yield the runs of a journal from its end backwards, reading no more of it than is asked for.

    The number of a line is taken from its leaf, as nobody has counted the lines before it.

    Parameters
    ----------
    path : Path
        A journal.

    Raises
    ------
    AuditError
        The file can't be read.
    """
    session = Path(path).name.removesuffix(JOURNAL_SUFFIX)
    try:
        for line in _lines_backwards(Path(path)):
            run = parse_run(line, session, -1)
            seq = _number(run.leaf or {}, "seq") if run is not None else None
            if run is not None and seq is not None:
                yield replace(run, seq=seq)
    except OSError as error:
        raise AuditError(
            f"The journal {path} can't be read: {error.strerror}.", "Make it readable for your user."
        ) from error


def _lines_backwards(path: Path) -> Iterator[bytes]:
    """Yield the whole lines of a file, the last one first."""
    with path.open("rb") as file:
        end = file.seek(0, os.SEEK_END)
        rest, ended = b"", False
        while end:
            begin = max(0, end - _BLOCK)
            file.seek(begin)
            rest, *lines = (file.read(end - begin) + rest).split(b"\n")
            if lines and not ended:
                lines.pop()  # what follows the last newline is no line yet
                ended = True
            yield from reversed(lines)
            end = begin
        if ended:
            yield rest


def read_content(folder: Path, run: Run) -> dict[str, str] | None:
    """Return the redacted content of a run by name ("source", "request", "response").

    None when there is none or it was deleted.

    Parameters
    ----------
    folder : Path
        The audit folder.
    run : Run
        From `read_runs` or from the catalog.

    Raises
    ------
    AuditError
        The sidecar is there and can't be read or is damaged.
    """
    if not is_session_name(run.session):
        return None
    path = content_path(Path(folder), run.session, run.seq)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise AuditError(f"The content of run {run.id} can't be read: {path}: {error.strerror}.") from error
    if not data:
        return None
    try:
        values = json.loads(data)
        if values["schema"] == CONTENT_SCHEMA and values["id"] == run.id:
            return {str(name): str(text) for name, text in values["content"].items()}
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise AuditError(f"The content of run {run.id} is damaged: {path}.", "Type: %audit verify") from error
    raise AuditError(f"{path} does not hold the content of run {run.id}.", "Type: %audit verify")


def parse_run(line: bytes, session: str, number: int) -> Run | None:
    """Return the run of a journal line, None when the line is no leaf.

    Parameters
    ----------
    line : bytes
        Without its newline.
    session : str
        The journal that it stands in.
    number : int
        Which line it is, from 0.
    """
    try:
        leaf = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(leaf, dict):
        return None
    schema = leaf.get("schema")
    if not isinstance(schema, str) or not schema.startswith("llmops.leaf/"):
        return None
    status = leaf.get("status")
    return Run(
        id=_text(leaf, "id"),
        session=session,
        seq=number,
        kind=leaf["kind"] if isinstance(leaf.get("kind"), str) else "cell",
        status=status if status in ("ok", "error", "interrupted") else "error",
        started_at=_moment(leaf),
        seconds=(_number(leaf, "microseconds") or 0) / 1e6,
        user=_text(leaf, "user"),
        host=_text(leaf, "host"),
        notebook=_text(leaf, "notebook"),
        execution_count=_number(leaf, "execution_count"),
        parent=_text(leaf, "parent"),
        model=_text(leaf, "model"),
        source=_text(leaf, "source"),
        tokens_in=_number(leaf, "tokens_in"),
        tokens_out=_number(leaf, "tokens_out"),
        error_type=_text(leaf, "error_type"),
        leaf_digest="sha256:" + line_digest(line),
        leaf=leaf,
        read_only=schema not in LEAF_SCHEMAS,
    )


def _text(leaf: dict[str, Any], name: str) -> str:
    value = leaf.get(name)
    return value if isinstance(value, str) else ""


def _number(leaf: dict[str, Any], name: str) -> int | None:
    value = leaf.get(name)
    # A forged number beyond what RFC 8785 can write is no number: it must not stop who reads on.
    known = isinstance(value, int) and not isinstance(value, bool) and abs(value) < 2**53
    return value if known else None


def _moment(leaf: dict[str, Any]) -> datetime:
    try:
        moment = datetime.fromisoformat(leaf["started_at"])
    except (KeyError, TypeError, ValueError):
        return _EPOCH
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)
