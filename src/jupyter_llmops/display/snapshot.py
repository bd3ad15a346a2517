"""Views of snapshots: one as a card, all as a list."""

from __future__ import annotations

from typing import Any

from jupyter_llmops.display.elements import ABSENT, Html, ago, card, code, html, moment
from jupyter_llmops.records.snapshot import Snapshot

_ITEMS = "items-"


def _collections(snapshot: Snapshot) -> int:
    return sum(table.startswith(_ITEMS) for table, _ in snapshot.versions)


SNAPSHOT_COLUMNS: tuple[tuple[str, Any, Any, bool], ...] = (
    ("name", lambda s: s.name, lambda s: code(s.name), False),
    ("what for", lambda s: s.description or ABSENT, lambda s: s.description or ABSENT, False),
    ("collections", _collections, _collections, True),
    ("by", lambda s: s.created_by or ABSENT, lambda s: s.created_by or ABSENT, False),
    ("when", lambda s: ago(s.created_at) if s.created_at else ABSENT, lambda s: moment(s.created_at), False),
)


def _facts(snapshot: Snapshot) -> list[tuple[str, str]]:
    facts = [
        ("what for", snapshot.description or ABSENT),
        ("by", snapshot.created_by or ABSENT),
        ("when", ago(snapshot.created_at) if snapshot.created_at else ABSENT),
        ("in Python", f"jupyter_llmops.open_workspace(snapshot={snapshot.name!r})"),
        ("a notebook", f"set LLMOPS_SNAPSHOT={snapshot.name} and restart the kernel"),
    ]
    return [fact for fact in facts if fact[1] != ABSENT]


def snapshot_text(snapshot: Snapshot) -> str:
    """Return a snapshot as lines, with how to open it."""
    facts = _facts(snapshot)
    width = max(len(name) for name, _ in facts)
    lines = [f"snapshot {snapshot.name}", *(f"  {name.ljust(width)}  {value}" for name, value in facts)]
    return "\n".join(lines)


def snapshot_html(snapshot: Snapshot) -> str:
    """Return a snapshot as a card, with how to open it."""
    rows = "".join(
        f'<tr><td style="padding:1px 14px 1px 0;text-align:left;opacity:.75">{html(name)}</td>'
        f'<td style="text-align:left;overflow-wrap:anywhere">{html(value)}</td></tr>'
        for name, value in _facts(snapshot)
    )
    table = Html(f'<table style="border-collapse:collapse">{rows}</table>')
    return card(table, title=f"snapshot {snapshot.name}")
