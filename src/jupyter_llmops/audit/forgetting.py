"""Deleting what runs said: the sidecars with the salts, after which the leaves' digests say nothing."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from jupyter_llmops.audit.deletions import RUNS_PER_LEAF, Deletions
from jupyter_llmops.audit.files import content_path, is_session_name, journal_path
from jupyter_llmops.audit.reading import complete_lines, list_journals, parse_run, read_runs
from jupyter_llmops.audit.scrubbing import delete_unfinished
from jupyter_llmops.audit.sealing import sealing
from jupyter_llmops.errors import AuditError
from jupyter_llmops.records.run import Run

_WORDS = (b'"kind":"forget"', b'"kind":"scrub"', b'"kind":"retention"')


def descendants(run: Run, runs: Iterable[Run]) -> list[Run]:
    """Return the runs that a run is the parent of, theirs, and the reproductions of any of them.

    Parameters
    ----------
    run : Run
        A cell, a map, a prompt, …
    runs : iterable of Run
        Those of its session, in any order.
    """
    below: dict[str, list[Run]] = {}
    for one in runs:
        above = {one.parent}
        if one.kind == "reproduction" and isinstance(of := (one.leaf or {}).get("of"), str):
            above.add(of)
        for name in above - {"", one.id}:
            below.setdefault(name, []).append(one)
    found: dict[str, Run] = {}
    waiting = [run.id]
    while waiting:
        for child in below.get(waiting.pop(), ()):
            if child.id not in found and child.id != run.id:
                found[child.id] = child
                waiting.append(child.id)
    return list(found.values())


def delete_contents(folder: Path, runs: Sequence[Run]) -> list[Run]:
    """Delete the content sidecars of runs, and any unfinished copy; return the runs that had one; safe to repeat.

    Raises
    ------
    AuditError
        A sidecar can't be deleted.
    """
    deleted = []
    folders: set[Path] = set()
    # The agent must not put a scrubbed content back that goes in this very moment.
    with sealing(Path(folder)):
        for run in with_content(folder, runs):
            path = content_path(Path(folder), run.session, run.seq)
            try:
                path.unlink()
            except (FileNotFoundError, NotADirectoryError):
                continue
            except OSError as error:
                raise AuditError(
                    f"The content of run {run.id} can't be deleted: {path}: {error.strerror}.",
                    "Make its folder writable for your user and type it again.",
                ) from error
            deleted.append(run)
            folders.add(path.parent)
        try:
            delete_unfinished(Path(folder))
        except OSError as error:
            raise AuditError(
                f"An unfinished copy of a content can't be deleted: {error.filename}: {error.strerror}.",
                "Make its folder writable for your user and type it again.",
            ) from error
    for place in folders:
        _sync(place)
    return deleted


def with_content(folder: Path, runs: Iterable[Run]) -> list[Run]:
    """Return the runs that have a content sidecar here."""
    own = without_strangers(folder, runs)
    return [
        run
        for run in own
        if is_session_name(run.session) and content_path(Path(folder), run.session, run.seq).exists()
    ]


def without_strangers(folder: Path, runs: Iterable[Run]) -> list[Run]:
    """Return the runs without those whose place in a journal of this folder holds another run.

    The catalog's rows may be planted: one that points at the record of another run would have that deleted.
    """
    known: dict[str, dict[int, str] | None] = {}
    found = []
    for run in runs:
        if run.session not in known:
            path = journal_path(Path(folder), run.session) if is_session_name(run.session) else None
            there = path is not None and path.exists()
            known[run.session] = {one.seq: one.id for one in read_runs(path)} if there and path else None
        ids = known[run.session]
        if ids is None or ids.get(run.seq) == run.id:
            found.append(run)
    return found


def forget_fields(runs: Sequence[Run], deleted: Sequence[str]) -> list[dict[str, Any]]:
    """Return the fields of the leaves that say that the contents of runs were deleted.

    Parameters
    ----------
    runs : sequence of Run
        Which; several leaves, where one could not hold them.
    deleted : sequence of str
        Where: "content", "catalog", "cache".
    """
    places = [{"of": run.id, "of_session": run.session, "of_seq": run.seq} for run in runs]
    parts = [places[start : start + RUNS_PER_LEAF] for start in range(0, len(places), RUNS_PER_LEAF)]
    return [{"runs": part, "deleted": list(deleted)} for part in parts]


def said_deletions(folder: Path) -> Deletions:
    """Return what the journals of an audit folder say was deleted."""
    found = Deletions()
    for path in list_journals(Path(folder)):
        try:
            lines = complete_lines(path.read_bytes())[0]
        except OSError as error:
            raise AuditError(
                f"The journal {path} can't be read: {error.strerror}.", "Make it readable for your user."
            ) from error
        # Canonical lines have this one spelling; parsing a million others would take half a minute.
        said = (
            parse_run(line, path.stem, number)
            for number, line in enumerate(lines)
            if any(word in line for word in _WORDS)
        )
        found.read(run.leaf for run in said if run is not None and _is_word(run.leaf))  # type: ignore[misc]
    return found


def _is_word(leaf: Mapping[str, Any] | None) -> bool:
    return leaf is not None and leaf.get("kind") in ("forget", "scrub", "retention")


def _sync(folder: Path) -> None:
    """Wait until a folder's deletions are on the disk; remove it where it is empty."""
    with contextlib.suppress(OSError):
        descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)
        folder.rmdir()  # fails where something is left
