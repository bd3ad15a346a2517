"""Class probabilities out of a language model: they add up, agree with the definition, and are right."""

from __future__ import annotations

import math

import pytest

from jupyter_llmops.errors import UsageError
from jupyter_llmops.inference.scoring import probabilities
from jupyter_llmops.inference.transformers_engine import TransformersEngine
from jupyter_llmops.records.model import Model
from jupyter_llmops.records.request import Message

pytestmark = pytest.mark.model

POSITIVE = [
    "The battery lasts all day and the screen is gorgeous.",
    "I loved every minute of this film.",
    "Great service, friendly staff, will come again.",
    "The food was delicious and the portions generous.",
    "Setup took two minutes and it just works.",
    "A brilliant book that I could not put down.",
    "Support answered at once and solved my problem.",
    "What a wonderful concert!",
]
NEGATIVE = [
    "It broke after two days.",
    "The worst meal I have ever had.",
    "Rude staff and a dirty room.",
    "The plot makes no sense and the acting is wooden.",
    "The app crashes every time I open it.",
    "A complete waste of time.",
    "I was deeply disappointed.",
    "They lost my order and refused a refund.",
]
CHOICES = ["The sentiment of this review is positive", "The sentiment of this review is negative"]


def ask(text: str) -> list[Message]:
    return [
        Message("user", f"Is the sentiment of this review positive or negative?\n\nReview: {text}"),
    ]


def test_it_sums_to_one_and_beats_chance(engine: TransformersEngine, default_model: Model) -> None:
    prior = engine.prior(default_model, "auto", [ask("N/A"), ask(""), ask("This is a text.")], CHOICES)
    chats = [ask(text) for text in (*POSITIVE, *NEGATIVE)]
    rows = engine.score_many(default_model, "auto", chats, CHOICES, prior=prior)
    assert all(math.isclose(sum(row), 1.0, abs_tol=1e-9) for row in rows)
    right = sum((row[0] > row[1]) == (index < len(POSITIVE)) for index, row in enumerate(rows))
    assert right >= 13  # of 16; by chance that many are right once in a hundred times


def test_many_are_like_one_by_one(engine: TransformersEngine, default_model: Model) -> None:
    chats = [ask(text) for text in ("Good.", POSITIVE[0], NEGATIVE[3])]
    together = engine.score_many(default_model, "fp32", chats, CHOICES)
    alone = [engine.score(default_model, "fp32", chat, CHOICES) for chat in chats]
    for row, single in zip(together, alone, strict=True):
        assert row == pytest.approx(single, abs=1e-4)
    engine.unload(default_model.name)


def test_it_is_the_likelihood_of_the_choices_tokens(engine: TransformersEngine, default_model: Model) -> None:
    """Against the definition: one plain forward pass over prompt and choice, no cache, no padding."""
    import torch

    choices = ["gold", "a rather long answer", "silver ring"]
    chats = [ask("It shines."), ask("It is a metal that people like to wear on their fingers.")]
    found, lengths = engine._likelihoods(default_model, "fp32", chats, choices, None)
    weights = engine._load(default_model, "fp32", None)
    for row, chat in zip(found, chats, strict=True):
        prompt = weights.chat.encode(chat)
        for score, length, choice in zip(row, lengths, choices, strict=True):
            ids = weights.chat.encode_answer(choice)
            assert len(ids) == length
            with torch.inference_mode():
                logs = weights.net(torch.tensor([prompt + ids])).logits[0].log_softmax(-1)
            expected = sum(float(logs[len(prompt) - 1 + i, token]) for i, token in enumerate(ids))
            assert score == pytest.approx(expected, abs=2e-3)
    engine.unload(default_model.name)


def test_a_choice_that_begins_like_another_is_told_apart(
    engine: TransformersEngine, default_model: Model
) -> None:
    row = engine.score(default_model, "auto", ask("It works."), ["good", "good enough"])
    assert all(0 < value < 1 for value in row)


@pytest.mark.parametrize("choices", [["yes"], ["yes", "yes"], ["yes", " "], []])
def test_choices_that_are_none_are_refused(
    engine: TransformersEngine, default_model: Model, choices: list[str]
) -> None:
    with pytest.raises(UsageError, match="at least two"):
        engine.score(default_model, "auto", ask("x"), choices)


def test_a_prior_of_other_choices_is_refused(engine: TransformersEngine, default_model: Model) -> None:
    with pytest.raises(UsageError, match="3 choices"):
        engine.score(default_model, "auto", ask("x"), ["yes", "no"], prior=[-1.0, -2.0, -3.0])


def test_no_chat_no_score(engine: TransformersEngine, default_model: Model) -> None:
    assert engine.score_many(default_model, "auto", [], ["yes", "no"]) == []


def test_equal_lengths_give_the_models_own_probability() -> None:
    row = probabilities([math.log(0.06), math.log(0.02)], [2, 2])
    assert row == pytest.approx([0.75, 0.25])


def test_a_longer_choice_does_not_lose_by_being_longer() -> None:
    assert probabilities([-1.0, -3.0], [1, 3]) == pytest.approx([0.5, 0.5])


def test_a_prior_takes_off_what_is_liked_anyway() -> None:
    assert probabilities([-1.0, -3.0], [1, 1], prior=[-1.0, -3.0]) == pytest.approx([0.5, 0.5])
