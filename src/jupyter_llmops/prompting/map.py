"""One prompt for many rows: cache first, the rest in batches, each row recorded once."""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Final

from jupyter_llmops.errors import (
    BackendError,
    ContextError,
    EndpointRefusedError,
    InferenceError,
    Interrupted,
    LLMOpsError,
    ModelNotAvailableError,
    TemplateError,
    UnsafeModelError,
    nearest,
)
from jupyter_llmops.prompting.interrupts import postponed_interrupt
from jupyter_llmops.prompting.map_job import Ask, MapJob, has_key, is_fresh_draw, key_of_row
from jupyter_llmops.prompting.map_progress import MapProgress, Progress
from jupyter_llmops.prompting.map_record import MapRecord
from jupyter_llmops.prompting.map_tally import MapTally
from jupyter_llmops.prompting.rows import ROW, RowTable
from jupyter_llmops.prompting.unfinished import Finished, UnfinishedMaps
from jupyter_llmops.records.cache import CacheResult
from jupyter_llmops.records.completion import Generation
from jupyter_llmops.records.map import MapResult, MapRow

if TYPE_CHECKING:
    from jupyter_llmops.cache.exact import ExactCache
    from jupyter_llmops.prompting.draft import PreparedPrompt
    from jupyter_llmops.prompting.pipeline import PromptPipeline
    from jupyter_llmops.prompting.recording import Stamp

# So many rows are in memory, claimed and handed to the engine at once: enough to sort into batches
# and to keep a cluster busy, few enough that others don't wait for rows that come much later.
WINDOW: Final = 2000
PATIENCE_SECONDS: Final = 60.0
# To try again is of no use: the same comes out.
_FINAL: Final = (ContextError, UnsafeModelError, ModelNotAvailableError, EndpointRefusedError)


