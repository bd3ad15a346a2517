"""Views of collections, of what a search found, and of what was added."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from html import escape
from typing import Any

from jupyter_llmops.display.elements import (
    ABSENT,
    COLOR_FAINT,
    COLOR_OK,
    COLOR_WARN,
    Html,
    ago,
    bar,
    card,
    code,
    duration,
    html,
    moment,
)
from jupyter_llmops.records.change import Change
from jupyter_llmops.records.collection import AddReport, Collection, Passage, SearchResult

Column = tuple[str, Callable[[Any], object], Callable[[Any], object], bool]
# Shorter words are in every text.
_LEAST_LETTERS = 3
_SKIPPED_SHOWN = 10
_TEXT_WIDTH = 300


def collection_text(collection: Collection) -> str:
    """Return one collection as lines of facts."""
    facts = _facts(collection)
    width = max(len(name) for name, _ in facts)
    return "\n".join([_title(collection), *(f"  {name.ljust(width)}  {value}" for name, value in facts)])


def collection_html(collection: Collection) -> str:
    """Return one collection as a card."""
    rows = "".join(
        f'<tr><td style="padding:1px 14px 1px 0;text-align:left;opacity:.75">{html(name)}</td>'
        f'<td style="text-align:left;overflow-wrap:anywhere">{html(value)}</td></tr>'
        for name, value in _facts(collection)
    )
    footer = f'Search it: %search {collection.name} "what you look for"'
    return card(
        Html(f'<table style="border-collapse:collapse">{rows}</table>'),
        title=_title(collection),
        footer=footer,
    )


def _title(collection: Collection) -> str:
    marks = [word for word, on in (("yours", collection.private), ("retired", collection.retired)) if on]
    return collection.name + (f" ({', '.join(marks)})" if marks else "")


def _facts(collection: Collection) -> list[tuple[str, str]]:
    space, chunking = collection.space, collection.chunking
    length = "normalized" if space.normalized else "not normalized"
    return [
        *([("description", collection.description)] if collection.description else []),
        *([("tags", ", ".join(collection.tags))] if collection.tags else []),
        ("documents", f"{collection.documents:,}"),
        (
            "chunks",
            f"{collection.items:,} of at most {chunking.max_tokens} tokens, {chunking.overlap_tokens} repeated",
        ),
        ("encoder", f"{space.encoder}: {space.dimension} numbers, {space.pooling} pooling, {length}"),
        ("files", space.encoder_digest),
        ("index", collection.index),
        ("filter by", ", ".join(("document", *collection.metadata))),
        ("by", " · ".join(filter(None, (collection.created_by, collection.site))) or ABSENT),
        ("when", ago(collection.created_at) if collection.created_at else ABSENT),
    ]


def search_text(result: SearchResult) -> str:
    """Return the passages for a terminal, best first, each with where it stands."""
    if not result.passages:
        return f"Nothing found in {result.collection}. [{_footer(result)}]"
    highest = _highest(result)
    lines = []
    for number, passage in enumerate(result.passages, start=1):
        filled = round(10 * _share(passage, highest))
        lines.append(f"{number:>2}  {'█' * filled}{'░' * (10 - filled)}  {_place(passage)}")
        shown = " ".join(passage.text.split())
        lines.append(f"    {shown if len(shown) <= _TEXT_WIDTH else shown[: _TEXT_WIDTH - 1] + '…'}")
    return "\n".join([*lines, f"[{_footer(result)}]"])


def search_html(result: SearchResult) -> str:
    """Return the passages as cards, the query's words marked, with a bar for each score."""
    if not result.passages:
        return card("Nothing found.", footer=_footer(result), accent=COLOR_WARN)
    highest = _highest(result)
    words = _words(result.query)
    parts = []
    for number, passage in enumerate(result.passages, start=1):
        parts.append(
            f'<div style="margin:0 0 10px"><div>{number}. {code(_place(passage))} '
            f'<span style="float:right" title="score {passage.score:.4f}">{bar(_share(passage, highest), "", width_em=6)}</span></div>'
            f'<div style="white-space:pre-wrap;overflow-wrap:anywhere;padding:2px 0">{_marked(passage.text, words)}</div>'
            f"{_metadata(passage)}</div>"
        )
    return card(Html("".join(parts)), title=result.query[:200], footer=_footer(result))


def _footer(result: SearchResult) -> str:
    return f"{len(result.passages)} from {result.collection} · {result.how} · {duration(result.seconds)}"


def _highest(result: SearchResult) -> float:
    return max((passage.score for passage in result.passages), default=0.0)


def _share(passage: Passage, highest: float) -> float:
    return max(0.0, passage.score / highest) if highest > 0 else 0.0


def _place(passage: Passage) -> str:
    name = "".join(letter if letter.isprintable() else " " for letter in passage.document)
    cell = (passage.metadata or {}).get("cell")
    where = f"cell {cell}, " if cell is not None and name.endswith(".ipynb") else ""
    return f"{name} · {where}characters {passage.start:,}–{passage.end:,}"


