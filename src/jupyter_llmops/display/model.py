"""Views of models: the list, one model's card, what a scan found, and how aliases moved."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from jupyter_llmops.display.elements import (
    ABSENT,
    COLOR_FAINT,
    Html,
    ago,
    bar,
    card,
    code,
    html,
    moment,
    quantity,
    size,
    status,
    table,
    text_table,
)
from jupyter_llmops.records.change import Change
from jupyter_llmops.records.model import Model, Place, Speed
from jupyter_llmops.records.scan import ModelScan

Column = tuple[str, Any, Any, bool]
_SHOWN_FILES = 12
_MARKS = {"new": "ok", "place": "ok", "known": "", "found": ""}


def _same(heading: str, value: Any, *, numeric: bool = False) -> Column:
    return (heading, value, value, numeric)


def _marks(model: Model) -> str:
    marks = [word for word, holds in (("yours", model.private), ("retired", model.retired)) if holds]
    return f" ({', '.join(marks)})" if marks else ""


def _name_html(model: Model) -> Html:
    marks = _marks(model).strip()
    faint = f' <span style="color:{COLOR_FAINT}">{html(marks)}</span>' if marks else ""
    title = f' title="{html(model.description)}"' if model.description else ""
    return Html(f"<span{title}>{code(model.name)}</span>{faint}")


def _rate(model: Model) -> str:
    return f"{model.speeds[0].tokens_per_second:.0f}" if model.speeds else ABSENT


def _where(model: Model) -> str:
    sites = [place.site for place in model.places if place.site]
    if sites:
        return ", ".join(dict.fromkeys(sites))
    return model.source.partition(":")[0] or ABSENT


def _field(change: Change) -> str:
    return change.field.removeprefix("alias:")


def _whose(change: Change) -> str:
    return " (yours)" if change.private else ""


def _what(change: Change) -> str:
    if change.field == "retired":
        return "retired" if change.value else "restored"
    return change.field.replace("alias:", "alias ")


def _value(change: Change) -> str:
    if change.field == "retired":
        return ABSENT
    if change.value is None:
        return "taken away"
    if change.value is True:
        return "yes"
    return ", ".join(map(str, change.value)) if isinstance(change.value, list) else str(change.value)


MODEL_COLUMNS: tuple[Column, ...] = (
    ("name", lambda m: m.name + _marks(m), _name_html, False),
    _same("kind", lambda m: m.kind),
    _same("family", lambda m: m.family or ABSENT),
    _same("parameters", lambda m: quantity(m.parameters), numeric=True),
    _same("precision", lambda m: ", ".join(m.quantizations) or ABSENT),
    _same("context", lambda m: f"{m.context_length:,}" if m.context_length else ABSENT, numeric=True),
    _same("size", lambda m: size(m.size_bytes), numeric=True),
    _same("licence", lambda m: m.license or ABSENT),
    _same("tok/s here", _rate, numeric=True),
    _same("where", _where),
    _same("aliases", lambda m: ", ".join(m.aliases) or ABSENT),
    _same("source", lambda m: m.source),
)
ALIAS_COLUMNS: tuple[Column, ...] = (
    (
        "alias",
        lambda c: _field(c) + _whose(c),
        lambda c: Html(f"{code(_field(c))}{html(_whose(c))}"),
        False,
    ),
    ("model", _value, lambda c: code(_value(c)), False),
    _same("moved by", lambda c: c.created_by or ABSENT),
    ("when", lambda c: ago(c.created_at) if c.created_at else ABSENT, lambda c: moment(c.created_at), False),
    _same("moves", lambda c: c.revision, numeric=True),
    _same("why", lambda c: c.reason or ABSENT),
)
MODEL_CHANGE_COLUMNS: tuple[Column, ...] = (
    _same("what", _what),
    _same("became", _value),
    _same("by", lambda c: c.created_by or ABSENT),
    ("when", lambda c: ago(c.created_at) if c.created_at else ABSENT, lambda c: moment(c.created_at), False),
    _same("site", lambda c: c.site or ABSENT),
    _same("why", lambda c: c.reason or ABSENT),
)


def model_text(model: Model) -> str:
    """Return one model as lines of facts."""
    lines = [model.name + _marks(model)]
    facts = _facts(model)
    width = max(len(name) for name, _ in facts)
    lines += [f"  {name.ljust(width)}  {value}" for name, value in facts]
    sections = [
        ("tokens a second", [f"{_machine(speed)}: {_speed(speed)}" for speed in model.speeds]),
        ("aliases", [_move(move) for move in model.moves]),
        ("places", [f"{place.site or ABSENT}: {place.source}" for place in model.places]),
        ("files", _file_lines(model)),
    ]
    for heading, said in sections:
        if said:
            lines += [f"  {heading}", *(f"    {line}" for line in said)]
    return "\n".join(lines)


def model_html(model: Model) -> str:
    """Return one model as a card: facts, speeds as bars, places, aliases, files."""
    body: str = _rows((name, html(value)) for name, value in _facts(model))
    if model.speeds:
        fastest = max(speed.tokens_per_second for speed in model.speeds)
        bars = ((_machine(s), bar(s.tokens_per_second / fastest, _speed(s))) for s in model.speeds)
        body += _section("tokens a second", _rows(bars))
    if model.moves:
        body += _section("aliases", _lines(_move(move) for move in model.moves))
    if model.places:
        places = ((place.site or ABSENT, _place_html(place)) for place in model.places)
        body += _section("places", _rows(places))
    if model.files:
        body += _section("files", _lines(_file_lines(model)))
    return card(Html(body), title=model.name + _marks(model), footer=_origin(model))


def model_scan_text(scan: ModelScan) -> str:
    """Return what a scan found as a table, with a line for each problem."""
    lines = [scan.summary]
    if scan.found:
        columns = [column[0] for column in SCAN_COLUMNS]
        rows = [[column[1](found) for column in SCAN_COLUMNS] for found in scan.found]
        lines.append(text_table(columns, rows, numeric=_numeric(SCAN_COLUMNS)))
    return "\n".join([*lines, *(f"! {problem}" for problem in scan.problems)])


def model_scan_html(scan: ModelScan) -> str:
    """Return what a scan found as a table, with a line for each problem."""
    body = ""
    if scan.found:
        rows = [[column[2](found) for column in SCAN_COLUMNS] for found in scan.found]
        body = table([column[0] for column in SCAN_COLUMNS], rows, numeric=_numeric(SCAN_COLUMNS))
    problems = "".join(f"<div>{status('warn', problem)}</div>" for problem in scan.problems)
    return card(Html(body + problems), title=scan.summary)


SCAN_COLUMNS: tuple[Column, ...] = (
    _same("", lambda f: f.outcome),
    ("name", lambda f: f.model.name, lambda f: code(f.model.name), False),
    _same("kind", lambda f: f.model.kind),
    _same("family", lambda f: f.model.family or ABSENT),
    _same("parameters", lambda f: quantity(f.model.parameters), numeric=True),
    _same("precision", lambda f: ", ".join(f.model.quantizations) or ABSENT),
    _same("size", lambda f: size(f.model.size_bytes), numeric=True),
    _same("source", lambda f: f.model.source),
)


def _numeric(columns: Sequence[Column]) -> list[int]:
    return [index for index, column in enumerate(columns) if column[3]]


def _facts(model: Model) -> list[tuple[str, str]]:
    lineage = f"{model.base} → {model.name}" if model.base else ""
    if lineage and model.base_digest:
        lineage += f" ({model.base_digest[:19]}…)"
    facts = [
        ("description", model.description),
        ("tags", ", ".join(model.tags)),
        ("kind", f"{model.kind} ({model.format})" if model.format else model.kind),
        ("family", model.family),
        ("parameters", quantity(model.parameters) if model.parameters else ""),
        ("precision", ", ".join(model.quantizations)),
        ("context", f"{model.context_length:,} tokens" if model.context_length else ""),
        ("size", size(model.size_bytes) if model.size_bytes else ""),
        ("licence", model.license),
        ("made from", lineage),
        ("data", model.data_digest),
        ("credential", model.credential),
        ("signed by", model.signed_by),
        ("source", model.source),
        ("digest", model.digest or ("" if model.format == "endpoint" else "not read yet")),
    ]
    return [(name, value) for name, value in facts if value]


def _origin(model: Model) -> str:
    said = [
        f"added by {model.created_by}" if model.created_by else "",
        f"at {model.site}" if model.site else "",
    ]
    when = ago(model.created_at) if model.created_at else ""
    return " ".join(filter(None, [*said, when]))


def _machine(speed: Speed) -> str:
    return f"{speed.host} {speed.quantization}".strip()


def _speed(speed: Speed) -> str:
    return f"{speed.tokens_per_second:.1f} tok/s ({speed.runs} run{'s' if speed.runs != 1 else ''})"


def _move(move: Change) -> str:
    who = f" by {move.created_by}" if move.created_by else ""
    when = f" {ago(move.created_at)}" if move.created_at else ""
    why = f": {move.reason}" if move.reason else ""
    return f"{_field(move)}{_whose(move)} — moved here{who}{when}{why}"


def _file_lines(model: Model) -> list[str]:
    lines = [
        f"{file.path}  {size(file.size_bytes)}  {file.sha256[:12]}…" for file in model.files[:_SHOWN_FILES]
    ]
    left = len(model.files) - _SHOWN_FILES
    return [*lines, f"and {left} more"] if left > 0 else lines


def _place_html(place: Place) -> Html:
    who = f" by {place.created_by}" if place.created_by else ""
    return Html(f'<span title="{html(f"seen{who}")}">{html(place.source)}</span>')


def _section(heading: str, body: Html) -> Html:
    return Html(f'<div style="margin-top:6px;opacity:.75">{html(heading)}</div>{body}')


def _rows(rows: Iterable[tuple[str, Html]]) -> Html:
    cells = "".join(
        f'<tr><td style="padding:1px 14px 1px 0;text-align:left;opacity:.75">{html(name)}</td>'
        f'<td style="text-align:left;overflow-wrap:anywhere">{value}</td></tr>'
        for name, value in rows
    )
    return Html(f'<table style="border-collapse:collapse">{cells}</table>')


def _lines(lines: Iterable[str]) -> Html:
    return Html("".join(f'<div style="overflow-wrap:anywhere">{code(line)}</div>' for line in lines))
