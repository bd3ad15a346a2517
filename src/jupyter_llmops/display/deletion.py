"""Views of what was deleted of the trail, or would be."""

from __future__ import annotations

from jupyter_llmops.display.elements import Html, card, html, size
from jupyter_llmops.records.deletion import Forgotten, Retained

_SHOWN = 10


def _count(number: int, noun: str, plural: str = "") -> str:
    return f"{number:,} {noun if number == 1 else plural or noun + 's'}"


def forgotten_text(record: Forgotten) -> str:
    """Return what was forgotten, or would be, as lines."""
    parts = [
        _count(record.contents, "content"),
        _count(record.rows, "row in the catalog", "rows in the catalog"),
        _count(record.cache_items, "stored answer"),
    ]
    more = f" and {_count(len(record.runs) - 1, 'run')} of it" if len(record.runs) > 1 else ""
    if record.done:
        head = f"Forgotten: run {record.run_id}{more}: {', '.join(parts)} deleted. Its leaf stays and the log verifies."
    elif not any((record.contents, record.rows, record.cache_items)):
        head = f"Run {record.run_id}{more}: nothing of its content is left."
    else:
        head = (
            f"Would go for run {record.run_id}{more}: {', '.join(parts)}. "
            f"Nothing was deleted yet; type: %audit forget {record.run_id[:8]} --yes"
        )
    return "\n".join((head, *(f"  {note}" for note in record.notes)))


def forgotten_html(record: Forgotten) -> str:
    """Return what was forgotten, or would be, as a card."""
    return _card(forgotten_text(record), "forget" if record.done else "forget: not done yet")


def retained_text(record: Retained) -> str:
    """Return what was pruned, or would be, as lines."""
    what = (
        f"{_count(len(record.sessions), 'session')} with {_count(record.records, 'record')} "
        f"({size(record.size_bytes)}) that ended before {record.before:%Y-%m-%d %H:%M} UTC"
    )
    if not record.sessions:
        head = f"No session ended before {record.before:%Y-%m-%d %H:%M} UTC, so nothing goes."
    elif record.done:
        rows = f", {_count(record.rows, 'row in the catalog', 'rows in the catalog')}" if record.rows else ""
        head = f"Pruned: {what}{rows}. Their signed heads stay."
    else:
        head = (
            f"Would go: {what}; their signed heads stay. "
            f"Nothing was deleted yet; type: %audit retain {record.age} --yes"
        )
    lines = [
        f"  {session.session}  {_count(session.size, 'record')}  ended {session.ended_at:%Y-%m-%d %H:%M}  root {session.root}"
        for session in record.sessions[:_SHOWN]
    ]
    if len(record.sessions) > _SHOWN:
        lines.append(f"  … and {len(record.sessions) - _SHOWN} more")
    return "\n".join((head, *lines, *(f"  {note}" for note in record.notes)))


def retained_html(record: Retained) -> str:
    """Return what was pruned, or would be, as a card."""
    waits = record.sessions and not record.done
    return _card(retained_text(record), "retain: not done yet" if waits else "retain")


def _card(text: str, title: str) -> str:
    head, *rest = text.split("\n")
    lines = "".join(f'<div style="opacity:.75;overflow-wrap:anywhere">{html(line)}</div>' for line in rest)
    return card(Html(f"<div>{html(head)}</div>{lines}"), title=title)
