"""What a cascade is worth on labelled rows, from what every stage said of every row."""

from __future__ import annotations

import math
from collections.abc import Sequence

from jupyter_llmops.cascade.asking import Table
from jupyter_llmops.records.cascade import Accuracy, Cascade, CascadeReport, StageReport

_Z95 = 1.959963984540054


def accuracy_of(right: Sequence[bool]) -> Accuracy:
    """Return the share of right answers with its 95 % Wilson score interval.

    Source: E. B. Wilson, "Probable inference, the law of succession, and statistical inference",
    JASA 22 (1927); good for the few dozen rows that a notebook has, where the normal one is not.
    """
    rows, hits = len(right), sum(right)
    if not rows:
        return Accuracy(0, 0, 0.0, 1.0)
    share, z2 = hits / rows, _Z95**2
    middle = (share + z2 / (2 * rows)) / (1 + z2 / rows)
    half = _Z95 / (1 + z2 / rows) * math.sqrt(share * (1 - share) / rows + z2 / (4 * rows**2))
    return Accuracy(hits, rows, max(0.0, middle - half), min(1.0, middle + half))


def make_report(cascade: Cascade, tables: Sequence[Table], labels: Sequence[str]) -> CascadeReport:
    """Return the report on labelled rows.

    Parameters
    ----------
    cascade : Cascade
        Whose thresholds decide.
    tables : sequence of Table
        What each stage said of every row, in the order of the stages.
    labels : sequence of str
        The right answers.
    """
    right = [_right(cascade, table, labels) for table in tables]
    answered_by = _who_answers(cascade, tables)
    rows = len(labels)
    stages = tuple(
        StageReport(
            stage=stage.name,
            kind=stage.kind,
            threshold=stage.threshold,
            alone=accuracy_of(right[number]),
            answered=accuracy_of([right[number][row] for row in range(rows) if answered_by[row] == number]),
            seconds=tables[number].seconds_per_text,
        )
        for number, stage in enumerate(cascade.stages)
    )
    seconds = sum(table.seconds_per_text for row in range(rows) for table in tables[: answered_by[row] + 1])
    return CascadeReport(
        cascade=cascade.name,
        rows=rows,
        accuracy=accuracy_of([right[answered_by[row]][row] for row in range(rows)]),
        stages=stages,
        seconds=seconds,
        seconds_saved=rows * tables[-1].seconds_per_text - seconds,
    )


def suggest_threshold(cascade: Cascade, tables: Sequence[Table], labels: Sequence[str]) -> float:
    """Return the lowest threshold of the first stage at which no row is answered worse.

    That is: from it on, whatever the first stage answers is right wherever the last stage is. The
    threshold with the best accuracy on the same rows would be lower, and break on new ones.

    Parameters
    ----------
    cascade, tables, labels
        As in `make_report`.
    """
    first, last = _right(cascade, tables[0], labels), _right(cascade, tables[-1], labels)
    worse = [tables[0].best(row)[1] for row in range(len(labels)) if last[row] and not first[row]]
    if not worse:
        return 0.0
    # Just above the surest mistake, in steps that people type.
    return min(1.0, math.floor(max(worse) * 1000 + 1) / 1000)


def _right(cascade: Cascade, table: Table, labels: Sequence[str]) -> list[bool]:
    return [cascade.labels[table.best(row)[0]] == label for row, label in enumerate(labels)]


def _who_answers(cascade: Cascade, tables: Sequence[Table]) -> list[int]:
    """Return, for each row, the number of the first stage that is sure; the last one always is."""
    last = len(cascade.stages) - 1
    return [
        next(
            number
            for number, stage in enumerate(cascade.stages)
            if number == last or tables[number].best(row)[1] >= stage.threshold
        )
        for row in range(len(tables[0].rows))
    ]
