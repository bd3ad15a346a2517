"""Two runs side by side: what differs, part by part, and why the second may."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby

from jupyter_llmops.display.elements import (
    ABSENT,
    COLOR_FAINT,
    Html,
    ago,
    card,
    code,
    html,
    shorten,
    table,
    text_table,
    visible,
)
from jupyter_llmops.display.prompt_diff import side_by_side, unified
from jupyter_llmops.display.registry import cell_name
from jupyter_llmops.records.run import Run
from jupyter_llmops.records.run_search import Difference, RunDiff

PARTS = ("run", "source", "prompt", "values", "model", "training", "environment", "packages", "answer")
_LONGEST = 160
_MOST = 80
_HEADS = ("part", "field")


def run_diff_text(diff: RunDiff) -> str:
    """Return the reasons, the fields that differ, and the texts as a unified difference."""
    left, right = diff.left, diff.right
    lines = [f"--- {_name(left)}", f"+++ {_name(right)}", *_said(diff)]
    rows = _rows(diff.differences)
    if rows:
        lines += ["", text_table([*_HEADS, left.id, right.id], rows)]
    for one in diff.texts:
        lines += ["", *unified(f"{one.part}: {one.name}", one.left, one.right)]
    lines += ["", *diff.not_compared] if diff.not_compared else []
    return visible("\n".join(lines))


def run_diff_html(diff: RunDiff) -> str:
    """Return the reasons, the fields that differ as a table, and the texts side by side."""
    left, right = diff.left, diff.right
    body = ["".join(f"<div>{html(sentence)}</div>" for sentence in _said(diff))]
    rows = _rows(diff.differences)
    if rows:
        body.append(table([*_HEADS, left.id, right.id], rows))
    if diff.texts:
        parts = [(f"{one.part}: {one.name}", one.left, one.right) for one in diff.texts]
        body.append(side_by_side((_name(left), _name(right)), parts))
    title = Html(f"{html(left.kind)} {code(left.id)} · {html(right.kind)} {code(right.id)}")
    notes = "".join(
        f'<div style="color:{COLOR_FAINT};font-size:90%">{html(note)}</div>' for note in diff.not_compared
    )
    # Side by side two texts need the whole width.
    return card("", title=title) + "".join(body) + notes


def _said(diff: RunDiff) -> Sequence[str]:
    said = diff.reasons or (("Nothing that was compared differs.",) if diff.same else ())
    return (*said, *diff.equal)


def _rows(differences: Sequence[Difference]) -> list[list[str]]:
    rows: list[list[str]] = []
    ordered = sorted(differences, key=lambda one: PARTS.index(one.part) if one.part in PARTS else len(PARTS))
    for part, group in groupby(ordered, key=lambda one: one.part):
        members = list(group)
        for index, one in enumerate(members[:_MOST]):
            rows.append(
                [
                    part if index == 0 else "",
                    one.name,
                    shorten(one.left, _LONGEST) or ABSENT,
                    shorten(one.right, _LONGEST) or ABSENT,
                ]
            )
        if len(members) > _MOST:
            rows.append(["", f"… {len(members) - _MOST:,} more", "", ""])
    return rows


def _name(run: Run) -> str:
    named = " ".join(filter(None, (run.kind, cell_name(run), run.id)))
    return f"{named} · {run.user} · {ago(run.started_at)}"
