"""Finding, comparing and rating runs."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from jupyter_llmops.errors import LLMOpsError, UsageError
from jupyter_llmops.records.listing import Listing
from jupyter_llmops.records.run_search import RATINGS, RunFilter
from jupyter_llmops.workspace.parts import Progress
from jupyter_llmops.workspace.run_filters import run_filter, valid_text
from jupyter_llmops.workspace.run_showing import MOST_CHILDREN, RunShowing
from jupyter_llmops.workspace.trail import MOST_RUNS

if TYPE_CHECKING:
    from jupyter_llmops.records.run import Run
    from jupyter_llmops.records.run_search import RunDiff, RunView
    from jupyter_llmops.workspace.own_runs import OwnFound, OwnRuns

# What a cell asks of a model, or makes of one.
_ANSWERS = ("prompt", "map", "cascade", "training")


class RunFinding(RunShowing):
    """How a workspace finds, compares and rates runs."""

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
        notes = [self._said_of_waiting()]
        if not found.complete:
            notes.append("More may fit: only the best matches were looked at.")
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
        waits = self._said_of_waiting()
        return Listing("run", runs[:limit], "Take a filter away.", why={}, note=waits)

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
        within = compared(first, second)
        reasons = dict.fromkeys((*diff.reasons, *within.reasons))
        more = f"What ran within them is compared by %runs diff {first.id} {second.id}"
        return replace(
            diff, reasons=tuple(reasons), equal=within.equal, not_compared=(*diff.not_compared, more)
        )

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
