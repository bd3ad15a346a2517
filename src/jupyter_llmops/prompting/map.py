"""One prompt for many rows: cache first, the rest in batches, each row recorded once."""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Final

from jupyter_llmops.cache.request_key import request_key, why_not_reusable
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
    UsageError,
    nearest,
)
from jupyter_llmops.prompting.interrupts import postponed_interrupt
from jupyter_llmops.prompting.map_progress import MapProgress, Progress
from jupyter_llmops.prompting.map_tally import MapTally
from jupyter_llmops.prompting.recording import money_fields, request_fields
from jupyter_llmops.prompting.rows import ROW, RowTable
from jupyter_llmops.prompting.unfinished import Finished, UnfinishedMaps
from jupyter_llmops.records.cache import CacheResult
from jupyter_llmops.records.completion import Generation
from jupyter_llmops.records.map import MapResult, MapRow, RowFailure
from jupyter_llmops.records.request import InferenceRequest

if TYPE_CHECKING:
    from jupyter_llmops.cache.exact import Claim, ExactCache
    from jupyter_llmops.prompting.draft import PreparedPrompt, PromptDraft
    from jupyter_llmops.prompting.pipeline import PromptPipeline
    from jupyter_llmops.prompting.recording import Stamp
    from jupyter_llmops.records.model import Model

OnDone = Callable[[int, Generation | LLMOpsError], None]

# Computes many requests for one model and tells of each as it is done; the last argument gets progress.
Compute = Callable[[Sequence[InferenceRequest], "Model", OnDone, Progress], None]

# So many rows are in memory, claimed and handed to the engine at once: enough to sort into batches
# and to keep a cluster busy, few enough that others don't wait for rows that come much later.
WINDOW = 2000
PATIENCE_SECONDS = 60.0
_NO_KEY: Final = "row "
# To try again is of no use: the same comes out.
_FINAL = (ContextError, UnsafeModelError, ModelNotAvailableError, EndpointRefusedError)


@dataclass(frozen=True, slots=True)
class MapJob:
    """What a map is asked to do.

    Parameters
    ----------
    draft : PromptDraft
        The prompt; its variables are those that all rows share.
    table : RowTable
        The rows.
    compute : callable
        See `Compute`.
    use_cache : bool
        False neither reads nor writes the cache.
    retry : int
        How often a row that failed is tried again.
    backend : str
        Where it is computed, for the record.
    """

    draft: PromptDraft
    table: RowTable
    compute: Compute
    use_cache: bool = True
    retry: int = 0
    backend: str = "kernel"

    def signature(self) -> str:
        """Return what tells this map from another one; the rows are compared one by one."""
        draft = self.draft
        saved = (draft.saved.name, draft.saved.version) if draft.saved else None
        said = (draft.template, draft.system, draft.model, draft.parameters, draft.quantization, saved)
        more = (draft.output_schema, draft.exact, draft.reuse, draft.truncate, self.use_cache)
        return hashlib.sha256(repr((said, more)).encode("utf-8", "surrogatepass")).hexdigest()


