"""What decides a value, as a digest: arguments, code, what the code reads, versions of packages.

Code counts by what it does, so comments, layout and places don't. What can't be told apart safely has no
fingerprint, and then nothing is reused. A fingerprint may differ where the value would not (another version of
Python); two different things never share one.
"""

from __future__ import annotations

import contextlib
import dataclasses
import dis
import hashlib
import importlib.util
import logging
import platform
import re
import sys
import sysconfig
import types
from collections.abc import Iterator
from collections.abc import Set as AbstractSet
from functools import lru_cache
from pathlib import Path, PurePath
from typing import Any, Final

from jupyter_llmops.cache.values import UnkeepableError, encode_value

LARGEST: Final = 256 * 2**20
_DEEPEST: Final = 12
_MOST_FILES: Final = 500


class NoFingerprintError(Exception):
    """Something that decides the value can't be told apart; the message is a phrase that names it."""


def fingerprint(value: Any, name: str, attributes: AbstractSet[str] = frozenset()) -> str:
    """Return a digest that differs for different values, in every process.

    Parameters
    ----------
    value : object
        A value that can be kept (see `cache.values`), a path, set, dataclass, module, function or class.
    name : str
        How it is called, for the message.
    attributes : set of str
        What may be read of it where it is a module: that counts as it is now, not as its file says.

    Raises
    ------
    NoFingerprintError
        It is something else, or too large.
    """
    found = _Fingerprints()
    return digest("read", found.of(value, name), *found.of_attributes(value, attributes, name, 0))


class _Fingerprints:
    """Fingerprints of values and of what these name in their turn."""

    def __init__(self) -> None:
        self._seen: dict[int, str] = {}
        self._attributes: set[tuple[str, str]] = set()

    def of(self, value: Any, name: str, depth: int = 0) -> str:  # noqa: PLR0911 - one for each kind
        if depth > _DEEPEST:
            raise NoFingerprintError(f"{name} is nested too deeply")
        if isinstance(value, types.ModuleType):
            return digest("module", module_version(value, name))
        if (installed := _installed_name(value)) is not None:
            return digest("installed", *installed)
        if isinstance(value, types.FunctionType):
            return self._once(value, lambda: self._of_function(value, depth))
        if isinstance(value, type):
            return self._once(value, lambda: self._of_class(value, depth))
        if isinstance(value, types.MethodType):
            return digest(
                "method", self.of(value.__func__, name, depth + 1), self.of(value.__self__, name, depth + 1)
            )
        if isinstance(value, PurePath):
            return digest("path", type(value).__name__, str(value))
        if type(value) in (set, frozenset):
            return digest("set", *sorted(self.of(item, f"a part of {name}", depth + 1) for item in value))
        if dataclasses.is_dataclass(value) and not _holds_more(value):
            inside = [
                text
                for part in _attributes_of(value)
                for text in (part, self.of(getattr(value, part), f"{name}.{part}", depth + 1))
            ]
            return digest("dataclass", self.of(type(value), type(value).__name__, depth + 1), *inside)
        if isinstance(value, re.Pattern):
            return digest("pattern", self.of(value.pattern, name, depth + 1), str(value.flags))
        if type(value) is logging.Logger:  # decides what is said, and no value
            return digest("logger", value.name)
        return self._of_data(value, name, depth)

    def _of_data(self, value: Any, name: str, depth: int) -> str:
        try:
            body = encode_value(value)
        except UnkeepableError as error:
            if type(value) in (list, tuple, dict):  # of functions, sets, …
                items = [part for item in value.items() for part in item] if type(value) is dict else value
                inside = [self.of(item, f"a part of {name}", depth + 1) for item in items]
                return digest(type(value).__name__, *inside)
            raise NoFingerprintError(f"{name} holds {error}, whose value can't be told apart") from error
        if len(body) > LARGEST:
            raise NoFingerprintError(f"{name} is too large ({len(body) >> 20} MiB, at most {LARGEST >> 20})")
        return digest("value", body)

    def _once(self, code: Any, make: Any) -> str:
        if id(code) not in self._seen:
            # In what it names itself; numbered, as closures of one function have the same name.
            self._seen[id(code)] = digest("itself", str(len(self._seen)), code.__qualname__)
            self._seen[id(code)] = make()
        return self._seen[id(code)]

    def _of_function(self, function: types.FunctionType, depth: int) -> str:
        parts = [code_digest(function.__code__)]
        unseen = _called_blindly(function.__code__) - function.__globals__.keys()
        refuse_unseen(unseen, function.__name__)
        names = _names_in(function.__code__)
        for name, value in _read_by(function):
            said = f"{name}, which {function.__name__} reads,"
            parts += [name, self.of(value, said, depth + 1)]
            parts += self.of_attributes(value, names, said, depth + 1)
        for name, value in sorted(vars(function).items()):
            parts += [name, self.of(value, f"{function.__name__}.{name}", depth + 1)]
        defaults = [*(function.__defaults__ or ()), *(function.__kwdefaults__ or {}).items()]
        parts += [self.of(value, f"a default of {function.__name__}", depth + 1) for value in defaults]
        return digest("function", function.__name__, *parts)

    def of_attributes(
        self, module: Any, names: AbstractSet[str], said: str, depth: int, *, inner: bool = False
    ) -> list[str]:
        """Return fingerprints of what may be read of a module, as it is now: edited since, set or patched."""
        parts: list[str] = []
        if not isinstance(module, types.ModuleType):
            return parts
        for name in sorted(names & vars(module).keys()):
            if (module.__name__, name) in self._attributes:
                continue
            self._attributes.add((module.__name__, name))
            value = vars(module)[name]
            if not is_installed(module) or _is_patched(value) or (not inner and _is_setting(value)):
                parts += [name, self.of(value, f"{name} of {said}", depth + 1)]
            parts += self.of_attributes(value, names, said, depth + 1, inner=True)
        return parts

    def _of_class(self, kind: type, depth: int) -> str:
        parts = [self.of(base, base.__name__, depth + 1) for base in kind.__bases__]
        if type(kind) is not type:
            parts.append(self.of(type(kind), type(kind).__name__, depth + 1))
        for name, member in sorted(vars(kind).items()):
            if name in _OF_EVERY_CLASS or isinstance(
                member, types.GetSetDescriptorType | types.MemberDescriptorType
            ):
                continue
            inside = [member.fget, member.fset, member.fdel] if isinstance(member, property) else [member]
            for one in inside:
                plain = getattr(one, "__func__", one)  # of a static or class method
                parts += [name, type(member).__name__, self.of(plain, f"{kind.__name__}.{name}", depth + 1)]
        return digest("class", kind.__qualname__, *parts)


