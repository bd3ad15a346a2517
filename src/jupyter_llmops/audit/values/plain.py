"""Python's own values: scalars, texts, bytes, containers, moments, functions."""

from __future__ import annotations

import collections
import datetime as dt
import decimal
import fractions
import marshal
import pathlib
import random
import sys
import types
import uuid
from collections.abc import Iterable
from typing import Any, Final

from jupyter_llmops.audit.values.limits import CHUNK, SkippedError
from jupyter_llmops.audit.values.writer import ValueWriter, learn, module_of, mro_of, type_name

# marshal's version 2 writes these in one way only: no reference, no mark of what is interned.
_VERSION: Final = 2
_SCALARS: Final = frozenset(map(id, (type(None), bool, int, float, complex, str, bytes)))
_TREES: Final = _SCALARS | frozenset(map(id, (list, tuple, dict)))
_DEEPEST_TREE: Final = 12
_LARGEST_TREE: Final = 20_000
_TREES_FROM: Final = 3  # deeper down it was tried already
_SLICE: Final = 2048
_SHORT_TEXT: Final = 1000  # characters
_SHORT_BITS: Final = 1000
_MOST_DIGITS: Final = 100_000
_names_in: Any = vars(types.ModuleType)["__dict__"].__get__


def learn_types() -> None:
    """Say how values of these types are written."""
    learn(
        {
            type(None): _scalar, bool: _scalar, int: _scalar, float: _scalar, complex: _scalar,
            str: _text, bytes: _bytes, bytearray: _bytes, list: _sequence, tuple: _sequence,
            collections.deque: _sequence, set: _set, frozenset: _set, dict: _mapping,
            collections.OrderedDict: _mapping, collections.Counter: _mapping, collections.defaultdict: _mapping,
            types.MappingProxyType: _refuse, range: _range, slice: _slice,
            type(Ellipsis): _singleton, type(NotImplemented): _singleton,
            dt.datetime: _moment, dt.time: _moment, dt.date: _plain_repr,
            dt.timedelta: _plain_repr, dt.timezone: _plain_repr,
            decimal.Decimal: _plain_repr, fractions.Fraction: _fraction, uuid.UUID: _uuid,
            pathlib.PosixPath: _path, pathlib.WindowsPath: _path, pathlib.PurePosixPath: _path,
            pathlib.PureWindowsPath: _path, types.FunctionType: _function, types.CodeType: _code,
            types.ModuleType: _module, types.BuiltinFunctionType: _builtin, type: _class, random.Random: _generator,
        }
    )  # fmt: skip


def _refuse(_: ValueWriter, value: Any) -> None:
    raise SkippedError(f"type {type_name(type(value))}")  # a view of a mapping that may be anybody's


def _scalar(writer: ValueWriter, value: Any) -> None:
    writer.limits.allow(sys.getsizeof(value))
    writer.head("scalar")
    writer.data(marshal.dumps(value, _VERSION))


def short_form(value: Any) -> bytes | None:
    """Return what `_scalar` and `_text` write of a short value; None for others, which a writer takes.

    Most of a cell's values are such, and a writer for each costs several times their digest.

    Parameters
    ----------
    value : object
        Of any type.
    """
    kind = type(value)
    if kind is str:
        if len(value) > _SHORT_TEXT:
            return None
        return bytes(b"\0str:%d\0" % len(value) + value.encode("utf-8", "surrogatepass"))
    if value is None or kind is bool or kind is float or (kind is int and value.bit_length() <= _SHORT_BITS):
        return b"\0scalar:\0" + marshal.dumps(value, _VERSION)
    return None


def _text(writer: ValueWriter, value: str) -> None:
    writer.limits.allow(len(value))
    writer.head("str", len(value))
    for start in range(0, len(value), CHUNK):
        writer.data(value[start : start + CHUNK].encode("utf-8", "surrogatepass"))


def _bytes(writer: ValueWriter, value: bytes | bytearray) -> None:
    writer.head(type(value).__name__, len(value))
    writer.data(value)


