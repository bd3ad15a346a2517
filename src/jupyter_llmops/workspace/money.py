"""What prompts may cost."""

from __future__ import annotations

import re
from dataclasses import replace
from typing import TYPE_CHECKING, Final, cast

from jupyter_llmops.errors import UsageError, nearest
from jupyter_llmops.workspace.parts import Parts

if TYPE_CHECKING:
    from jupyter_llmops.records.budget import BudgetStatus, Period

PERIODS: Final = ("session", "day", "month")
_SIGNS: Final = {"$": "USD", "€": "EUR", "£": "GBP", "¥": "JPY"}
_AMOUNT: Final = re.compile(r"([$€£¥]?)\s*(\d+(?:\.\d+)?|\.\d+)\s*([$€£¥]|[A-Za-z]{3})?")


class Money(Parts):
    """What a workspace says of money."""

    def budget(self) -> BudgetStatus:
        """Return the budget, what was spent of it and what reuse saved."""
        status = self.spending.status()
        saved = self.cache.saved(status.currency) if "cache" in self.__dict__ else 0.0
        return replace(status, saved=saved)

    def set_budget(self, limit: str | float | None, *, per: str = "session") -> BudgetStatus:
        """Set how much prompts may cost; None lifts the limit.

        A prompt that may cost more than what is left is refused before it runs. Answers whose price nobody
        knows are counted, not priced.

        Parameters
        ----------
        limit : str, float or None
            E.g. "5USD", "5 EUR", or a number in the currency of the settings.
        per : {"session", "day", "month"}
            What it is for; days and months are UTC and count every kernel of this user.

        Raises
        ------
        UsageError
            It is no amount of money, or there is no such period.
        """
        if per not in PERIODS:
            near = nearest(per, PERIODS)
            hint = f"Did you mean {near[0]}? " if near else ""
            raise UsageError(f"A budget is not per {per!r}.", f"{hint}Valid are {', '.join(PERIODS)}.")
        period = cast("Period", per)
        if limit is None:
            self.spending.set(None, self.settings.currency, period)
        else:
            self.spending.set(*parse_amount(limit, self.settings.currency), period)
        return self.budget()


def parse_amount(text: str | float, currency: str) -> tuple[float, str]:
    """Return an amount of money and its currency.

    Parameters
    ----------
    text : str or float
        "5USD", "5 EUR", "$5", "5"; a number is in `currency`.
    currency : str
        Of a text that names none.

    Raises
    ------
    UsageError
        It is no amount, or not above 0.
    """
    match = _AMOUNT.fullmatch(str(text).strip())
    if match is None or (match[1] and match[3]):
        raise UsageError(f"{text!r} is not an amount of money.", "Type e.g. %budget 5USD.")
    amount, sign = float(match[2]), match[1] or match[3] or ""
    if amount == 0:
        raise UsageError("A budget of 0 would refuse everything.", "Type %budget 5USD, or %budget off.")
    return amount, _SIGNS.get(sign, sign.upper()) or currency
