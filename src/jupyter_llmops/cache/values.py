"""Values of functions and cells as bytes: closed JSON, npy and Arrow IPC, never a pickle.

::

    <length of the manifest: 8 hex digits><manifest: closed JSON><blobs, one after the other>

A scalar stands in the manifest as it is; everything else is a list that begins with what it is: ``list``,
``tuple``, ``dict``, ``float`` (NaN and the infinities), ``bytes``, ``npy`` (an array; ``numpy`` for a scalar of
NumPy), ``frame``, ``series`` (Arrow IPC). Types count exactly: a subclass is not kept, as it would come back as
something else. A data frame is kept only where reading it back gives the same.
"""

from __future__ import annotations

import io
import math
import sys
from datetime import date
from typing import Any, Final

from jupyter_llmops.cache.item_format import ItemRejectedError
from jupyter_llmops.cache.plain_json import plain_dumps, plain_loads

_LENGTH: Final = 8
_DEEPEST: Final = 12
_FREQ: Final = b"llmops.freq"
# What an object column or label may hold.
_EXACT: Final = frozenset({str, bytes, bool, int, float, type(None), date})
_SPECIAL_FLOATS: Final = {"nan": math.nan, "inf": math.inf, "-inf": -math.inf}


class UnkeepableError(Exception):
    """A value that can't be kept; the message says why, as the end of "it holds …"."""


def encode_value(value: Any, about: dict[str, Any] | None = None) -> bytes:
    """Return a value as bytes.

    Parameters
    ----------
    value : object
        None, bool, int, float, str, bytes, NumPy arrays and scalars, pandas data frames and series, and lists,
        tuples and dicts of these.
    about : dict, optional
        JSON values that are kept beside it.

    Raises
    ------
    UnkeepableError
        It holds something else.
    """
    blobs: list[bytes] = []
    try:
        node = _encode(value, blobs, 0)
        manifest = plain_dumps({"about": about or {}, "sizes": [len(blob) for blob in blobs], "value": node})
    except (TypeError, ValueError) as error:
        raise UnkeepableError(f"a value that can't be written ({error})") from error
    return b"".join([b"%08x" % len(manifest), manifest, *blobs])


def decode_value(body: bytes) -> tuple[Any, dict[str, Any]]:
    """Return the value of `encode_value`, made anew, and what was kept beside it.

    Raises
    ------
    ItemRejectedError
        The bytes hold no such value.
    """
    try:
        length = int(body[:_LENGTH], 16)
        manifest = plain_loads(body[_LENGTH : _LENGTH + length])
        blobs, start = [], _LENGTH + length
        for size in manifest["sizes"]:
            blobs.append(body[start : start + size])
            start += size
        if start != len(body):
            raise ValueError("its parts are not as long as it says")  # noqa: TRY301
        return _decode(manifest["value"], blobs), dict(manifest["about"])
    except Exception as error:  # pyarrow and NumPy raise what they like; whatever it is, it is no value
        raise ItemRejectedError(f"holds no value ({type(error).__name__}: {error})") from error


def _encode(value: Any, blobs: list[bytes], depth: int) -> Any:
    if depth > _DEEPEST:
        raise UnkeepableError("values nested too deeply")
    kind = type(value)
    if value is None or kind in (bool, int, str):
        return value
    if kind is float:
        return value if math.isfinite(value) else ["float", repr(value)]
    if kind in (list, tuple):
        return [kind.__name__, [_encode(item, blobs, depth + 1) for item in value]]
    if kind is dict:
        return [
            "dict",
            [
                [_encode(name, blobs, depth + 1), _encode(item, blobs, depth + 1)]
                for name, item in value.items()
            ],
        ]
    if kind is bytes:
        return ["bytes", _put(value, blobs)]
    return _encode_array(value, kind, blobs)