class MapRun:
    """One run of a map.

    Parameters
    ----------
    pipeline : PromptPipeline
        Prepares and records each row.
    cache : ExactCache
        Is asked before anything is computed.
    stamp : callable
        Appends to the trail.
    unfinished : UnfinishedMaps
        What stopped maps had finished.
    job : MapJob
        What to do.
    on_row : callable, optional
        Gets each `MapRow` as it is done, in any order.
    progress : callable, optional
        Gets a sentence and how much is done, 0 to 1, at most ten times a second.
    """

    def __init__(
        self,
        pipeline: PromptPipeline,
        cache: ExactCache,
        stamp: Stamp,
        unfinished: UnfinishedMaps,
        job: MapJob,
        *,
        on_row: Callable[[MapRow], None] | None = None,
        progress: Progress | None = None,
    ) -> None:
        self._pipeline = pipeline
        self._cache = cache
        self._unfinished = unfinished
        self._job = job
        self._on_row = on_row
        self._tally = MapTally(len(job.table))
        self._record = MapRecord(pipeline, stamp, job, self._tally)
        self._progress = MapProgress(self._tally, progress)
        self._signature = job.signature()
        self._earlier = unfinished.find(self._signature)
        self._first: dict[str, int] = {}
        self._keys: dict[int, str] = {}
        self._answers: dict[str, CacheResult] = dict(self._earlier.answers)
        self._failures: dict[int, LLMOpsError] = {}
        self._like: PreparedPrompt | None = None
        self._open: dict[int, Ask] = {}

    def run(self) -> MapResult:
        """Answer every row and return them in their order; what fails is a value of its row.

        Raises
        ------
        Interrupted
            Ctrl-C; the exception holds the `MapResult` so far, and the same map goes on from there.
        TemplateError
            The template needs a variable that is no column of any row.
        LLMOpsError
            Nothing can be computed at all: no such model, no memory, over the budget, the cluster is
            down. `result` is what was done until then, and the same map goes on from there.
        """
        try:
            for start in range(0, len(self._tally), WINDOW):
                self._window(range(start, min(start + WINDOW, len(self._tally))))
        except BaseException as error:
            self._stopped(error)
            if isinstance(error, KeyboardInterrupt):
                raise Interrupted(*self._where_it_stopped(), self.result()) from None
            raise
        finally:
            for ask in self._open.values():
                ask.release()
        self._progress.tell(now=True)
        self._unfinished.forget(self._signature)
        self._record.ended("ok", self._like, self._continued())
        return self.result()

    def result(self) -> MapResult:
        """Return what was done so far."""
        return self._tally.result(self._record.run_id, self._record.seconds, self._job.backend)

    # Looking up

    def _window(self, indices: range) -> None:
        for index in indices:
            self._look_up(index)
            self._progress.tell()
        waiting = list(self._open.values())
        while waiting:
            mine = [ask for ask in waiting if not ask.stored or ask.unclaimed or ask.claim is not None]
            if mine:
                self._compute(mine)
            waiting = self._await([ask for ask in waiting if ask.index in self._open])

    def _look_up(self, index: int) -> None:
        """Answer a row from the interrupted map, another row or the cache, or keep it for computing."""
        prepared = self._prepared(index)
        if prepared is None:
            return
        key = self._keys[index] = key_of_row(prepared.request, index)
        resumed = self._earlier.rows.get((index, key))
        if resumed is not None:
            self._first.setdefault(key, index)
            self._tell_row(self._tally.resume(resumed))
            return
        fresh = is_fresh_draw(prepared)
        first = index if fresh else self._first.setdefault(key, index)
        ask = Ask(index, key, prepared, stored=not fresh and self._may_look_up(prepared, key))
        if first != index and self._repeats(ask, first):
            return
        if ask.stored and self._is_stored(ask, first):
            return
        if ask.stored:
            ask.claim = self._cache.claim(prepared.request, reuse=prepared.draft.reuse)
        self._open[index] = ask
        self._tally.pending += 1

    def _may_look_up(self, prepared: PreparedPrompt, key: str) -> bool:
        if not self._cache.enabled or not has_key(key):
            return False
        return not self._pipeline.why_not_stored(prepared, use_cache=self._job.use_cache)

    def _repeats(self, ask: Ask, first: int) -> bool:
        """Give a row the outcome of an earlier one that asked the same; False where that is not at hand."""
        if first in self._open:
            self._open[first].same.append(ask.index)
            self._tally.pending += 1
        elif first in self._failures:
            self._take_failure(ask, ask.index, self._failures[first], first)
        elif ask.key in self._answers:
            self._take_repeat(ask, ask.index, self._answers[ask.key], first)
        else:
            return False
        return True

    def _is_stored(self, ask: Ask, first: int) -> bool:
        found = self._cache.find(ask.prepared.request, reuse=ask.prepared.draft.reuse)
        if found is None:
            return False
        if first != ask.index and self._tally.rows[first].completion is not None:
            self._take_repeat(ask, ask.index, found, first, counted=True)
        else:
            self._take(ask, found)
        return True

    def _prepared(self, index: int) -> PreparedPrompt | None:
        """Return a row's prompt; where it can't be rendered that is the row's failure."""
        draft = self._job.draft
        row = replace(draft, variables=self._job.table.variables(index, draft.variables))
        try:
            prepared = self._pipeline.prepare(row, self._like)
        except (TemplateError, ContextError) as error:
            said = _explained(self._job, index, error)
            with postponed_interrupt():
                failed = self._record.unprepared(index, said)
            self._tell_row(failed)
            return None
        if self._like is None:
            self._like = prepared
        return prepared

    # Computing

    def _compute(self, asks: list[Ask]) -> None:
        self._pipeline.check_budget([ask.prepared for ask in asks])
        self._progress.begin()
        try:
            for tries_left in range(self._job.retry, -1, -1):
                asks = self._attempt(asks, tries_left)
                if not asks:
                    return
        finally:
            self._progress.pause()

    def _attempt(self, asks: Sequence[Ask], tries_left: int) -> list[Ask]:
        """Compute rows and return those that failed and are worth another try."""
        missing = dict(enumerate(asks))
        again: list[Ask] = []

        def on_done(position: int, outcome: Generation | LLMOpsError) -> None:
            ask = missing.pop(position, None)
            if ask is None:
                return  # it was told already
            ask.attempts += 1
            if not isinstance(outcome, LLMOpsError):
                self._computed(ask, outcome)
            elif tries_left and _may_pass(outcome):
                again.append(ask)
            else:
                self._failed(ask, outcome)

        def on_progress(sentence: str, _fraction: float | None) -> None:
            self._progress.tell(sentence)

        requests = [ask.prepared.request for ask in asks]
        self._job.compute(requests, asks[0].prepared.model, on_done, on_progress)
        for position in list(missing):
            on_done(position, BackendError("The backend gave no answer to this row.", "Run the cell again."))
        return again

    def _computed(self, ask: Ask, generation: Generation) -> None:
        with postponed_interrupt():
            priced = self._pipeline.priced(ask.prepared, generation)
            result = CacheResult(priced, hit=False, key=ask.key, stored_at=None, stored_by="", why="")
            if ask.stored:
                request, reuse = ask.prepared.request, ask.prepared.draft.reuse
                result = self._cache.keep(request, priced, store=self._pipeline.may_store, reuse=reuse)
            self._progress.computed(priced.tokens_out)
            self._take(ask, result)
        self._progress.tell()

    def _failed(self, ask: Ask, error: LLMOpsError) -> None:
        with postponed_interrupt():
            self._close(ask)
            self._failures[ask.index] = error
            self._take_failure(ask, ask.index, error)
            for index in ask.same:
                self._take_failure(ask, index, error, ask.index)
        self._progress.tell()

    def _await(self, asks: list[Ask]) -> list[Ask]:
        """Wait for rows that somebody else computes; claim those that nobody does any more.

        Whoever holds a claim waits for nobody, or two could wait for each other. A holder on another host
        that is silent can't be told by one look from one that was just replaced, so it gets two; after
        that its rows are computed here, whoever else does.
        """
        held = silent = False
        for number, ask in enumerate(asks):
            note = f"{len(asks) - number:,} rows are computed by somebody else"
            self._progress.tell(note)
            for _ in range(2):
                began = time.monotonic()
                patience = 0.0 if held or silent else PATIENCE_SECONDS
                found = self._wait(ask, patience, note)
                if found is not None:
                    self._take(ask, found)
                    break
                ask.claim = self._cache.claim(ask.prepared.request, reuse=ask.prepared.draft.reuse)
                held = held or ask.claim is not None
                if ask.claim is not None or (not silent and (held or time.monotonic() - began >= patience)):
                    break
            else:
                silent = ask.unclaimed = True
        return [ask for ask in asks if ask.index in self._open]

    def _wait(self, ask: Ask, seconds: float, note: str) -> CacheResult | None:
        def on_progress(sentence: str, _fraction: float | None) -> None:
            self._progress.tell(f"{note}: {sentence}")

        request, reuse = ask.prepared.request, ask.prepared.draft.reuse
        return self._cache.wait(request, seconds=seconds, reuse=reuse, progress=on_progress)

    # Taking what came

    def _take(self, ask: Ask, result: CacheResult) -> None:
        """Take a row's answer, also for the rows that repeat it."""
        with postponed_interrupt():
            self._close(ask)
            if not ask.stored and not is_fresh_draw(ask.prepared):
                self._answers[ask.key] = result
            row = self._record.answered(ask, result)
            for index in ask.same:
                self._take_repeat(ask, index, result, ask.index)
        self._tell_row(row)

    def _take_repeat(
        self, ask: Ask, index: int, result: CacheResult, first: int, *, counted: bool = False
    ) -> None:
        """Take an earlier row's answer; `counted` where the cache was asked, and so has counted it."""
        with postponed_interrupt():
            row = self._record.repeated(ask.prepared, index, result, first)
            if not counted:
                self._cache.session.repeated(result.generation)
        self._tell_row(row)

    def _take_failure(self, ask: Ask, index: int, error: LLMOpsError, same_as: int | None = None) -> None:
        with postponed_interrupt():
            row = self._record.failed(ask, index, error, same_as)
        self._tell_row(row)

    def _close(self, ask: Ask) -> None:
        """Take a row off those that are to be computed."""
        if self._open.pop(ask.index, None) is not None:
            self._tally.pending -= 1 + len(ask.same)
        ask.release()

    def _tell_row(self, row: MapRow) -> None:
        if self._on_row is not None:
            self._on_row(row)

    # Ending

    def _stopped(self, error: BaseException) -> None:
        """Remember what is done, so that the same map goes on from there, and stamp the map."""
        rows = {
            (index, self._keys[index]): row
            for index, row in enumerate(self._tally.rows)
            if row.completion is not None and index in self._keys
        }
        if rows:
            self._unfinished.keep(self._signature, Finished(self._record.run_id, rows, self._answers))
        status = "interrupted" if isinstance(error, KeyboardInterrupt) else "error"
        self._record.ended(status, self._like, {"error_type": type(error).__name__} | self._continued())

    def _continued(self) -> dict[str, str]:
        return {"continues": self._earlier.run_id} if self._tally.resumed else {}

    def _where_it_stopped(self) -> tuple[str, str]:
        tally = self._tally
        kept = f"; what they got is kept (run {self._record.run_id})" if tally.done else ""
        return (
            f"Stopped after {tally.done:,} of {len(tally):,} rows{kept}.",
            "Run the same cell again to go on from there.",
        )


