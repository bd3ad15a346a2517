"""The one way every value takes into its digest: a type's tag, a length, and canonical bytes.

A type counts exactly: ``type(value)``, never ``isinstance`` (which asks ``__class__``), found by its ``id`` (a
metaclass may have a ``__hash__``). What is of another type is not touched at all. So no ``__eq__``, ``__hash__``,
``__repr__``, ``__reduce__``, ``__len__``, property or buffer of a user is ever called.
"""

from __future__ import annotations

import hashlib
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from importlib import import_module
from typing import Any, Final

from jupyter_llmops.audit.values.limits import CHUNK, Limits, SkippedError

Handler = Callable[["ValueWriter", Any], None]
Finder = Callable[[type, str], Handler | None]
DEEPEST: Final = 24

# The types are kept, so that no other type can get their id.
_handlers: dict[int, tuple[type, Handler]] = {}
_finders: list[Finder] = []
# A library's types are learned when a value seems to be of one; a module's name is only a hint where to look.
_LIBRARIES: Final = {
    "builtins": "plain", "numpy": "arrays", "pandas": "frames", "pyarrow": "arrow", "torch": "tensors", "sklearn": "estimators",
    "scipy": "estimators", "jupyter_llmops": "own",
}  # fmt: skip
_learned: set[str] = set()

_name_of = type.__dict__["__name__"].__get__
_module_of = type.__dict__["__module__"].__get__
mro_of: Callable[[type], tuple[type, ...]] = type.__dict__["__mro__"].__get__


def learn(handlers: dict[type, Handler]) -> None:
    """Say how values of exactly these types are written."""
    for kind, handler in handlers.items():
        _handlers[id(kind)] = (kind, handler)


def learn_finder(finder: Finder) -> None:
    """Say how values are written whose types can't be listed: it gets the type and its module's name."""
    _finders.append(finder)


def module_of(kind: type) -> str:
    """Return the module of a type, empty where it says none, without calling its metaclass."""
    try:
        name = _module_of(kind)
    except AttributeError:
        return ""
    return name if type(name) is str else ""


def type_name(kind: type) -> str:
    """Return a type's name with its module, without calling its metaclass."""
    module = module_of(kind)
    name: str = _name_of(kind)
    return name if module in ("", "builtins") else f"{module}.{name}"


def handler_of(kind: type) -> Handler | None:
    """Return what writes values of exactly this type; None where nothing does."""
    found = _handlers.get(id(kind))
    if found is not None:
        return found[1]
    library = module_of(kind).partition(".")[0]
    _learn("builtins")
    _learn(library)
    # A model is of a class of the user's own.
    if any(module_of(base).startswith("torch.") for base in mro_of(kind)):
        _learn("torch")
    found = _handlers.get(id(kind))
    if found is not None:
        return found[1]
    for finder in _finders:
        handler = finder(kind, library)
        if handler is not None:
            return handler
    return None


def learn_loaded() -> None:
    """Learn the types of all libraries that are loaded, so that no cell has to wait for it."""
    for library in _LIBRARIES:
        with suppress(Exception):  # a cell may be importing it just now
            _learn(library)


def _learn(library: str) -> None:
    file = _LIBRARIES.get(library)
    if file is None or file in _learned or library not in sys.modules:
        return
    import_module(f"jupyter_llmops.audit.values.{file}").learn_types()
    _learned.add(file)


class ValueWriter:
    """Writes values into one SHA-256; equal writings only for equal values.

    Parameters
    ----------
    limits : Limits
        Of time and bytes.
    start : bytes
        What comes first.
    thorough : bool
        Also reads what a cell's leaf leaves alone: memory-mapped files and values in a GPU's memory.
    """

    __slots__ = ("_path", "_written", "add", "hash", "limits", "thorough")

    def __init__(self, limits: Limits, start: bytes = b"", *, thorough: bool = False) -> None:
        self.hash = hashlib.sha256(start)
        self.add = self.hash.update
        self.limits = limits
        self.thorough = thorough
        self._path: list[int] = []
        self._written = 0

    @property
    def depth(self) -> int:
        """How many values the one that is written now lies in, itself included."""
        return len(self._path)

    def head(self, tag: str, *sizes: int) -> None:
        """Write what follows: a tag and how much of it."""
        self.add(f"\0{tag}:{','.join(map(str, sizes))}\0".encode())

    def text(self, text: str) -> None:
        """Write a name, with its length."""
        data = text.encode("utf-8", "surrogatepass")
        self.add(b"\0t%d:" % len(data) + data)

    def data(self, data: Any) -> None:
        """Write the bytes of an exact bytes object or memoryview of bytes, looking at the clock."""
        size = len(data)
        self.limits.allow(size)
        self._count(size)
        if size <= CHUNK:
            self.add(data)
            return
        with memoryview(data) as view:
            for start in range(0, size, CHUNK):
                self.add(view[start : start + CHUNK])
                self.limits.check()

    def _found(self, kind: type) -> Handler | None:
        learned, begun = len(_learned), time.perf_counter()
        handler = handler_of(kind)
        if len(_learned) > learned:  # once a session: no value is passed over because it was the first
            self.limits.extend(time.perf_counter() - begun)
        return handler

    def _count(self, size: int) -> None:
        self._written += size
        if self._written > self.limits.largest:
            self.limits.allow(self._written)

    def aside(self) -> ValueWriter:
        """Return a writer for a part whose digest is written here; one time and one path for both."""
        other = ValueWriter(self.limits, thorough=self.thorough)
        other._path = self._path
        return other

    def digest(self) -> bytes:
        """Return the SHA-256 of what was written."""
        return self.hash.digest()

    def value(self, value: Any) -> None:
        """Write a value of any type.

        Raises
        ------
        SkippedError
            It is, or holds, what can't be written in time or without calling its own code.
        """
        kind = type(value)
        known = _handlers.get(id(kind))
        handler = known[1] if known is not None else self._found(kind)
        if handler is None:
            raise SkippedError(f"type {type_name(kind)}")
        path, me = self._path, id(value)
        if me in path:
            self.head("cycle", len(path) - path.index(me))
            return
        if len(path) >= DEEPEST:
            raise SkippedError(f"more than {DEEPEST} levels deep")
        path.append(me)
        try:
            handler(self, value)
        finally:
            path.pop()
