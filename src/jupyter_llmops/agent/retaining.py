"""Retention: old sessions are pruned on the disk and in the catalog, and a leaf says so first."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_llmops.agent.election import agent_file
from jupyter_llmops.agent.head_checks import signed_by
from jupyter_llmops.agent.own_journal import AgentJournal
from jupyter_llmops.agent.pruned_heads import expect_heads
from jupyter_llmops.agent.published_heads import PublishedHeads
from jupyter_llmops.catalog import Catalog
from jupyter_llmops.errors import AuditError, CatalogError
from jupyter_llmops.records.deletion import PrunedSession, Retained

if TYPE_CHECKING:
    from jupyter_llmops.keys.signing import LogKeys

Stamp = Callable[[str, dict[str, Any]], bool]
SECONDS_BETWEEN_LOOKS = 6 * 3600.0


def retain(
    folder: Path, catalog: Catalog, age: str, *, keys: LogKeys, stamp: Stamp, own: str = "", yes: bool = False
) -> Retained:
    """Prune the sessions of this user that ended longer ago than `age`, or say which would go.

    Parameters
    ----------
    folder : Path
        The audit folder.
    catalog : Catalog
        Their rows are deleted here; their heads stay.
    age : str
        "1y", "90d", "12h".
    keys : LogKeys
        Signs the heads that are left.
    stamp : callable
        Writes a leaf of a kind with fields; returns whether it is on the disk.
    own : str
        The session of the caller, which stays.
    yes : bool
        Do it.

    Raises
    ------
    UsageError
        `age` is none.
    AuditError
        The word can't be written, or a file can't be deleted; typing it again goes on.
    CatalogError
        The catalog can't be written; what lies here is pruned, and typing it again does the rest.
    """
    from jupyter_llmops.audit.forgetting import said_deletions
    from jupyter_llmops.audit.retention import (
        moment_before,
        parse_retention,
        prune,
        retention_fields,
        sessions_before,
        unfinished,
        with_links,
        words_to_carry,
    )

    before = moment_before(parse_retention(age))
    sessions, notes = sessions_before(folder, before, keys, host=catalog.site, but=(own,))
    result = Retained(age, before, tuple(sessions), done=False, notes=tuple(notes))
    if not yes:
        return result
    said = said_deletions(folder)
    try:
        sessions, more = with_links(folder, sessions, _published(folder, catalog, sessions, keys))
    except OSError as error:
        raise AuditError(
            f"Nothing was pruned, as {error.filename} can't be written: {error.strerror}.",
            "Free space or make its folder writable, and type it again.",
        ) from error
    result = replace(result, sessions=tuple(sessions), notes=(*result.notes, *more))
    words = [("retention", fields) for fields in retention_fields(age, sessions)]
    # First: what was said is pruned by the next call, too, and a head that nobody expects would never be published.
    expect_heads(folder, sessions)
    agent = AgentJournal(folder, catalog)
    try:
        for kind, fields in [*words_to_carry(folder, sessions), *words]:
            # That content was scrubbed is the agent's word: in another's journal it counts for nothing.
            if not (agent.stamp if kind == "scrub" else stamp)(kind, fields):
                raise AuditError(
                    "Nothing was pruned, as that can't be recorded: the audit trail can't be written.",
                    "Free space or make its folder writable, and type it again.",
                )
    finally:
        agent.close()
    prune(folder, [*unfinished(folder, said), *(session.session for session in sessions)])
    pruned = [*said.pruned, *(session.session for session in sessions)]
    rows = 0
    if pruned:
        try:
            rows = catalog.pruning.prune(list(dict.fromkeys(pruned)), catalog.user)
        except CatalogError as error:
            raise CatalogError(
                f"The sessions are pruned here, but not yet in the catalog: {error.message}",
                f"Type it again when the catalog can be written: %audit retain {age} --yes",
            ) from error
    return replace(result, done=True, rows=rows)


def _published(
    folder: Path, catalog: Catalog, sessions: Iterable[PrunedSession], keys: LogKeys
) -> dict[str, set[int]]:
    """Return the sizes of published heads by session, as this home remembers them and the catalog has them.

    Only signed rows count: whoever plants others would choose what is linked, and signed again when it is lost.
    """
    sizes = PublishedHeads(agent_file(folder, catalog.location, "heads")).read()
    with contextlib.suppress(CatalogError):
        for head in catalog.heads.of(one.session for one in sessions):
            if signed_by(head, [keys.log_public]) is not None:
                sizes.setdefault(head.session, set()).add(head.size)
    return sizes


class Retention:
    """What the agent prunes by the setting ``LLMOps.retain``, a look every six hours; nothing without it.

    Parameters
    ----------
    folder, catalog
        As for `retain`.
    age : str
        The setting; empty for never.
    stamp : callable
        As for `retain`.
    """

    def __init__(self, folder: Path, catalog: Catalog, age: str, stamp: Stamp) -> None:
        self._folder = folder
        self._catalog = catalog
        self._age = age
        self._stamp = stamp
        self._next_look = 0.0

    def look(self, own: str = "") -> Retained | None:
        """Prune what is due; None where nothing is or the last look was not long ago."""
        now = time.monotonic()
        if not self._age or now < self._next_look:
            return None
        self._next_look = now + SECONDS_BETWEEN_LOOKS
        from jupyter_llmops.keys.signing import LogKeys, keys_folder

        keys = LogKeys.load(keys_folder())
        found = retain(self._folder, self._catalog, self._age, keys=keys, stamp=self._stamp, own=own)
        if not found.sessions:
            return None
        return retain(self._folder, self._catalog, self._age, keys=keys, stamp=self._stamp, own=own, yes=True)
