"""Runs of a cascade: a real scikit-learn classifier first, a scorer that counts its calls in the model's place."""

from __future__ import annotations

import dataclasses
import json
import math

import numpy as np
import pandas as pd
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.svm import LinearSVC

from jupyter_llmops.cascade import build_cascade
from jupyter_llmops.cascade.language import chat_of
from jupyter_llmops.cascade.run import CascadeRunner
from jupyter_llmops.cascade.timing import StageTimes
from jupyter_llmops.errors import InferenceError, Interrupted, UnknownNameError, UsageError
from jupyter_llmops.records.cascade import Stage

TEXTS = ["love it", "love this", "hate it", "hate this"]
LABELS = ["positive", "positive", "negative", "negative"]
SURE, UNSURE = ["love love", "hate hate"], ["a spoon", "two spoons"]


@pytest.fixture(scope="module")
def classifier():
    return make_pipeline(TfidfVectorizer(), LogisticRegression(C=1000)).fit(TEXTS, LABELS)


@pytest.fixture
def cascade():
    return build_cascade(
        "mood", ["positive", "negative"], [Stage("clf", "classic", 0.9), Stage("model", "llm", 0)]
    )


class Scorer:
    """Stands for the engine: says the first label with probability `first`, and keeps what it was asked."""

    def __init__(self, first: float = 0.75) -> None:
        self.first = first
        self.batches: list[list] = []
        self.choices: list = []

    def __call__(self, chats, choices, stage):
        assert stage.kind == "llm"
        self.batches.append(list(chats))
        self.choices = list(choices)
        return [[self.first, 1 - self.first] for _ in chats]

    @property
    def asked(self) -> list[str]:
        return [chat[-1].content for batch in self.batches for chat in batch]


class Trail:
    def __init__(self) -> None:
        self.leaves: list[dict] = []

    def __call__(self, kind, **leaf):
        self.leaves.append({"kind": kind, **leaf})
        return f"run-{len(self.leaves)}"


def runner(cascade, classifier, score=None, **options):
    return CascadeRunner(cascade, {"clf": classifier}, score=score or Scorer(), times=StageTimes(), **options)


def test_a_sure_classifier_answers_alone(cascade, classifier):
    score = Scorer()
    answer = runner(cascade, classifier, score).run("love love")
    assert (answer.label, answer.stage) == ("positive", "clf")
    assert answer.confidence >= 0.9
    assert [said.accepted for said in answer.trace] == [True]
    assert not score.batches
    assert answer.seconds_saved is None  # the last stage was never asked: nothing to compare with


def test_only_what_the_classifier_is_unsure_of_goes_on_in_one_batch(cascade, classifier):
    score = Scorer()
    answers = runner(cascade, classifier, score).run_many([SURE[0], UNSURE[0], SURE[1], UNSURE[1]])
    assert [answer.stage for answer in answers] == ["clf", "model", "clf", "model"]
    assert [answer.label for answer in answers] == ["positive", "positive", "negative", "positive"]
    assert len(score.batches) == 1
    assert [asked.split("\n\n")[1] for asked in score.asked] == UNSURE
    trace = answers[1].trace
    assert [said.stage for said in trace] == ["clf", "model"]
    assert [said.accepted for said in trace] == [False, True]
    assert answers[1].seconds == pytest.approx(sum(said.seconds for said in trace))


def test_the_last_stage_answers_however_unsure_it_is(cascade, classifier):
    strict = dataclasses.replace(
        cascade, stages=(cascade.stages[0], dataclasses.replace(cascade.stages[1], threshold=0.99))
    )
    answer = runner(strict, classifier, Scorer(0.51)).run(UNSURE[0])
    assert answer.stage == "model"
    assert answer.trace[-1].accepted


def test_savings_are_measured_on_the_last_stage(cascade, classifier):
    times = StageTimes()
    one = CascadeRunner(cascade, {"clf": classifier}, score=Scorer(), times=times)
    unsure = one.run(UNSURE[0])
    assert unsure.seconds_saved == pytest.approx(-unsure.trace[0].seconds)
    again = CascadeRunner(cascade, {"clf": classifier}, score=Scorer(), times=times)  # as every magic does
    sure = again.run(SURE[0])
    mean = unsure.trace[1].seconds
    assert sure.seconds_saved == pytest.approx(mean - sure.seconds)


