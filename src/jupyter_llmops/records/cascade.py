"""Small models first: what a cascade is and what it did."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

StageKind = Literal["classic", "llm"]


@dataclass(frozen=True, slots=True)
class Stage:
    """One stage of a cascade.

    Parameters
    ----------
    name : str
        The notebook variable of a classifier, or the name of a model.
    kind : {"classic", "llm"}
        A fitted scikit-learn classifier with ``predict_proba``, or a language model.
    threshold : float
        It answers when its confidence (largest class probability) is at least this; the last
        stage always answers.
    """

    name: str
    kind: StageKind
    threshold: float


@dataclass(frozen=True, slots=True)
class Cascade:
    """Stages in the order in which they are asked.

    Parameters
    ----------
    name : str
        What a user types.
    labels : tuple of str
        The answers that are possible.
    stages : tuple of Stage
        At least two, cheapest first.
    instruction : str
        What the language model is told, as a Jinja2 template with ``{{ text }}`` and ``{{ labels }}``.
    """

    name: str
    labels: tuple[str, ...]
    stages: tuple[Stage, ...]
    instruction: str


@dataclass(frozen=True, slots=True)
class StageAnswer:
    """What one stage said of one text.

    Parameters
    ----------
    stage, label : str
        Who answered and what.
    confidence : float
        Largest class probability, 0 to 1.
    seconds : float
        What it took.
    accepted : bool
        Whether the cascade stopped here.
    """

    stage: str
    label: str
    confidence: float
    seconds: float
    accepted: bool


@dataclass(frozen=True, slots=True)
class CascadeAnswer:
    """The cascade's answer to one text: every stage that was asked, the last of them answered."""

    text: str
    label: str
    stage: str
    confidence: float
    seconds: float
    seconds_saved: float | None
    trace: tuple[StageAnswer, ...]
    run_id: str = ""
