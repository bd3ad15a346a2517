"""Views of the passages that a model was shown: numbered, with where each comes from."""

from __future__ import annotations

from collections.abc import Sequence

from jupyter_llmops.display.elements import COLOR_FAINT, Html, html, pre, status
from jupyter_llmops.records.collection import Passage


def sources_text(passages: Sequence[Passage], note: str = "") -> str:
    """Return the sources for a terminal, one a line, below a blank one; empty without any."""
    lines = [f"[{number}] {_place(passage)}" for number, passage in enumerate(passages, 1)]
    if lines:
        lines.insert(0, "Sources")
    if note:
        lines.append(f"! {note}")
    return "".join(f"\n{line}" for line in ("", *lines)) if lines else ""


def sources_html(passages: Sequence[Passage], note: str = "") -> Html:
    """Return the sources, each with its text to be opened; empty without any."""
    parts = [
        f'<details style="margin:2px 0"><summary style="cursor:pointer">[{number}] {html(_place(passage))}'
        f'</summary><div style="padding:2px 0 4px 1.4em">{pre(passage.text)}</div></details>'
        for number, passage in enumerate(passages, 1)
    ]
    if parts:
        parts.insert(0, f'<div style="color:{COLOR_FAINT}">Sources</div>')
    if note:
        parts.append(f"<div>{status('warn', note)}</div>")
    return Html(f'<div style="font-size:90%;margin-top:8px">{"".join(parts)}</div>' if parts else "")


def _place(passage: Passage) -> str:
    name = "".join(letter if letter.isprintable() else " " for letter in passage.document)
    return f"{name} · characters {passage.start:,}–{passage.end:,} · {passage.collection}"
