"""Running a cascade: each stage passes on only the texts that it is not sure of."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from typing import Any

from jupyter_llmops.cascade.asking import Asking, Prepare, Progress, Table
from jupyter_llmops.cascade.classic import classic_stages
from jupyter_llmops.cascade.language import Score, prior_of
from jupyter_llmops.cascade.record import CascadeRecord, Stamp
from jupyter_llmops.cascade.report import make_report, suggest_threshold
from jupyter_llmops.cascade.texts import check_labels, check_text, check_texts
from jupyter_llmops.cascade.timing import SESSION, StageTimes
from jupyter_llmops.errors import UsageError
from jupyter_llmops.records.cascade import Cascade, CascadeAnswer, CascadeReport, Stage, StageAnswer


class CascadeRunner:
    """Asks the stages of one cascade.

    Parameters
    ----------
    cascade : Cascade
        From `build_cascade`.
    classifiers : mapping
        The fitted classifier of each classic stage by the stage's name.
    score : callable
        From chats, the possible answers and the stage to one row of probabilities a chat, each summing to 1.
    stamp : callable, optional
        Appends one leaf to the trail and returns the run's id.
    progress : callable, optional
        Gets what is being done and how far it is, 0 to 1 or None.
    prepare : callable, optional
        Loads a language stage's model before time is measured, and returns the facts about it that
        belong in the record (digest, engine, quantization).
    times : StageTimes, optional
        Where measured seconds are kept; one for the whole session by default.

    Raises
    ------
    UnknownNameError, UsageError
        A classifier is missing, not fitted, gives no probabilities or knows other labels.
    """

    def __init__(
        self,
        cascade: Cascade,
        classifiers: Mapping[str, Any],
        *,
        score: Score,
        stamp: Stamp | None = None,
        progress: Progress | None = None,
        prepare: Prepare | None = None,
        times: StageTimes = SESSION,
    ) -> None:
        self.cascade = cascade
        classic = classic_stages(cascade, classifiers)
        self._asking = Asking(cascade, classic, score, prepare, progress, times)
        self._record = CascadeRecord(cascade, classic, self._asking.facts, stamp)

    def run(self, text: str) -> CascadeAnswer:
        """Return the cascade's answer to one text.

        Raises
        ------
        UsageError
            `text` is empty or no text.
        """
        return self.run_many([check_text(text)])[0]

    def run_many(self, texts: Iterable[str], progress: Progress | None = None) -> list[CascadeAnswer]:
        """Return the answers to many texts, in their order; they are asked in batches.

        Parameters
        ----------
        texts : iterable of str
            A list or a data frame's column, none of them empty.
        progress : callable, optional
            In place of the runner's own.

        Raises
        ------
        UsageError
            A text is empty or no text; the message names its row.
        Interrupted
            Ctrl-C; recorded as interrupted.
        """
        known = check_texts(texts)
        with self._record.writing(known, "run") as entry:
            traces = self._traces(known, progress)
            answers = [self._answer(text, trace) for text, trace in zip(known, traces, strict=True)]
            entry.answers(answers)
        return [replace(answer, run_id=entry.run_id) for answer in answers]

    def evaluate(
        self, texts: Iterable[str], labels: Iterable[str], progress: Progress | None = None
    ) -> CascadeReport:
        """Return what each stage alone and the cascade are worth on labelled rows.

        Every stage is asked about every row, so it takes as long as the last stage for all of them.

        Parameters
        ----------
        texts : iterable of str
            None of them empty.
        labels : iterable of str
            The right answers, in the same order.
        progress : callable, optional
            In place of the runner's own.

        Raises
        ------
        UsageError
            There are no rows, the lengths differ, or a label is not the cascade's.
        """
        known = check_texts(texts)
        right = check_labels(labels, len(known), self.cascade.labels)
        if not known:
            raise UsageError("There are no rows to evaluate on.", "Give texts and their labels.")
        with self._record.writing(known, "evaluate") as entry:
            tables = [self._asking.ask(stage, known, progress) for stage in self.cascade.stages]
            report = make_report(self.cascade, tables, right)
            entry.report(report, right)
        return replace(report, run_id=entry.run_id)

    def suggest_threshold(self, texts: Iterable[str], labels: Iterable[str]) -> float:
        """Return a threshold of the first stage that suits labelled rows.

        It is the lowest at which the first stage answers no row wrong that the last stage has right.
        Choose it on other rows than those you report on; it promises nothing about new ones.

        Raises
        ------
        UsageError
            As in `evaluate`.
        """
        known = check_texts(texts)
        right = check_labels(labels, len(known), self.cascade.labels)
        if not known:
            raise UsageError("There are no rows to choose a threshold on.", "Give texts and their labels.")
        tables = [self._asking.ask(stage, known, None) for stage in self.cascade.stages]
        return suggest_threshold(self.cascade, tables, right)

    def calibrate(self, texts: Iterable[str]) -> Cascade:
        """Return the cascade with each language model's leaning measured on unlabelled texts.

        Parameters
        ----------
        texts : iterable of str
            Some dozens of typical texts; the labels should occur about equally often among them.

        Raises
        ------
        UsageError
            There are fewer than 8 texts: too few to tell a leaning from chance.
        """
        known = check_texts(texts)
        if len(known) < 8:
            raise UsageError(
                f"{len(known)} texts are too few to calibrate on.", "Give at least 8 typical texts."
            )

        def calibrated(stage: Stage) -> Stage:
            if stage.kind != "llm":
                return stage
            return replace(
                stage, prior=prior_of(self._asking.ask(replace(stage, prior=()), known, None).rows)
            )

        return replace(self.cascade, stages=tuple(calibrated(stage) for stage in self.cascade.stages))

    def _traces(self, texts: Sequence[str], progress: Progress | None) -> list[list[StageAnswer]]:
        """Ask stage after stage, each about the texts that are still open."""
        traces: list[list[StageAnswer]] = [[] for _ in texts]
        pending = list(range(len(texts)))
        last = self.cascade.stages[-1]
        for stage in self.cascade.stages:
            if not pending:
                break
            table = self._asking.ask(stage, [texts[i] for i in pending], progress)
            for row, index in enumerate(pending):
                traces[index].append(self._said(stage, table, row, last=stage is last))
            pending = [index for index in pending if not traces[index][-1].accepted]
        return traces

    def _said(self, stage: Stage, table: Table, row: int, *, last: bool) -> StageAnswer:
        column, confidence = table.best(row)
        return StageAnswer(
            stage=stage.name,
            label=self.cascade.labels[column],
            confidence=confidence,
            seconds=table.seconds_per_text,
            accepted=last or confidence >= stage.threshold,
        )

    def _answer(self, text: str, trace: Sequence[StageAnswer]) -> CascadeAnswer:
        seconds = sum(said.seconds for said in trace)
        final, last = trace[-1], self.cascade.stages[-1]
        # Always asking the last stage would have cost this text its own seconds where it was asked,
        # else what it takes on average.
        alone = final.seconds if final.stage == last.name else self._asking.mean_seconds(last)
        return CascadeAnswer(
            text=text,
            label=final.label,
            stage=final.stage,
            confidence=final.confidence,
            seconds=seconds,
            seconds_saved=None if alone is None else alone - seconds,
            trace=tuple(trace),
        )
