"""scikit-learn and SciPy: an object of a library's own class, by its attributes."""

from __future__ import annotations

import sys
import types
from typing import Any, Final

from jupyter_llmops.audit.values.writer import (
    Handler,
    ValueWriter,
    learn_finder,
    module_of,
    mro_of,
    type_name,
)

_LIBRARIES: Final = ("sklearn", "scipy")
_name_of = type.__dict__["__name__"].__get__
# What a fit notes of itself, and is no part of what it learned.
_PASSING: Final = frozenset({"_sklearn_output_config", "_repr_html_link", "fit_time_", "refit_time_"})


def learn_types() -> None:
    """Say how values of these libraries' classes are written."""
    learn_finder(_find)


def _find(kind: type, library: str) -> Handler | None:
    return _object if library in _LIBRARIES and _is_theirs(kind) else None


def _is_theirs(kind: type) -> bool:
    """Return whether a class is what its module offers under its name: a user's class may claim any module."""
    module = sys.modules.get(module_of(kind))
    return module is not None and vars(module).get(_name_of(kind)) is kind


def _object(writer: ValueWriter, value: Any) -> None:
    kind = type(value)
    writer.head("object")
    writer.text(type_name(kind))
    attributes = _attributes_of(value)
    if attributes is None:
        _state(writer, value)
        return
    kept = {name: attributes[name] for name in sorted(attributes) if name not in _PASSING}
    writer.value(kept)


def _attributes_of(value: Any) -> dict[str, Any] | None:
    """Return an object's own attributes, None for a class without."""
    for base in mro_of(type(value)):
        getter = vars(base).get("__dict__")
        if type(getter) is types.GetSetDescriptorType:
            found: dict[str, Any] = getter.__get__(value)
            return found
    return None


def _state(writer: ValueWriter, value: Any) -> None:
    """Write a compiled class's object (a tree, a loss) by what its library would pickle of it."""
    reduce: Any = type(value).__reduce__
    for part in reduce(value):
        if type(part) is type or type(part) is types.BuiltinFunctionType:
            writer.text(part.__name__)
        else:
            writer.value(part)
