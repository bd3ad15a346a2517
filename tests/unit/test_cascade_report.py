"""The report on labelled rows: every figure is recomputed here by hand."""

from __future__ import annotations

import dataclasses

import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline

from jupyter_llmops.cascade import build_cascade
from jupyter_llmops.cascade.asking import Table
from jupyter_llmops.cascade.report import accuracy_of, make_report, suggest_threshold
from jupyter_llmops.cascade.run import CascadeRunner
from jupyter_llmops.cascade.timing import StageTimes
from jupyter_llmops.errors import UsageError
from jupyter_llmops.records.cascade import Stage

CASCADE = build_cascade("mood", ["pos", "neg"], [Stage("clf", "classic", 0.8), Stage("model", "llm", 0)])
# rows:            sure+right  sure+wrong  unsure+right unsure+wrong
CLASSIC = Table([[0.9, 0.1], [0.8, 0.2], [0.6, 0.4], [0.3, 0.7]], 0.001)
MODEL = Table([[0.6, 0.4], [0.4, 0.6], [0.3, 0.7], [0.9, 0.1]], 1.0)
LABELS = ["pos", "neg", "pos", "pos"]


def test_the_figures_of_a_report():
    report = make_report(CASCADE, [CLASSIC, MODEL], LABELS)
    clf, model = report.stages
    assert (clf.alone.right, model.alone.right) == (2, 3)
    assert (clf.answered.rows, clf.answered.right) == (2, 1)  # 0.8 is at the threshold: it answers
    assert (model.answered.rows, model.answered.right) == (2, 1)
    assert report.accuracy.right == 2
    assert report.seconds == pytest.approx(4 * 0.001 + 2 * 1.0)
    assert report.seconds_saved == pytest.approx(4.0 - report.seconds)


def test_a_useless_first_stage_saves_less_than_nothing():
    never = dataclasses.replace(CASCADE, stages=(Stage("clf", "classic", 1.0), CASCADE.stages[1]))
    report = make_report(never, [CLASSIC, MODEL], LABELS)
    assert report.seconds_saved == pytest.approx(-0.004)
    assert report.stages[0].answered.share is None


def test_three_stages_pass_on_in_order():
    three = build_cascade(
        "t", ["pos", "neg"], [Stage("a", "classic", 0.9), Stage("b", "classic", 0.7), Stage("m", "llm", 0)]
    )
    middle = Table([[0.5, 0.5], [0.1, 0.9], [0.6, 0.4], [0.3, 0.7]], 0.01)
    report = make_report(three, [CLASSIC, middle, MODEL], LABELS)
    assert [stage.answered.rows for stage in report.stages] == [1, 2, 1]
    assert report.seconds == pytest.approx(4 * 0.001 + 3 * 0.01 + 1 * 1.0)


def test_the_lowest_threshold_at_which_no_row_is_answered_worse():
    # sure and wrong at 0.8 where the model is right; a mistake at 0.7 weighs less
    threshold = suggest_threshold(CASCADE, [CLASSIC, MODEL], LABELS)
    assert threshold == pytest.approx(0.801)
    moved = dataclasses.replace(CASCADE, stages=(Stage("clf", "classic", threshold), CASCADE.stages[1]))
    assert make_report(moved, [CLASSIC, MODEL], LABELS).accuracy.right == 3
    assert suggest_threshold(CASCADE, [MODEL, MODEL], LABELS) == 0
    certain = Table([[1.0, 0.0]], 0.1)
    assert suggest_threshold(CASCADE, [certain, Table([[0.1, 0.9]], 1.0)], ["neg"]) == 1


def test_the_interval_is_wilsons():
    # Wilson score interval of 81 of 263, as in Newcombe, Statistics in Medicine 17 (1998), table I
    accuracy = accuracy_of([True] * 81 + [False] * 182)
    assert (round(accuracy.low, 4), round(accuracy.high, 4)) == (0.2553, 0.3662)
    assert accuracy_of([True] * 10).high == pytest.approx(1)
    assert accuracy_of([]).share is None


def test_evaluation_asks_every_stage_about_every_row_and_stamps_it():
    texts = ["love it", "love this", "hate it", "hate this"]
    labels = ["pos", "pos", "neg", "neg"]
    classifier = make_pipeline(TfidfVectorizer(), LogisticRegression(C=1000)).fit(texts, labels)
    asked, leaves = [], []

    def score(chats, choices, stage):
        asked.extend(chats)
        return [[0.9, 0.1] for _ in chats]

    def stamp(kind, **leaf):
        leaves.append(leaf)
        return "run-1"

    one = CascadeRunner(CASCADE, {"clf": classifier}, score=score, stamp=stamp, times=StageTimes())
    report = one.evaluate(texts, labels)
    assert len(asked) == 4
    assert [stage.alone.right for stage in report.stages] == [4, 2]
    assert report.run_id == "run-1"
    assert leaves[0]["fields"]["operation"] == "evaluate"
    assert leaves[0]["fields"]["right_alone"] == {"clf": 4, "model": 2}
    assert report.accuracy.right == 4
    for bad, words in ((labels[:3], "4 texts and 3 labels"), ([*labels[:3], "meh"], "Row 3.*'meh'")):
        with pytest.raises(UsageError, match=words):
            one.evaluate(texts, bad)
    with pytest.raises(UsageError, match="no rows"):
        one.evaluate([], [])
    assert one.suggest_threshold(texts, labels) < 0.9
