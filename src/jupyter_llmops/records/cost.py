"""What an answer costs; what nobody knows stays unknown."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Cost:
    """The price of one answer, or of several.

    Parameters
    ----------
    amount : float or None
        In `currency`; None where no price is known. 0 is a price: free.
    currency : str
        E.g. "USD".
    basis : str
        How it was computed, one phrase for people: "0.43 s of a cpu at 0.50 USD/h",
        "gpt-5-mini: 120 in, 40 out (genai-prices 0.2.3)", or why it is unknown.
    """

    amount: float | None = None
    currency: str = "USD"
    basis: str = ""

    @property
    def known(self) -> bool:
        """Whether there is a price."""
        return self.amount is not None


UNKNOWN_COST = Cost()