def _sequence(writer: ValueWriter, value: Any) -> None:
    writer.limits.allow_items(len(value))
    items = tuple(value)  # in one step, so that another thread can't change it under us
    writer.head(type(value).__name__, len(items))
    write_items(writer, items)


def write_items(writer: ValueWriter, items: tuple[Any, ...]) -> None:
    """Write values one after the other, scalars many at a time.

    Parameters
    ----------
    writer : ValueWriter
        Where to.
    items : tuple
        Values of any types.
    """
    for start in range(0, len(items), _SLICE):
        part = items[start : start + _SLICE]
        writer.limits.check()
        size = _tree_size(writer, part, 0, [0 if writer.depth <= _TREES_FROM else _LARGEST_TREE])
        if size >= 0:
            writer.limits.allow(size)
            writer.head("plain", len(part))
            writer.data(marshal.dumps(part, _VERSION))
        else:
            for item in part:
                writer.value(item)


def _tree_size(writer: ValueWriter, items: Any, depth: int, seen: list[int]) -> int:
    """Return the bytes of values that are scalars, and lists, tuples and dicts of these; -1 for others.

    marshal writes such trees by itself, in one way only. What it would write as well, but by a value's own code
    (anything with a buffer), is ruled out here before.
    """
    seen[0] += 1
    if not seen[0] % 128:
        writer.limits.check()
    kinds = set(map(id, map(type, items)))
    if kinds <= _SCALARS:
        return sum(map(sys.getsizeof, items))
    if depth > _DEEPEST_TREE or seen[0] > _LARGEST_TREE or not kinds <= _TREES:
        return -1
    size = sum(map(sys.getsizeof, items))
    for item in items:
        kind = type(item)
        parts = (tuple(item.keys()), tuple(item.values())) if kind is dict else (item,)
        if id(kind) in _SCALARS:
            continue
        for part in parts:
            more = _tree_size(writer, part, depth + 1, seen)
            if more < 0:
                return -1
            size += more
    return size


def _set(writer: ValueWriter, value: Any) -> None:
    writer.limits.allow_items(len(value) * 4)
    items = tuple(value)
    writer.head(type(value).__name__, len(items))
    if set(map(id, map(type, items))) <= _SCALARS:
        writer.limits.allow(sum(map(sys.getsizeof, items)))
        parts: Iterable[bytes] = sorted(marshal.dumps(item, _VERSION) for item in items)
    else:
        parts = sorted(_digest_of(writer, item) for item in items)
    for part in parts:
        writer.add(b"%d:" % len(part))
        writer.data(part)


def _digest_of(writer: ValueWriter, item: Any) -> bytes:
    writer.limits.check()
    aside = writer.aside()
    aside.value(item)
    return aside.digest()


def _mapping(writer: ValueWriter, value: Any) -> None:
    # In its own order: code that goes through a dict sees it.
    writer.limits.allow_items(2 * len(value))
    pairs = dict.copy(value) if type(value) is dict else dict(value)
    writer.head(type(value).__name__, len(pairs))
    write_items(writer, tuple(pairs.keys()))
    write_items(writer, tuple(pairs.values()))


def _range(writer: ValueWriter, value: range) -> None:
    writer.head("range")
    write_items(writer, (value.start, value.stop, value.step))


def _slice(writer: ValueWriter, value: slice) -> None:
    writer.head("slice")
    write_items(writer, (value.start, value.stop, value.step))


def _singleton(writer: ValueWriter, value: Any) -> None:
    writer.head("singleton")
    writer.text(type_name(type(value)))


def _plain_repr(writer: ValueWriter, value: Any) -> None:
    if type(value) is decimal.Decimal and sys.getsizeof(value) > _MOST_DIGITS:
        raise SkippedError("a decimal number of too many digits")
    writer.head(type(value).__name__)
    writer.text(repr(value))


