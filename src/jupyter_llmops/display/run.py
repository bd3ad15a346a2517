"""A run with everything that is known of it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from jupyter_llmops.display.elements import (
    ABSENT,
    COLOR_BORDER,
    COLOR_ERROR,
    COLOR_FAINT,
    COLOR_OK,
    COLOR_WARN,
    FONT_CODE,
    Html,
    ago,
    card,
    code,
    duration,
    html,
    shorten,
    status,
    table,
    text_table,
    visible,
)
from jupyter_llmops.display.registry import cell_name, facts_table, facts_text, run_facts
from jupyter_llmops.records.run import Run
from jupyter_llmops.records.run_search import RunExport, RunView

# Of one text, characters; the whole stands in the content itself.
_LONGEST = 20_000
_LONGEST_VALUE = 300
_MOST_NAMES = 60
_HIDDEN = frozenset({"token_ids", "salt", "kept_items"})
# What every leaf has: it says nothing of what a run ran on.
_FRAME = frozenset({
    "schema", "hash", "seq", "prev", "session", "id", "parent", "kind", "status", "digests", "started_at",
    "microseconds", "user", "host",
})  # fmt: skip
_SENDERS = {
    "human": "a notebook's front end",
    "agent": "a request that calls itself an agent's",
    "server": "a runner of notebooks",
    "console": "a console",
    "program": "a program",
}
_ORDER = ("source", "template", "context_query", "output_schema", "message", "response", "why")
_DIGESTED = ("values", "outputs", "random")
_NAMES = ("read", "reads", "written", "writes", "names")
_NEWER = (
    "A newer version of jupyter_llmops wrote this run: it is shown as it is, and can only be read. "
    "Type: %pip install --upgrade jupyter-llmops"
)
_GONE = "What it said is not here: it was forgotten, never shared, or lies on another host."
_MARKS = {"good": ("▲", COLOR_OK), "bad": ("▼", COLOR_ERROR)}


def run_view_text(view: RunView) -> str:
    """Return a run as facts, its texts, what ran within it and what it ran on."""
    run = view.run
    parts = [*([visible(view.note)] if view.note else []), *([_NEWER] if run.read_only else [])]
    parts.append(facts_text(f"{run.kind} {run.id}", _facts(view)))
    parts += [f"{visible(name, lines=False)}:\n{_indented(visible(text))}" for name, text in texts_of(view)]
    if view.content is None and run.leaf and run.leaf.get("digests"):
        parts.append(_GONE)
    if view.children:
        rows = [_child(child) for child in view.children]
        parts.append(f"ran within it:\n{_indented(text_table(_CHILD_COLUMNS, rows))}")
    for title, facts in _sections(view):
        parts.append(facts_text(title, facts))
    return "\n\n".join(parts)


def run_view_html(view: RunView) -> str:
    """Return a run as a card; what is long is folded."""
    run = view.run
    body = [f'<div style="color:{COLOR_WARN}">! {html(view.note)}</div>'] if view.note else []
    if run.read_only:
        body.append(f'<div style="color:{COLOR_WARN}">! {html(_NEWER)}</div>')
    body.append(facts_table(_facts(view, as_html=True)))
    for index, (name, text) in enumerate(texts_of(view)):
        body.append(_folded(name, _block(text), is_open=index < 2 or name == "response"))
    if view.content is None and run.leaf and run.leaf.get("digests"):
        body.append(f'<div style="color:{COLOR_FAINT}">{html(_GONE)}</div>')
    if view.children:
        rows = [_child(child, as_html=True) for child in view.children]
        title = f"ran within it ({len(rows)})"
        body.append(_folded(title, table(_CHILD_COLUMNS, rows, numeric=(3, 5)), is_open=len(rows) < 12))
    for title, facts in _sections(view):
        body.append(_folded(title, facts_table(facts), is_open=False))
    heading = Html(f"{html(run.kind)} {code(run.id)} · {status(run.status, run.error_type or run.status)}")
    return card(Html("".join(body)), title=heading, footer=view.proof)


def run_export_text(done: RunExport) -> str:
    """Return what was exported, on one line."""
    what = "spans of" if done.format == "otel" else "rows of"
    traces = f" in {done.sessions:,} {'trace' if done.sessions == 1 else 'traces'}"
    count = f"{done.runs:,} {'run' if done.runs == 1 else 'runs'}"
    return f"Exported {what} {count}{traces if done.format == 'otel' else ''} to {done.target}"


def run_export_html(done: RunExport) -> str:
    """Return what was exported, on a card."""
    return card(run_export_text(done))


def texts_of(view: RunView) -> list[tuple[str, str]]:
    """Return a run's texts by name in the order of a conversation, cut where they are long."""

    def place(name: str) -> tuple[int, str]:
        begun = name.split(".", 1)[0]
        return (_ORDER.index(begun) if begun in _ORDER else len(_ORDER), name)

    shown = [(name, str(text)) for name, text in (view.content or {}).items() if name not in _HIDDEN]
    return [
        (
            name,
            text
            if len(text) <= _LONGEST
            else f"{text[:_LONGEST]}\n… {len(text) - _LONGEST:,} more characters",
        )
        for name, text in sorted(shown, key=lambda item: place(item[0]))
        if text
    ]


