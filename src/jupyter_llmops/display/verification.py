"""Views of what `%audit verify` found."""

from __future__ import annotations

from collections.abc import Sequence

from jupyter_llmops.display.elements import (
    COLOR_ERROR,
    COLOR_OK,
    COLOR_WARN,
    Html,
    card,
    html,
    status,
    table,
    text_table,
)
from jupyter_llmops.records.run import Problem, Verification
from jupyter_llmops.records.trail import Gap

MOST_PROBLEMS = 50
MOST_GAPS = 20
_PROBLEMS = ("session", "record", "run", "problem")
_GAPS = ("cells", "session", "notebook", "why")
# In a notebook what names a record shares a column that gives way: an output of 400 px has room for the sentence.
_NARROW, _WIDE = "min-width:8em;overflow-wrap:anywhere", "min-width:14em;overflow-wrap:break-word"


def verification_text(verification: Verification) -> str:
    """Return a verification for a terminal: the verdict, each problem, what no log covers, what can't be said."""
    parts = [f"{'✓' if verification.ok else '✗'} {_verdict(verification)}"]
    shown = verification.problems[:MOST_PROBLEMS]
    if shown:
        parts.append(text_table(_PROBLEMS, [_row(problem) for problem in shown]))
    if len(verification.problems) > len(shown):
        parts.append(f"… and {len(verification.problems) - len(shown)} more")
    gaps = verification.not_covered[:MOST_GAPS]
    if gaps:
        parts += [f"! {_uncovered(verification)}", text_table(_GAPS, [_gap(gap) for gap in gaps])]
    if len(verification.not_covered) > len(gaps):
        parts.append(f"… and {len(verification.not_covered) - len(gaps)} more")
    parts += [f"note: {_plain(note)}" for note in verification.notes]
    return "\n".join(parts)


def verification_html(verification: Verification) -> str:
    """Return a verification for a notebook: the verdict, each problem, what no log covers, what can't be said."""
    body = ""
    shown = verification.problems[:MOST_PROBLEMS]
    if shown:
        body += table(
            ("record", "problem"),
            [_wrapping(_row(problem), ("", "record ", "run ")) for problem in shown],
            caption=_more(len(verification.problems) - len(shown)),
        )
    gaps = verification.not_covered[:MOST_GAPS]
    if gaps:
        body += Html(f"<div>{status('warn', _uncovered(verification))}</div>") + table(
            ("where", "why"),
            [_wrapping(_gap(gap, "cell"), ("", "", "")) for gap in gaps],
            caption=_more(len(verification.not_covered) - len(gaps)),
        )
    verdict = status("ok" if verification.ok else "error", _verdict(verification))
    return card(
        Html(f"<div>{verdict}</div>{body}"),
        title="Audit trail",
        footer=" · ".join(map(_plain, verification.notes)),
        accent=(COLOR_WARN if gaps else COLOR_OK) if verification.ok else COLOR_ERROR,
    )


def _verdict(verification: Verification) -> str:
    counted = f"{_count(verification.records, 'record')} in {_count(verification.sessions, 'session')}"
    if not verification.ok:
        return f"{_count(len(verification.problems), 'problem')} found in {counted}"
    if not verification.records:
        return "nothing is recorded yet"
    if not verification.witnessed:
        return f"{counted} verified"
    if verification.witnessed == verification.records:
        return f"{counted} verified, all of them witnessed"
    return f"{counted} verified, {verification.witnessed:,} of them witnessed"


def _uncovered(verification: Verification) -> str:
    cells = sum(gap.cells for gap in verification.not_covered)
    if not cells:
        if all(gap.reason == "silent" for gap in verification.not_covered):
            return "beside the cells, something ran that no log has"
        return "it is not known of every kernel whether it ran cells before the server heard it"
    return f"{_count(cells, 'cell')} ran and {'is' if cells == 1 else 'are'} in no log, so nothing is proven of {'it' if cells == 1 else 'them'}"


def _more(count: int) -> str:
    return f"… and {count} more" if count > 0 else ""


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _gap(gap: Gap, noun: str = "") -> tuple[str, str, str, str]:
    cells = (_count(gap.cells, noun) if gap.cells else "") if noun else f"{gap.cells:,}"
    return cells, _plain(gap.session or gap.kernel), _plain(gap.notebook), _plain(gap.message)


def _row(problem: Problem) -> tuple[str, str, str, str]:
    # The message names the record by itself, for a log; the table has columns for that.
    message = problem.message
    if message.startswith("session ") and ": " in message:
        message = message.split(": ", 1)[1]
    seq = "" if problem.seq is None else str(problem.seq)
    return _plain(problem.session), seq, _plain(problem.run_id), _plain(message)


def _wrapping(row: Sequence[str], nouns: Sequence[str]) -> tuple[Html, Html]:
    """Return a row as two cells: all that names a record or cells, and the sentence."""
    *names, sentence = row
    where = " · ".join(f"{noun}{name}" for noun, name in zip(nouns, names, strict=True) if name)
    return Html(f'<div style="{_NARROW}">{html(where)}</div>'), Html(
        f'<div style="{_WIDE}">{html(sentence)}</div>'
    )


def _plain(text: str) -> str:
    """Return a text of a row that anybody may have planted so that it does nothing to a terminal."""
    if text.isprintable():
        return text
    return "".join(
        one if one.isprintable() else one.encode("unicode_escape", "replace").decode() for one in text
    )
