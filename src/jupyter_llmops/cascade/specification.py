"""What a cascade may be: names, labels, stages and thresholds, checked before anything is asked."""

from __future__ import annotations

import math
import re
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import Any

from jupyter_llmops.errors import UsageError
from jupyter_llmops.prompting.rendering import variables_of
from jupyter_llmops.records.cascade import Cascade, Stage

# `%cascade NEW …` could mean the sub-command or a cascade of that name.
RESERVED_NAMES = ("new", "run", "calibrate", "show", "find", "add", "retire")
DEFAULT_THRESHOLD = 0.8
DEFAULT_INSTRUCTION = "Is this message {{ labels | join(' or ') }}?\n\n{{ text }}"
DEFAULT_ANSWER = "The message is {{ label }}"
# Where the labels are those of sentiment, asking for the feeling makes SmolLM2-135M right more often.
SENTIMENT_LABELS = frozenset({"positive", "negative", "neutral", "mixed"})
SENTIMENT_INSTRUCTION = "How does the writer of this message feel?\n\n{{ text }}"
SENTIMENT_ANSWER = "The writer feels {{ label }}"

_NAME = re.compile(r"[A-Za-z_][\w-]*")


def build_cascade(
    name: str,
    labels: Sequence[str],
    stages: Sequence[Stage],
    instruction: str = "",
    examples: Sequence[tuple[str, str]] = (),
    answer: str = "",
) -> Cascade:
    """Return a cascade after checking every part of it.

    Parameters
    ----------
    name : str
        Letters, digits, ``_`` and ``-``; no sub-command's name.
    labels : sequence of str
        At least two different answers.
    stages : sequence of Stage
        At least two, cheapest first, among them a classic one and a language model. The last one
        always answers, so its threshold becomes 0.
    instruction : str
        See `Cascade`; empty takes `default_wording` for it and, unless it is given, for the answer.
    examples : sequence of (text, label)
        Answered texts for the language model.
    answer : str
        See `Cascade`; empty takes that of `default_wording` beside its instruction, else the bare
        label.

    Raises
    ------
    UsageError
        A part is not valid; the message ends with what to type instead.
    TemplateError
        The instruction is no valid template.
    """
    known = _labels(labels)
    default_instruction, default_answer = default_wording(known)
    if instruction:  # a sentence that answers another question would only mislead
        default_instruction, default_answer = instruction, "{{ label }}"
    checked = _stages(stages)
    return Cascade(
        name=_name(name),
        labels=known,
        stages=(*checked[:-1], replace(checked[-1], threshold=0.0)),
        instruction=_instruction(default_instruction),
        examples=_examples(examples, known),
        answer=_answer(answer or default_answer),
    )


def default_wording(labels: Sequence[str]) -> tuple[str, str]:
    """Return the instruction and the answer for labels of which nothing else is known.

    Parameters
    ----------
    labels : sequence of str
        Those of sentiment ("positive", "negative", …) get a question of their own.
    """
    if {label.casefold() for label in labels} <= SENTIMENT_LABELS:
        return SENTIMENT_INSTRUCTION, SENTIMENT_ANSWER
    return DEFAULT_INSTRUCTION, DEFAULT_ANSWER


def parse_stages(items: Sequence[str], is_classifier: Callable[[str], bool]) -> tuple[Stage, ...]:
    """Return the stages that were typed as ``NAME`` or ``NAME:THRESHOLD``.

    Parameters
    ----------
    items : sequence of str
        Cheapest first, e.g. ``["clf:0.9", "smollm2-135m-instruct"]``. Without a threshold a stage
        answers from `DEFAULT_THRESHOLD` on, and the last one always.
    is_classifier : callable
        Whether a name is a classifier in the notebook; every other name is a language model.

    Raises
    ------
    UsageError
        A threshold is no number.
    """
    stages = []
    for item in items:
        name, colon, typed = item.strip().rpartition(":")
        if not colon:
            name, typed = item.strip(), str(DEFAULT_THRESHOLD)
        try:
            threshold = float(typed)
        except ValueError:
            raise UsageError(
                f"The threshold {typed!r} of the stage {name!r} is not a number.",
                f"Type: --stage {name or 'clf'}:{DEFAULT_THRESHOLD}",
            ) from None
        stages.append(Stage(name.strip(), "classic" if is_classifier(name.strip()) else "llm", threshold))
    return tuple(stages)