def _metadata(passage: Passage) -> Html:
    shown = " · ".join(f"{name}={value}" for name, value in (passage.metadata or {}).items())
    return Html(f'<div style="color:{COLOR_FAINT};font-size:90%">{html(shown)}</div>' if shown else "")


def _words(query: str) -> re.Pattern[str] | None:
    """Return what is marked: the query's words, in any case and with any ending."""
    found = sorted({word for word in re.findall(r"\w+", query) if len(word) >= _LEAST_LETTERS}, key=len)
    # A long query's first words would do for any passage.
    words = "|".join(re.escape(word) for word in reversed(found[-50:]))
    return re.compile(rf"\b(?:{words})\w*", re.IGNORECASE) if words else None


def _marked(text: str, words: re.Pattern[str] | None) -> Html:
    if words is None:
        return html(text)
    parts, place = [], 0
    for match in words.finditer(text):
        parts.append(escape(text[place : match.start()]))
        parts.append(f'<mark style="background:rgba(255,200,0,.35);color:inherit">{escape(match[0])}</mark>')
        place = match.end()
    return Html("".join([*parts, escape(text[place:])]))


def added_text(report: AddReport) -> str:
    """Return what was added, and what was left out and why."""
    return "\n".join([_added(report), *_left_out(report.skipped)])


def added_html(report: AddReport) -> str:
    """Return what was added as a card."""
    lines = _left_out(report.skipped)
    body = _added(report) + ("\n" + "\n".join(lines) if lines else "")
    return card(
        Html(f'<div style="white-space:pre-wrap">{html(body)}</div>'),
        footer=_work(report),
        accent=COLOR_WARN if report.skipped else COLOR_OK,
    )


def _added(report: AddReport) -> str:
    name = f"{report.collection} (yours)" if report.private else report.collection
    return (
        f"{name}: {_counted(report.added, 'document')} added, {report.changed:,} changed, "
        f"{report.unchanged:,} unchanged, {len(report.skipped):,} left out"
    )


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _work(report: AddReport) -> str:
    rate = f", {report.embedded / report.seconds:,.0f}/s" if report.embedded and report.seconds > 0 else ""
    return f"{_counted(report.embedded, 'chunk')} embedded, {report.reused:,} reused in {duration(report.seconds)}{rate}"


def _left_out(skipped: Sequence[tuple[str, str]]) -> list[str]:
    lines = [f"left out {name}: {why}" for name, why in skipped[:_SKIPPED_SHOWN]]
    more = len(skipped) - _SKIPPED_SHOWN
    return [*lines, f"… and {more:,} more"] if more > 0 else lines


def _same(heading: str, value: Callable[[Any], object], *, numeric: bool = False) -> Column:
    return (heading, value, value, numeric)


def _name_html(collection: Collection) -> Html:
    marks = _title(collection)[len(collection.name) :]
    faint = f'<span style="color:{COLOR_FAINT}">{html(marks)}</span>' if marks else ""
    return Html(f"{code(collection.name)}{faint}")


def _became(change: Change) -> str:
    value = change.value
    if change.field == "retired":
        return ABSENT
    if value is None:
        return "taken away"
    if isinstance(value, dict):  # a migration's step
        encoder = value.get("space", {}).get("encoder", "")
        closing = value.get("closing")
        return f"{encoder}, closed for the move to {closing.get('to', '')}" if closing else str(encoder)
    return ", ".join(map(str, value)) if isinstance(value, list) else "yes" if value is True else str(value)


def _what(change: Change) -> str:
    if change.field == "retired":
        return "retired" if change.value else "restored"
    return "encoder" if change.field == "table" else change.field


def _when(record: Any) -> str:
    return ago(record.created_at) if record.created_at else ABSENT


COLLECTION_COLUMNS: tuple[Column, ...] = (
    ("name", _title, _name_html, False),
    _same("about", lambda c: c.description or ", ".join(c.tags) or ABSENT),
    _same("documents", lambda c: f"{c.documents:,}", numeric=True),
    _same("chunks", lambda c: f"{c.items:,}", numeric=True),
    _same("encoder", lambda c: c.space.encoder),
    _same("index", lambda c: c.index),
    _same("filter by", lambda c: ", ".join(c.metadata) or ABSENT),
    _same("by", lambda c: c.created_by or ABSENT),
    ("when", _when, lambda c: moment(c.created_at), False),
)
COLLECTION_CHANGE_COLUMNS: tuple[Column, ...] = (
    _same("what", _what),
    _same("became", _became),
    _same("by", lambda c: c.created_by or ABSENT),
    ("when", _when, lambda c: moment(c.created_at), False),
    _same("site", lambda c: c.site or ABSENT),
    _same("why", lambda c: c.reason or ABSENT),
)
