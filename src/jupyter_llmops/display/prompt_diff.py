"""Two versions of a prompt side by side, and as a unified text."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from jupyter_llmops.display.elements import COLOR_BORDER, COLOR_FAINT, FONT_CODE, Html, card, html
from jupyter_llmops.display.prompt import declaration
from jupyter_llmops.records.prompt import Prompt, PromptDiff

# Comparing is quadratic at worst: longer texts are compared as a whole.
_MOST_LINES = 2_000
_LONGEST_LINE = 2_000
_MOST_ROWS = 400
_CONTEXT = 3

# Half-transparent, so that they suit a light and a dark page.
_COLORS = {"-": "rgba(211,47,47,.16)", "+": "rgba(56,142,60,.18)", "": "transparent"}
_WORD_COLORS = {"-": "rgba(211,47,47,.38)", "+": "rgba(56,142,60,.42)"}
_WORDS = re.compile(r"\w+|\s+|.", re.DOTALL)


@dataclass(frozen=True, slots=True)
class Row:
    """A line of the left side beside one of the right; None where there is none.

    Parameters
    ----------
    left, right : str or None
        The lines, without their ends.
    left_number, right_number : int
        Counted from 1.
    """

    left: str | None
    right: str | None
    left_number: int = 0
    right_number: int = 0

    @property
    def is_same(self) -> bool:
        """Whether both sides are equal."""
        return self.left == self.right


def prompt_diff_text(diff: PromptDiff) -> str:
    """Return the difference as a unified text, part by part."""
    older, newer = _names(diff)
    lines = [line for part in _parts(diff) for line in unified(*part)]
    if not lines:
        return f"{older} and {newer} have the same content."
    return "\n".join([f"--- {older}", f"+++ {newer}", *lines])


def unified(part: str, left: str, right: str) -> list[str]:
    """Return the lines of a unified difference of two texts, none where they are equal.

    Parameters
    ----------
    part : str
        What the texts are.
    """
    if left == right:
        return []
    lines = [f"@@ {part} @@"]
    for index, row in enumerate(_with_gaps(aligned(left, right))):
        if index >= _MOST_ROWS:
            lines.append("…")
            break
        if row is None:
            lines.append("  …")
        elif row.is_same:
            lines.append(f"  {row.left}")
        else:
            lines += [f"- {row.left}"] if row.left is not None else []
            lines += [f"+ {row.right}"] if row.right is not None else []
    return lines


def prompt_diff_html(diff: PromptDiff) -> str:
    """Return the difference side by side, changed words marked."""
    older, newer = _names(diff)
    parts = [part for part in _parts(diff) if part[1] != part[2]]
    if not parts:
        return card(f"{older} and {newer} have the same content.")
    return side_by_side((older, newer), parts)


def side_by_side(names: tuple[str, str], parts: Iterable[tuple[str, str, str]]) -> str:
    """Return texts beside each other as a table, changed words marked.

    Parameters
    ----------
    names : pair of str
        What is compared.
    parts : iterable of (name, left text, right text)
        Shown one after another.
    """
    body = []
    for part, left, right in parts:
        body.append(
            f'<tr><td colspan="4" style="text-align:left;color:{COLOR_FAINT};padding:6px 8px 2px">{html(part)}</td></tr>'
        )
        for index, row in enumerate(_with_gaps(aligned(left, right))):
            if index >= _MOST_ROWS:
                body.append(_gap("… more lines differ"))
                break
            body.append(_gap("…") if row is None else _row(row))
    heads = "".join(
        f'<th colspan="2" style="text-align:left;padding:3px 8px;border-bottom:1px solid {COLOR_BORDER}">{html(name)}</th>'
        for name in names
    )
    return (
        f'<table style="border-collapse:collapse;margin:4px 0;width:100%;table-layout:fixed;'
        f'font-family:{FONT_CODE};font-size:90%">'
        '<colgroup><col style="width:3em"><col><col style="width:3em"><col></colgroup>'
        f"<thead><tr>{heads}</tr></thead><tbody>{''.join(body)}</tbody></table>"
    )


def aligned(left: str, right: str) -> list[Row]:
    """Return two texts line by line, equal lines beside each other.

    The left sides in order are `left`, the right sides `right`, whatever they hold.
    """
    lefts, rights = _lines(left), _lines(right)
    rows: list[Row] = []
    if max(len(lefts), len(rights)) > _MOST_LINES:
        groups: Sequence[tuple[str, int, int, int, int]] = _ends_alike(lefts, rights)
    else:
        groups = difflib.SequenceMatcher(None, lefts, rights, autojunk=False).get_opcodes()
    for _, first, last, other_first, other_last in groups:
        count = max(last - first, other_last - other_first)
        for offset in range(count):
            i, j = first + offset, other_first + offset
            has_left, has_right = i < last, j < other_last
            rows.append(
                Row(
                    lefts[i] if has_left else None,
                    rights[j] if has_right else None,
                    i + 1 if has_left else 0,
                    j + 1 if has_right else 0,
                )
            )
    return rows


def changed_words(left: str, right: str) -> tuple[list[tuple[str, bool]], list[tuple[str, bool]]]:
    """Return the pieces of two lines, each with whether it differs from the other line."""
    if len(left) > _LONGEST_LINE or len(right) > _LONGEST_LINE:
        return [(left, True)], [(right, True)]
    lefts, rights = _WORDS.findall(left), _WORDS.findall(right)
    matcher = difflib.SequenceMatcher(None, lefts, rights, autojunk=False)
    pieces: tuple[list[tuple[str, bool]], list[tuple[str, bool]]] = ([], [])
    for tag, first, last, other_first, other_last in matcher.get_opcodes():
        for side, words in zip(pieces, (lefts[first:last], rights[other_first:other_last]), strict=True):
            if words:
                side.append(("".join(words), tag != "equal"))
    return pieces


def _names(diff: PromptDiff) -> tuple[str, str]:
    return tuple(  # type: ignore[return-value] # of two come two
        f"{prompt.name}@{prompt.version}" + (" (yours)" if prompt.private else "")
        for prompt in (diff.older, diff.newer)
    )


def _parts(diff: PromptDiff) -> Iterator[tuple[str, str, str]]:
    """Yield the parts of a prompt's content by name, of both sides."""
    left, right = _content(diff.older), _content(diff.newer)
    for part in left:
        yield part, left[part], right[part]


