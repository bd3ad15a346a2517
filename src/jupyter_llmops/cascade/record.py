"""What the trail keeps of a cascade's run."""

from __future__ import annotations

import json
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Protocol

from jupyter_llmops.cascade.classic import ClassicStage
from jupyter_llmops.errors import Interrupted
from jupyter_llmops.records.cascade import Cascade, CascadeAnswer, CascadeReport


class Stamp(Protocol):
    """Appends one leaf to the trail; see `audit.journal.Journal.stamp`."""

    def __call__(
        self,
        kind: str,
        *,
        status: str = "ok",
        started_at: datetime,
        seconds: float,
        fields: dict[str, Any],
        content: dict[str, str],
    ) -> str:
        """Append one leaf and return the run's id."""
        ...


class Entry:
    """One record in the making."""

    def __init__(self) -> None:
        self.run_id = ""
        self.fields: dict[str, Any] = {}
        self.response = ""

    def answers(self, answers: Sequence[CascadeAnswer]) -> None:
        """Take the answers of a run."""
        saved = [answer.seconds_saved for answer in answers if answer.seconds_saved is not None]
        self.fields = {
            "answered": dict(Counter(answer.stage for answer in answers)),
            "saved_microseconds": round(sum(saved) * 1e6) if saved else None,
        }
        self.response = json.dumps(
            [{"label": a.label, "stage": a.stage, "confidence": round(a.confidence, 6)} for a in answers],
            ensure_ascii=False,
        )

    def report(self, report: CascadeReport, labels: Sequence[str]) -> None:
        """Take the outcome of an evaluation."""
        self.fields = {
            "answered": {stage.stage: stage.answered.rows for stage in report.stages},
            "right": report.accuracy.right,
            "right_alone": {stage.stage: stage.alone.right for stage in report.stages},
            "saved_microseconds": round(report.seconds_saved * 1e6),
        }
        self.response = json.dumps({"labels": list(labels)}, ensure_ascii=False)


class CascadeRecord:
    """Stamps what a cascade does.

    Parameters
    ----------
    cascade : Cascade
        Which one.
    classic : mapping of name to ClassicStage
        Whose parameters' digests are recorded.
    facts : mapping of name to mapping
        What is known of each language model; filled while it is loaded.
    stamp : callable or None
        None records nothing.
    """

    def __init__(
        self,
        cascade: Cascade,
        classic: Mapping[str, ClassicStage],
        facts: Mapping[str, Mapping[str, Any]],
        stamp: Stamp | None,
    ) -> None:
        self._cascade = cascade
        self._classic = classic
        self._facts = facts
        self._stamp = stamp

    @contextmanager
    def writing(self, texts: Sequence[str], operation: str) -> Iterator[Entry]:
        """Record what happens in a block, whether it ends well, in an error or by Ctrl-C.

        Raises
        ------
        Interrupted
            In place of a KeyboardInterrupt.
        """
        entry = Entry()
        started_at, clock = datetime.now(UTC), time.perf_counter()
        status = "ok"
        try:
            yield entry
        except KeyboardInterrupt:
            status = "interrupted"
            entry.fields["error_type"] = "KeyboardInterrupt"
            raise Interrupted(
                f"The cascade {self._cascade.name!r} was stopped before it had answered.",
                "Run the cell again to ask once more.",
            ) from None
        except BaseException as error:
            status = "error"
            entry.fields["error_type"] = type(error).__name__
            raise
        finally:
            seconds = time.perf_counter() - clock
            if self._stamp is not None and texts:
                entry.run_id = self._stamp(
                    "cascade",
                    status=status,
                    started_at=started_at,
                    seconds=seconds,
                    fields=self._fields(operation, len(texts)) | entry.fields,
                    content=self._content(texts, entry),
                )

    def _fields(self, operation: str, rows: int) -> dict[str, Any]:
        cascade = self._cascade
        language = [stage.name for stage in cascade.stages if stage.kind == "llm"]
        return {
            "cascade": cascade.name,
            "operation": operation,
            "rows": rows,
            "labels": list(cascade.labels),
            "stages": [self._stage(number) for number in range(len(cascade.stages))],
            "model": language[-1],
        }

    def _stage(self, number: int) -> dict[str, Any]:
        stage = self._cascade.stages[number]
        facts: dict[str, Any] = {"name": stage.name, "kind": stage.kind, "threshold": stage.threshold}
        if stage.prior:
            facts["prior"] = list(stage.prior)
        if stage.kind == "classic":
            facts["digest"] = self._classic[stage.name].digest()
        return facts | dict(self._facts.get(stage.name, {}))

    def _content(self, texts: Sequence[str], entry: Entry) -> dict[str, str]:
        request = {
            "texts": list(texts),
            "examples": [list(example) for example in self._cascade.examples],
            "answer": self._cascade.answer,
        }
        content = {
            "request": json.dumps(request, ensure_ascii=False),
            "template": self._cascade.instruction,
        }
        return content | ({"response": entry.response} if entry.response else {})
