"""The rows of a map: whatever holds many records, as variables of a template."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from numbers import Real
from typing import Any, Final

from jupyter_llmops.errors import TemplateError, UsageError

ROW: Final = "row"
_HINT = "Give a data frame, or a list of texts, dicts or records."


class RowVariables(Mapping[str, Any]):
    """One row's values before everything else that has a name.

    A value that is missing (None, NaN, NaT, a key that only other rows have) counts as not defined, so that a template's ``default``
    filter applies and nothing reaches a model as the word "nan"; a notebook variable of that name
    does not stand in for it.

    Parameters
    ----------
    own : mapping
        The row's values by column; all of it is ``{{ row }}`` too.
    whole : object
        What ``{{ row }}`` is.
    others : mapping
        Every other variable.
    columns : collection of str
        The names that some row has.
    """

    def __init__(
        self, own: Mapping[str, Any], whole: Any, others: Mapping[str, Any], columns: Collection[str] = ()
    ) -> None:
        self._own = own
        self._whole = whole
        self._others = others
        self._columns = columns

    def __getitem__(self, name: str) -> Any:
        if name in self._own:
            value = self._own[name]
        elif name in self._columns:
            raise KeyError(name)
        elif name == ROW:
            value = self._whole
        else:
            return self._others[name]
        if is_missing(value):
            raise KeyError(name)
        return value

    def __iter__(self) -> Iterator[str]:
        yield from self._own
        taken = {*self._own, *self._columns, ROW}
        if ROW not in self._own and ROW not in self._columns:
            yield ROW
        yield from (name for name in self._others if name not in taken)

    def __len__(self) -> int:
        return sum(1 for _ in self)


class RowTable(Sequence[Mapping[str, Any]]):
    """Many rows, each a mapping from column to value.

    Parameters
    ----------
    names : tuple of str
        Every column that some row has, in their order.
    own : callable
        From a row's position to its values.
    whole : callable
        From a row's position to what ``{{ row }}`` is.
    length : int
        How many rows.
    """

    def __init__(
        self,
        names: tuple[str, ...],
        own: Callable[[int], Mapping[str, Any]],
        whole: Callable[[int], Any],
        length: int,
    ) -> None:
        self.names = names
        self._own = own
        self._whole = whole
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: Any) -> Any:
        return self._own(index)

    def variables(self, index: int, others: Mapping[str, Any]) -> RowVariables:
        """Return what a template finds for one row."""
        return RowVariables(self._own(index), self._whole(index), others, self.names)

    def missing(self, index: int, names: Iterable[str]) -> list[str]:
        """Return those of `names` that are columns and have no value in a row."""
        own = self._own(index)
        known = (*self.names, ROW)
        return [
            name
            for name in names
            if name in known and is_missing(own.get(name, self._whole(index) if name == ROW else None))
        ]


def read_rows(rows: object) -> RowTable:
    """Return anything that holds many rows as a table of them.

    Parameters
    ----------
    rows : object
        A data frame of pandas or Polars, a series, an Arrow table, or any iterable of texts (or other
        values: ``{{ row }}``), dicts or records (dataclass, named tuple, object with attributes). An
        iterator is read to its end.

    Raises
    ------
    UsageError
        It is nothing that holds rows, or an iterator that was read already.
    """
    if isinstance(rows, str | bytes | bytearray):
        raise UsageError(
            "One text is no table of rows.", f"{_HINT} For one text, type %%prompt without --map."
        )
    if isinstance(rows, Mapping):
        raise UsageError("A dict is one row, not many.", "Give a list of dicts, one for each row.")
    if is_frame(rows):
        return _frame_table(rows)
    if hasattr(rows, "to_frame") and hasattr(rows, "iloc"):
        return _series_table(rows)
    for method in ("to_dicts", "to_pylist"):  # Polars, Arrow
        listed = getattr(rows, method, None)
        if callable(listed):
            return _record_table(listed())
    if not isinstance(rows, Iterable):
        raise UsageError(f"{type(rows).__name__} is no type that holds rows.", _HINT)
    records = list(rows)
    if not records and isinstance(rows, Iterator):  # a map that was stopped could not go on from there
        raise UsageError(
            "The iterator has no rows, or none left: each can be read once.",
            "Put them into a list, e.g. rows = list(…), and map that.",
        )
    return _record_table(records)


def is_frame(rows: object) -> bool:
    """Return whether it is a pandas data frame, without importing pandas."""
    kind = type(rows)
    return any(
        base.__name__ == "DataFrame" and base.__module__.partition(".")[0] == "pandas"
        for base in kind.__mro__
    )


def is_missing(value: object) -> bool:
    """Return whether a value is None, NaN, NaT or NA."""
    if value is None or type(value).__name__ in ("NaTType", "NAType"):
        return True
    return isinstance(value, Real) and bool(value != value)  # noqa: PLR0124 - only NaN differs from itself


class _FrameRow(Mapping[str, Any]):
    """A data frame's row that reads only the columns that are asked for."""

    def __init__(self, columns: _FrameColumns, index: int) -> None:
        self._columns = columns
        self._index = index

    def __getitem__(self, name: Any) -> Any:
        return self._columns.values(name)[self._index]

    def __iter__(self) -> Iterator[Any]:
        return iter(self._columns.positions)

    def __len__(self) -> int:
        return len(self._columns.positions)

    def __contains__(self, name: object) -> bool:
        return name in self._columns.positions

    def __repr__(self) -> str:
        return repr(dict(self))