@dataclass(slots=True)
class _Ask:
    """A row that is to be computed, and the rows that wait for its answer."""

    index: int
    key: str
    prepared: PreparedPrompt
    stored: bool
    claim: Claim | None = None
    unclaimed: bool = False
    same: list[int] = field(default_factory=list)
    attempts: int = 0


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
        self._stamp = stamp
        self._unfinished = unfinished
        self._job = job
        self._on_row = on_row
        self._tally = MapTally(len(job.table))
        self._progress = MapProgress(self._tally, progress)
        self._signature = job.signature()
        self._earlier = unfinished.find(self._signature)
        self._id = os.urandom(8).hex()
        self._started_at, self._clock = datetime.now(UTC), time.perf_counter()
        self._first: dict[str, int] = {}
        self._keys: dict[int, str] = {}
        self._answers: dict[str, CacheResult] = dict(self._earlier.answers)
        self._failures: dict[int, LLMOpsError] = {}
        self._like: PreparedPrompt | None = None
        self._open: dict[int, _Ask] = {}

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
                _release(ask)
        self._progress.tell(now=True)
        self._unfinished.forget(self._signature)
        self._stamp_map("ok", {})
        return self.result()

    def result(self) -> MapResult:
        """Return what was done so far."""
        return self._tally.result(self._id, time.perf_counter() - self._clock, self._job.backend)

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
        key = self._keys[index] = _key(prepared.request, index)
        resumed = self._earlier.rows.get((index, key))
        if resumed is not None:
            self._first.setdefault(key, index)
            self._tell_row(self._tally.resume(resumed))
            return
        fresh = _is_fresh_draw(prepared)
        stored = not fresh and self._cache.enabled and not key.startswith(_NO_KEY)
        stored = stored and not self._pipeline.why_not_stored(prepared, use_cache=self._job.use_cache)
        first = None if fresh else self._first.setdefault(key, index)
        if first is not None and first != index and self._repeat(index, first, prepared, key):
            return
        ask = _Ask(index, key, prepared, stored)
        if stored and self._hit(ask, None if first == index else first):
            return
        if stored:
            ask.claim = self._cache.claim(prepared.request)
        self._open[index] = ask
        self._tally.pending += 1

    def _repeat(self, index: int, first: int, prepared: PreparedPrompt, key: str) -> bool:
        """Give a row the outcome of an earlier one that asked the same; False where that is gone."""
        if first in self._open:
            self._open[first].same.append(index)
            self._tally.pending += 1
            return True
        ask = _Ask(index, key, prepared, stored=False)
        if first in self._failures:
            self._record_failure(ask, index, self._failures[first], first)
            return True
        if key in self._answers:
            self._record_repeat(ask, index, self._answers[key], first)
            return True
        return False

    def _hit(self, ask: _Ask, same_as: int | None = None) -> bool:
        found = self._cache.find(ask.prepared.request, reuse=ask.prepared.draft.reuse)
        if found is None:
            return False
        if same_as is not None:
            self._record_repeat(ask, ask.index, found, same_as)
            return True
        self._record(ask, found)
        return True

    def _prepared(self, index: int) -> PreparedPrompt | None:
        draft = self._job.draft
        variables = self._job.table.variables(index, draft.variables)
        row = replace(draft, variables=variables)
        try:
            prepared = self._pipeline.prepare(row, self._like)
        except (TemplateError, ContextError) as error:
            said = self._explained(index, error)
            self._record_unprepared(index, said)
            return None
        if self._like is None:
            self._like = prepared
        return prepared

    def _explained(self, index: int, error: LLMOpsError) -> LLMOpsError:
        """Return an error in the words of a table; one that concerns every row is raised."""
        table, draft = self._job.table, self._job.draft
        needed = [name for name in self._needed() if f"variable {name!r}" in error.message]
        if table.missing(index, needed):
            (name, *_) = needed
            return TemplateError(
                f"Row {index} has no value for {name!r}.",
                f"Fill it, drop the row, or write {{{{ {name} | default('…') }}}}.",
            )
        if needed and needed[0] not in (*table.names, ROW, *draft.variables):
            raise _no_column(needed[0], table, draft.variables) from None
        return error

    def _needed(self) -> tuple[str, ...]:
        from jupyter_llmops.prompting.messages import needs_of

        draft = self._job.draft
        return needs_of(draft.template, draft.system, draft.declarations, draft.load).variables

    # Computing

    def _compute(self, asks: list[_Ask]) -> None:
        self._pipeline.check_budget([ask.prepared for ask in asks])
        self._progress.begin()
        try:
            for tries_left in range(self._job.retry, -1, -1):
                asks = self._attempt(asks, tries_left)
                if not asks:
                    return
        finally:
            self._progress.pause()

    def _attempt(self, asks: Sequence[_Ask], tries_left: int) -> list[_Ask]:
        """Compute rows and return those that failed and are worth another try."""
        open_asks = dict(enumerate(asks))
        again: list[_Ask] = []

        def on_done(position: int, outcome: Generation | LLMOpsError) -> None:
            ask = open_asks.pop(position, None)
            if ask is None:
                return  # it was told already
            ask.attempts += 1
            if not isinstance(outcome, LLMOpsError):
                self._answered(ask, outcome)
            elif tries_left and _may_pass(outcome):
                again.append(ask)
            else:
                self._failed(ask, outcome)

        def on_progress(sentence: str, _fraction: float | None) -> None:
            self._progress.tell(sentence)

        requests = [ask.prepared.request for ask in asks]
        self._job.compute(requests, asks[0].prepared.model, on_done, on_progress)
        for position in list(open_asks):
            on_done(position, BackendError("The backend gave no answer to this row.", "Run the cell again."))
        return again

    def _answered(self, ask: _Ask, generation: Generation) -> None:
        with postponed_interrupt():
            priced = self._pipeline.priced(ask.prepared, generation)
            result = CacheResult(priced, hit=False, key=ask.key, stored_at=None, stored_by="", why="")
            if ask.stored:
                result = self._cache.keep(ask.prepared.request, priced, store=self._pipeline.may_store)
            self._progress.computed(priced.tokens_out)
            self._record(ask, result)
        self._progress.tell()

    def _failed(self, ask: _Ask, error: LLMOpsError) -> None:
        with postponed_interrupt():
            self._close(ask)
            self._failures[ask.index] = error
            self._record_failure(ask, ask.index, error, None)
            for index in ask.same:
                self._record_failure(ask, index, error, ask.index)
        self._progress.tell()

    def _await(self, asks: list[_Ask]) -> list[_Ask]:
        """Wait for rows that somebody else computes; claim those that nobody does any more.

        A holder on another host that is silent can't be told from one that was just replaced by a
        second look, so it gets two; after that its rows are computed here, whoever else does.
        """
        silent = False
        for number, ask in enumerate(asks):
            note = f"{len(asks) - number:,} are being computed by somebody else"
            for _ in range(2):
                clock = time.monotonic()
                found = self._cache.wait(ask.prepared.request, seconds=0.0 if silent else PATIENCE_SECONDS)
                if found is not None:
                    self._record(ask, found)
                    break
                ask.claim = self._cache.claim(ask.prepared.request)
                if ask.claim is not None or time.monotonic() - clock >= PATIENCE_SECONDS:
                    break
            else:
                silent = ask.unclaimed = True
            self._progress.tell(note)
        return [ask for ask in asks if ask.index in self._open]

    # Recording

    def _record(self, ask: _Ask, result: CacheResult) -> None:
        """Stamp a row's answer and those of the rows that repeat it."""
        with postponed_interrupt():
            self._close(ask)
            seconds = 0.0 if result.hit else result.generation.seconds
            completion = self._pipeline.record(
                ask.prepared,
                result,
                started_at=datetime.now(UTC) - timedelta(seconds=seconds),
                seconds=seconds,
                parent=self._id,
                fields={"row": ask.index},
            )
            if not ask.stored and not result.hit and not _is_fresh_draw(ask.prepared):
                self._answers[ask.key] = result
            row = self._tally.answered(ask.index, completion)
            for index in ask.same:
                self._record_repeat(ask, index, result, ask.index)
        self._tell_row(row)

    def _record_repeat(self, ask: _Ask, index: int, result: CacheResult, first: int) -> None:
        again = replace(result, hit=True, why=f"Row {first} of the same map asked the very same.")
        earlier = self._tally.rows[first].completion
        with postponed_interrupt():
            completion = self._pipeline.record(
                ask.prepared,
                again,
                started_at=datetime.now(UTC),
                seconds=0.0,
                parent=self._id,
                fields={"row": index, "same_as": earlier.run_id if earlier else ""},
            )
            self._keys[index] = ask.key
            row = self._tally.answered(index, completion, same_as=first)
        self._tell_row(row)

    def _record_failure(self, ask: _Ask, index: int, error: LLMOpsError, first: int | None) -> None:
        with postponed_interrupt():
            self._pipeline.record_failure(
                ask.prepared,
                error,
                started_at=datetime.now(UTC),
                seconds=0.0,
                parent=self._id,
                fields={"row": index, "attempts": ask.attempts},
            )
            row = self._tally.failed_with(index, _failure(error, ask.attempts), same_as=first)
        self._tell_row(row)

    def _record_unprepared(self, index: int, error: LLMOpsError) -> None:
        """Stamp a row whose prompt can't even be rendered."""
        with postponed_interrupt():
            self._stamp(
                "prompt",
                parent=self._id,
                status="error",
                started_at=datetime.now(UTC),
                seconds=0.0,
                fields={"row": index, "model": self._job.draft.model, "error_type": type(error).__name__},
                content={"template": self._job.draft.template},
            )
            row = self._tally.failed_with(index, _failure(error, 0))
        self._tell_row(row)

    def _close(self, ask: _Ask) -> None:
        """Take a row off those that are to be computed."""
        if self._open.pop(ask.index, None) is not None:
            self._tally.pending -= 1 + len(ask.same)
        _release(ask)

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
            self._unfinished.keep(self._signature, Finished(self._id, rows, self._answers))
        status = "interrupted" if isinstance(error, KeyboardInterrupt) else "error"
        self._stamp_map(status, {"error_type": type(error).__name__})

    def _where_it_stopped(self) -> tuple[str, str]:
        tally = self._tally
        kept = f"; what they got is kept (run {self._id})" if tally.done else ""
        return (
            f"Stopped after {tally.done:,} of {len(tally):,} rows{kept}.",
            "Run the same cell again to go on from there.",
        )

    def _stamp_map(self, status: str, more: Mapping[str, Any]) -> None:
        tally, draft = self._tally, self._job.draft
        fields: dict[str, Any] = request_fields(self._like) if self._like else {"model": draft.model}
        fields |= {
            "rows": len(tally),
            "computed": tally.computed,
            "reused": tally.reused,
            "repeated": tally.repeated,
            "failed": tally.failed,
            "resumed": tally.resumed,
            "backend": self._job.backend,
            **money_fields("cost", tally.cost),
            **more,
        }
        if tally.resumed:
            fields["continues"] = self._earlier.run_id
        self._id = self._stamp(
            "map",
            id=self._id,
            status=status,
            started_at=self._started_at,
            seconds=time.perf_counter() - self._clock,
            fields=fields,
            content={"template": draft.template} | ({"system": draft.system} if draft.system else {}),
        )


