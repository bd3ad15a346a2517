"""What may be spent, and what was."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jupyter_llmops.records.cost import Cost

Period = Literal["session", "day", "month"]


@dataclass(frozen=True, slots=True)
class BudgetStatus:
    """A budget and what was spent of it.

    Parameters
    ----------
    limit : float or None
        In `currency`; None where there is no limit.
    currency : str
        E.g. "USD".
    period : {"session", "day", "month"}
        What the limit is for.
    spent : float
        In `currency`, in this period.
    unpriced : int
        Answers of this session whose price nobody knows.
    elsewhere : tuple of Cost
        What this session spent in other currencies, which no limit counts.
    saved : float
        What this session's reuse saved, in `currency`.
    """

    limit: float | None
    currency: str
    period: Period
    spent: float
    unpriced: int = 0
    elsewhere: tuple[Cost, ...] = ()
    saved: float = 0.0

    @property
    def left(self) -> float | None:
        """What is left, not below 0; None without a limit."""
        return None if self.limit is None else max(0.0, self.limit - self.spent)