class _FrameColumns:
    """A data frame's columns as lists of Python values, each converted when it is first read."""

    def __init__(self, frame: Any) -> None:
        self._frame = frame
        self._read: dict[Any, list[Any]] = {}
        self.positions: dict[Any, int] = {}
        self._twice: set[Any] = set()
        for position, name in enumerate(frame.columns):
            if name in self.positions:
                self._twice.add(name)
            self.positions.setdefault(name, position)

    def values(self, name: Any) -> list[Any]:
        known = self._read.get(name)
        if known is None:
            if name in self._twice:
                raise TemplateError(
                    f"The data frame has more than one column named {name!r}.", "Rename one of them first."
                )
            known = self._read[name] = self._frame.iloc[:, self.positions[name]].tolist()
        return known


def _frame_table(frame: Any) -> RowTable:
    # The rows as they are now: a column that is added meanwhile is none of theirs.
    columns = _FrameColumns(frame.copy(deep=False))
    names = tuple(name for name in columns.positions if isinstance(name, str))

    def row(index: int) -> _FrameRow:
        return _FrameRow(columns, index)

    return RowTable(names, row, row, len(frame))


def _series_table(series: Any) -> RowTable:
    values = series.tolist()
    name = series.name if isinstance(series.name, str) else ""
    return RowTable(
        (name,) if name else (),
        (lambda index: {name: values[index]}) if name else (lambda _: {}),
        lambda index: values[index],
        len(values),
    )


def _record_table(records: list[Any]) -> RowTable:
    fields = [_fields(record) for record in records]
    names: dict[str, None] = dict.fromkeys(str(name) for row in fields for name in row if type(name) is str)
    return RowTable(tuple(names), lambda i: fields[i], lambda i: records[i], len(records))


def _fields(record: Any) -> Mapping[str, Any]:
    """Return a record's values by name; a text or a number has none."""
    if isinstance(record, Mapping):
        return record
    if dataclasses.is_dataclass(record) and not isinstance(record, type):
        return {field.name: getattr(record, field.name) for field in dataclasses.fields(record)}
    if isinstance(record, tuple) and hasattr(record, "_asdict"):
        return dict(record._asdict())
    if hasattr(type(record), "model_fields"):  # pydantic
        return {name: getattr(record, name) for name in type(record).model_fields}
    return dict(getattr(record, "__dict__", {}))