def _key(request: InferenceRequest, index: int) -> str:
    try:
        return request_key(request)
    except ValueError:  # a text that is no Unicode has no canonical form, so no other row equals it
        return f"{_NO_KEY}{index}"


def _is_fresh_draw(prepared: PreparedPrompt) -> bool:
    """Return whether each row is a sample of its own, also where two rows ask the very same."""
    return not prepared.draft.reuse and bool(why_not_reusable(prepared.request))


def _may_pass(error: LLMOpsError) -> bool:
    return isinstance(error, InferenceError) and not isinstance(error, _FINAL)


def _failure(error: LLMOpsError, attempts: int) -> RowFailure:
    return RowFailure(type(error).__name__, error.message, error.hint, attempts)


def _release(ask: _Ask) -> None:
    if ask.claim is not None:
        ask.claim.release()
        ask.claim = None


def _no_column(name: str, table: RowTable, variables: Mapping[str, Any]) -> UsageError:
    if not table.names:
        return TemplateError(
            f"The template needs {name!r}, which is not defined.",
            "A row that is a text or a number is {{ row }}.",
        )
    near = nearest(name, (*table.names, *(key for key in variables if not key.startswith("_"))))
    shown = ", ".join(table.names[:10]) + (", …" if len(table.names) > 10 else "")
    return TemplateError(
        f"The template needs {name!r}, which is no column and no variable.",
        f"{f'Did you mean {" or ".join(near)}? ' if near else ''}The columns are {shown}.",
    )