def _name(name: str) -> str:
    if name in RESERVED_NAMES:
        raise UsageError(
            f"A cascade can't be named {name!r}: that is a sub-command of %cascade.",
            f"Type another name, e.g. %cascade new my_{name} …",
        )
    if not _NAME.fullmatch(name):
        corrected = re.sub(r"[^\w-]+", "_", name).strip("_-") or "my_cascade"
        corrected = corrected if _NAME.fullmatch(corrected) else f"cascade_{corrected}"
        raise UsageError(
            f"{name!r} is not a name: letters, digits, _ and - are, beginning with a letter.",
            f"Type: %cascade new {corrected} …",
        )
    return name


def _labels(labels: Sequence[Any]) -> tuple[str, ...]:
    if isinstance(labels, str) or not all(isinstance(label, str) and label.strip() for label in labels):
        raise UsageError(
            "The labels must be texts, none of them empty.", "Type e.g. --labels positive,negative"
        )
    given = tuple(label.strip() for label in labels)
    twice = next((label for label in given if given.count(label) > 1), None)
    if twice is not None:
        unique = ",".join(dict.fromkeys(given))
        raise UsageError(f"The label {twice!r} is given twice.", f"Type: --labels {unique}")
    if len(given) < 2:
        raise UsageError("A cascade needs at least two labels.", "Type e.g. --labels positive,negative")
    return given


def _stages(stages: Sequence[Stage]) -> tuple[Stage, ...]:
    kinds = {stage.kind for stage in stages}
    if len(stages) < 2 or kinds != {"classic", "llm"}:
        given = ", ".join(f"{s.name or '(no name)'} ({_word(s)})" for s in stages) or "none"
        raise UsageError(
            f"A cascade needs at least two stages, one of them a fitted scikit-learn classifier of this "
            f"notebook and one a language model; given: {given}.",
            "Type e.g. --stage clf:0.8 --stage smollm2-135m-instruct",
        )
    for number, stage in enumerate(stages, 1):
        if not stage.name.strip():
            raise UsageError(f"Stage {number} has no name.", "Type e.g. --stage clf:0.8 --stage MODEL")
        if not (math.isfinite(stage.threshold) and 0 <= stage.threshold <= 1):
            # 80 was surely meant as 80 %
            near = stage.threshold / 100 if 1 < stage.threshold <= 100 else DEFAULT_THRESHOLD
            raise UsageError(
                f"The threshold {stage.threshold:g} of the stage {stage.name!r} is not between 0 and 1.",
                f"Type: --stage {stage.name}:{near:g}",
            )
    names = [stage.name for stage in stages]
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice is not None:
        raise UsageError(
            f"The stage {twice!r} is given twice.",
            f"Type: {' '.join(f'--stage {n}' for n in dict.fromkeys(names))}",
        )
    return tuple(stages)


def _word(stage: Stage) -> str:
    return "classifier" if stage.kind == "classic" else "language model"


def _instruction(instruction: str) -> str:
    foreign = sorted(set(variables_of(instruction)) - {"text", "labels"})
    if foreign:
        raise UsageError(
            f"The instruction names {foreign[0]!r}, which a cascade does not know.",
            "Use only {{ text }} and {{ labels }} in it.",
        )
    return instruction


def _answer(answer: str) -> str:
    if variables_of(answer) != ("label",):
        raise UsageError(
            f"The answer {answer!r} must name label, and nothing else.", f"Type e.g. {DEFAULT_ANSWER}"
        )
    return answer


def _examples(examples: Sequence[tuple[Any, Any]], labels: tuple[str, ...]) -> tuple[tuple[str, str], ...]:
    checked = []
    for number, (text, label) in enumerate(examples, 1):
        if not isinstance(text, str) or not text.strip():
            raise UsageError(f"Example {number} has no text.", "Give (text, label) pairs.")
        if str(label) not in labels:
            raise UsageError(
                f"Example {number} has the label {label!r}, which the cascade does not have.",
                f"Use one of: {', '.join(labels)}.",
            )
        checked.append((text, str(label)))
    return tuple(checked)
