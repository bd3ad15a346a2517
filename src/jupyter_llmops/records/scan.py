"""What a scan for models found."""

from __future__ import annotations

from collections import Counter
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Literal

from jupyter_llmops.records.model import Model

if TYPE_CHECKING:
    from pandas import DataFrame

ScanOutcome = Literal["new", "place added", "known", "found"]


@dataclass(frozen=True, slots=True)
class ScannedModel:
    """One model that a scan found.

    Parameters
    ----------
    model : Model
        As it is in the catalog now; as it was found where nothing was registered.
    outcome : {"new", "place added", "known", "found"}
        Whether it was registered, was there and is known to lie here too now, was there all the same,
        or was only looked at.
    """

    model: Model
    outcome: ScanOutcome


@dataclass(frozen=True, slots=True)
class ModelScan:
    """What ``%models scan`` found.

    Parameters
    ----------
    found : tuple of ScannedModel
        In the order in which they were found.
    problems : tuple of str
        What could not be read, one sentence each.
    """

    found: tuple[ScannedModel, ...]
    problems: tuple[str, ...] = ()

    @property
    def summary(self) -> str:
        """How many were found, and what became of them, in a sentence."""
        counts = Counter(found.outcome for found in self.found)
        said = ", ".join(f"{count} {outcome}" for outcome, count in counts.items())
        models = f"{len(self.found)} model{'s' if len(self.found) != 1 else ''}"
        if counts.keys() == {"found"}:
            return f"{models} found, none registered."
        return f"{models} found: {said}." if said else "No models found."

    @property
    def df(self) -> DataFrame:
        """The models as a pandas data frame, one row each."""
        import pandas as pd

        return pd.DataFrame([{"outcome": found.outcome, **asdict(found.model)} for found in self.found])
