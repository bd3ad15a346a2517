"""Arrow: arrays whatever their chunks and offsets, and what lies under a null is not read."""

from __future__ import annotations

from typing import Any

from jupyter_llmops.audit.values.limits import SkippedError
from jupyter_llmops.audit.values.writer import ValueWriter, learn


def learn_types() -> None:
    """Say how values of Arrow's types are written."""
    import pyarrow as pa

    arrays = {
        kind: _array
        for kind in vars(pa.lib).values()
        if type(kind) is type and issubclass(kind, pa.Array) and kind is not pa.ExtensionArray
    }
    learn({**arrays, pa.ChunkedArray: _array, pa.Table: _table, pa.RecordBatch: _table, pa.Schema: _schema})


def _schema(writer: ValueWriter, value: Any) -> None:
    writer.head("schema", len(value))
    for field in value:
        _check(field.type)
        writer.text(field.name)
        writer.text(f"{field.type} {field.nullable}")


def _table(writer: ValueWriter, value: Any) -> None:
    writer.limits.allow(value.nbytes)
    writer.head("table", value.num_columns, value.num_rows)
    for name, column in zip(value.schema.names, value.columns, strict=True):
        writer.text(name)
        _array(writer, column)


def _array(writer: ValueWriter, value: Any) -> None:
    _check(value.type)
    writer.limits.allow(value.nbytes)
    writer.head("arrow", len(value), value.null_count)
    writer.text(str(value.type))
    write_arrow(writer, value)


def _check(kind: Any) -> None:
    """Refuse types of a user's own, however deep: they are read by their own code."""
    import pyarrow as pa

    if isinstance(kind, pa.BaseExtensionType):
        raise SkippedError("Arrow data of an extension type")
    for at in range(kind.num_fields):
        _check(kind.field(at).type)


def write_arrow(writer: ValueWriter, value: Any) -> None:
    """Write the items of an array or a chunked array.

    Parameters
    ----------
    writer : ValueWriter
        Where to; the type and the length are written by the caller.
    value : pyarrow.Array or pyarrow.ChunkedArray
        Of built-in types.
    """
    import pyarrow as pa

    chunks = value.chunks if type(value) is pa.ChunkedArray else [value]
    if value.null_count:
        for chunk in chunks:
            write_array_bits(writer, chunk)
        chunks = [chunk.drop_null() for chunk in chunks]
    _write_full(writer, value.type, chunks)


def write_array_bits(writer: ValueWriter, chunk: Any) -> None:
    """Write which items of a chunk are there, a byte each, so that chunks join without a seam."""
    writer.data(chunk.is_valid().cast("uint8").to_numpy(zero_copy_only=False).tobytes())


def _write_full(writer: ValueWriter, kind: Any, chunks: list[Any]) -> None:
    """Write chunks without nulls, as if they were one."""
    import pyarrow as pa

    t = pa.types
    if t.is_null(kind):
        return
    if t.is_dictionary(kind):
        joined = pa.chunked_array(chunks, kind).unify_dictionaries()
        dictionary = joined.chunk(0).dictionary if joined.num_chunks else pa.array([], kind.value_type)
        _array(writer, dictionary)
        _write_full(writer, kind.index_type, [chunk.indices for chunk in joined.chunks])
    elif t.is_list(kind) or t.is_large_list(kind) or t.is_fixed_size_list(kind) or t.is_map(kind):
        _write_lists(writer, kind, chunks)
    elif t.is_struct(kind):
        for at in range(kind.num_fields):
            _array(writer, pa.chunked_array([chunk.flatten()[at] for chunk in chunks], kind.field(at).type))
    elif t.is_boolean(kind):
        for chunk in chunks:
            writer.data(chunk.cast("uint8").to_numpy(zero_copy_only=False).tobytes())
    elif any(test(kind) for test in (t.is_string, t.is_large_string, t.is_binary, t.is_large_binary)):
        _write_texts(writer, kind, chunks)
    elif t.is_primitive(kind) or t.is_decimal(kind) or t.is_fixed_size_binary(kind):
        width = kind.bit_width // 8
        for chunk in chunks:
            _write_buffer(writer, chunk.buffers()[1], chunk.offset * width, len(chunk) * width)
    else:
        raise SkippedError(f"Arrow data of type {kind}")


def _write_texts(writer: ValueWriter, kind: Any, chunks: list[Any]) -> None:
    import numpy as np
    import pyarrow as pa
    import pyarrow.compute as pc

    wide = pa.types.is_large_string(kind) or pa.types.is_large_binary(kind)
    for chunk in chunks:
        writer.data(pc.binary_length(chunk).cast("int64").to_numpy(zero_copy_only=False).tobytes())
    for chunk in chunks:
        _, offsets, data = chunk.buffers()
        if data is None or not len(chunk):
            continue
        places = np.frombuffer(offsets, np.int64 if wide else np.int32)
        first, last = int(places[chunk.offset]), int(places[chunk.offset + len(chunk)])
        _write_buffer(writer, data, first, last - first)


def _write_lists(writer: ValueWriter, kind: Any, chunks: list[Any]) -> None:
    import pyarrow as pa
    import pyarrow.compute as pc

    if pa.types.is_map(kind):
        raise SkippedError("Arrow data of type map")
    for chunk in chunks:
        writer.data(pc.list_value_length(chunk).cast("int64").to_numpy(zero_copy_only=False).tobytes())
    _array(writer, pa.chunked_array([chunk.flatten() for chunk in chunks], kind.value_type))


def _write_buffer(writer: ValueWriter, buffer: Any, start: int, size: int) -> None:
    if size:
        writer.data(memoryview(buffer)[start : start + size])
