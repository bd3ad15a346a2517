"""What is said of cells that no log has, in sentences."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime

from jupyter_llmops.audit.counts import Hole, Log
from jupyter_llmops.audit.observations import SeenKernel
from jupyter_llmops.records.trail import Gap

_FORM = "%Y-%m-%d %H:%M:%S"


def gap_of(hole: Hole) -> Gap:
    """Return what is said of counts that no leaf has."""
    log = hole.log
    after = None if hole.after is None else moment_of(min(hole.after, hole.before))
    gap = Gap(
        hole.reason, "", log.kernel, log.session, log.notebook, hole.first, hole.last, after,
        moment_of(hole.before),
    )  # fmt: skip
    if hole.reason == "before loading":
        return replace(gap, message=f"{cells_of(gap)} ran before the extension was loaded, {span_of(gap)}")
    return replace(gap, message=f"{cells_of(gap)} ran {span_of(gap)}, and no log has {_them(gap)}")


def unfinished(kernel: str, session: str, notebook: str, count: int | None, begin: int) -> Gap:
    """Return what is said of a cell that began and was never stamped; `begin` in microseconds since 1970."""
    gap = Gap("not finished", "", kernel, session, notebook, count, count, moment_of(begin))
    return replace(
        gap,
        message=f"{cells_of(gap)} began at {moment_of(begin):{_FORM}} UTC, and its kernel ended before it did",
    )


def said_seen(gap: Gap, seen: SeenKernel) -> str:
    """Return the sentence on cells that the server saw and no log has."""
    if gap.reason == "no log":
        kernel = f"kernel {seen.kernel}" + (f" ({seen.name})" if seen.name else "")
        return (
            f"the server saw {kernel} run {cells_of(gap)} {span_of(gap)}, and no log has any of that kernel"
        )
    return f"the server saw {cells_of(gap)} run {span_of(gap)}, and the log of the kernel does not have {_them(gap)}"


def silent_gap(log: Log) -> Gap:
    """Return what is said of the requests that ran silently, and of widgets' messages, beside a session's cells."""
    gap = Gap(
        "silent", "", log.kernel, log.session, log.notebook, None, None,
        moment_of(log.silent_after), moment_of(log.silent_before),
    )  # fmt: skip
    told, why = [], "; what callbacks they ran is not on record"
    if log.silent:
        told.append(f"{'1 request' if log.silent == 1 else f'{log.silent:,} requests'} ran silently")
        why = ", as frontends and debuggers ask their own questions and terminals run .ipy files; what they ran is not on record"
    if log.callbacks:
        came = "1 message" if log.callbacks == 1 else f"{log.callbacks:,} messages"
        told.append(f"{came} came to widgets")
    if len(told) > 1:
        why = "; what they ran is not on record"
    where = f" in {log.notebook}" if log.notebook else ""
    return replace(gap, message=f"{' and '.join(told)}{where} {span_of(gap)}{why}")


def _them(gap: Gap) -> str:
    return "it" if gap.first_count == gap.last_count else "them"


def cells_of(gap: Gap) -> str:
    """Return the counts of a gap in words."""
    if gap.first_count is None:
        return f"a cell without a number of {gap.notebook}" if gap.notebook else "a cell without a number"
    counts = (
        f"cell {gap.first_count}"
        if gap.first_count == gap.last_count
        else f"cells {gap.first_count} to {gap.last_count}"
    )
    return f"{counts} of {gap.notebook}" if gap.notebook else counts


def span_of(gap: Gap) -> str:
    """Return when the cells of a gap ran in words."""
    before = "an unknown moment" if gap.before is None else f"{gap.before:{_FORM}}"
    if not gap.after:
        return f"before {before} UTC"
    after = f"{gap.after:{_FORM}}"
    return f"at {after} UTC" if after == before else f"between {after} and {before} UTC"


def moment_of(value: int) -> datetime:
    """Return the moment of microseconds since 1970; of no moment at all, 1970."""
    try:
        return datetime.fromtimestamp(value / 1e6, UTC)
    except (ValueError, OverflowError, OSError):
        return datetime(1970, 1, 1, tzinfo=UTC)


def when_of(gap: Gap) -> tuple[datetime, str, int]:
    """Return by what gaps are sorted: time, session, count."""
    return gap.after or gap.before or moment_of(0), gap.session, gap.first_count or 0
