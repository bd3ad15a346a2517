"""The labelled messages of the example: balanced, apart from each other, and told apart by the language model."""

from __future__ import annotations

import pandas as pd
import pytest
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline, make_union

from jupyter_llmops.cascade import build_cascade
from jupyter_llmops.cascade.run import CascadeRunner
from jupyter_llmops.records.cascade import Stage
from model_fixtures import default_model, engine, models_folder  # noqa: F401


@pytest.fixture(scope="module")
def rows(repository):
    return pd.read_csv(repository / "example_notebooks" / "data" / "feedback.csv")


def test_the_rows_are_balanced_and_no_text_is_in_two_splits(rows):
    assert list(rows.columns) == ["text", "label", "split"]
    counts = rows.groupby(["split", "label"]).size().unstack()
    assert (counts["positive"] == counts["negative"]).all()
    assert counts.loc["test"].sum() >= 60
    assert not rows["text"].str.casefold().str.replace(r"\W+", " ", regex=True).duplicated().any()
    assert rows["text"].str.strip().eq(rows["text"]).all()


@pytest.mark.model
@pytest.mark.slow
def test_the_stages_differ_in_accuracy_on_the_test_rows(rows, engine, default_model):  # noqa: F811
    train, test = (rows[rows["split"] == split] for split in ("train", "test"))
    words = TfidfVectorizer(ngram_range=(1, 2), sublinear_tf=True)
    letters = TfidfVectorizer(analyzer="char_wb", ngram_range=(3, 5), sublinear_tf=True)
    classifier = make_pipeline(make_union(words, letters), LogisticRegression(C=10))
    classifier.fit(train["text"], train["label"])

    def score(chats, choices, _stage):
        return engine.score_many(default_model, "nf4", chats, choices)

    stages = [Stage("classifier", "classic", 0.82), Stage("model", "llm", 0)]
    plain = build_cascade("mood", ["positive", "negative"], stages)
    some = train.groupby("label").head(16)  # dozens are enough to measure a leaning
    cascade = CascadeRunner(plain, {"classifier": classifier}, score=score).calibrate(some["text"])
    report = CascadeRunner(cascade, {"classifier": classifier}, score=score).evaluate(
        test["text"], test["label"]
    )
    classic, model = report.stages
    assert model.alone.low > classic.alone.high  # beyond both 95 % intervals
    assert report.accuracy.right >= model.alone.right - 3
    assert classic.answered.rows > 0