_CHILD_COLUMNS = ("run", "kind", "status", "took", "model", "tokens")


def _child(run: Run, *, as_html: bool = False) -> list[object]:
    ended = run.error_type or run.status
    return [
        code(run.id) if as_html else run.id,
        run.kind,
        status(run.status, ended) if as_html else ended,
        duration(run.seconds),
        run.model or ABSENT,
        run.tokens_out if run.tokens_out is not None else ABSENT,
    ]


def _facts(view: RunView, *, as_html: bool = False) -> list[tuple[str, object]]:
    whole = _where_and_when(view)
    listed = (fact for name, value in run_facts(view.run) for fact in whole.get(name, [(name, value)]))
    facts = [fact for fact in listed if fact[1] not in (ABSENT, "")]
    if view.rating:
        mark, color = _MARKS.get(view.rating, ("·", COLOR_FAINT))
        by = f" by {view.rated_by}" if view.rated_by else ""
        said = f"{view.rating}{by}{f': {view.why}' if view.why else ''}"
        facts.append(
            ("rated", Html(f'<span style="color:{color}">{mark}</span> {html(said)}') if as_html else said)
        )
    if view.proof and not as_html:
        facts.append(("proof", view.proof))
    return facts


def _where_and_when(view: RunView) -> dict[str, list[tuple[str, object]]]:
    """Return the facts that stand for those of a list, which is too narrow for whole ones."""
    run, leaf = view.run, view.run.leaf or {}
    opening = (view.opening.leaf if view.opening else None) or {}
    began, since = run.started_at.astimezone().isoformat(sep=" ", timespec="seconds"), ago(run.started_at)
    notebook = run.notebook or str(opening.get("notebook") or "")
    cell = ", ".join(filter(None, (cell_name(run), str(leaf.get("cell") or ""))))
    kernel, process = str(opening.get("kernel") or "")[:8], opening.get("pid")
    sender, client = leaf.get("actor"), leaf.get("client")
    facts: dict[str, object] = {
        "by": f"{run.user}@{run.host}" if run.host else run.user,
        "kernel": ", ".join(filter(None, (kernel, f"process {process}" if process else ""))),
        "notebook": notebook,
        "cell": cell,
        "sent by": f"{_SENDERS.get(sender, sender)}{f', client {client}' if client else ''}"
        if sender
        else "",
    }
    return {
        "when": [("started", began if since in began else f"{began}, {since}")],
        "cell": [],
        "notebook": [],
        "by": list(facts.items()),
    }


def _sections(view: RunView) -> list[tuple[str, list[tuple[str, object]]]]:
    """Return what is shown folded: names and digests, the rest of the leaf, the environment."""
    leaf = view.run.leaf or {}
    names = _flat({name: leaf[name] for name in _NAMES if name in leaf})
    digests = _flat({name: leaf[name] for name in leaf if "digest" in name or name in _DIGESTED})
    seen = {*_DIGESTED, *_NAMES, *leaf_shown(leaf)}
    more = _flat({name: value for name, value in leaf.items() if name not in seen and "digest" not in name})
    environment = view.environment.leaf or {} if view.environment else {}
    ran_on = _flat({name: value for name, value in environment.items() if name not in _FRAME})
    sections = (
        ("names read and written", names),
        ("digests", digests),
        ("everything else in the leaf", _flat(leaf) if view.run.read_only else more),
        ("environment", ran_on),
    )
    return [(title, facts) for title, facts in sections if facts]


def leaf_shown(leaf: Mapping[str, Any]) -> set[str]:
    """Return the fields of a leaf that stand among the facts."""
    shown = {
        "notebook", "execution_count", "cell", "actor", "client", "model", "source", "tokens_out", "error_type",
        "reused", "engine", "engine_version", "quantization", "device", "cost_millionths", "saved_millionths",
        "currency",
    }  # fmt: skip
    return (shown | _FRAME) & set(leaf)


def _flat(value: Mapping[str, Any], before: str = "", depth: int = 0) -> list[tuple[str, object]]:
    facts: list[tuple[str, object]] = []
    for name, one in value.items():
        if len(facts) >= _MOST_NAMES:
            facts.append(("…", f"{len(value) - _MOST_NAMES:,} more"))
            break
        if isinstance(one, Mapping) and one and depth < 3:
            facts += _flat(one, f"{before}{name}.", depth + 1)
        elif one not in ("", None, [], {}):
            text = (
                one
                if isinstance(one, str)
                else json.dumps(one, ensure_ascii=False, default=str, sort_keys=True)
            )
            facts.append((f"{before}{name}", shorten(text, _LONGEST_VALUE)))
    return facts


def _indented(text: str) -> str:
    return "\n".join(f"  {line}" for line in text.splitlines())


def _block(text: str) -> Html:
    return Html(
        f'<div style="font-family:{FONT_CODE};font-size:90%;white-space:pre-wrap;overflow-wrap:anywhere;'
        f'max-height:24em;overflow:auto;border:1px solid {COLOR_BORDER};padding:4px 8px">{html(text)}</div>'
    )


def _folded(title: str, body: str, *, is_open: bool) -> str:
    return (
        f'<details{" open" if is_open else ""} style="margin-top:6px"><summary style="cursor:pointer">'
        f"{html(title)}</summary>{body}</details>"
    )
