"""What a cascade may be; every refusal says what to type instead."""

from __future__ import annotations

import dataclasses

import pytest

from jupyter_llmops.cascade import DEFAULT_ANSWER, DEFAULT_INSTRUCTION, build_cascade, parse_stages
from jupyter_llmops.cascade.specification import SENTIMENT_ANSWER, SENTIMENT_INSTRUCTION
from jupyter_llmops.errors import TemplateError, UsageError
from jupyter_llmops.records.cascade import Stage

CLF = Stage("clf", "classic", 0.8)
LLM = Stage("smollm2-135m-instruct", "llm", 0.5)


def build(**changes):
    return build_cascade(**({"name": "mood", "labels": ["good", "bad"], "stages": [CLF, LLM]} | changes))


def test_a_valid_cascade_keeps_its_parts_and_its_last_stage_always_answers():
    cascade = build(examples=[("Fine.", "good")])
    assert cascade.labels == ("good", "bad")
    assert [stage.threshold for stage in cascade.stages] == [0.8, 0.0]
    assert cascade.instruction == DEFAULT_INSTRUCTION
    assert cascade.answer == DEFAULT_ANSWER
    assert cascade.examples == (("Fine.", "good"),)


def test_the_wording_fits_the_labels():
    mood = build(labels=["Positive", "negative"])
    assert (mood.instruction, mood.answer) == (SENTIMENT_INSTRUCTION, SENTIMENT_ANSWER)
    own = build(labels=["positive", "negative"], instruction="Hm? {{ text }}")
    assert (own.instruction, own.answer) == ("Hm? {{ text }}", "{{ label }}")
    assert build(instruction="Hm? {{ text }}", answer="{{ label }}!").answer == "{{ label }}!"


@pytest.mark.parametrize("name", ["new", "run", "calibrate", "show", "find", "add", "retire"])
def test_a_sub_command_is_no_name(name):
    with pytest.raises(UsageError, match=f"%cascade new my_{name}"):
        build(name=name)


@pytest.mark.parametrize(
    ("name", "corrected"),
    [("my mood", "my_mood"), ("2nd", "cascade_2nd"), ("", "my_cascade"), ("a/b", "a_b")],
)
def test_a_name_that_is_none_is_corrected(name, corrected):
    with pytest.raises(UsageError) as caught:
        build(name=name)
    assert f"%cascade new {corrected} …" in caught.value.hint
    build(name=corrected)


@pytest.mark.parametrize(
    ("labels", "words"),
    [
        (["good"], "at least two"),
        (["good", "bad", "good"], "--labels good,bad"),
        ([" good", "good"], "twice"),
        (["good", " "], "none of them empty"),
        ([1, 2], "must be texts"),
        ("good", "must be texts"),
    ],
)
def test_labels_must_be_different_texts(labels, words):
    with pytest.raises(UsageError, match=words):
        build(labels=labels)


@pytest.mark.parametrize("stages", [[], [CLF], [LLM], [CLF, dataclasses.replace(CLF, name="b")]])
def test_two_kinds_of_stages_are_needed(stages):
    with pytest.raises(UsageError, match="one of them a fitted scikit-learn classifier") as caught:
        build(stages=stages)
    assert "--stage clf:0.8 --stage" in caught.value.hint


@pytest.mark.parametrize(
    ("threshold", "corrected"),
    [(80, "clf:0.8"), (-0.1, "clf:0.8"), (float("nan"), "clf:0.8"), (95, "clf:0.95")],
)
def test_a_threshold_is_a_share(threshold, corrected):
    with pytest.raises(UsageError, match="between 0 and 1") as caught:
        build(stages=[dataclasses.replace(CLF, threshold=threshold), LLM])
    assert corrected in caught.value.hint


def test_a_stage_is_named_once():
    with pytest.raises(UsageError, match="twice"):
        build(stages=[CLF, dataclasses.replace(CLF, kind="llm")])


def test_the_instruction_is_checked_before_anything_is_asked():
    with pytest.raises(UsageError, match="'txt'"):
        build(instruction="Judge {{ txt }}")
    with pytest.raises(TemplateError, match="Line 2"):
        build(instruction="ok\n{% if %}")
    with pytest.raises(UsageError, match="must name label"):
        build(answer="It is so.")


def test_examples_have_a_text_and_a_known_label():
    with pytest.raises(UsageError, match="Example 2 has the label 'fine'"):
        build(examples=[("a", "good"), ("b", "fine")])
    with pytest.raises(UsageError, match="Example 1 has no text"):
        build(examples=[(" ", "good")])


def test_stages_are_parsed_from_what_is_typed():
    stages = parse_stages(["clf:0.9", "org/model", "http://host:8000:0.5"], lambda name: name == "clf")
    assert stages == (
        Stage("clf", "classic", 0.9),
        Stage("org/model", "llm", 0.8),
        Stage("http://host:8000", "llm", 0.5),
    )
    with pytest.raises(UsageError, match="'high'") as caught:
        parse_stages(["clf:high"], lambda _: True)
    assert caught.value.hint == "Type: --stage clf:0.8"
