"""What the trail keeps of a map: each row once, as a prompt in the map's own run."""

from __future__ import annotations

import os
import time
from collections.abc import Mapping
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from jupyter_llmops.errors import OutputSchemaError
from jupyter_llmops.prompting.map_job import Ask, MapJob
from jupyter_llmops.prompting.map_tally import MapTally
from jupyter_llmops.prompting.recording import money_fields, request_fields
from jupyter_llmops.records.cache import CacheResult
from jupyter_llmops.records.map import MapRow, RowFailure

if TYPE_CHECKING:
    from jupyter_llmops.errors import LLMOpsError
    from jupyter_llmops.prompting.draft import PreparedPrompt
    from jupyter_llmops.prompting.pipeline import PromptPipeline
    from jupyter_llmops.prompting.recording import Stamp


class MapRecord:
    """Stamps rows and takes them into the tally, both or none.

    Parameters
    ----------
    pipeline : PromptPipeline
        Records a prompt.
    stamp : callable
        Appends to the trail.
    job : MapJob
        What is mapped.
    tally : MapTally
        Takes the rows.
    """

    def __init__(self, pipeline: PromptPipeline, stamp: Stamp, job: MapJob, tally: MapTally) -> None:
        self.run_id = os.urandom(8).hex()
        self._pipeline = pipeline
        self._stamp = stamp
        self._job = job
        self._tally = tally
        self._ended = 0.0
        self._started_at, self._clock = datetime.now(UTC), time.perf_counter()

    @property
    def seconds(self) -> float:
        """How long the map has been running, or took."""
        return (self._ended or time.perf_counter()) - self._clock

    def answered(self, ask: Ask, result: CacheResult) -> MapRow:
        """Record a row's answer, reused or computed."""
        seconds = 0.0 if result.hit else result.generation.seconds
        return self._recorded(ask.prepared, ask.index, result, seconds, {"row": ask.index})

    def repeated(self, prepared: PreparedPrompt, index: int, result: CacheResult, first: int) -> MapRow:
        """Record a row that asks the same as an earlier one."""
        again = replace(result, hit=True, why=f"Row {first} of the same map asked the very same.")
        earlier = self._tally.rows[first].completion
        fields = {"row": index, "same_as": earlier.run_id if earlier else ""}
        return self._recorded(prepared, index, again, 0.0, fields, same_as=first)

    def _recorded(
        self,
        prepared: PreparedPrompt,
        index: int,
        result: CacheResult,
        seconds: float,
        fields: Mapping[str, Any],
        same_as: int | None = None,
    ) -> MapRow:
        try:
            completion = self._pipeline.record(
                prepared,
                result,
                started_at=datetime.now(UTC) - timedelta(seconds=seconds),
                seconds=seconds,
                parent=self.run_id,
                fields=fields,
            )
        except OutputSchemaError as error:  # stamped already, with its text
            failure = RowFailure(type(error).__name__, error.message, error.hint)
            paid = None if result.hit else result.generation.cost
            return self._tally.failed_with(index, failure, same_as=same_as, cost=paid)
        return self._tally.answered(index, completion, same_as=same_as)

    def failed(self, ask: Ask, index: int, error: LLMOpsError, same_as: int | None = None) -> MapRow:
        """Record a row that got no answer."""
        self._pipeline.record_failure(
            ask.prepared,
            error,
            started_at=datetime.now(UTC),
            seconds=0.0,
            parent=self.run_id,
            fields={"row": index, "attempts": ask.attempts},
        )
        failure = RowFailure(type(error).__name__, error.message, error.hint, ask.attempts)
        return self._tally.failed_with(index, failure, same_as=same_as)

    def unprepared(self, index: int, error: LLMOpsError) -> MapRow:
        """Record a row whose prompt can't even be rendered."""
        draft = self._job.draft
        self._stamp(
            "prompt",
            parent=self.run_id,
            status="error",
            started_at=datetime.now(UTC),
            seconds=0.0,
            fields={"row": index, "model": draft.model, "error_type": type(error).__name__},
            content={"template": draft.template},
        )
        failure = RowFailure(type(error).__name__, error.message, error.hint, attempts=0)
        return self._tally.failed_with(index, failure)

    def ended(self, status: str, like: PreparedPrompt | None, more: Mapping[str, Any]) -> None:
        """Stamp the map itself, which its rows already name as their parent.

        Parameters
        ----------
        status : {"ok", "error", "interrupted"}
            How it ended.
        like : PreparedPrompt or None
            One of its rows.
        more : mapping
            What its leaf holds besides.
        """
        self._ended = time.perf_counter()
        tally, draft = self._tally, self._job.draft
        fields: dict[str, Any] = request_fields(like) if like else {"model": draft.model}
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
        self.run_id = self._stamp(
            "map",
            id=self.run_id,
            status=status,
            started_at=self._started_at,
            seconds=self.seconds,
            fields=fields,
            content={"template": draft.template} | ({"system": draft.system} if draft.system else {}),
        )
