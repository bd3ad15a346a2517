"""Asking one stage about many texts: measured, in batches, and checked."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from jupyter_llmops.cascade.classic import ClassicStage
from jupyter_llmops.cascade.language import Score, answer_of, chat_of, without_prior
from jupyter_llmops.cascade.timing import StageTimes
from jupyter_llmops.errors import InferenceError, UsageError
from jupyter_llmops.records.cascade import Cascade, Stage

Progress = Callable[[str, float | None], None]
Prepare = Callable[[Stage], Mapping[str, Any] | None]

# A language model gets this many texts at once: progress and Ctrl-C come between batches.
BATCH = 32


@dataclass(frozen=True, slots=True)
class Table:
    """What a stage said of some texts.

    Parameters
    ----------
    rows : list of list of float
        Probabilities, one row a text, one column a label of the cascade.
    seconds_per_text : float
        What it took, divided evenly.
    """

    rows: list[list[float]]
    seconds_per_text: float

    def best(self, row: int) -> tuple[int, float]:
        """Return the column of the most probable label of a text, and its probability."""
        values = self.rows[row]
        column = max(range(len(values)), key=values.__getitem__)
        return column, values[column]


class Asking:
    """Asks the stages of a cascade; see `CascadeRunner` for the parameters."""

    def __init__(
        self,
        cascade: Cascade,
        classic: Mapping[str, ClassicStage],
        score: Score,
        prepare: Prepare | None,
        progress: Progress | None,
        times: StageTimes,
    ) -> None:
        self._cascade = cascade
        self._classic = classic
        self._score = score
        self._prepare = prepare
        self._progress = progress
        self._times = times
        self.facts: dict[str, Mapping[str, Any]] = {}

    def mean_seconds(self, stage: Stage) -> float | None:
        """Return what a stage takes for a text, None when it was never asked in this session."""
        return self._times.mean(self._key(stage))

    def ask(self, stage: Stage, texts: Sequence[str], progress: Progress | None) -> Table:
        """Return a stage's probabilities for texts.

        Raises
        ------
        UsageError
            A classifier can't judge them, or gives no valid probabilities.
        InferenceError
            A language model gives no valid probabilities.
        """
        report = progress or self._progress or _silent
        if stage.kind == "llm":
            self._load(stage)
        started = time.perf_counter()
        if stage.kind == "classic":
            report(f"{stage.name}: {_count(texts)}", None)
            rows = self._classic[stage.name].probabilities(texts)
        else:
            rows = self._scores(stage, texts, report)
        seconds = time.perf_counter() - started
        _check(stage, rows, texts, len(self._cascade.labels))
        if texts:
            self._times.add(self._key(stage), len(texts), seconds)
        return Table(rows, seconds / max(1, len(texts)))

    def _load(self, stage: Stage) -> None:
        if self._prepare is not None and stage.name not in self.facts:
            self.facts[stage.name] = dict(self._prepare(stage) or {})

    def _scores(self, stage: Stage, texts: Sequence[str], report: Progress) -> list[list[float]]:
        rows: list[list[float]] = []
        answers = [answer_of(self._cascade, label) for label in self._cascade.labels]
        for start in range(0, len(texts), BATCH):
            report(f"{stage.name}: {_count(texts)}", start / len(texts))
            batch = [chat_of(self._cascade, text) for text in texts[start : start + BATCH]]
            scored = self._score(batch, answers, stage)
            rows += [without_prior(row, stage.prior) for row in scored]
        report(f"{stage.name}: {_count(texts)}", 1.0)
        return rows

    def _key(self, stage: Stage) -> Hashable:
        if stage.kind == "classic":
            return (stage.kind, stage.name)
        return (stage.kind, stage.name, self._cascade.instruction, self._cascade.examples)


def _check(stage: Stage, rows: Sequence[Sequence[float]], texts: Sequence[str], labels: int) -> None:
    kind: type[UsageError | InferenceError] = UsageError if stage.kind == "classic" else InferenceError
    if len(rows) != len(texts):
        raise kind(f"The stage {stage.name!r} gave {len(rows)} answers to {len(texts)} texts.")
    for text, row in zip(texts, rows, strict=True):
        valid = len(row) == labels and all(math.isfinite(p) and -1e-9 <= p <= 1 + 1e-6 for p in row)
        if not valid or abs(sum(row) - 1) > 1e-3:
            shown = ", ".join(f"{p:.3g}" for p in row)
            raise kind(
                f"The stage {stage.name!r} gave no valid probabilities ({shown}) for {text[:40]!r}.",
                "Fit the classifier again on data without missing values."
                if stage.kind == "classic"
                else "Load the model again (%models unload), or use another quantization.",
            )


def _count(texts: Sequence[str]) -> str:
    return f"{len(texts)} text{'' if len(texts) == 1 else 's'}"


def _silent(_what: str, _done: float | None) -> None:
    return