_OF_EVERY_CLASS: Final = frozenset(
    {"__dict__", "__doc__", "__module__", "__weakref__", "__firstlineno__", "__static_attributes__",
     "__annotations__", "__dataclass_fields__", "__dataclass_params__", "__match_args__", "__qualname__",
     "__abstractmethods__", "_abc_impl"}
)  # fmt: skip


def _read_by(function: types.FunctionType) -> Iterator[tuple[str, Any]]:
    """Yield what a function reads beside its arguments: what it closes over, and the globals that it names."""
    for name, cell in zip(function.__code__.co_freevars, function.__closure__ or (), strict=True):
        try:
            yield name, cell.cell_contents
        except ValueError:  # not filled yet
            yield name, None
    for name in sorted(_names_in(function.__code__)):
        if name in function.__globals__:
            yield name, function.__globals__[name]
    for name in _imported_in(function.__code__, function.__globals__.get("__package__") or ""):
        yield name, imported(name)


def imported(name: str) -> types.ModuleType | None:
    """Return a module that is about to be imported anyway; None where there is none of that name."""
    try:
        return importlib.import_module(name)
    except ImportError:
        return None


@lru_cache(maxsize=1024)
def _imported_in(code: types.CodeType, package: str) -> tuple[str, ...]:
    """Return the modules that a function imports itself."""
    found: list[str] = []
    before: list[Any] = [0, 0]
    for step in dis.get_instructions(code):
        if step.opname == "IMPORT_NAME":
            name = f"{'.' * (before[-2] or 0)}{step.argval}"
            with contextlib.suppress(ImportError):
                found.append(importlib.util.resolve_name(name, package))
        before = [before[-1], step.argval]
    for const in code.co_consts:
        if isinstance(const, types.CodeType):
            found += _imported_in(const, package)
    return tuple(sorted(set(found)))


UNSEEN: Final = frozenset({"eval", "exec", "globals", "__import__"})


def refuse_unseen(names: AbstractSet[str], said: str) -> None:
    """Refuse what reads names that nobody can see in its code.

    Raises
    ------
    NoFingerprintError
        One of the names is such a function of Python.
    """
    if found := sorted(names & UNSEEN):
        raise NoFingerprintError(f"{said} calls {found[0]}(), which may read anything")


@lru_cache(maxsize=1024)
def _called_blindly(code: types.CodeType) -> frozenset[str]:
    loads = {
        step.argval for step in dis.get_instructions(code) if step.opname in ("LOAD_GLOBAL", "LOAD_NAME")
    }
    inner = (const for const in code.co_consts if isinstance(const, types.CodeType))
    return UNSEEN.intersection(loads).union(*map(_called_blindly, inner))


def _is_patched(value: Any) -> bool:
    """Return whether what an installed module offers is code of somebody else."""
    if not isinstance(value, types.FunctionType | type):
        return False
    home = sys.modules.get(value.__module__ or "")
    return home is None or not is_installed(home)


def _is_setting(value: Any) -> bool:
    return value is None or type(value) in (bool, int, float, str, bytes)


def _holds_more(value: Any) -> bool:
    """Return whether a value has contents beside its attributes, as a list's subclass has."""
    heap = 1 << 9  # Py_TPFLAGS_HEAPTYPE: made by a class statement
    return any(base is not object and not base.__flags__ & heap for base in type(value).__mro__)


