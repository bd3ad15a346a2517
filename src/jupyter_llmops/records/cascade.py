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
    prior : tuple of float
        A language model's (geometric) average probability of each label over unlabelled texts, which is
        divided out of its answers; empty when it was not calibrated.
    """

    name: str
    kind: StageKind
    threshold: float
    prior: tuple[float, ...] = ()


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
        What the language model is told, as a Jinja2 template with ``{{ labels }}``. With
        ``{{ text }}`` in it, it is the user's message; without, it is the system message and each
        text is a user's message as it stands.
    examples : tuple of (text, label)
        Answered texts that the language model sees before each question.
    answer : str
        How the language model would phrase an answer, as a Jinja2 template with ``{{ label }}``: a
        small model ranks the ends of a sentence better than bare words.
    """

    name: str
    labels: tuple[str, ...]
    stages: tuple[Stage, ...]
    instruction: str
    examples: tuple[tuple[str, str], ...] = ()
    answer: str = "{{ label }}"


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


@dataclass(frozen=True, slots=True)
class Accuracy:
    """How often answers were right.

    Parameters
    ----------
    right, rows : int
        Right answers, and all of them.
    low, high : float
        95 % Wilson interval of the share, 0 to 1 (Wilson, JASA 22, 1927).
    """

    right: int
    rows: int
    low: float
    high: float

    @property
    def share(self) -> float | None:
        """Share of right answers, None without a row."""
        return self.right / self.rows if self.rows else None


@dataclass(frozen=True, slots=True)
class StageReport:
    """One stage on labelled rows.

    Parameters
    ----------
    stage, kind, threshold
        As in `Stage`.
    alone : Accuracy
        Were this stage asked about every row.
    answered : Accuracy
        On the rows that it answered within the cascade.
    seconds : float
        Mean seconds it took for a text, over all rows.
    """

    stage: str
    kind: StageKind
    threshold: float
    alone: Accuracy
    answered: Accuracy
    seconds: float


@dataclass(frozen=True, slots=True)
class CascadeReport:
    """What a cascade is worth, measured on labelled rows.

    Parameters
    ----------
    cascade : str
        Its name.
    rows : int
        How many texts were asked about.
    accuracy : Accuracy
        Of the cascade's answers.
    stages : tuple of StageReport
        In the order in which they are asked.
    seconds : float
        What the cascade takes for all rows: each stage's seconds for the texts that reach it.
    seconds_saved : float
        What asking the last stage about every row takes, minus `seconds`; below 0 when the
        cascade is the slower one.
    run_id : str
        Id of the run in the trail.
    """

    cascade: str
    rows: int
    accuracy: Accuracy
    stages: tuple[StageReport, ...]
    seconds: float
    seconds_saved: float
    run_id: str = ""
