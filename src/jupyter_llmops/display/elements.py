"""The parts that every view is made of: escaped HTML in the colours of JupyterLab's theme.

Every function that takes text escapes it; what is HTML already is wrapped in `Html`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from html import escape

ABSENT = "—"

# JupyterLab's variables with a fallback for nbconvert, VS Code and GitHub, which have none.
COLOR_BORDER = "var(--jp-border-color2, #c8c8c8)"
COLOR_TRACK = "var(--jp-layout-color3, rgba(128,128,128,.25))"
COLOR_FAINT = "var(--jp-ui-font-color2, #707070)"
COLOR_BRAND = "var(--jp-brand-color1, #1976d2)"
COLOR_OK = "var(--jp-success-color1, #388e3c)"
COLOR_WARN = "var(--jp-warn-color1, #c77700)"
COLOR_ERROR = "var(--jp-error-color1, #d32f2f)"
FONT_CODE = "var(--jp-code-font-family, monospace)"

STATUS_MARKS = {
    "ok": ("✓", COLOR_OK),
    "warn": ("!", COLOR_WARN),
    "fail": ("✗", COLOR_ERROR),
    "error": ("✗", COLOR_ERROR),
    "interrupted": ("■", COLOR_WARN),
}


# Control characters, and those that turn the direction of what follows: they would draw over other text.
_HIDDEN = re.compile("[\x00-\x08\x0b-\x1f\x7f-\x9f\u061c\u200e\u200f\u2028-\u202e\u2066-\u2069]")


class Html(str):
    """Text that is HTML already."""

    __slots__ = ()


def visible(text: object, *, lines: bool = True) -> str:
    """Return a text for a terminal with what is hidden in it written out; with `lines` off also its line breaks."""
    shown = _HIDDEN.sub(lambda found: ascii(found[0])[1:-1], str(text).replace("\r\n", "\n"))
    return shown if lines else shown.replace("\n", "\\n").replace("\t", "\\t")


def html(text: object) -> Html:
    """Return `text` as HTML, escaped unless it is HTML already."""
    return text if isinstance(text, Html) else Html(escape(str(text)))


def card(body: str, *, title: str = "", footer: str = "", accent: str = COLOR_BRAND) -> str:
    """Return a block with a coloured edge, a heading and a faint last line."""
    heading = f'<div style="font-weight:600;margin-bottom:4px">{html(title)}</div>' if title else ""
    last = (
        f'<div style="color:{COLOR_FAINT};font-size:90%;margin-top:6px">{html(footer)}</div>'
        if footer
        else ""
    )
    return (
        f'<div style="border-left:3px solid {accent};padding:4px 0 4px 12px;margin:4px 0;max-width:62em">'
        f"{heading}{html(body)}{last}</div>"
    )


def pre(text: str) -> Html:
    """Return running text that keeps its line breaks."""
    return Html(f'<div style="white-space:pre-wrap;overflow-wrap:anywhere">{html(text)}</div>')


def code(text: str) -> Html:
    """Return a piece of code inside a line."""
    return Html(f'<code style="font-family:{FONT_CODE}">{html(text)}</code>')


def table(
    columns: Sequence[str],
    rows: Iterable[Sequence[object]],
    *,
    numeric: Iterable[int] = (),
    caption: str = "",
) -> Html:
    """Return a table.

    Parameters
    ----------
    columns : sequence of str
        Headings.
    rows : iterable of sequences
        Cells, one a column; text is escaped.
    numeric : iterable of int
        Indices of the columns that are aligned right, with digits of equal width.
    caption : str
        A line below the table.
    """
    right = set(numeric)

    def cell(tag: str, index: int, value: object, extra: str = "") -> str:
        align = "right;font-variant-numeric:tabular-nums;white-space:nowrap" if index in right else "left"
        return f'<{tag} style="text-align:{align};padding:3px 10px;vertical-align:top{extra}">{html(value)}</{tag}>'

    head = "".join(
        cell("th", i, name, f";border-bottom:1px solid {COLOR_BORDER}") for i, name in enumerate(columns)
    )
    body = "".join(
        "<tr>" + "".join(cell("td", i, value) for i, value in enumerate(row)) + "</tr>" for row in rows
    )
    below = (
        f'<div style="color:{COLOR_FAINT};font-size:90%;padding:2px 10px">{html(caption)}</div>'
        if caption
        else ""
    )
    return Html(
        f'<table style="border-collapse:collapse;margin:4px 0"><thead><tr>{head}</tr></thead>'
        f"<tbody>{body}</tbody></table>{below}"
    )


def bar(fraction: float | None, label: str, *, color: str = COLOR_BRAND, width_em: float = 9) -> Html:
    """Return a bar filled to `fraction` (0 to 1) with a label behind it; no bar for None."""
    if fraction is None:
        return Html(f'<span style="color:{COLOR_FAINT}">{html(label)}</span>')
    percent = 100 * min(1.0, max(0.0, fraction))
    return Html(
        f'<span style="white-space:nowrap">'
        f'<span style="display:inline-block;vertical-align:middle;width:{width_em}em;height:.6em;'
        f'border-radius:.3em;overflow:hidden;background:{COLOR_TRACK};margin-right:.6em">'
        f'<span style="display:block;height:100%;width:{percent:.1f}%;background:{color}"></span></span>'
        f'<span style="font-variant-numeric:tabular-nums">{html(label)}</span></span>'
    )


def status(name: str, word: str = "") -> Html:
    """Return a status as a mark and a word, so that colour is never the only sign."""
    mark, color = STATUS_MARKS.get(name, ("·", COLOR_FAINT))
    return Html(f'<span style="color:{color}">{mark}</span>&nbsp;{html(word or name)}')


def moment(when: datetime | None, now: datetime | None = None) -> Html:
    """Return a relative time with the exact one on hover."""
    if when is None:
        return Html(ABSENT)
    exact = when.astimezone().isoformat(sep=" ", timespec="seconds")
    return Html(f'<span title="{html(exact)}" style="white-space:nowrap">{html(ago(when, now))}</span>')


def text_table(
    columns: Sequence[str], rows: Iterable[Sequence[object]], *, numeric: Iterable[int] = ()
) -> str:
    """Return an aligned table for a terminal."""
    right = set(numeric)
    cells = [list(map(str, columns)), *[[visible(value, lines=False) for value in row] for row in rows]]
    widths = [max(len(row[i]) for row in cells) for i in range(len(columns))]
    lines = [
        "  ".join(
            value.rjust(widths[i]) if i in right else value.ljust(widths[i]) for i, value in enumerate(row)
        ).rstrip()
        for row in cells
    ]
    return "\n".join([lines[0], "  ".join("─" * width for width in widths), *lines[1:]])


def duration(seconds: float | None) -> str:
    """Return a duration in the unit that fits: 0.4 ms, 1.8 s, 3 min 20 s."""
    if seconds is None:
        return ABSENT
    if seconds < 1:
        return f"{seconds * 1000:.1f} ms" if seconds < 0.01 else f"{seconds * 1000:.0f} ms"
    if seconds < 60:
        return f"{seconds:.1f} s"
    if seconds < 3600:
        return f"{seconds // 60:.0f} min {seconds % 60:.0f} s"
    return f"{seconds // 3600:.0f} h {seconds % 3600 // 60:.0f} min"


def size(count: int | None) -> str:
    """Return bytes in binary units, as drivers and JupyterLab show them."""
    if count is None:
        return ABSENT
    value, unit = float(count), "B"
    for larger in ("KiB", "MiB", "GiB", "TiB"):
        if value < 1024:
            break
        value, unit = value / 1024, larger
    return f"{value:.0f} {unit}" if unit == "B" or value >= 100 else f"{value:.1f} {unit}"


def quantity(number: int | None) -> str:
    """Return a large number shortly: 135M, 7.2B."""
    if number is None:
        return ABSENT
    for limit, letter in ((1_000_000_000, "B"), (1_000_000, "M"), (1_000, "k")):
        if number >= limit:
            return f"{number / limit:.3g}{letter}"
    return str(number)


def ago(when: datetime, now: datetime | None = None) -> str:
    """Return how long ago a moment was: just now, 2 min ago, 3 h ago, then the date."""
    seconds = ((now or datetime.now(UTC)) - when).total_seconds()
    if seconds < 10:
        return "just now"
    if seconds < 60:
        return f"{seconds:.0f} s ago"
    if seconds < 3600:
        return f"{seconds / 60:.0f} min ago"
    if seconds < 86400:
        return f"{seconds / 3600:.0f} h ago"
    return when.astimezone().strftime("%Y-%m-%d")


def shorten(text: str, length: int) -> str:
    """Return the first line of `text`, cut to `length` characters."""
    first = text.strip().splitlines()[0] if text.strip() else ""
    return first if len(first) <= length else first[: length - 1] + "…"
