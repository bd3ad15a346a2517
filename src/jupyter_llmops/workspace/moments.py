"""Moments and amounts as people type them."""

from __future__ import annotations

import re
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal, InvalidOperation
from typing import Any

from jupyter_llmops.errors import UsageError

_SPAN = re.compile(r"(\d+)\s*(s|m|min|h|d|w|mo|y)$")
_UNITS = {
    "s": timedelta(seconds=1),
    "m": timedelta(minutes=1),
    "min": timedelta(minutes=1),
    "h": timedelta(hours=1),
    "d": timedelta(days=1),
    "w": timedelta(weeks=1),
    "mo": timedelta(days=30),
    "y": timedelta(days=365),
}
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}$")
_LARGEST = Decimal(10) ** 12


def parse_moment(value: Any, *, end: bool = False, now: datetime | None = None) -> datetime | None:
    """Return the moment that somebody means, in UTC; None for nothing.

    Parameters
    ----------
    value : str, datetime, date, timedelta or None
        ``30min``, ``2h``, ``3d``, ``2w``, ``6mo``, ``1y`` ago; ``2026-11-01`` or ``2026-11-01T14:30`` in
        this machine's time zone; ``today``, ``yesterday``.
    end : bool
        A whole day means its end.
    now : datetime, optional
        For tests.

    Raises
    ------
    UsageError
        It is no moment.
    """
    if value is None or value == "":
        return None
    now = now or datetime.now(UTC)
    try:
        if isinstance(value, timedelta):
            return now - value
        if isinstance(value, datetime):
            return value.astimezone(UTC)
        if isinstance(value, date):
            return _of_day(value, end=end)
        text = str(value).strip().lower().removesuffix(" ago")
        if span := _SPAN.match(text):
            return now - int(span[1]) * _UNITS[span[2]]
        if text in ("today", "yesterday"):
            return _of_day(now.astimezone().date() - timedelta(days=text == "yesterday"), end=end)
        if _DATE.match(text):
            return _of_day(date.fromisoformat(text), end=end)
        return datetime.fromisoformat(text).astimezone(UTC)
    except (ValueError, OverflowError, OSError):
        raise UsageError(
            f"{str(value)[:40]!r} is no moment.", "Type 30min, 2h, 3d, 2w, 2026-11-01 or 2026-11-01T14:30."
        ) from None


def _of_day(day: date, *, end: bool) -> datetime:
    chosen = day + timedelta(days=1) if end else day
    return datetime(chosen.year, chosen.month, chosen.day).astimezone(UTC)


def parse_cost(value: Any) -> tuple[int | None, int | None]:
    """Return the least and the most cost, in millionths of the currency.

    Parameters
    ----------
    value : str, number, pair or None
        ``0.01..0.5``, ``0.1..``, ``..0.5``; a single amount means at least that.

    Raises
    ------
    UsageError
        It is no range of amounts.
    """
    if value is None or value == "":
        return None, None
    if isinstance(value, tuple | list) and len(value) == 2:
        least, most = value
    else:
        least, dots, most = str(value).partition("..")
        if not dots:
            most = None
    low, high = _millionths(least, value), _millionths(most, value)
    if (low is None and high is None) or (low is not None and high is not None and low > high):
        raise _no_cost(value)
    return low, high


def _millionths(amount: Any, whole: Any) -> int | None:
    if amount is None or str(amount).strip() == "":
        return None
    try:
        number = Decimal(str(amount).strip())
    except InvalidOperation:
        raise _no_cost(whole) from None
    if not number.is_finite() or not 0 <= number <= _LARGEST:
        raise _no_cost(whole)
    return int(number * 1_000_000)


def _no_cost(value: Any) -> UsageError:
    return UsageError(f"{str(value)[:40]!r} is no range of costs.", "Type 0.01..0.5, 0.1.. or ..0.5.")
