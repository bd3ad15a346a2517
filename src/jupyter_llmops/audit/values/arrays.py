"""NumPy: arrays of any layout, scalars, generators."""

from __future__ import annotations

from typing import Any, Final

from jupyter_llmops.audit.values.limits import CHUNK, SkippedError
from jupyter_llmops.audit.values.plain import write_items
from jupyter_llmops.audit.values.writer import ValueWriter, learn

_BYTES: Final = "biufcSUVmM"
_DEEPEST_BASE: Final = 16


def learn_types() -> None:
    """Say how values of NumPy's types are written."""
    import numpy as np

    kinds = {np.ndarray: write_array, np.memmap: write_array, np.ma.MaskedArray: _masked, np.dtype: _dtype}
    scalars = dict.fromkeys((kind for kind in set(np.sctypeDict.values()) if kind is not np.object_), _scalar)
    random = dict.fromkeys((np.random.RandomState, np.random.Generator), _generator)
    dtypes = dict.fromkeys((type(np.dtype(kind)) for kind in scalars), _dtype)
    learn({**kinds, **scalars, **random, **dtypes})


def _scalar(writer: ValueWriter, value: Any) -> None:
    import numpy as np

    writer.head("numpy")
    write_array(writer, np.asarray(value))


def _masked(writer: ValueWriter, value: Any) -> None:
    import numpy as np

    mask = np.ma.getmaskarray(value)
    data = np.ma.getdata(value, subok=False)
    if type(data) is not np.ndarray or data.dtype.names is not None:
        raise SkippedError("a masked array of an array of another class")
    writer.head("masked")
    write_array(writer, mask)
    write_array(writer, data[~mask])


def _dtype(writer: ValueWriter, value: Any) -> None:
    writer.head("dtype")
    _write_dtype(writer, value)


def _write_dtype(writer: ValueWriter, dtype: Any) -> None:
    if dtype.names is not None:
        writer.head("fields", len(dtype.names))
        for name in dtype.names:
            writer.text(name)
            _write_dtype(writer, dtype.fields[name][0])
    elif dtype.subdtype is not None:
        base, shape = dtype.subdtype
        writer.head("sub", *shape)
        _write_dtype(writer, base)
    else:
        writer.text(f"{dtype.str} {dtype.type.__name__}")


def _generator(writer: ValueWriter, value: Any) -> None:
    import numpy as np

    if type(value) is np.random.RandomState:
        name, key, position, has_gauss, gauss = value.get_state()
        writer.head("RandomState")
        write_items(writer, (name, key, position, has_gauss, float(gauss)))
        return
    source = value.bit_generator
    kind = type(source)
    if not any(
        kind is getattr(np.random, name) for name in ("PCG64", "PCG64DXSM", "MT19937", "Philox", "SFC64")
    ):
        raise SkippedError("a generator of random numbers with a source of its own")
    writer.head("Generator")
    writer.value(source.state)


def write_array(writer: ValueWriter, array: Any) -> None:
    """Write an array in C order whatever its layout, so that equal arrays are written alike.

    Parameters
    ----------
    writer : ValueWriter
        Where to.
    array : numpy.ndarray
        Of exactly this class, or a `numpy.memmap`.
    """
    import numpy as np

    if not writer.thorough and _is_mapped(array):
        # A file that somebody cuts meanwhile would end the process.
        raise SkippedError("an array in a memory-mapped file")
    if type(array) is np.memmap:
        array = np.asarray(array).view(np.ndarray)
    writer.limits.allow(array.nbytes)
    writer.head("array", *array.shape)
    _write_dtype(writer, array.dtype)
    _write_items_of(writer, array)


def _write_items_of(writer: ValueWriter, array: Any) -> None:
    dtype = array.dtype
    if dtype.names is not None:
        for name in dtype.names:  # one by one: what lies between them is not the value's
            _write_items_of(writer, array[name])
    elif dtype.kind in "OT":
        writer.limits.allow_items(array.size)
        write_items(writer, tuple(array.ravel().tolist()))
    elif dtype.kind not in _BYTES:
        raise SkippedError(f"an array of {dtype.type.__name__}")
    else:
        _write_bytes(writer, array)


def _write_bytes(writer: ValueWriter, array: Any) -> None:
    import numpy as np

    used = _used_bytes(array.dtype)
    if array.flags.c_contiguous and not used:
        writer.data(memoryview(array.reshape(-1).view(np.uint8)) if array.size else b"")
        return
    if array.nbytes <= CHUNK or array.ndim < 1:
        writer.data(_row_bytes(np.ascontiguousarray(array), used))
        return
    # In slices, so that no second copy of a large array is made.
    rows = max(1, CHUNK * 4 // max(1, array.nbytes // len(array)))
    for start in range(0, len(array), rows):
        writer.data(_row_bytes(np.ascontiguousarray(array[start : start + rows]), used))
        writer.limits.check()


def _row_bytes(array: Any, used: int) -> bytes:
    import numpy as np

    if not used:
        return bytes(array.tobytes())
    part = 1 if array.dtype.kind == "f" else 2
    whole = np.frombuffer(array.tobytes(), np.uint8).reshape(-1, array.dtype.itemsize // part)
    return bytes(whole[:, :used].tobytes())


def _used_bytes(dtype: Any) -> int:
    """Return how many bytes of an 80-bit number in 16 bytes count; 0 for all other numbers."""
    import numpy as np

    wide = dtype.kind in "fc" and dtype.type in (np.longdouble, np.clongdouble)
    return 10 if wide and np.finfo(np.longdouble).nmant == 63 else 0


def _is_mapped(array: Any) -> bool:
    import mmap

    import numpy as np

    base = array
    for _ in range(_DEEPEST_BASE):
        kind = type(base)
        if kind is mmap.mmap or kind is np.memmap:
            return True
        if kind is not np.ndarray:
            return False
        base = base.base
    return False
