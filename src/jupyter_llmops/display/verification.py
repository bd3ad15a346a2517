"""Views of what `%audit verify` found."""

from __future__ import annotations

from jupyter_llmops.display.elements import COLOR_ERROR, COLOR_OK, Html, card, status, table, text_table
from jupyter_llmops.records.run import Problem, Verification

MOST_PROBLEMS = 50


def verification_text(verification: Verification) -> str:
    """Return a verification for a terminal: the verdict, each problem with its record, what can't be said."""
    mark = "✓" if verification.ok else "✗"
    parts = [f"{mark} {_verdict(verification)}"]
    shown = verification.problems[:MOST_PROBLEMS]
    if shown:
        parts.append(
            text_table(("session", "record", "run", "problem"), [_row(problem) for problem in shown])
        )
    if len(verification.problems) > len(shown):
        parts.append(f"… and {len(verification.problems) - len(shown)} more")
    parts += [f"note: {note}" for note in verification.notes]
    return "\n".join(parts)


def verification_html(verification: Verification) -> str:
    """Return a verification for a notebook: the verdict, each problem with its record, what can't be said."""
    shown = verification.problems[:MOST_PROBLEMS]
    more = len(verification.problems) - len(shown)
    body = ""
    if shown:
        body = table(
            ("session", "record", "run", "problem"),
            [_row(problem) for problem in shown],
            numeric=(1,),
            caption=f"… and {more} more" if more else "",
        )
    verdict = status("ok" if verification.ok else "error", _verdict(verification))
    return card(
        Html(f"<div>{verdict}</div>{body}"),
        title="Audit trail",
        footer=" · ".join(verification.notes),
        accent=COLOR_OK if verification.ok else COLOR_ERROR,
    )


def _verdict(verification: Verification) -> str:
    counted = f"{_count(verification.records, 'record')} in {_count(verification.sessions, 'session')}"
    if not verification.ok:
        return f"{_count(len(verification.problems), 'problem')} found in {counted}"
    return f"{counted} verified" if verification.records else "nothing is recorded yet"


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _row(problem: Problem) -> tuple[str, str, str, str]:
    # The message names the record by itself, for a log; the table has columns for that.
    message = problem.message
    if message.startswith("session ") and ": " in message:
        message = message.split(": ", 1)[1]
    seq = "" if problem.seq is None else str(problem.seq)
    return problem.session, seq, problem.run_id, message