def _encode_array(value: Any, kind: type, blobs: list[bytes]) -> Any:
    # Without the package in memory the value can't be one of its.
    numpy, pandas = sys.modules.get("numpy"), sys.modules.get("pandas")
    if numpy is not None and (kind is numpy.ndarray or isinstance(value, numpy.generic)):
        if numpy.asarray(value).dtype.hasobject:
            raise UnkeepableError("an array of Python objects")
        if numpy.asarray(value).dtype.metadata:
            raise UnkeepableError("an array whose dtype has metadata")
        buffer = io.BytesIO()
        numpy.save(buffer, value, allow_pickle=False)
        return ["npy" if kind is numpy.ndarray else "numpy", _put(buffer.getvalue(), blobs)]
    if pandas is not None and kind is pandas.DataFrame:
        return ["frame", _put(_frame_bytes(value), blobs)]
    if pandas is not None and kind is pandas.Series:
        name = _encode(value.name, blobs, _DEEPEST)
        return ["series", _put(_frame_bytes(value.to_frame("value")), blobs), name]
    name = f"{kind.__module__}.{kind.__qualname__}".removeprefix("builtins.")
    raise UnkeepableError(f"an {name}" if name[0].lower() in "aeiou" else f"a {name}")


def _put(blob: bytes, blobs: list[bytes]) -> int:
    blobs.append(blob)
    return len(blobs) - 1


def _frame_bytes(frame: Any) -> bytes:
    import pyarrow as pa

    try:
        table = pa.Table.from_pandas(frame)
    except (pa.ArrowException, ValueError, TypeError) as error:
        raise UnkeepableError(f"a data frame that Arrow can't hold ({str(error).splitlines()[0]})") from error
    freq = getattr(frame.index, "freqstr", None)  # Arrow does not know it
    if freq is not None:
        table = table.replace_schema_metadata({**(table.schema.metadata or {}), _FREQ: freq})
    sink = pa.BufferOutputStream()
    with pa.ipc.new_file(sink, table.schema) as writer:
        writer.write_table(table)
    blob: bytes = sink.getvalue().to_pybytes()
    if not _is_same(frame, _read_frame(blob)):
        raise UnkeepableError("a data frame that would not come back as it is")
    return blob


def _read_frame(blob: bytes) -> Any:
    import pyarrow as pa

    with pa.ipc.open_file(pa.BufferReader(blob)) as reader:
        table = reader.read_all()
    frame = table.to_pandas()
    freq = (table.schema.metadata or {}).get(_FREQ)
    if freq is not None and frame.index.dtype.kind in "mM":
        frame.index.freq = freq.decode("utf-8")
    return frame


def _is_same(frame: Any, again: Any) -> bool:
    from pandas.testing import assert_frame_equal

    try:
        assert_frame_equal(frame, again, check_exact=True, check_index_type=True)
    except (AssertionError, TypeError, ValueError):
        return False
    # None, NaN and NaT count as equal above, and True as 1.
    return dict(frame.attrs) == dict(again.attrs) and all(
        _is_told_exactly(one, other)
        for one, other in zip(_parts_of(frame), _parts_of(again), strict=True)
        if one.dtype.kind == "O"
    )


def _parts_of(frame: Any) -> list[Any]:
    """Return the columns and what the labels of rows and columns are made of."""
    columns = [frame.iloc[:, at] for at in range(frame.shape[1])]
    labels = [part for index in (frame.index, frame.columns) for part in getattr(index, "levels", [index])]
    return columns + labels


def _is_told_exactly(one: Any, other: Any) -> bool:
    """Return whether values are of types that are equal only where they are the same: no 1.0 in a list, no 1.00."""
    kinds = [*map(type, one)]
    return len(one) == len(other) and kinds == [*map(type, other)] and _EXACT.issuperset(kinds)


def _decode(node: Any, blobs: list[bytes]) -> Any:
    if type(node) is not list:
        return node
    match node:
        case ["list" | "tuple" as kind, items]:
            values = [_decode(item, blobs) for item in items]
            return values if kind == "list" else tuple(values)
        case ["dict", pairs]:
            return {_decode(name, blobs): _decode(item, blobs) for name, item in pairs}
        case ["float", text]:
            return _SPECIAL_FLOATS[text]
        case ["bytes", int(at)]:
            return blobs[at]
        case ["npy" | "numpy" as kind, int(at)]:
            import numpy as np

            array = np.load(io.BytesIO(blobs[at]), allow_pickle=False)
            return array if kind == "npy" else array[()]
        case ["frame", int(at)]:
            return _read_frame(blobs[at])
        case ["series", int(at), name]:
            return _read_frame(blobs[at])["value"].rename(_decode(name, blobs))
    raise ValueError(f"{node[:1]} is no kind of value")
