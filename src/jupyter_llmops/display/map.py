"""Views of a map: the first answers, what came of the rows, and what reuse saved."""

from __future__ import annotations

import json
from collections import Counter

from jupyter_llmops.display.elements import (
    ABSENT,
    COLOR_BRAND,
    COLOR_ERROR,
    COLOR_FAINT,
    COLOR_OK,
    COLOR_TRACK,
    COLOR_WARN,
    Html,
    card,
    duration,
    html,
    shorten,
    status,
    table,
    text_table,
)
from jupyter_llmops.records.cost import Cost
from jupyter_llmops.records.map import MapResult, MapRow

SHOWN = 5
_WIDTH_OF_TEXT = 80
_COLUMNS = ("row", "answer", "from", "tokens", "time")


def map_text(result: MapResult) -> str:
    """Return the first answers as a table, and below it what came of all rows."""
    if not result.rows:
        return "[no rows: nothing was asked]"
    shown = text_table(_COLUMNS, [_cells(row) for row in result.rows[:SHOWN]], numeric=(0, 3, 4))
    more = [_remaining(result), *_failures(result), *result.notes, f"[{summary(result)}]"]
    return "\n".join([shown, *(line for line in more if line)])


def map_html(result: MapResult) -> str:
    """Return a card: a bar of what the rows came from, the first answers, what was saved."""
    if not result.rows:
        return card(html("No rows: nothing was asked."))
    rows = [[_answer(row), *_cells(row)[2:]] for row in result.rows[:SHOWN]]
    first = table(
        _COLUMNS,
        [[row.index, *cells] for row, cells in zip(result.rows, rows, strict=False)],
        numeric=(0, 3, 4),
        caption=_remaining(result),
    )
    failures = "".join(f"<div>{status('fail', line)}</div>" for line in _failures(result))
    notes = "".join(f"<div>{status('warn', note)}</div>" for note in result.notes)
    body = Html(_picture(result) + first + failures + notes)
    accent = COLOR_WARN if result.failed or _open(result) else COLOR_BRAND
    return card(body, title=f"{len(result):,} {_rows(len(result))}", footer=summary(result), accent=accent)


def summary(result: MapResult) -> str:
    """Return one line: what came of the rows, time, rate, money, run."""
    parts = [f"{len(result):,} {_rows(len(result))} in {duration(result.seconds)}"]
    parts += [f"{count:,} {word}" for word, count, _ in _shares(result) if count]
    if result.computed and result.seconds > 0:
        parts.append(f"{result.computed / result.seconds:.1f} computed/s")
    if result.cost.known:
        parts.append(f"cost {money(result.cost)}")
    if saved := _saved(result):
        parts.append(f"saved {saved}")
    if result.backend != "kernel":
        parts.append(f"on {result.backend}")
    if result.run_id:
        parts.append(f"run {result.run_id}")
    return " · ".join(parts)


def money(cost: Cost) -> str:
    """Return an amount with as many digits as it needs, and its currency."""
    if cost.amount is None:
        return "at an unknown price"
    amount = f"{cost.amount:.2f}" if cost.amount >= 1 or cost.amount == 0 else f"{cost.amount:.2g}"
    return f"{float(amount):f}".rstrip("0").rstrip(".") + f" {cost.currency}"


def _saved(result: MapResult) -> str:
    seconds = result.seconds_saved if result.reused or result.repeated else 0.0
    parts = [duration(seconds)] if seconds > 0 else []
    if result.saved.amount:
        parts.append(money(result.saved))
    return " and ".join(parts)


def _shares(result: MapResult) -> list[tuple[str, int, str]]:
    """Return what the rows came from, how many, and the colour of each."""
    return [
        ("computed", result.computed, COLOR_BRAND),
        ("from the cache", result.reused, COLOR_OK),
        ("repeated", result.repeated, "color-mix(in srgb, #388e3c 55%, transparent)"),
        ("done before", result.resumed, COLOR_FAINT),
        ("failed", result.failed, COLOR_ERROR),
        ("not reached", _open(result), COLOR_TRACK),
    ]


def _picture(result: MapResult) -> Html:
    """Return one bar whose parts are the shares, with a legend that also says them in words."""
    total = len(result)
    shares = [share for share in _shares(result) if share[1]]
    parts = "".join(
        f'<span title="{html(f"{count:,} {word}")}" style="height:100%;'
        f'width:{100 * count / total:.2f}%;background:{color}"></span>'
        for word, count, color in shares
    )
    legend = " ".join(
        f'<span style="white-space:nowrap;margin-right:1em"><span style="display:inline-block;width:.7em;'
        f'height:.7em;border-radius:.15em;background:{color};margin-right:.4em"></span>{html(f"{count:,} {word}")}</span>'
        for word, count, color in shares
    )
    return Html(
        f'<div style="display:flex;height:12px;border-radius:4px;overflow:hidden;background:{COLOR_TRACK}">'
        f'{parts}</div><div style="font-size:90%;margin:4px 0">{legend}</div>'
    )


def _cells(row: MapRow) -> list[str]:
    answer = row.completion
    if answer is None:
        return [str(row.index), shorten(_failed(row), _WIDTH_OF_TEXT), ABSENT, ABSENT, ABSENT]
    origin = answer.source if row.same_as is None else f"row {row.same_as}"
    return [
        str(row.index),
        shorten(_value(row), _WIDTH_OF_TEXT),
        origin,
        f"{answer.tokens_in} → {answer.tokens_out}",
        duration(answer.computed_seconds),
    ]


def _answer(row: MapRow) -> Html:
    if row.completion is None:
        return status("fail" if row.failure else "interrupted", shorten(_failed(row), 2 * _WIDTH_OF_TEXT))
    return html(shorten(_value(row), 2 * _WIDTH_OF_TEXT))


def _value(row: MapRow) -> str:
    value = row.value
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, default=str)


def _failed(row: MapRow) -> str:
    return str(row.failure) if row.failure else "not reached"


def _failures(result: MapResult) -> list[str]:
    """Return each kind of failure once, with how many rows have it and what to type."""
    found = Counter((str(row.failure), row.failure.hint) for row in result.rows if row.failure is not None)
    lines = [f"{count:,} × {message} {hint}".strip() for (message, hint), count in found.most_common(3)]
    if len(found) > len(lines):
        lines.append(f"and {len(found) - len(lines):,} other messages; .df has them all")
    return lines


def _remaining(result: MapResult) -> str:
    more = len(result) - SHOWN
    return f"… and {more:,} more {_rows(more)}; .df has them all" if more > 0 else ""


def _open(result: MapResult) -> int:
    done = result.computed + result.reused + result.repeated + result.failed + result.resumed
    return len(result) - done


def _rows(count: int) -> str:
    return "row" if count == 1 else "rows"