def _may_pass(error: LLMOpsError) -> bool:
    return isinstance(error, InferenceError) and not isinstance(error, _FINAL)


def _explained(job: MapJob, index: int, error: LLMOpsError) -> LLMOpsError:
    """Return a row's error in the words of a table; one that concerns every row is raised."""
    table, variables = job.table, job.draft.variables
    needed = [name for name in job.needed() if f"variable {name!r}" in error.message]
    if not needed:
        return error
    name = needed[0]
    if table.missing(index, [name]):
        return TemplateError(
            f"Row {index} has no value for {name!r}.",
            f"Fill it, drop the row, or write {{{{ {name} | default('…') }}}}.",
        )
    if name not in (*table.names, ROW) and name not in variables:
        raise _no_column(name, table, variables) from None
    return error


def _no_column(name: str, table: RowTable, variables: Mapping[str, Any]) -> TemplateError:
    if not table.names:
        return TemplateError(
            f"The template needs {name!r}, which is not defined.",
            "A row that is a text or a number is {{ row }}.",
        )
    near = nearest(name, (*table.names, *(key for key in variables if not key.startswith("_"))))
    meant = f"Did you mean {' or '.join(near)}? " if near else ""
    shown = ", ".join(table.names[:10]) + (", …" if len(table.names) > 10 else "")
    return TemplateError(
        f"The template needs {name!r}, which is no column and no variable.",
        f"{meant}The columns are {shown}.",
    )
