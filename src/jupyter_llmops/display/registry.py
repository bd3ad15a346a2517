"""Views of the registries: models, prompts, runs."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import datetime
from pathlib import PurePath
from typing import Any

from jupyter_llmops.display.collection import COLLECTION_CHANGE_COLUMNS, COLLECTION_COLUMNS
from jupyter_llmops.display.elements import (
    ABSENT,
    Html,
    ago,
    card,
    code,
    duration,
    html,
    moment,
    shorten,
    status,
    table,
    text_table,
    visible,
)
from jupyter_llmops.display.map import money
from jupyter_llmops.display.model import ALIAS_COLUMNS, MODEL_CHANGE_COLUMNS, MODEL_COLUMNS
from jupyter_llmops.display.prompt import alias_words
from jupyter_llmops.display.proof import SIGNER_COLUMNS
from jupyter_llmops.display.snapshot import SNAPSHOT_COLUMNS
from jupyter_llmops.records.cost import Cost
from jupyter_llmops.records.listing import Listing
from jupyter_llmops.records.prompt import Prompt
from jupyter_llmops.records.run import Run

Cell = Callable[[Any], object]
# One column: heading, text for a terminal, HTML for a notebook, whether it is a number.
Column = tuple[str, Cell, Cell, bool]
_ROLE_LINES = ("system:", "user:", "assistant:")


def _same(heading: str, value: Cell, *, numeric: bool = False) -> Column:
    return (heading, value, value, numeric)


def _notes(prompt: Prompt) -> str:
    notes = [word for word, holds in (("yours", prompt.private), ("retired", prompt.retired)) if holds]
    return f" ({', '.join(notes)})" if notes else ""


def _beginning(prompt: Prompt) -> str:
    """Return a template's text; of a chat its first message, with its role on the same line."""
    role, _, rest = prompt.template.lstrip().partition("\n")
    return f"{role.strip()} {rest.lstrip()}" if role.strip() in _ROLE_LINES else prompt.template


def _when(heading: str, value: Callable[[Any], datetime | None]) -> Column:
    return (
        heading,
        lambda record: ago(known) if (known := value(record)) else ABSENT,
        lambda record: moment(value(record)),
        False,
    )


PROMPT_COLUMNS: tuple[Column, ...] = (
    (
        "name",
        lambda p: p.name + _notes(p),
        lambda p: Html(f"{code(p.name)}{html(_notes(p))}"),
        False,
    ),
    _same("version", lambda p: p.version, numeric=True),
    _same("aliases", lambda p: alias_words(p) or ABSENT),
    _same("variables", lambda p: ", ".join(p.variables) or ABSENT),
    _same("template", lambda p: shorten(_beginning(p), 60)),
    _same("model", lambda p: p.model or "default"),
    _same("by", lambda p: p.created_by or ABSENT),
    _when("when", lambda p: p.created_at),
)


def _origin(run: Run) -> str:
    """Return where an answer came from; of a map, what its rows came from."""
    if run.kind != "map" or not run.leaf:
        return run.source or ABSENT
    words = {"computed": "model", "reused": "cache", "repeated": "same row", "resumed": "done before"}
    counts = [(run.leaf.get(name), word) for name, word in {**words, "failed": "failed"}.items()]
    rows = run.leaf.get("rows", 0)
    shares = ", ".join(f"{count:,} {word}" for count, word in counts if count)
    return f"{rows:,} {'row' if rows == 1 else 'rows'}{f': {shares}' if shares else ''}"


def _money(run: Run, name: str) -> str:
    """Return an amount of a run's leaf; absent where no price was known."""
    leaf = run.leaf or {}
    millionths = leaf.get(f"{name}_millionths")
    return ABSENT if millionths is None else money(Cost(millionths / 1e6, leaf.get("currency", "")))


def cell_name(run: Run) -> str:
    """Return ``In[7]``; nothing of a cell that another cell ran: its number is that of the cell which comes next."""
    own = not run.parent or (run.leaf or {}).get("store_history", True)
    return f"In[{run.execution_count}]" if run.execution_count and own else ""


RUN_COLUMNS: tuple[Column, ...] = (
    ("run", lambda r: r.id, lambda r: code(r.id), False),
    _same("kind", lambda r: r.kind),
    (
        "status",
        lambda r: r.error_type or r.status,
        lambda r: status(r.status, r.error_type or r.status),
        False,
    ),
    _when("when", lambda r: r.started_at),
    _same("took", lambda r: duration(r.seconds), numeric=True),
    _same("cell", lambda r: cell_name(r) or ABSENT),
    _same("model", lambda r: r.model or ABSENT),
    _same("from", _origin),
    _same("tokens", lambda r: r.tokens_out if r.tokens_out is not None else ABSENT, numeric=True),
    _same("cost", lambda r: _money(r, "cost"), numeric=True),
    (
        "notebook",
        lambda r: PurePath(r.notebook).name or ABSENT,
        lambda r: Html(
            f'<span title="{html(r.notebook)}">{html(PurePath(r.notebook).name or ABSENT)}</span>'
        ),
        False,
    ),
    _same("by", lambda r: r.user or ABSENT),
)
CASCADE_COLUMNS: tuple[Column, ...] = (
    ("name", lambda c: c.name, lambda c: code(c.name), False),
    _same("labels", lambda c: ", ".join(c.labels)),
    _same("stages", lambda c: " → ".join(stage.name for stage in c.stages)),
)
CASCADE_ANSWER_COLUMNS: tuple[Column, ...] = (
    _same("text", lambda a: shorten(a.text, 60)),
    _same("label", lambda a: a.label),
    _same("answered by", lambda a: a.stage),
    _same("confidence", lambda a: f"{a.confidence:.2f}", numeric=True),
    _same("took", lambda a: duration(a.seconds), numeric=True),
    _same("saved", lambda a: duration(a.seconds_saved), numeric=True),
)
COLUMNS: dict[str, tuple[Column, ...]] = {
    "collection": COLLECTION_COLUMNS,
    "collection change": COLLECTION_CHANGE_COLUMNS,
    "cascade": CASCADE_COLUMNS,
    "cascade answer": CASCADE_ANSWER_COLUMNS,
    "model": MODEL_COLUMNS,
    "model alias": ALIAS_COLUMNS,
    "model change": MODEL_CHANGE_COLUMNS,
    "prompt": PROMPT_COLUMNS,
    "run": RUN_COLUMNS,
    "signer": SIGNER_COLUMNS,
    "snapshot": SNAPSHOT_COLUMNS,
}


