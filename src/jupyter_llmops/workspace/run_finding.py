"""Finding, showing, comparing and rating runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from jupyter_llmops.errors import AuditError, CatalogError, LLMOpsError, UnknownNameError, UsageError
from jupyter_llmops.records.listing import Listing
from jupyter_llmops.records.run_search import RATINGS, RunFilter
from jupyter_llmops.workspace.parts import Progress
from jupyter_llmops.workspace.run_filters import run_filter, valid_text
from jupyter_llmops.workspace.trail import MOST_RUNS, Trail

if TYPE_CHECKING:
    from jupyter_llmops.records.run import Run
    from jupyter_llmops.records.run_search import RunDiff, RunView
    from jupyter_llmops.workspace.own_runs import OwnFound, OwnRuns

MOST_CHILDREN = 200
# What a cell asks of a model, or makes of one.
_ANSWERS = ("prompt", "map", "cascade", "training")


class RunFinding(Trail):
    """How a workspace finds runs and says what they are."""

    def find_runs(
        self,
        text: str = "",
        *,
        meaning: bool = False,
        limit: int = 20,
        newest_first: bool = False,
        progress: Progress | None = None,
        **filters: Any,
    ) -> Listing[Run]:
        """Return the runs that fit, best first for a text, else newest first.

        Parameters
        ----------
        text : str
            Words of a source, prompt, answer, notebook, model or error; empty for all runs.
        meaning : bool
            Also by what the text is about. Runs that nobody has embedded are embedded first, the newest
            500 a time; `Listing.note` says how many are left.
        limit : int
            Most runs.
        newest_first : bool
            In the order of time, also for a text.
        progress : callable, optional
            Gets a sentence and a fraction while runs are embedded.
        **filters
            user, notebook, model, kind, status ("ok", "error", "interrupted" or the name of an error), since
            and until ("2h", "3d", "2026-11-01" or a datetime), cost ("0.01..0.5", "0.1..", "..0.5"), rating
            ("good" or "bad"), session, parent.

        Raises
        ------
        UsageError
            A filter has a value that it can't have.
        """
        from jupyter_llmops.catalog.run_words import snippet, words_of
        from jupyter_llmops.workspace.own_runs import merged

        if not isinstance(text, str):
            raise UsageError(
                f"Words are a text, not {type(text).__name__}.", 'Type e.g. find_runs("refund").'
            )
        text = valid_text(text)
        if type(limit) is not int or limit < 1:
            raise UsageError(f"{limit!r} is not a number of runs.", "Give 1 or more.")
        limit = min(limit, MOST_RUNS)
        chosen = run_filter(filters)
        carried = self._flush_or_warn()
        search = self.catalog.run_search
        if not text.strip():
            if meaning:
                raise UsageError("There is nothing to look for.", "Type what it is about.")
            return self._newest(chosen, limit, carried=carried)
        own = self._unshared(chosen)
        found = search.matching(text, chosen, limit, newest_first=newest_first)
        texts = {**own.texts, **found.texts}
        runs = merged(found.runs, texts, own.runs, words_of(text), limit)
        why = {run.id: snippet(texts.get(run.id, ""), text) for run in runs}
        notes = [] if found.complete else ["More may fit: only the best matches were looked at."]
        if own.more:
            notes.append(
                "Of this machine's runs whose texts are not in the catalog only the newest were looked at."
            )
        if meaning:
            cosines, note = self._meant(text, chosen, limit, progress)
            runs, why = self._fused(runs, why, cosines, limit)
            notes.append(note)
            if own.runs:
                notes.append("Runs of this machine that are not shared yet were compared by words only.")
        if newest_first:
            runs.sort(key=lambda run: (run.started_at, run.seq), reverse=True)
        return Listing("run", runs, "Use fewer or other words.", why=why, note=" ".join(filter(None, notes)))

    def _newest(self, chosen: RunFilter, limit: int, *, carried: bool) -> Listing[Run]:
        """Return the newest runs that fit; where the catalog took none of this machine's, these as well."""
        runs = list(self.catalog.run_search.newest(chosen, limit).runs)
        if not carried and not chosen.rating:
            own = self._journalled.missing(self.catalog.runs.digests_of, chosen, said=False)
            known = {run.id for run in runs}
            runs += [run for run in own.runs if run.id not in known]
            runs.sort(key=lambda run: (run.started_at, run.seq), reverse=True)
        return Listing("run", runs[:limit], "Take a filter away.", why={})

    def _unshared(self, chosen: RunFilter) -> OwnFound:
        """Return the runs of this machine whose texts the catalog does not have, with them."""
        from jupyter_llmops.catalog.run_words import only_looks
        from jupyter_llmops.workspace.own_runs import OwnFound

        if self.opened_snapshot:
            return OwnFound()  # what is newer than a snapshot is not in it
        own = self._journalled.missing(self.catalog.run_search.with_text, chosen, said=True)
        runs = own.runs
        if not chosen.kind:
            runs = tuple(run for run in runs if not only_looks(own.texts[run.id]))
        if chosen.rating:
            rated = set(self.catalog.run_search.rated(chosen.rating))
            runs = tuple(run for run in runs if run.id in rated)
        return own._replace(runs=runs)

    @cached_property
    def _journalled(self) -> OwnRuns:
        """What the journals of all sessions of this user hold."""
        from jupyter_llmops.workspace.own_runs import OwnRuns

        return OwnRuns(self.audit_folder, self.location)

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
            inner = (one for one in self._own_runs() if one.parent == run.id)
            return RunView(run=run, content=self.texts_of(run), children=tuple(inner))

    def runs_like(self, typed: str) -> Listing[Run]:
        """Return the runs whose ids begin with what was typed, or else the newest whose ids are most like it."""
        self._flush_or_warn()
        return Listing("run", self.catalog.runs.like(typed), "Type %runs to see the ids of the last ones.")

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
            rating=rating.get("rating", ""),
            why=rating.get("why", ""),
            rated_by=rating.get("by", ""),
            proof=self._proof(run),
        )

    def diff_runs(self, left: object, right: object) -> RunDiff:
        """Compare two runs field by field, and say why the second may differ.

        Parameters
        ----------
        left, right : str, int, Run or Completion
            As in `run`.
        """
        from jupyter_llmops.audit.run_difference import compare

        def compared(one: Run, other: Run) -> RunDiff:
            return compare(
                one,
                other,
                contents=(self.texts_of(one), self.texts_of(other)),
                environments=(self._environment(one), self._environment(other)),
            )

        pair = self.run(left), self.run(right)
        diff = compared(*pair)
        # Why two cells differ is often what they asked or trained.
        inner = [self._within(run) for run in pair if run.kind == "cell" and pair[0].id != pair[1].id]
        if [len(one) for one in inner] != [1, 1] or inner[0][0].kind != inner[1][0].kind:
            return diff
        (first,), (second,) = inner
        reasons = dict.fromkeys((*diff.reasons, *compared(first, second).reasons))
        more = f"What ran within them is compared by %runs diff {first.id} {second.id}"
        return replace(diff, reasons=tuple(reasons), not_compared=(*diff.not_compared, more))

    def rate(self, reference: object, rating: str, why: str | None = "") -> RunView:
        """Say that a run was good or bad; what was said before stays in the history.

        Parameters
        ----------
        reference : str, int, Run or Completion
            As in `run`; ``In[7]`` and ``-1`` mean the answer of a cell that asked one model.
        rating : {"good", "bad"}
            What it was.
        why : str
            For people; secrets are cut out.

        Raises
        ------
        UsageError
            It is neither good nor bad, the cell holds several answers, or the trail is off.
        CatalogError
            The catalog can't be written.
        """
        if rating not in RATINGS:
            raise UsageError(f"A run is rated good or bad, not {rating!r}.", "Type %runs rate RUN good.")
        if why is not None and not isinstance(why, str):
            raise UsageError(f"A reason is a text, not {type(why).__name__}.", 'Type --why "the reason".')
        if not self.settings.audit:
            raise UsageError(
                "Nothing was rated: a rating is a record of the audit trail, which is off.",
                "Type %config LLMOps.audit = True and rate it again.",
            )
        run = self._rated(reference)
        started_at = datetime.now(UTC)
        why = self.redactor.redact(why or "").text
        value = {"rating": rating, "why": why}
        change = self.catalog.changes.move("run", run.id, "rating", value, reason=why)
        if change.created_at is None or change.created_at >= started_at:  # the same again is said once
            self.stamp(
                "rating",
                started_at=started_at,
                seconds=(datetime.now(UTC) - started_at).total_seconds(),
                fields={"of": run.id, "rating": rating, "revision": change.revision},
                content={"why": why} if why else {},
            )
        return self.show_run(run)

    def _rated(self, reference: object) -> Run:
        """Return what a reference means to somebody who rates: of a cell that asked one model its answer."""
        from jupyter_llmops.audit.references import is_counted

        run = self.run(reference)
        if run.kind != "cell" or not isinstance(reference, str | int) or not is_counted(reference):
            return run
        asked = [one for one in self._within(run) if one.kind != "training"]
        if len(asked) > 1:
            named = ", ".join(f"{one.id} ({one.kind} {one.model}".rstrip() + ")" for one in asked[:9])
            raise UsageError(
                f"That cell holds {len(asked)} answers, so it is not clear which one is meant.",
                f"Type the id of one: {named}; or {run.id} for the cell itself.",
            )
        return asked[0] if asked else run

    def _within(self, run: Run) -> list[Run]:
        """Return what a cell asked and trained."""
        found = [one for one in self._own_runs() if one.session == run.session]
        if not found:
            self._flush_or_warn()
            found = self.catalog.run_search.children(run.id, MOST_CHILDREN)
        return [one for one in found if one.parent == run.id and one.kind in _ANSWERS]

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

    def _meant(
        self, text: str, chosen: RunFilter, limit: int, progress: Progress | None
    ) -> tuple[Mapping[str, float], str]:
        from jupyter_llmops.retrieval.run_meanings import meant_runs

        try:
            if progress is not None:
                progress("Loading the encoder", None)
            encoder = self.encoder()
        except LLMOpsError as error:
            return {}, f"Only words were compared, not meaning: {error}"
        found = meant_runs(self.catalog, text, chosen, encoder, limit, progress)
        if not found.waiting:
            return found.cosines, ""
        count = f"{'At least ' if found.more else ''}{found.waiting:,}"
        return found.cosines, (
            f"{count} older runs are not embedded yet, so they were compared by words only; the same line embeds "
            "more of them."
        )

    def _fused(
        self,
        runs: list[Run],
        why: dict[str, str],
        cosines: Mapping[str, float],
        limit: int,
    ) -> tuple[list[Run], dict[str, str]]:
        """Fuse two rankings by reciprocal ranks (Cormack, Clarke and Büttcher, SIGIR 2009)."""
        from jupyter_llmops.catalog.run_words import snippet

        known = {run.id: run for run in runs}
        more = [run_id for run_id in cosines if run_id not in known]
        known |= {run.id: run for run in self.catalog.run_search.by_ids(more)}
        scores: dict[str, float] = {}
        for ranking in ([run.id for run in runs], list(cosines)):
            for rank, run_id in enumerate(ranking, 1):
                scores[run_id] = scores.get(run_id, 0.0) + 1 / (60 + rank)
        order = sorted((run_id for run_id in scores if run_id in known), key=lambda run_id: -scores[run_id])
        chosen = [known[run_id] for run_id in order[:limit]]
        texts = self.catalog.run_search.texts([run.id for run in chosen if run.id not in why])
        said = {
            run.id: " · ".join(
                filter(
                    None,
                    (
                        f"meaning {cosines[run.id]:.2f}" if run.id in cosines else "",
                        why.get(run.id) or snippet(texts.get(run.id, ""), ""),
                    ),
                )
            )
            for run in chosen
        }
        return chosen, said

    def _environment(self, run: Run) -> Run | None:
        from jupyter_llmops.catalog.run_search import in_force

        own = [one for one in self._own_runs() if one.kind == "environment" and one.session == run.session]
        return in_force(own, run) if own else self.catalog.run_search.environment(run)

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
