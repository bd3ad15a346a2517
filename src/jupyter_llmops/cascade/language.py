"""The language model's stage: a text becomes a chat, the scores of the labels become probabilities."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence

from jupyter_llmops.prompting.rendering import render, variables_of
from jupyter_llmops.records.cascade import Cascade, Stage
from jupyter_llmops.records.request import Message

Chat = Sequence[Message]
# From chats, the possible answers and the stage to one row of probabilities a chat.
Score = Callable[[Sequence[Chat], Sequence[str], Stage], list[list[float]]]


def chat_of(cascade: Cascade, text: str) -> tuple[Message, ...]:
    """Return what the language model is asked about one text.

    Everything before the text is the same for every text, so an engine can compute it once.

    Parameters
    ----------
    cascade : Cascade
        With the instruction and the examples.
    text : str
        The text to judge; it is a value, never read as a template.

    Raises
    ------
    TemplateError
        The instruction can't be rendered.
    """
    asks_in_system = "text" not in variables_of(cascade.instruction)
    messages: list[Message] = []
    if asks_in_system:
        messages.append(Message("system", _rendered(cascade, "")))
    for example, label in cascade.examples:
        messages.append(Message("user", example if asks_in_system else _rendered(cascade, example)))
        messages.append(Message("assistant", answer_of(cascade, label)))
    messages.append(Message("user", text if asks_in_system else _rendered(cascade, text)))
    return tuple(messages)


def answer_of(cascade: Cascade, label: str) -> str:
    """Return what the language model would say to mean a label."""
    return render(cascade.answer, {"label": label}).text


def _rendered(cascade: Cascade, text: str) -> str:
    return render(cascade.instruction, {"text": text, "labels": list(cascade.labels)}).text


def without_prior(row: Sequence[float], prior: Sequence[float]) -> list[float]:
    """Return probabilities with the model's own leaning divided out.

    A small model prefers one label whatever the text says. Dividing by its average over unlabelled
    texts (see `prior_of`) takes that away (Zhou et al., "Batch Calibration", ICLR 2024, arXiv:2309.17249).

    Parameters
    ----------
    row : sequence of float
        Probabilities of the labels for one text.
    prior : sequence of float
        Their average over many texts; empty leaves `row` as it is.
    """
    if not prior:
        return list(row)
    weights = [p / max(q, 1e-12) for p, q in zip(row, prior, strict=True)]
    total = sum(weights)
    return [weight / total for weight in weights] if total > 0 else list(row)


def prior_of(rows: Sequence[Sequence[float]]) -> tuple[float, ...]:
    """Return what a model says of many texts on average: the normalized geometric mean.

    The mean of log-likelihoods rather than of probabilities, so that a few very sure answers don't
    hide the leaning of the many.

    Parameters
    ----------
    rows : sequence of sequences of float
        Probabilities, one row a text.
    """
    means = [
        math.exp(sum(math.log(max(p, 1e-12)) for p in column) / len(rows))
        for column in zip(*rows, strict=True)
    ]
    return tuple(mean / sum(means) for mean in means)
