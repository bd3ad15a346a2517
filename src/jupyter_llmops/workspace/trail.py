"""The trail: runs, their contents, verification, reproduction."""

from __future__ import annotations

import json
import warnings
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

from jupyter_llmops.errors import (
    AmbiguousNameError,
    AuditError,
    CatalogError,
    UnknownNameError,
    UsageError,
)
from jupyter_llmops.records.listing import Listing
from jupyter_llmops.records.run_search import ALL_KINDS
from jupyter_llmops.workspace.parts import Parts, Progress, TrailWarning
from jupyter_llmops.workspace.run_filters import check_kind

if TYPE_CHECKING:
    from jupyter_llmops.records.reproduction import Reproduction
    from jupyter_llmops.records.run import Run


MOST_RUNS = 1_000_000


class Trail(Parts):
    """What a workspace says of the runs."""

    def runs(self, limit: int = 20, kind: str | None = None) -> Listing[Run]:
        """Return the newest runs of everyone who uses this catalog; of a map itself alone, not each of its rows.

        Parameters
        ----------
        limit : int
            At most this many.
        kind : str, optional
            "cell", "prompt" (rows of maps, too), "map", …; by default all that people ran, with "all" also what
            logs say of machines, of kernels and of other runs.

        Raises
        ------
        UsageError
            There is no such kind.
        """
        if type(limit) is not int or limit < 1:
            raise UsageError(f"{limit!r} is not a number of runs.", "Give 1 or more.")
        check_kind(kind)
        limit = min(limit, MOST_RUNS)
        self._flush_or_warn()
        found = self.catalog.runs.list(limit=limit, kind=kind)
        waits = self._said_of_waiting()
        if kind and kind != ALL_KINDS:
            hint = f"None is a {kind}; %runs --kind all lists every kind."
            return Listing("run", found, hint, why={}, note=waits)
        if waits:
            return Listing("run", found, why={}, note=waits)
        return Listing("run", found, "Run a cell and look again.")

    def _said_of_waiting(self) -> str:
        """Return how many records of this session no list has yet, as the disk did not take them; or nothing."""
        waiting = self.journal.waiting if self.settings.audit and "journal" in self.__dict__ else 0
        if not waiting:
            return ""
        count = (
            "1 record of this session waits" if waiting == 1 else f"{waiting:,} records of this session wait"
        )
        return f"{count} in memory for the disk: %llmops doctor says why."

    def flush(self) -> None:
        """Carry what the journals hold into the catalog."""
        from jupyter_llmops.agent.flush import flush_journals

        if self.settings.audit:
            self.journal.flush()
        flush_journals(self.audit_folder, self.catalog)

    def _flush_or_warn(self) -> bool:
        """Flush, and return whether all was carried; where not, the journals keep what waits."""
        try:
            self.flush()
        except CatalogError as error:
            warnings.warn(f"Newer runs are not in the catalog yet: {error}", TrailWarning, stacklevel=3)
            return False
        return True

    def run(self, reference: object = "", *, kind: str | None = None) -> Run:
        """Return the run that a reference means.

        Parameters
        ----------
        reference : str, int or Completion
            ``In[7]``, ``-1`` (the last), the beginning of an id, a Completion; empty means -1.
        kind : str, optional
            Only runs of this kind count for ``-1`` and ``In[7]``.

        Raises
        ------
        UnknownNameError
            Nothing fits.
        AmbiguousNameError
            More than one run fits the beginning of an id.
        """
        from jupyter_llmops.audit.references import is_counted, is_prefix, resolve_reference
        from jupyter_llmops.records.completion import Completion

        if isinstance(reference, Completion) and not reference.run_id:
            raise UsageError(
                "This answer is in no record: it came while the audit trail was off.",
                "Type %config LLMOps.audit = True and run the prompt again.",
            )
        runs = self._own_runs()
        if is_counted(reference) and self.settings.audit and (waiting := self.journal.waiting):
            # What is counted among those that are written would be another run, and forgotten in its place.
            raise AuditError(
                f"{waiting:,} of this session's runs {'waits' if waiting == 1 else 'wait'} in memory for the disk, so {reference!r} can't be told.",
                "Name a run by its id, or see %llmops doctor.",
            )
        try:
            found = resolve_reference(reference, runs, kind=kind)
        except UnknownNameError as error:
            if self.settings.audit:
                raise
            hint = "The audit trail is off, so nothing is recorded: %config LLMOps.audit = True"
            raise UnknownNameError(error.noun, error.name, hint=hint) from None
        if found is not None and not is_prefix(reference):
            return found
        self._flush_or_warn()
        try:
            known = self.catalog.runs.get(str(reference))
        except (CatalogError, UnknownNameError):
            if found is None:
                raise
            return found  # its journal is here
        if found is not None and found.id != known.id:
            raise AmbiguousNameError(
                f"More than one run's id begins with {reference!r}: {found.id}, {known.id}.",
                "Type more of it.",
            )
        return found or known

    def _own_runs(self) -> list[Run]:
        from jupyter_llmops.audit.reading import read_runs

        if "journal" not in self.__dict__:
            return []
        self.journal.flush()
        if not self.journal.path.exists():
            return []
        return list(read_runs(self.journal.path))

    def content(self, run: Run) -> dict[str, Any] | None:
        """Return a run's redacted content, None when it was deleted or is another user's."""
        from jupyter_llmops.audit.reading import read_content

        return read_content(self.audit_folder, run)

    def _check_content(self, run: Run) -> None:
        """Refuse a content that is not the one that the leaf has digests of."""
        from jupyter_llmops.audit.files import content_path
        from jupyter_llmops.audit.leaf import content_digest
        from jupyter_llmops.errors import AuditError

        content = self.content(run)
        if content is None:
            return
        salt = json.loads(content_path(self.audit_folder, run.session, run.seq).read_bytes()).get("salt", "")
        digests = (run.leaf or {}).get("digests", {})
        try:
            found = {name: content_digest(salt, name, text) for name, text in content.items()}
        except (TypeError, ValueError):
            found = {}
        if found != digests:
            raise AuditError(
                f"The content of run {run.id} was changed since it was recorded, so it proves nothing.",
                "Type: %audit verify",
            )

    def reproduce(self, reference: object = "", progress: Progress | None = None) -> Reproduction:
        """Infer a recorded prompt again, in another process, from its record alone.

        Parameters
        ----------
        reference : str, int or Completion
            As in `run`; empty means the last prompt.
        progress : callable, optional
            Gets a sentence while the process works.
        """
        from jupyter_llmops.reproduce.inference import reinfer
        from jupyter_llmops.reproduce.record import recorded_prompt

        run = self.run(reference, kind="prompt")
        self._check_content(run)
        started_at = datetime.now(UTC)
        result = reinfer(
            recorded_prompt(run, self.content(run)),
            models_folder=self.models_folder,
            offline=self.settings.stay_offline(),
            progress=progress,
        )
        reproduction_id = self.stamp(
            "reproduction",
            started_at=started_at,
            seconds=(datetime.now(UTC) - started_at).total_seconds(),
            fields={
                "of": run.id,
                "identical": result.identical,
                "model": result.model,
                "tokens_out": result.tokens,
            },
            content={"reasons": "\n".join(result.reasons)},
        )
        return replace(result, reproduction_id=reproduction_id)