def _moment(writer: ValueWriter, value: dt.datetime | dt.time) -> None:
    writer.head(type(value).__name__)
    writer.text(value.replace(tzinfo=None).isoformat())
    writer.text(zone_name(value.tzinfo))
    writer.head("fold", value.fold)


def zone_name(zone: Any) -> str:
    """Return the name of a time zone of a library that is known; a user's own zone would be called.

    Raises
    ------
    SkippedError
        It is of another class.
    """
    kind = type(zone)
    if zone is None or kind is dt.timezone:
        return repr(zone)
    if kind is getattr(sys.modules.get("zoneinfo"), "ZoneInfo", None):
        return f"zoneinfo:{zone.key}"
    known = [getattr(sys.modules.get("pytz.tzinfo"), "BaseTzInfo", None)]
    known.append(type(getattr(sys.modules.get("pytz"), "UTC", None)))
    if module_of(kind).startswith("pytz") and any(base is one for base in mro_of(kind) for one in known):
        return f"pytz:{zone.zone}"
    raise SkippedError(f"a time zone of type {type_name(kind)}")


def _fraction(writer: ValueWriter, value: fractions.Fraction) -> None:
    writer.head("Fraction")
    write_items(writer, (value.numerator, value.denominator))


def _uuid(writer: ValueWriter, value: uuid.UUID) -> None:
    writer.head("UUID")
    writer.text(value.hex)


def _path(writer: ValueWriter, value: pathlib.PurePath) -> None:
    writer.head("path")
    writer.text(str(value))


def _generator(writer: ValueWriter, value: random.Random) -> None:
    writer.head("Random")
    writer.data(marshal.dumps(random.Random.getstate(value), _VERSION))


def _module(writer: ValueWriter, value: types.ModuleType) -> None:
    names = _names_in(value)
    writer.head("module")
    for name in ("__name__", "__version__"):
        said = names.get(name)
        writer.text(said if type(said) is str else "")


def _class(writer: ValueWriter, value: type) -> None:
    # A library's is what its module offers under its name; a user's own may have any name and any content.
    module = sys.modules.get(module_of(value) or "builtins")
    home = module_of(value).partition(".")[0]
    if (
        type(module) is not types.ModuleType
        or (
            home not in ("", "numpy", "pandas", "torch", "sklearn", "scipy")
            and home not in sys.stdlib_module_names
        )
        or home == "__main__"
        or _names_in(module).get(value.__name__) is not value
    ):
        raise SkippedError(f"class {type_name(value)}")
    writer.head("class")
    writer.text(type_name(value))


def _builtin(writer: ValueWriter, value: Any) -> None:
    if type(value.__self__) is not types.ModuleType:
        raise SkippedError("a method")
    writer.head("builtin")
    _module(writer, value.__self__)
    writer.text(value.__name__)


def _function(writer: ValueWriter, value: types.FunctionType) -> None:
    # What it does: its code and defaults; what it reads of its module are values of their own.
    writer.head("function")
    writer.value(value.__code__)
    write_items(writer, (value.__defaults__, value.__kwdefaults__))
    cells = value.__closure__ or ()
    writer.head("closure", len(cells))
    for cell in cells:
        try:
            content = cell.cell_contents
        except ValueError:  # not assigned yet
            writer.head("empty")
        else:
            writer.value(content)


def _code(writer: ValueWriter, value: types.CodeType) -> None:
    # Without file and line numbers, which say where it stands and not what it does; bytecode is Python's own.
    writer.head("code", *sys.version_info[:2])
    writer.text(value.co_name)
    writer.data(value.co_code)
    # Flags of `from __future__` belong to the file.
    numbers = (value.co_argcount, value.co_posonlyargcount, value.co_kwonlyargcount, value.co_flags & 0xFFF)
    names = (value.co_names, value.co_varnames, value.co_freevars, value.co_cellvars)
    write_items(writer, (*numbers, *names, value.co_exceptiontable))
    write_items(writer, value.co_consts)