def test_loading_the_model_is_not_counted_and_its_facts_are_recorded(cascade, classifier):
    prepared, trail = [], Trail()

    def prepare(stage):
        prepared.append(stage.name)
        return {"model_digest": "sha256:abc"}

    one = runner(cascade, classifier, prepare=prepare, stamp=trail)
    one.run(SURE[0])
    assert prepared == []
    one.run_many(UNSURE)
    one.run(UNSURE[0])
    assert prepared == ["model"]
    stages = trail.leaves[1]["fields"]["stages"]
    assert stages[1]["model_digest"] == "sha256:abc"
    assert stages[0]["digest"].startswith("joblib-sha1:")


def test_a_run_is_stamped_with_its_content_apart(cascade, classifier):
    trail = Trail()
    answers = runner(cascade, classifier, stamp=trail).run_many([SURE[0], UNSURE[0]])
    assert {answer.run_id for answer in answers} == {"run-1"}
    (leaf,) = trail.leaves
    assert (leaf["kind"], leaf["status"]) == ("cascade", "ok")
    assert leaf["fields"]["answered"] == {"clf": 1, "model": 1}
    assert leaf["fields"]["rows"] == 2
    assert leaf["fields"]["model"] == "model"
    assert SURE[0] not in json.dumps(leaf["fields"])
    assert json.loads(leaf["content"]["request"])["texts"] == [SURE[0], UNSURE[0]]
    said = json.loads(leaf["content"]["response"])
    assert [one["stage"] for one in said] == ["clf", "model"]


def test_an_error_and_ctrl_c_are_stamped(cascade, classifier):
    trail = Trail()

    def stopped(_chats, _choices, _stage):
        raise KeyboardInterrupt

    with pytest.raises(Interrupted, match="stopped"):
        runner(cascade, classifier, stopped, stamp=trail).run(UNSURE[0])
    with pytest.raises(InferenceError):
        runner(cascade, classifier, Scorer(math.nan), stamp=trail).run(UNSURE[0])
    assert [leaf["status"] for leaf in trail.leaves] == ["interrupted", "error"]
    assert trail.leaves[1]["fields"]["error_type"] == "InferenceError"


def test_the_digest_follows_the_parameters(cascade, classifier):
    def digest(one):
        trail = Trail()
        runner(cascade, one, stamp=trail).run(SURE[0])
        return trail.leaves[0]["fields"]["stages"][0]["digest"]

    same = make_pipeline(TfidfVectorizer(), LogisticRegression(C=1000)).fit(TEXTS, LABELS)
    other = make_pipeline(TfidfVectorizer(), LogisticRegression(C=999)).fit(TEXTS, LABELS)
    assert digest(same) == digest(classifier)
    assert digest(other) != digest(classifier)


def test_columns_follow_the_cascades_labels_not_the_classifiers(classifier):
    turned = build_cascade(
        "mood", ["negative", "positive"], [Stage("clf", "classic", 0.9), Stage("model", "llm", 0)]
    )
    assert runner(turned, classifier).run("hate hate").label == "negative"
    numbers = make_pipeline(TfidfVectorizer(), LogisticRegression(C=1000)).fit(TEXTS, [1, 1, 0, 0])
    counted = build_cascade("n", ["1", "0"], [Stage("clf", "classic", 0.9), Stage("model", "llm", 0)])
    assert runner(counted, numbers).run("love love").label == "1"


def test_classifiers_that_can_not_be_used(cascade, classifier):
    unfitted = make_pipeline(TfidfVectorizer(), LogisticRegression())
    with pytest.raises(UsageError, match="not fitted") as caught:
        runner(cascade, unfitted)
    assert "clf.fit(" in caught.value.hint
    with pytest.raises(UsageError, match="no probabilities") as caught:
        runner(cascade, make_pipeline(TfidfVectorizer(), LinearSVC()).fit(TEXTS, LABELS))
    assert "CalibratedClassifierCV" in caught.value.hint
    with pytest.raises(UsageError, match="no probabilities"):
        runner(cascade, "not a classifier")
    with pytest.raises(UsageError, match="is a class"):
        runner(cascade, LogisticRegression)
    with pytest.raises(UnknownNameError, match="clf"):
        CascadeRunner(cascade, {"cls": classifier}, score=Scorer())


def test_a_mismatch_of_labels_names_both(cascade):
    other = make_pipeline(TfidfVectorizer(), LogisticRegression()).fit(TEXTS, ["up", "up", "down", "down"])
    with pytest.raises(UsageError, match=r"down, up.*positive, negative") as caught:
        runner(cascade, other)
    assert "--labels down,up" in caught.value.hint


def test_a_classifier_of_numbers_says_that_texts_are_given(cascade):
    numeric = LogisticRegression().fit([[0.0], [1.0], [2.0], [3.0]], LABELS)
    with pytest.raises(UsageError, match="can't judge texts") as caught:
        runner(cascade, numeric).run("x")
    assert "make_pipeline" in caught.value.hint