def _attributes_of(value: Any) -> list[str]:
    slots = (getattr(base, "__slots__", ()) for base in type(value).__mro__)
    names = {name for one in slots for name in ([one] if isinstance(one, str) else one)}
    names |= {*getattr(value, "__dict__", {}), *(part.name for part in dataclasses.fields(value))}
    return sorted(name for name in names - {"__dict__", "__weakref__"} if hasattr(value, name))


def _names_in(code: types.CodeType) -> set[str]:
    inner = (const for const in code.co_consts if isinstance(const, types.CodeType))
    return set(code.co_names).union(*map(_names_in, inner))


def code_digest(code: types.CodeType) -> str:
    """Return a digest of what a code object does, without the values of the names that it reads."""
    consts = [_of_const(const) for const in code.co_consts]
    names = [repr((code.co_names, code.co_varnames, code.co_freevars, code.co_cellvars))]
    counts = repr((code.co_argcount, code.co_posonlyargcount, code.co_kwonlyargcount, code.co_flags))
    return digest(
        "code", platform.python_version(), code.co_code, code.co_exceptiontable, counts, *names, *consts
    )


def _of_const(const: Any) -> str:
    if isinstance(const, types.CodeType):
        return code_digest(const)
    if isinstance(const, tuple):
        return digest("tuple", *map(_of_const, const))
    if isinstance(const, frozenset):
        return digest("frozenset", *sorted(map(_of_const, const)))
    return digest(type(const).__name__, repr(const))


def _installed_name(value: Any) -> tuple[str, str, str] | None:
    """Return module, name and version of what an installed package offers under a name; None for other things."""
    module = getattr(value, "__module__", None)
    label = getattr(value, "__qualname__", None) or getattr(value, "__name__", None)
    if not isinstance(module, str) or not isinstance(label, str):
        return None
    home = sys.modules.get(module)
    if home is None or not is_installed(home):
        return None
    found: Any = home
    for part in label.split("."):
        found = getattr(found, part, None)
    return (module, label, module_version(home, label)) if found is value else None


def is_installed(module: types.ModuleType) -> bool:
    """Return whether a module is Python's own or lies where packages are installed, so that its version says what it is."""
    if module.__name__.partition(".")[0] in _MAIN:
        return False  # a kernel's file is installed, and what a notebook defines in it is not
    file = getattr(module, "__file__", None)
    if file is None:
        return module.__name__ in sys.builtin_module_names or _is_frozen(module)
    path = Path(file)
    return not {"site-packages", "dist-packages"}.isdisjoint(path.parts) or _is_pythons(path)


_MAIN: Final = frozenset({"__main__", "__mp_main__"})


def _is_frozen(module: types.ModuleType) -> bool:
    return getattr(getattr(module, "__spec__", None), "origin", "") == "frozen"


def _is_pythons(path: Path) -> bool:
    """Return whether a file is of the standard library; a module of the user may have the name of one of its."""
    paths = sysconfig.get_paths()
    return any(path.is_relative_to(paths[name]) for name in ("stdlib", "platstdlib"))


def module_version(module: types.ModuleType, name: str) -> str:
    """Return what tells this module from another state of it: a version, else the contents of its files.

    Raises
    ------
    NoFingerprintError
        There is neither.
    """
    top = sys.modules.get(module.__name__.partition(".")[0], module)
    if is_installed(module):
        if top.__name__ in sys.stdlib_module_names:
            return f"{module.__name__} of Python {platform.python_version()}"
        version = getattr(top, "__version__", "")
        if isinstance(version, str) and version:
            return f"{module.__name__} {version}"
    return f"{module.__name__} {digest('files', *_contents(module, name))}"


def _contents(module: types.ModuleType, name: str) -> Iterator[str]:
    """Yield digests of a module's files, and of the modules of the user that it names."""
    pending, seen = [module], {module.__name__}
    while pending:
        one = pending.pop()
        file = getattr(one, "__file__", None)
        if not file:
            raise NoFingerprintError(f"{name} needs {one.__name__}, a module without version and file")
        files = sorted(Path(file).parent.rglob("*.py")) if hasattr(one, "__path__") else [Path(file)]
        if len(files) > _MOST_FILES:
            raise NoFingerprintError(f"{name} needs {one.__name__}, a package of {len(files)} files")
        for path in files:
            yield digest(path.name, _digest_of_file(str(path), path.stat().st_mtime_ns))
        for value in list(vars(one).values()):
            home = (
                value
                if isinstance(value, types.ModuleType)
                else sys.modules.get(getattr(value, "__module__", "") or "")
            )
            if (
                home is not None
                and home.__name__ not in seen
                and not is_installed(home)
                and home.__name__ not in _MAIN
            ):
                seen.add(home.__name__)
                pending.append(home)


@lru_cache(maxsize=1024)
def _digest_of_file(file: str, _changed: int) -> str:
    return hashlib.sha256(Path(file).read_bytes()).hexdigest()


def digest(kind: str, *parts: str | bytes) -> str:
    """Return a digest over texts and bytes of which each counts with its length."""
    made = hashlib.sha256(kind.encode())
    for part in parts:
        data = part.encode("utf-8", "surrogatepass") if isinstance(part, str) else part
        made.update(b"\0%d\0" % len(data))
        made.update(data)
    return made.hexdigest()
