"""How the cache does, as text and as a card with the hit rate as a bar."""

from __future__ import annotations

from jupyter_llmops.display.elements import (
    COLOR_OK,
    COLOR_WARN,
    Html,
    bar,
    card,
    code,
    duration,
    html,
    size,
    status,
)
from jupyter_llmops.records.cache import CacheStats

_BAR_WIDTH = 20


def cache_text(stats: CacheStats) -> str:
    """Return the cache's figures for a terminal, the hit rate as a bar of characters."""
    rate = stats.hit_rate
    filled = round(_BAR_WIDTH * (rate or 0))
    chart = f"  {'█' * filled}{'░' * (_BAR_WIDTH - filled)}" if rate is not None else ""
    facts = [
        ("this session", _rate(stats) + chart),
        ("time saved", _saved(stats)),
        *(("money saved", f"{cost.amount:.4g} {cost.currency}") for cost in stats.saved),
        ("on disk", _on_disk(stats)),
        ("folder", stats.folder),
    ]
    width = max(len(name) for name, _ in facts)
    lines = [f"{name.ljust(width)}  {value}" for name, value in facts]
    return "\n".join([*lines, *(f"{'!'.ljust(width)}  {notice}" for notice in _notices(stats))])


def cache_html(stats: CacheStats) -> str:
    """Return the cache's figures as a card, the hit rate as a bar."""
    facts: list[tuple[str, object]] = [
        ("this session", bar(stats.hit_rate, _rate(stats), color=COLOR_OK)),
        ("time saved", _saved(stats)),
        *(("money saved", f"{cost.amount:.4g} {cost.currency}") for cost in stats.saved),
        ("on disk", _on_disk(stats)),
        ("folder", code(stats.folder)),
    ]
    rows = "".join(
        f'<tr><td style="padding:2px 14px 2px 0;text-align:left;opacity:.75;white-space:nowrap">{html(name)}'
        f'</td><td style="text-align:left;font-variant-numeric:tabular-nums;overflow-wrap:anywhere">'
        f"{html(value)}</td></tr>"
        for name, value in facts
    )
    notices = "".join(f"<div>{status('warn', notice)}</div>" for notice in _notices(stats))
    return card(
        Html(f'<table style="border-collapse:collapse">{rows}</table>{notices}'),
        title="Cache",
        footer="%cache why explains the last look-up",
        accent=COLOR_WARN if _notices(stats) else COLOR_OK,
    )


def _rate(stats: CacheStats) -> str:
    passed_by = f", {stats.bypassed} not looked up" if stats.bypassed else ""
    if stats.hit_rate is None:
        return f"no look-up yet{passed_by}"
    counts = f"{_count(stats.hits, 'hit')}, {_count(stats.misses, 'miss', 'misses')}{passed_by}"
    return f"{100 * stats.hit_rate:.0f} % · {counts}"


def _saved(stats: CacheStats) -> str:
    return duration(stats.seconds_saved) if stats.hits else "nothing yet"


def _on_disk(stats: CacheStats) -> str:
    held = f"{_count(stats.entries, 'answer')}, {size(stats.size_bytes)}" if stats.entries else "nothing yet"
    if stats.limits is None:
        return held
    most = "" if stats.limits.size_bytes is None else f" of at most {limit(stats.limits.size_bytes)}"
    oldest = stats.limits.age_seconds
    return f"{held}{most}" + ("" if oldest is None else f", kept for {age(oldest)}")


def limit(size_bytes: int) -> str:
    """Return a size as it is typed, in powers of 1000: 5 GB, 1.5 MB."""
    for unit, length in (("TB", 10**12), ("GB", 10**9), ("MB", 10**6), ("kB", 1000)):
        if size_bytes >= length:
            return f"{size_bytes / length:.3g} {unit}"
    return f"{size_bytes} B"


def age(seconds: float) -> str:
    """Return an age as it is typed: 30 days, 12 hours."""
    for name, length in (("day", 86_400), ("hour", 3600), ("minute", 60)):
        if seconds >= length:
            return _count(round(seconds / length), name)
    return _count(round(seconds), "second")


def _notices(stats: CacheStats) -> list[str]:
    """Return what a reader has to know beyond the figures."""
    found = []
    if not stats.enabled:
        found.append("The cache is off; %cache on switches it on.")
    if stats.problem:
        found.append(stats.problem)
    if stats.others:
        found.append(
            f"{_count(stats.others, 'answer')} there {'was' if stats.others == 1 else 'were'} sealed with another "
            "key or by an older version, and not used: %llmops join FILE takes the key of a colleague's "
            "%llmops invite FILE."
        )
    if stats.rejected:
        which = "item that did" if stats.rejected == 1 else "items that did"
        found.append(f"{stats.rejected} stored {which} not verify: not used, computed again.")
    return found


def _count(number: int, one: str, many: str = "") -> str:
    return f"{number} {one if number == 1 else many or one + 's'}"
