"""Views of a measured grade: what was varied, and how many answers stayed the same."""

from __future__ import annotations

from jupyter_llmops.display.elements import (
    COLOR_BRAND,
    COLOR_OK,
    COLOR_WARN,
    Html,
    bar,
    card,
    status,
    table,
    text_table,
)
from jupyter_llmops.records.determinism import Determinism, Variation

_MEANING = {
    "bitwise": "every logit was bitwise the same",
    "same tokens": "every answer had the same tokens",
    "none": "some answers had other tokens",
    "": "nothing was measured",
}
_COLUMNS = ("asked with", "same answers", "same logits")


def determinism_text(measured: Determinism) -> str:
    """Return a grade for a terminal."""
    rows = [(one.name, f"{one.same_tokens} of {one.asked}", _logits(one)) for one in measured.variations]
    return "\n".join([_verdict(measured), text_table(_COLUMNS, rows, numeric=(1,)), _where(measured)])


def determinism_html(measured: Determinism) -> str:
    """Return a grade for a notebook."""
    rows = [(one.name, _bar(one), _logits(one)) for one in measured.variations]
    mark = "warn" if measured.grade in ("none", "") else "ok"
    body = Html(f"<div>{status(mark, _verdict(measured))}</div>{table(_COLUMNS, rows)}")
    accent = {"bitwise": COLOR_OK, "same tokens": COLOR_BRAND}.get(measured.grade, COLOR_WARN)
    return card(body, title="Determinism", footer=_where(measured), accent=accent)


def _verdict(measured: Determinism) -> str:
    mode = f"{measured.quantization}{', exact' if measured.exact else ''}"
    return f"{mode}: {measured.grade or 'no grade'} — {_MEANING[measured.grade]}"


def _where(measured: Determinism) -> str:
    return f"{measured.engine_version} on {measured.machine}; each compared with being asked alone"


def _logits(variation: Variation) -> str:
    return "yes" if variation.same_logits else "no"


def _bar(variation: Variation) -> Html:
    all_same = variation.same_tokens == variation.asked
    return bar(
        variation.same_tokens / max(1, variation.asked),
        f"{variation.same_tokens} of {variation.asked}",
        color=COLOR_OK if all_same else COLOR_WARN,
    )
