"""A list of records that shows itself as a table."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from pandas import DataFrame

Record = TypeVar("Record")


class Listing(Sequence[Record], Generic[Record]):
    """An immutable sequence of records of one noun, with a data frame of them.

    Parameters
    ----------
    noun : str
        "model", "prompt", "run", …
    records : sequence
        Dataclass instances.
    hint : str
        What to type when the list is empty.
    why : mapping of name to str, optional
        Of a search: why each record is in it.
    note : str
        What the list lacks, one sentence; empty when nothing.
    """

    def __init__(
        self,
        noun: str,
        records: Sequence[Record],
        hint: str = "",
        *,
        why: Mapping[str, str] | None = None,
        note: str = "",
    ) -> None:
        self.noun = noun
        self.hint = hint
        self.why = why
        self.note = note
        self._records = tuple(records)

    def __getitem__(self, index: Any) -> Any:
        return self._records[index]

    def __len__(self) -> int:
        return len(self._records)

    def __iter__(self) -> Iterator[Record]:
        return iter(self._records)

    @property
    def df(self) -> DataFrame:
        """The records as a pandas data frame, one row each."""
        import pandas as pd

        return pd.DataFrame([asdict(record) for record in self._records])  # type: ignore[call-overload]
