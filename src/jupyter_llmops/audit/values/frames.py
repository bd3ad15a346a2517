"""pandas: frames, series and indexes, column by column, whatever their blocks."""

from __future__ import annotations

from typing import Any

from jupyter_llmops.audit.values.arrays import write_array
from jupyter_llmops.audit.values.limits import SkippedError
from jupyter_llmops.audit.values.plain import write_items, zone_name
from jupyter_llmops.audit.values.writer import ValueWriter, learn, type_name


def learn_types() -> None:
    """Say how values of pandas' types are written."""
    import pandas as pd

    indexes = dict.fromkeys(
        (
            pd.Index,
            pd.DatetimeIndex,
            pd.TimedeltaIndex,
            pd.PeriodIndex,
            pd.CategoricalIndex,
            pd.IntervalIndex,
        ),
        _index,
    )
    arrays = dict.fromkeys(
        (
            pd.arrays.DatetimeArray, pd.arrays.TimedeltaArray, pd.arrays.PeriodArray, pd.arrays.IntervalArray,
            pd.arrays.IntegerArray, pd.arrays.FloatingArray, pd.arrays.BooleanArray, pd.arrays.StringArray,
            pd.arrays.ArrowStringArray, pd.arrays.ArrowExtensionArray, pd.Categorical, pd.arrays.NumpyExtensionArray,
        ),
        _column,
    )  # fmt: skip
    singletons = dict.fromkeys((type(pd.NaT), type(pd.NA)), _missing)
    learn(
        {
            **indexes, **arrays, **singletons, pd.RangeIndex: _range, pd.MultiIndex: _levels,
            pd.DataFrame: _frame, pd.Series: _series, pd.Timestamp: _moment, pd.Timedelta: _duration,
        }
    )  # fmt: skip


def _frame(writer: ValueWriter, frame: Any) -> None:
    rows, columns = frame.shape
    writer.limits.allow_items(columns)
    # Sums sizes without looking into objects: a frame that is too large is not begun.
    writer.limits.allow(int(frame._mgr.nblocks and sum(_nbytes(block.values) for block in frame._mgr.blocks)))
    writer.head("frame", rows, columns)
    writer.value(frame.columns)
    writer.value(frame.index)
    for column in frame._iter_column_arrays():
        writer.limits.check()
        _column(writer, column)
    if frame.attrs:
        writer.value(frame.attrs)


def _nbytes(values: Any) -> int:
    import numpy as np

    # An extension array of a user's own would be asked; it is refused when its turn comes.
    return int(values.nbytes) if type(values) is np.ndarray else 0


def _series(writer: ValueWriter, series: Any) -> None:
    writer.head("series", len(series._mgr))
    writer.value(series.name)
    writer.value(series.index)
    _column(writer, series._mgr.array)
    if series.attrs:
        writer.value(series.attrs)


def _index(writer: ValueWriter, index: Any) -> None:
    writer.head(type(index).__name__)
    writer.value(index.name)
    _column(writer, index._data)


def _range(writer: ValueWriter, index: Any) -> None:
    writer.head("RangeIndex")
    write_items(writer, (index.name, index.start, index.stop, index.step))


def _levels(writer: ValueWriter, index: Any) -> None:
    writer.head("MultiIndex", index.nlevels)
    for name, level, codes in zip(index.names, index.levels, index.codes, strict=True):
        writer.value(name)
        writer.value(level)
        write_array(writer, codes.view() if hasattr(codes, "view") else codes)


def _missing(writer: ValueWriter, value: Any) -> None:
    writer.head(type(value).__name__)


def _moment(writer: ValueWriter, value: Any) -> None:
    writer.head("Timestamp")
    write_items(writer, (value._value, value.unit, zone_name(value.tzinfo), value.fold))


def _duration(writer: ValueWriter, value: Any) -> None:
    writer.head("Timedelta")
    write_items(writer, (value._value, value.unit))


def _column(writer: ValueWriter, column: Any) -> None:
    import numpy as np
    import pandas as pd

    kind, of = type(column), pd.arrays
    if kind is np.ndarray:
        write_array(writer, column)
        return
    writer.head(kind.__name__)
    if kind is pd.Categorical:
        writer.head("categories", int(column.ordered))
        writer.value(column.categories)
        write_array(writer, column.codes)
    elif kind is of.ArrowStringArray or kind is of.ArrowExtensionArray:
        writer.text(_string_kind(column))
        writer.value(column._pa_array)
    elif kind is of.IntegerArray or kind is of.FloatingArray or kind is of.BooleanArray:
        write_array(writer, column._mask)
        write_array(writer, column._data[~column._mask])
    elif kind is of.DatetimeArray:
        writer.text(zone_name(column.tz))
        write_array(writer, column._ndarray)
    elif kind is of.PeriodArray:
        writer.text(column.freqstr)
        write_array(writer, column._ndarray)
    elif kind is of.TimedeltaArray or kind is of.NumpyExtensionArray or kind is of.StringArray:
        write_array(writer, column._ndarray)
    elif kind is of.IntervalArray:
        writer.text(column.closed)
        writer.value(column.left)
        writer.value(column.right)
    else:
        raise SkippedError(f"a column of type {type_name(kind)}")


def _string_kind(column: Any) -> str:
    """Return what stands for a missing text: two kinds of texts differ in nothing else."""
    import pandas as pd

    return "NA" if column.dtype.na_value is pd.NA else "nan"
