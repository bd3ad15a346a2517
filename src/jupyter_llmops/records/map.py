"""One prompt for many rows: what came of each."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from jupyter_llmops.records.completion import Completion
from jupyter_llmops.records.cost import Cost

if TYPE_CHECKING:
    import pandas as pd


@dataclass(frozen=True, slots=True)
class RowFailure:
    """Why one row has no answer; a value, so that the other rows keep theirs.

    Parameters
    ----------
    error_type : str
        Name of the exception, e.g. "EndpointError".
    message, hint : str
        As the exception says it.
    attempts : int
        How often it was tried.
    """

    error_type: str
    message: str
    hint: str = ""
    attempts: int = 1

    def __str__(self) -> str:
        return f"{self.error_type}: {self.message}"


@dataclass(frozen=True, slots=True)
class MapRow:
    """One row of a map.

    Parameters
    ----------
    index : int
        Its position, from 0.
    completion : Completion or None
        The answer.
    failure : RowFailure or None
        Why there is none; both are None for a row that was not reached.
    same_as : int or None
        The earlier row that asked the very same and was computed for both.
    """

    index: int
    completion: Completion | None = None
    failure: RowFailure | None = None
    same_as: int | None = None

    @property
    def value(self) -> Any:
        """The answer as data where a schema was asked for, else as text; None without one."""
        if self.completion is None:
            return None
        return self.completion.text if self.completion.data is None else self.completion.data


@dataclass(frozen=True, slots=True)
class MapResult(Sequence[MapRow]):
    """The rows of a map in their order.

    Parameters
    ----------
    rows : tuple of MapRow
        One per row of the input.
    run_id : str
        Id of the map's own run in the trail, the parent of its rows'.
    seconds : float
        What the call took.
    computed, reused, repeated, failed : int
        Rows that a model answered, that the cache had, that repeat another row, that failed.
    cost, saved : Cost
        What it cost, and what reuse saved.
    backend : str
        Where it was computed.
    resumed : int
        Rows that an interrupted call of the same map had finished.
    notes : tuple of str
        What the user should know of the backend, e.g. a worker that was lost.
    """

    rows: tuple[MapRow, ...]
    run_id: str = ""
    seconds: float = 0.0
    computed: int = 0
    reused: int = 0
    repeated: int = 0
    failed: int = 0
    cost: Cost = field(default_factory=Cost)
    saved: Cost = field(default_factory=Cost)
    backend: str = "kernel"
    resumed: int = 0
    notes: tuple[str, ...] = ()

    def __len__(self) -> int:
        return len(self.rows)

    def __getitem__(self, index: Any) -> Any:
        return self.rows[index]

    def __iter__(self) -> Iterator[MapRow]:
        return iter(self.rows)

    @property
    def values(self) -> list[Any]:
        """The answers in order; None where a row has none."""
        return [row.value for row in self.rows]

    @property
    def failures(self) -> list[MapRow]:
        """The rows that failed, in order."""
        return [row for row in self.rows if row.failure is not None]

    @property
    def seconds_saved(self) -> float:
        """Seconds of computing that the cache and repeated rows saved."""
        return sum(row.completion.seconds_saved for row in self.rows if row.completion is not None)

    @property
    def df(self) -> pd.DataFrame:
        """One line per row: value, source, tokens, cost, failure."""
        import pandas as pd

        lines = pd.DataFrame([_line(row) for row in self.rows], columns=list(_line(MapRow(0))))
        whole = dict.fromkeys(("same_as", "tokens_in", "tokens_out"), "Int64")  # also where a row has none
        return lines.astype(whole).set_index("row")


def _line(row: MapRow) -> dict[str, Any]:
    answer = row.completion
    return {
        "row": row.index,
        "value": row.value,
        "source": answer.source if answer else "",
        "same_as": row.same_as,
        "tokens_in": answer.tokens_in if answer else None,
        "tokens_out": answer.tokens_out if answer else None,
        "seconds": answer.computed_seconds if answer else None,
        "cost": answer.cost.amount if answer else None,
        "run_id": answer.run_id if answer else "",
        "failure": str(row.failure) if row.failure else "",
    }