def listing_text(listing: Listing[Any]) -> str:
    """Return a registry as an aligned table, or what to type when it is empty."""
    if not listing:
        return _nothing(listing)
    columns = _columns(listing)
    rows = [[text(record) for _, text, _, _ in columns] for record in listing]
    shown = text_table([c[0] for c in columns], rows, numeric=_numeric(columns))
    return f"{shown}\n{visible(listing.note)}".strip()


def listing_html(listing: Listing[Any]) -> str:
    """Return a registry as a table, or what to type when it is empty."""
    if not listing:
        return card(_nothing(listing))
    columns = _columns(listing)
    rows = [[cell(record) for _, _, cell, _ in columns] for record in listing]
    count = f"{len(listing)} {listing.noun if len(listing) == 1 else _plural(listing.noun)}"
    caption = f"{count}. {listing.note}" if listing.note else count
    return table([c[0] for c in columns], rows, numeric=_numeric(columns), caption=caption)


def _nothing(listing: Listing[Any]) -> str:
    beginning = f"No {_plural(listing.noun)} yet." if listing.why is None else f"No {listing.noun} was found."
    return " ".join(part for part in (beginning, listing.hint, listing.note) if part)


def _columns(listing: Listing[Any]) -> Sequence[Column]:
    """Return the columns of a noun; a search says why each record is in it."""
    columns, why = COLUMNS[listing.noun], listing.why
    if not why:
        return columns
    return (*columns, _same("why", lambda record: why.get(getattr(record, "name", None) or record.id, "")))


def _plural(noun: str) -> str:
    return f"{noun}es" if noun.endswith("s") else f"{noun}s"


def _numeric(columns: Sequence[Column]) -> list[int]:
    return [index for index, column in enumerate(columns) if column[3]]


def run_text(run: Run) -> str:
    """Return one run as lines of facts."""
    return facts_text(f"{run.kind} {run.id}", run_facts(run))


def run_html(run: Run) -> str:
    """Return one run as a card."""
    return facts_html(f"{run.kind} {run.id}", run_facts(run))


def run_facts(run: Run) -> list[tuple[str, object]]:
    """Return what is said of a run, as names and texts."""
    newer = [("note", "written by a newer version, so it can only be read")] if run.read_only else []
    return [
        *newer,
        *((heading, text(run)) for heading, text, _, _ in RUN_COLUMNS[2:]),
        *_computing_facts(run),
        *([("part of", run.parent)] if run.parent else []),
        ("session", f"{run.session}, line {run.seq}"),
        ("leaf", run.leaf_digest),
    ]


def _computing_facts(run: Run) -> list[tuple[str, object]]:
    """Return what a prompt's or a map's leaf says of how it was computed; only what is there."""
    leaf = run.leaf or {}
    if run.kind not in ("prompt", "map"):
        return []
    reused = leaf.get("reused") or {}
    said = {
        "saved": _money(run, "saved"),
        "computed by": " ".join(filter(None, (reused.get("stored_by"), reused.get("stored_at")))),
        "engine": " ".join(filter(None, (leaf.get("engine"), leaf.get("engine_version")))),
        "precision": " on ".join(filter(None, (leaf.get("quantization"), leaf.get("device")))),
        "adapter": leaf.get("adapter"),
        "served by": leaf.get("served_by"),
        "backend": leaf.get("backend"),
        "batch": leaf.get("batch_size"),
        "repeatable": leaf.get("determinism"),
        "cut": leaf.get("truncated"),
        "continues": leaf.get("continues"),
    }
    return [(name, value) for name, value in said.items() if value and value != ABSENT]


def facts_text(title: str, facts: Sequence[tuple[str, object]]) -> str:
    """Return facts as aligned lines below a title."""
    width = max(len(name) for name, _ in facts)
    lines = (f"  {name.ljust(width)}  {visible(value, lines=False)}" for name, value in facts)
    return "\n".join([visible(title, lines=False), *lines])


def facts_html(title: str, facts: Sequence[tuple[str, object]]) -> str:
    """Return facts as a card."""
    return card(facts_table(facts), title=title)


def facts_table(facts: Sequence[tuple[str, object]]) -> Html:
    """Return facts as a table without a frame."""
    rows = "".join(
        f'<tr><td style="padding:1px 14px 1px 0;text-align:left;opacity:.75;white-space:nowrap">{code(name)}</td>'
        f'<td style="text-align:left;overflow-wrap:anywhere">{html(value)}</td></tr>'
        for name, value in facts
    )
    return Html(f'<table style="border-collapse:collapse">{rows}</table>')
