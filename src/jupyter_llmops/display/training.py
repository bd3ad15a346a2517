"""A training as it was recorded: what went in, how, what came out, and the course of its loss."""

from __future__ import annotations

import math
from collections.abc import Mapping

from jupyter_llmops.display.elements import (
    ABSENT,
    COLOR_BRAND,
    COLOR_WARN,
    Html,
    card,
    code,
    duration,
    html,
    status,
)
from jupyter_llmops.display.registry import facts_table, facts_text
from jupyter_llmops.records.training import Training

_SHOWN = 12
_DIGEST = 23  # "sha256:" and 16 digits
_WIDTH, _HEIGHT = 260, 48


def training_text(training: Training) -> str:
    """Return a training as lines of facts."""
    notes = [f"  ! {note}" for note in training.notes]
    return "\n".join([facts_text(_title(training), _facts(training, as_html=False)), *notes])


def training_html(training: Training) -> str:
    """Return a training as a card, with its loss as a line."""
    notes = "".join(f'<div style="color:{COLOR_WARN}">! {html(note)}</div>' for note in training.notes)
    body = f"{facts_table(_facts(training, as_html=True))}{_curve(training)}{notes}"
    run = f" · {code(training.run_id)}" if training.run_id else ""
    return card(Html(body), title=Html(f"{html(_title(training))} · {status(training.status)}{run}"))


def _title(training: Training) -> str:
    return f"training {training.name}" if training.name else "training"


def _facts(training: Training, *, as_html: bool) -> list[tuple[str, object]]:
    facts: list[tuple[str, object]] = [("took", duration(training.seconds))]
    if not as_html:
        facts = [("run", training.run_id or ABSENT), ("status", training.status), *facts]
    if training.world_size > 1:
        over = f" over {training.backend}" if training.backend else ""
        facts.append(("rank", f"{training.rank} of {training.world_size}{over}"))
        facts.append(("group", training.group or ABSENT))
    if training.hyperparameters:
        facts.append(("settings", _listed(training.hyperparameters)))
    if training.seed is not None:
        facts.append(("seed", training.seed))
    for heading, digests in (("data", training.data), ("weights", training.weights)):
        for name, said in list(digests.items())[:_SHOWN]:
            shown = said if said.startswith("skipped") else f"{said[:_DIGEST]}…"
            facts.append(
                (heading if name == heading else f"{heading} {name}", code(shown) if as_html else shown)
            )
        if len(digests) > _SHOWN:
            facts.append((heading, f"and {len(digests) - _SHOWN} more"))
    if training.losses:
        first, last = training.losses[0], training.losses[-1]
        facts.append(("loss", f"{first[1]:.4g} → {last[1]:.4g} (step {last[0]})"))
    return facts


def _listed(settings: Mapping[str, object]) -> str:
    pairs = settings.items()
    shown = [f"{name} = {value}" for name, value in list(pairs)[:_SHOWN]]
    more = f", and {len(pairs) - _SHOWN} more" if len(pairs) > _SHOWN else ""
    return ", ".join(shown) + more


def _curve(training: Training) -> Html:
    """Return the course of the loss as a line; nothing where there is none."""
    points = [(step, value) for step, value in training.losses if math.isfinite(value)]
    if len(points) < 3:
        return Html("")
    steps, values = [p[0] for p in points], [p[1] for p in points]
    wide, high = max(steps) - min(steps) or 1, max(values) - min(values) or 1
    places = " ".join(
        f"{(step - min(steps)) / wide * _WIDTH:.1f},{(max(values) - value) / high * (_HEIGHT - 4) + 2:.1f}"
        for step, value in points
    )
    return Html(
        f'<svg width="{_WIDTH}" height="{_HEIGHT}" role="img" aria-label="course of the loss" '
        f'style="margin:6px 0"><polyline points="{places}" fill="none" stroke="{COLOR_BRAND}" '
        'stroke-width="1.5"/></svg>'
    )
