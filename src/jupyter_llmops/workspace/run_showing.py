"""Showing a run whole: its texts, what ran within it, where and on what it ran, and what was said of it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import TYPE_CHECKING

from jupyter_llmops.errors import AuditError, CatalogError, UnknownNameError
from jupyter_llmops.records.listing import Listing
from jupyter_llmops.records.run_search import RunFilter
from jupyter_llmops.workspace.trail import Trail

if TYPE_CHECKING:
    from jupyter_llmops.records.run import Run
    from jupyter_llmops.records.run_search import RunView

MOST_CHILDREN = 200


class RunShowing(Trail):
    """How a workspace says what a run is."""

    def show_run(self, reference: object = "") -> RunView:
        """Return a run with its texts, what ran within it, what it ran on, and what was said of it.

        Raises
        ------
        UnknownNameError
            Nothing fits; the error names the nearest ids.
        """
        from jupyter_llmops.records.run_search import RunView

        run, note = self._referred(reference)
        self._flush_or_warn()
        try:
            return replace(self._view(run), note=note)
        except CatalogError:  # it is a run of this session, whose journal is here
            own = self._own_runs()
            return RunView(
                run=run,
                content=self.texts_of(run),
                children=tuple(one for one in own if one.parent == run.id),
                opening=next((one for one in own if one.session == run.session), None),
                note=note,
            )

    def runs_like(self, typed: str) -> Listing[Run]:
        """Return the runs whose ids begin with what was typed, or else the newest whose ids are most like it."""
        self._flush_or_warn()
        return Listing("run", self.catalog.runs.like(typed), "Type %runs to see the ids of the last ones.")

    def texts_of(self, run: Run) -> Mapping[str, str] | None:
        """Return a run's redacted texts: one's own by name, another user's as "text"; None where none is here.

        Nothing proves that a shared text is its user's; one that contradicts the run or another is doubtful.
        """
        try:
            own = self.content(run)
        except AuditError as error:
            return {"damaged": str(error)}
        if own is not None:
            return own
        try:
            rows = self.catalog.contents.rows(run.id) if run.id else []
        except CatalogError:
            return None
        fitting = [
            row for row in rows if (row.session, row.seq, row.user) == (run.session, run.seq, run.user)
        ]
        texts = list(dict.fromkeys(row.text for row in fitting or rows))
        if not texts:
            return None
        if fitting and len(texts) == 1:
            return {"text": texts[0]}
        why = (
            "the catalog holds several texts of this run" if fitting else "its row names another run's place"
        )
        return {f"text (doubtful: {why})": "\n\n".join(texts)}

    # -- within -------------------------------------------------------------------------------

    def _referred(self, reference: object) -> tuple[Run, str]:
        """Return the run that a reference means, and a sentence where it is one of an earlier session."""
        from jupyter_llmops.audit.references import cell_number

        try:
            return self.run(reference), ""
        except UnknownNameError:
            number = cell_number(reference)
            if number is None:
                raise
            self._flush_or_warn()
            notebook = self.place().get("notebook", "")
            run = self.catalog.run_search.last_cell(number, self.user, self.settings.site, notebook)
            if run is None:
                raise
            return run, f"This session has no In[{number}]: this is the one of session {run.session}."

    def _view(self, run: Run) -> RunView:
        from jupyter_llmops.records.run_search import RunView

        rating = self._rating(run)
        return RunView(
            run=run,
            content=self.texts_of(run),
            children=tuple(self.catalog.run_search.children(run.id, MOST_CHILDREN)) if run.id else (),
            environment=self._environment(run),
            opening=self._opening(run),
            rating=rating.get("rating", ""),
            why=rating.get("why", ""),
            rated_by=rating.get("by", ""),
            proof=self._proof(run),
        )

    def _environment(self, run: Run) -> Run | None:
        from jupyter_llmops.catalog.run_search import in_force

        own = [one for one in self._own_runs() if one.kind == "environment" and one.session == run.session]
        return in_force(own, run) if own else self.catalog.run_search.environment(run)

    def _opening(self, run: Run) -> Run | None:
        """Return the first leaf of a run's session, None where it is not here."""
        own = [one for one in self._own_runs() if one.kind == "session" and one.session == run.session]
        found = own or self.catalog.run_search.newest(RunFilter(kind="session", session=run.session), 1).runs
        return found[0] if found else None

    def _rating(self, run: Run) -> dict[str, str]:
        for change in self.catalog.changes.current("run", name=run.id, field="rating"):
            if isinstance(change.value, dict):
                said = {name: str(text) for name, text in change.value.items()}
                return said | {"by": change.created_by or ""}
        return {}

    def _proof(self, run: Run) -> str:
        """Return what the catalog holds of a run's log; `%audit verify` and `prove` check it, this does not."""
        try:
            sizes = [head.size for head in self.catalog.heads.of([run.session])]
            signed = [one for one in self.catalog.cosignatures.of([run.session]) if one.size > run.seq]
        except (CatalogError, AttributeError):
            return ""
        covering = [size for size in sizes if size > run.seq]
        if not covering:
            return "No published head covers it yet."
        names = sorted({one.witness.removeprefix("jupyter-llmops/") for one in signed})
        by = f", cosigned by {', '.join(names)}" if names else ", which nobody has witnessed yet"
        return f"Line {run.seq} lies under a published head of {min(covering)} lines{by}."
