"""How much prompts may cost, and what they did cost."""

from __future__ import annotations

import json
import math
import os
import threading
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path

from jupyter_llmops.errors import BudgetError
from jupyter_llmops.records.budget import BudgetStatus, Period
from jupyter_llmops.records.cost import Cost
from jupyter_llmops.records.request import InferenceRequest


class Budget:
    """A limit on what is computed, in this session or, over all kernels of a user, in a day or a month.

    What was spent is appended to a file per month, so that a new kernel knows it. What has no known
    price is counted, not priced.

    Parameters
    ----------
    folder : Path
        Where the files of what was spent lie, one line an answer; created by the first.
    estimate : callable
        From a request to the most that it may cost; unknown where nobody can say.
    currency : str
        In which the settings price this machine.
    """

    def __init__(
        self, folder: Path, estimate: Callable[[InferenceRequest], Cost], currency: str = "USD"
    ) -> None:
        self._folder = folder
        self._estimate = estimate
        self._limit: float | None = None
        self._currency = currency
        self._period: Period = "session"
        self._session: dict[str, float] = {}
        self._unpriced = 0
        self._ledger = _Ledger(folder)
        self._lock = threading.Lock()

    def set(self, limit: float | None, currency: str, period: Period = "session") -> None:
        """Set the limit; None lifts it.

        Parameters
        ----------
        limit : float or None
            Above 0, in `currency`.
        currency : str
            E.g. "USD".
        period : {"session", "day", "month"}
            What it is for; days and months are UTC and count every kernel of this user.
        """
        with self._lock:
            self._limit, self._currency, self._period = limit, currency, period

    def status(self) -> BudgetStatus:
        """Return the limit and what was spent of it."""
        with self._lock:
            return BudgetStatus(
                limit=self._limit,
                currency=self._currency,
                period=self._period,
                spent=self._spent(),
                unpriced=self._unpriced,
                elsewhere=tuple(
                    Cost(amount, currency, "this session")
                    for currency, amount in sorted(self._session.items())
                    if currency != self._currency
                ),
            )

    def check(self, requests: Sequence[InferenceRequest]) -> None:
        """Refuse requests that would cost more than is left; nothing happens without a limit.

        Raises
        ------
        BudgetError
            The budget is spent, or the most that these may cost is more than what is left.
        """
        limit = self._limit
        if limit is None:
            return
        with self._lock:
            left = limit - self._spent()
        if left <= 0:
            raise BudgetError(
                f"The budget of {_plain(limit)} {self._currency} a {self._period} is spent, so nothing was run.",
                f"Type %budget {_plain(2 * limit - left)}{self._currency} for a larger one, or %budget off.",
            )
        most = [cost.amount for cost in map(self._estimate, requests) if self._counts(cost)]
        needed = sum(amount for amount in most if amount is not None)
        if needed > left:
            raise BudgetError(
                f"This may cost up to {_plain(needed)} {self._currency} and the budget has {_plain(left)} left, "
                "so nothing was run.",
                f"Type a smaller -n, fewer rows, or %budget {_plain(limit + needed)}{self._currency}.",
            )

    def add(self, cost: Cost) -> None:
        """Count what an answer cost."""
        if cost.amount is None:
            self._unpriced += 1
            return
        if cost.amount == 0:
            return
        with self._lock:
            self._session[cost.currency] = self._session.get(cost.currency, 0.0) + cost.amount
        self._ledger.append(cost)

    def _counts(self, cost: Cost) -> bool:
        return cost.amount is not None and cost.currency == self._currency

    def _spent(self) -> float:
        if self._period == "session":
            return self._session.get(self._currency, 0.0)
        return self._ledger.total(self._period, self._currency)


def _plain(amount: float) -> str:
    """Return an amount as `%budget` reads it: without an exponent, to 4 digits, and rounded up to be enough."""
    digits = max(2, 3 - math.floor(math.log10(amount))) if amount > 0 else 2
    scale: int = 10**digits
    return f"{math.ceil(round(amount * scale, 6)) / scale:.{digits}f}".rstrip("0").rstrip(".")


class _Ledger:
    """Lines of what was spent, one file a month; whoever appends needs no lock."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._lost = 0.0

    def append(self, cost: Cost) -> None:
        now = datetime.now(UTC)
        line = json.dumps(
            {"at": now.isoformat(timespec="seconds"), "amount": cost.amount, "currency": cost.currency}
        )
        try:
            self._folder.mkdir(parents=True, exist_ok=True)
            file = os.open(self._path(now), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
            try:
                os.write(file, line.encode() + b"\n")
            finally:
                os.close(file)
        except OSError:
            return  # a full disk must not keep an answer from its caller; the session still counts it

    def total(self, period: Period, currency: str) -> float:
        now = datetime.now(UTC)
        try:
            text = self._path(now).read_text("utf-8")
        except OSError:
            return 0.0
        today = now.date().isoformat()
        total = 0.0
        for line in text.splitlines():
            try:
                entry = json.loads(line)
                if entry["currency"] == currency and (period == "month" or entry["at"].startswith(today)):
                    total += float(entry["amount"])
            except (ValueError, KeyError, TypeError, AttributeError):
                continue  # a line that a kill cut short
        return total

    def _path(self, moment: datetime) -> Path:
        return self._folder / f"{moment:%Y-%m}.jsonl"
