"""%cascade as a user types it; the language model's scores are given, the classifier is real."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import pytest

from jupyter_llmops.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from magic_shell import Notebook

SETUP = """
from sklearn.feature_extraction.text import TfidfVectorizer
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
known = ["good good", "fine good", "bad bad", "awful bad"]
classifier = make_pipeline(TfidfVectorizer(), LogisticRegression(C=100)).fit(known, ["yes", "yes", "no", "no"])
"""
NEW = "%cascade new mood --labels yes,no --stage classifier:0.7 --stage smollm2-135m-instruct"


@pytest.fixture
def ready(notebook: Notebook) -> Notebook:
    """Train a classifier, and let the engine say yes to every chat."""

    def score_many(
        _: Any, __: str, chats: Sequence[Any], choices: Sequence[str], **___: Any
    ) -> list[list[float]]:
        return [[0.9, 0.1] for _ in chats]

    notebook.engine.score_many = score_many  # type: ignore[attr-defined]
    notebook.run(SETUP)
    return notebook


def test_the_sure_stage_answers_and_the_unsure_one_passes_on(ready: Notebook) -> None:
    ready.run(NEW)
    sure = ready.run('%cascade run mood "bad bad bad"')
    unsure = ready.run('%cascade mood "a text of other words"')
    assert (sure.label, sure.stage, len(sure.trace)) == ("no", "classifier", 1)
    assert (unsure.label, unsure.stage, len(unsure.trace)) == ("yes", "smollm2-135m-instruct", 2)
    for value in (sure, unsure):
        assert value.stage in ready.shown(value)
        assert value.stage in ready.shown(value, "text/html")


def test_many_texts_and_their_truth(ready: Notebook) -> None:
    ready.run(NEW)
    ready.run("texts = ['good', 'bad', 'something else']")
    answers = ready.run("%cascade run mood texts")
    assert [answer.label for answer in answers] == ["yes", "no", "yes"]
    assert "something else" in ready.shown(answers)
    ready.run("truth = ['yes', 'no', 'no']")
    report = ready.run("%cascade run mood texts --truth truth")
    assert "classifier" in ready.shown(report)
    assert "<svg" in ready.shown(report, "text/html") or "width:" in ready.shown(report, "text/html")
    lines = ready.run("%%cascade mood\ngood\nbad")
    assert [answer.label for answer in lines] == ["yes", "no"]


def test_the_models_leaning_is_taken_off(ready: Notebook) -> None:
    """A model that always says yes at 90 % knows nothing: measured on unlabelled texts, it is at 50 %."""
    ready.run("seen = 'one two three four five six seven eight'.split()")
    ready.run(f"{NEW} --unlabelled seen")
    answer = ready.run('%cascade mood "a text of other words"')
    assert answer.trace[-1].confidence == pytest.approx(0.5)
    ready.run(NEW)
    assert ready.run('%cascade mood "a text of other words"').trace[-1].confidence == pytest.approx(0.9)


def test_a_run_of_a_cascade_is_in_the_trail(ready: Notebook) -> None:
    ready.run(NEW)
    ready.run('%cascade run mood "good"')
    run = ready.workspace.run("-1", kind="cascade")
    assert run.status == "ok"
    assert run.parent
    assert "mood" in ready.shown(ready.run("%cascade"))


@pytest.mark.parametrize(
    ("line", "error", "part"),
    [
        ("%cascade run mod 'x'", UnknownNameError, "mood"),
        ("%cascade run mood", UsageError, "text is missing"),
        ("%cascade run mood ''", UsageError, "empty"),
        (
            "%cascade new run --labels a,b --stage classifier --stage smollm2-135m-instruct",
            UsageError,
            "sub-command",
        ),
        ("%cascade new other --stage classifier --stage smollm2-135m-instruct", UsageError, "--labels"),
        (
            "%cascade new other --labels yes,no --stage classifier:high --stage smollm2-135m-instruct",
            UsageError,
            "high",
        ),
        (
            "%cascade new other --labels yes,no --stage classifier:1.7 --stage smollm2-135m-instruct",
            UsageError,
            "1.7",
        ),
        ("%cascade new other --labels yes,no --stage classifier", UsageError, "two stages"),
        (
            "%cascade new other --labels up,down --stage classifier --stage smollm2-135m-instruct",
            UsageError,
            "up",
        ),
        ("%cascade new other --labels yes,no --stage classifier --stage smolm2", UnknownNameError, "smollm2"),
        ("%cascade run mood texts --truth nothing", UsageError, "holds labels"),
        ("%cascade run mood number", UsageError, "holds texts"),
        ("%cascade run mood nobody", UsageError, "holds texts"),
        ("%cascade run mood texts --truth number", UsageError, "holds labels"),
        ("%%cascade mood\n\n", UsageError, "holds no text"),
        (
            "%cascade new other --labels number --stage classifier --stage smollm2-135m-instruct",
            UsageError,
            "labels",
        ),
        (
            "%cascade new other --labels yes,no --stage classifier --stage smollm2-135m-instruct --examples numbers",
            UsageError,
            "answered texts",
        ),
    ],
)
def test_bad_lines_say_what_is_valid(ready: Notebook, line: str, error: type[Exception], part: str) -> None:
    ready.run(NEW)
    ready.run("texts = ['good', 'bad']; number = 5; numbers = [1, 2]; nobody = []")
    raised = ready.fail(line)
    assert isinstance(raised, error), repr(raised)
    assert part in str(raised)
