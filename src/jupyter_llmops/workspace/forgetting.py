"""Forgetting what runs said, pruning old sessions, and not sharing what runs say."""

from __future__ import annotations

import contextlib
import warnings
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from jupyter_llmops.errors import AuditError, CatalogError, LLMOpsError, UsageError
from jupyter_llmops.workspace.parts import TrailWarning
from jupyter_llmops.workspace.trail import Trail

if TYPE_CHECKING:
    from jupyter_llmops.audit.journal import Journal
    from jupyter_llmops.records.deletion import Forgotten, Retained
    from jupyter_llmops.records.run import Run

_MOST_CHILDREN = 1_000_000
_AUDIT_OFF = "Type %config LLMOps.audit = True: what is deleted must be recorded."


class Forgetting(Trail):
    """What a workspace deletes of the trail."""

    @cached_property
    def journal(self) -> Journal:
        """The journal of this session; whether it may be shared is noted before its first line."""
        journal: Journal = super().journal
        if not self.settings.share_content:
            self._note_sharing(journal, shared=False)
        self.settings.observe(self._sharing_changed, "share_content")
        return journal

    def _sharing_changed(self, change: Any) -> None:
        journal = self.__dict__.get("journal")
        if journal is not None:
            self._note_sharing(journal, shared=change["new"])

    def _note_sharing(self, journal: Journal, *, shared: bool) -> None:
        from jupyter_llmops.audit.sharing import note_sharing

        try:
            note_sharing(self.audit_folder, journal.session, journal.stamped, shared=shared)
        except OSError as error:
            warnings.warn(
                f"That {'this' if shared else 'nothing'} is shared can't be noted in {self.audit_folder}: "
                f"{error.strerror}; make it writable and set LLMOps.share_content again.",
                TrailWarning,
                stacklevel=2,
            )

    def forget(self, reference: object = "", *, yes: bool = False, children: bool = True) -> Forgotten:
        """Delete what a run said, everywhere: its content and salts, its row and vectors in the catalog, its stored answer.

        The leaf stays, with digests that say nothing any more, so the log still verifies; a leaf of
        kind "forget" says who deleted what and when. Doing it again is harmless and finishes what was interrupted.

        Parameters
        ----------
        reference : str, int or Completion
            As in `run`.
        yes : bool
            Do it; otherwise only what would go is returned.
        children : bool
            Also what it is the parent of: a cell's prompts, a map's rows, reproductions.

        Raises
        ------
        UnknownNameError
            Nothing fits.
        UsageError
            It is another user's run, or the trail is off.
        CatalogError
            The catalog can't be written; what lies here is deleted, and typing it again does the rest.
        """
        from jupyter_llmops.audit.forgetting import with_content
        from jupyter_llmops.cache.forgetting import item_files
        from jupyter_llmops.records.deletion import Forgotten

        run = self.run(reference)
        if run.user != self.user:
            raise UsageError(
                f"Run {run.id} is {run.user or 'nobody'}'s: only they can forget it.",
                f"Ask them to type: %audit forget {run.id[:8]} --yes",
            )
        if yes and not self.settings.audit:
            raise UsageError("Nothing was forgotten, as the audit trail is off.", _AUDIT_OFF)
        self.journal.flush()
        runs = self._with_ratings([run, *(self._below(run) if children else ())])
        items = self._items_of(runs)
        if yes:
            return self._forget(runs, items)
        return Forgotten(
            run.id,
            tuple(one.id for one in runs),
            done=False,
            contents=len(with_content(self.audit_folder, runs)),
            rows=self._rows_of(runs),
            cache_items=sum(len(item_files(self.cache.store, item)) for item in items),
            notes=self._also(run, runs),
        )

    def retain(self, age: str, *, yes: bool = False) -> Retained:
        """Prune the sessions that ended longer ago than `age` down to their signed heads, here and in the catalog.

        A leaf of kind "retention" names each session with its size and root first, so `%audit verify`
        knows that it was pruned, by whom and when. This session stays, and so does one that still
        runs or does not verify.

        Parameters
        ----------
        age : str
            "1y", "26w", "90d", "12h".
        yes : bool
            Do it; otherwise only what would go is returned.

        Raises
        ------
        UsageError
            `age` is none, or the trail is off.
        AuditError
            A file can't be deleted, or the word can't be written; typing it again goes on.
        CatalogError
            The catalog can't be written; what lies here is pruned, and typing it again does the rest.
        """
        from jupyter_llmops.agent.retaining import retain
        from jupyter_llmops.keys.signing import LogKeys, keys_folder

        if yes and not self.settings.audit:
            raise UsageError("Nothing was pruned, as the audit trail is off.", _AUDIT_OFF)
        if yes:
            self._flush_or_warn()
        try:
            return retain(
                self.audit_folder,
                self.catalog,
                str(age),
                keys=LogKeys.load(keys_folder()),
                stamp=self._stamp_word,
                own=self.journal.session,
                yes=yes,
            )
        except OSError as error:
            raise AuditError(
                f"Pruning stopped, as {error.filename or self.audit_folder} can't be written: {error.strerror}.",
                "Free space or make it writable, and type it again: it goes on.",
            ) from error

    def _stamp_word(self, kind: str, fields: dict[str, Any]) -> bool:
        self.stamp(kind, started_at=datetime.now(UTC), seconds=0.0, fields=fields, content={})
        return self.journal.flush()

    def _forget(self, runs: Sequence[Run], items: Sequence[str]) -> Forgotten:
        from jupyter_llmops.audit.files import is_session_name
        from jupyter_llmops.audit.forgetting import (
            delete_contents,
            forget_fields,
            said_deletions,
            without_strangers,
        )
        from jupyter_llmops.cache.forgetting import forget_item
        from jupyter_llmops.records.deletion import Forgotten

        # The stored answer first: which one it is can only be told from the content.
        cached = sum(forget_item(self.cache.store, item) for item in items)
        contents = delete_contents(self.audit_folder, runs)
        refusal: CatalogError | None = None
        rows = 0
        try:
            rows = self.catalog.contents.forget([run.id for run in runs])
        except CatalogError as error:
            refusal = error
        said = said_deletions(self.audit_folder).forgotten
        unsaid = [
            run
            for run in without_strangers(self.audit_folder, runs)
            if (run.session, run.seq) not in said and is_session_name(run.session)
        ]
        what = (("content", contents), ("catalog", rows), ("cache", cached))
        for fields in forget_fields(unsaid, [name for name, count in what if count]):
            if refusal is not None:
                fields["waits"] = ["catalog"]  # the agent goes on with it
            self.stamp("forget", started_at=datetime.now(UTC), seconds=0.0, fields=fields, content={})
        self.journal.flush()
        if refusal is not None:
            raise CatalogError(
                f"What run {runs[0].id} said is deleted here, but not yet in the catalog: {refusal.message}",
                f"The agent does it when the catalog can be written; or type it again then: "
                f"%audit forget {runs[0].id[:8]} --yes",
            ) from refusal
        return Forgotten(
            runs[0].id,
            tuple(run.id for run in runs),
            done=True,
            contents=len(contents),
            rows=rows,
            cache_items=cached,
            notes=self._also(runs[0], runs),
        )

    def _below(self, run: Run) -> list[Run]:
        from jupyter_llmops.audit.forgetting import descendants

        if self._is_here(run):
            return descendants(run, self._session_runs(run))
        # Its journal lies on another host: only the catalog knows, and holds, what ran within it.
        found: dict[str, Run] = {}
        waiting = [run.id]
        while waiting:
            for child in self.catalog.run_search.children(waiting.pop(), _MOST_CHILDREN):
                if child.id not in found and child.user == self.user:
                    found[child.id] = child
                    waiting.append(child.id)
        return list(found.values())

    def _with_ratings(self, runs: Sequence[Run]) -> list[Run]:
        """Return runs and this user's ratings of them: why one was rated may repeat what it said."""
        known = {run.id for run in runs}
        try:
            rated = {one.id: one for one in self.runs(_MOST_CHILDREN, kind="rating")}
        except CatalogError:
            rated = {}
        rated |= {one.id: one for one in self._own_runs() if one.kind == "rating"}
        return [
            *runs,
            *(
                one
                for one in rated.values()
                if one.user == self.user and (one.leaf or {}).get("of") in known and one.id not in known
            ),
        ]

    def _items_of(self, runs: Sequence[Run]) -> list[str]:
        """Return the ids of the stored answers that prompts were given, or gave, and of cells' stored values."""
        from jupyter_llmops.cache.request_key import KnownKeys
        from jupyter_llmops.reproduce.record import recorded_prompt

        found: dict[str, None] = {}
        keys = KnownKeys()
        for run in runs:
            if run.kind not in ("cell", "prompt"):
                continue
            if kept := self._kept_by(run):
                found |= dict.fromkeys(kept)
                continue
            if run.kind == "cell":
                continue
            reused = (run.leaf or {}).get("reused")
            if isinstance(reused, dict) and isinstance(reused.get("item"), str):  # as leaves once had it
                found[reused["item"]] = None
                continue
            try:
                found[keys.key(recorded_prompt(run, self.content(run)).request)] = None
            except (LLMOpsError, ValueError):  # no content any more, or it never had an answer
                continue
        return list(found)

    def _kept_by(self, run: Run) -> list[str]:
        try:
            return ((self.content(run) or {}).get("kept_items") or "").split()
        except LLMOpsError:  # a damaged content
            return []

    def _rows_of(self, runs: Sequence[Run]) -> int:
        try:
            return self.catalog.contents.count([run.id for run in runs])
        except CatalogError:
            return 0

    def _also(self, run: Run, runs: Sequence[Run]) -> tuple[str, ...]:
        """Say what holds the same and stays."""
        from jupyter_llmops.audit.files import content_path

        notes = []
        parent = next((one for one in self._session_runs(run) if one.id == run.parent), None)
        if parent is not None and content_path(self.audit_folder, parent.session, parent.seq).exists():
            where = f"In[{parent.execution_count}]" if parent.execution_count else parent.id[:8]
            notes.append(
                f"The {parent.kind} that it ran in still holds its own text: %audit forget {where} takes both."
            )
        if not self._is_here(run):
            notes.append(f"Its content lies on {run.host}: type it there, too.")
        with contextlib.suppress(CatalogError):
            notes += self._in_snapshots(runs)
        return tuple(notes)

    def _in_snapshots(self, runs: Sequence[Run]) -> list[str]:
        """Say which snapshots of the catalog hold something: they have no texts, but what lies beside them."""
        from jupyter_llmops.catalog import Catalog

        ids, since = [run.id for run in runs], min(run.started_at for run in runs)
        notes = []
        for snapshot in self.catalog.snapshots.list():
            if snapshot.created_at is not None and snapshot.created_at < since:
                continue
            there = Catalog(self.location, site="", user=self.user, snapshot=snapshot.name)
            if kept := there.contents.traces(ids):
                notes.append(
                    f"Snapshot {snapshot.name} of the catalog still holds its {' and '.join(kept)}, and no text: "
                    "a snapshot is never changed."
                )
        return notes

    def _is_here(self, run: Run) -> bool:
        from jupyter_llmops.audit.files import journal_path

        return journal_path(self.audit_folder, run.session).exists()

    def _session_runs(self, run: Run) -> list[Run]:
        from jupyter_llmops.audit.files import journal_path
        from jupyter_llmops.audit.reading import read_runs

        return list(read_runs(journal_path(self.audit_folder, run.session))) if self._is_here(run) else []