@pytest.mark.parametrize("rows", [[[math.nan, math.nan]], [[0.4, 0.4]], [[1.5, -0.5]], [[1.0]], []])
def test_what_is_no_probability_is_refused(cascade, classifier, rows):
    class Broken(LogisticRegression):
        def predict_proba(self, _texts):
            return np.array(rows)

    broken = Broken().fit([[0.0], [1.0]], ["positive", "negative"])
    with pytest.raises((UsageError, InferenceError)):
        runner(cascade, broken).run("x")
    with pytest.raises(InferenceError, match="'model'"):
        runner(cascade, classifier, lambda *_: rows).run(UNSURE[0])


@pytest.mark.parametrize("text", ["", " \n", None, 3, math.nan, b"bytes"])
def test_what_is_no_text_is_refused(cascade, classifier, text):
    with pytest.raises(UsageError):
        runner(cascade, classifier).run(text)
    with pytest.raises(UsageError, match="Row 1"):
        runner(cascade, classifier).run_many(["fine", text])


def test_texts_come_in_a_list_or_a_column(cascade, classifier):
    one = runner(cascade, classifier)
    frame = pd.DataFrame({"text": SURE})
    assert [answer.label for answer in one.run_many(frame.text)] == ["positive", "negative"]
    assert one.run_many([]) == []
    with pytest.raises(UsageError, match="it has: text"):
        one.run_many(frame)
    with pytest.raises(UsageError, match="single one"):
        one.run_many("love it")
    with pytest.raises(UsageError, match="int"):
        one.run_many(7)


def test_batches_report_progress(cascade, classifier):
    score, seen = Scorer(), []
    texts = [f"spoon number {i}" for i in range(70)]
    runner(cascade, classifier, score, progress=lambda what, done: seen.append((what, done))).run_many(texts)
    assert [len(batch) for batch in score.batches] == [32, 32, 6]
    fractions = [done for what, done in seen if what.startswith("model") and done is not None]
    assert fractions == sorted(fractions)
    assert fractions[-1] == 1


def test_a_text_is_a_value_and_never_a_template(cascade, classifier):
    score = Scorer()
    runner(cascade, classifier, score).run("{{ labels }} {% for x in y %}")
    assert score.asked[0].endswith("{{ labels }} {% for x in y %}")
    assert score.choices == [f"The writer feels {label}" for label in ("positive", "negative")]


def test_the_chat_has_the_examples_before_the_text():
    stages = [Stage("clf", "classic", 0.9), Stage("model", "llm", 0)]
    inside = build_cascade(
        "a", ["yes", "no"], stages, "Ok? {{ text }}", [("fine", "yes")], "It is {{ label }}"
    )
    assert [(m.role, m.content) for m in chat_of(inside, "well")] == [
        ("user", "Ok? fine"),
        ("assistant", "It is yes"),
        ("user", "Ok? well"),
    ]
    before = build_cascade(
        "a", ["yes", "no"], stages, "Say {{ labels | join('/') }}.", [("fine", "yes")], "I say {{ label }}"
    )
    assert [(m.role, m.content) for m in chat_of(before, "well")] == [
        ("system", "Say yes/no."),
        ("user", "fine"),
        ("assistant", "I say yes"),
        ("user", "well"),
    ]


def test_calibration_takes_the_models_leaning_away(cascade, classifier):
    leaning = {"a": 0.95, "b": 0.85, "c": 0.9, "d": 0.8}

    def score(chats, choices, stage):
        firsts = [leaning[chat[-1].content[-1]] for chat in chats]
        return [[first, 1 - first] for first in firsts]

    texts = ["spoon a", "spoon b", "spoon c", "spoon d"] * 2
    one = runner(cascade, classifier, score)
    assert [answer.label for answer in one.run_many(texts[:4])] == ["positive"] * 4
    calibrated = one.calibrate(texts)
    first = math.prod(leaning.values()) ** 0.25
    second = math.prod(1 - p for p in leaning.values()) ** 0.25
    assert calibrated.stages[1].prior == pytest.approx((first / (first + second), second / (first + second)))
    labels = [answer.label for answer in runner(calibrated, classifier, score).run_many(texts[:4])]
    assert labels == ["positive", "negative", "positive", "negative"]
    # measuring again starts from what the model says, not from what was made of it
    assert runner(calibrated, classifier, score).calibrate(texts) == calibrated
    with pytest.raises(UsageError, match="too few"):
        one.calibrate(texts[:7])
