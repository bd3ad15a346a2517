"""What came of a map's rows so far."""

from __future__ import annotations

from dataclasses import replace

from jupyter_llmops.records.completion import Completion
from jupyter_llmops.records.cost import Cost
from jupyter_llmops.records.map import MapResult, MapRow, RowFailure


class MapTally:
    """Rows in their order, with their counts and money.

    Parameters
    ----------
    length : int
        How many rows the map has.
    """

    def __init__(self, length: int) -> None:
        self.rows: list[MapRow] = [MapRow(index) for index in range(length)]
        self.computed = self.reused = self.repeated = self.failed = self.resumed = 0
        self.pending = 0
        self._cost = _Sum()
        self._saved = _Sum()

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def done(self) -> int:
        """How many rows have an answer or a failure."""
        return self.computed + self.spared + self.failed + self.resumed

    @property
    def spared(self) -> int:
        """How many rows of this call have an answer that was not computed for them."""
        return self.reused + self.repeated

    @property
    def cost(self) -> Cost:
        """What this call cost so far."""
        return self._cost.cost()

    def answered(self, index: int, completion: Completion, *, same_as: int | None = None) -> MapRow:
        """Take a row's answer; `same_as` is the earlier row whose answer it is."""
        if same_as is not None:
            self.repeated += 1
        elif completion.source == "cache":
            self.reused += 1
        else:
            self.computed += 1
        self._cost.add(completion.cost)
        if completion.source == "cache":
            self._saved.add(completion.saved)
        return self._put(MapRow(index, completion, same_as=same_as))

    def failed_with(
        self, index: int, failure: RowFailure, *, same_as: int | None = None, cost: Cost | None = None
    ) -> MapRow:
        """Take a row's failure, and what it cost where it was computed."""
        self.failed += 1
        if cost is not None:
            self._cost.add(cost)
        return self._put(MapRow(index, failure=failure, same_as=same_as))

    def resume(self, row: MapRow) -> MapRow:
        """Take a row that an interrupted call had finished; it was counted and paid for there."""
        self.resumed += 1
        return self._put(row)

    def result(self, run_id: str, seconds: float, backend: str) -> MapResult:
        """Return the rows, those that were not reached too."""
        return MapResult(
            rows=tuple(self.rows),
            run_id=run_id,
            seconds=seconds,
            computed=self.computed,
            reused=self.reused,
            repeated=self.repeated,
            failed=self.failed,
            cost=self.cost,
            saved=self._saved.cost(),
            backend=backend,
            resumed=self.resumed,
        )

    def _put(self, row: MapRow) -> MapRow:
        self.rows[row.index] = row
        return row


class _Sum:
    """Adds prices up; what has none is counted and said."""

    def __init__(self) -> None:
        self._amounts: dict[str, float] = {}
        self._unknown = 0

    def add(self, cost: Cost) -> None:
        if cost.amount is None:
            self._unknown += 1
        else:
            self._amounts[cost.currency] = self._amounts.get(cost.currency, 0.0) + cost.amount

    def cost(self) -> Cost:
        if not any(self._amounts.values()) and self._unknown:
            return Cost(basis=f"the price of {self._unknown:,} answers is unknown")
        if not self._amounts:
            return Cost(basis="nothing was priced")
        # Nobody computes one map in two currencies; if so, the larger sum is told and the other named.
        (currency, amount), *others = sorted(self._amounts.items(), key=lambda item: -item[1])
        also = [f"and {other:.4g} {name}" for name, other in others if other]
        if self._unknown:
            also.append(f"and {self._unknown:,} answers whose price is unknown")
        return replace(Cost(amount, currency), basis=", ".join(also))