def _content(prompt: Prompt) -> dict[str, str]:
    return {
        "template": prompt.template,
        "system": prompt.system,
        "variables": "\n".join(map(declaration, prompt.declarations)),
        "model": prompt.model,
        "parameters": "\n".join(f"{name} = {value!r}" for name, value in prompt.parameters),
    }


def _lines(text: str) -> list[str]:
    return text.split("\n") if text else []


def _ends_alike(lefts: list[str], rights: list[str]) -> list[tuple[str, int, int, int, int]]:
    """Return groups as `difflib` does, from the lines that both begin and end with."""
    least = min(len(lefts), len(rights))
    start = next((i for i in range(least) if lefts[i] != rights[i]), least)
    end = next((i for i in range(least - start) if lefts[-1 - i] != rights[-1 - i]), least - start)
    middle, other_middle = len(lefts) - end, len(rights) - end
    return [
        ("equal", 0, start, 0, start),
        ("replace", start, middle, start, other_middle),
        ("equal", middle, len(lefts), other_middle, len(rights)),
    ]


def _with_gaps(rows: Sequence[Row]) -> Iterator[Row | None]:
    """Yield the rows around what differs; None stands for those that are left out."""
    near = [False] * len(rows)
    for index, row in enumerate(rows):
        if not row.is_same:
            for place in range(max(0, index - _CONTEXT), min(len(rows), index + _CONTEXT + 1)):
                near[place] = True
    left_out = False
    for row, is_near in zip(rows, near, strict=True):
        if is_near:
            yield row
        elif not left_out:
            yield None
        left_out = not is_near


def _gap(text: str) -> str:
    return f'<tr><td colspan="4" style="text-align:center;color:{COLOR_FAINT}">{html(text)}</td></tr>'


def _row(row: Row) -> str:
    if row.is_same or row.left is None or row.right is None:
        left, right = html(row.left or ""), html(row.right or "")
    else:
        words, other_words = changed_words(row.left, row.right)
        left, right = _marked(words, "-"), _marked(other_words, "+")
    sides = (
        (row.left_number, left, "" if row.is_same or row.left is None else "-"),
        (row.right_number, right, "" if row.is_same or row.right is None else "+"),
    )
    return "<tr>" + "".join(_side(number, text, sign) for number, text, sign in sides) + "</tr>"


def _side(number: int, text: Html, sign: str) -> str:
    # A sign beside the colour, for those who can't tell red from green.
    label = f"{sign or ' '}{number}" if number else ""
    style = f"background:{_COLORS[sign]};vertical-align:top;text-align"
    return (
        f'<td style="{style}:right;color:{COLOR_FAINT};padding:0 6px;white-space:pre">{html(label)}</td>'
        f'<td style="{style}:left;white-space:pre-wrap;overflow-wrap:anywhere;padding:0 8px">{text}</td>'
    )


def _marked(pieces: Sequence[tuple[str, bool]], sign: str) -> Html:
    return Html(
        "".join(
            f'<span style="background:{_WORD_COLORS[sign]}">{html(text)}</span>' if changed else html(text)
            for text, changed in pieces
        )
    )
