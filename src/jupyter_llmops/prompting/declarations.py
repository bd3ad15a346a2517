"""What a prompt says of its variables: types and defaults, in the syntax of Python's annotations."""

from __future__ import annotations

import ast
import json
import math
from collections import ChainMap
from collections.abc import Iterable, Mapping, Sequence
from numbers import Integral, Real
from typing import Any, get_args

from jupyter_llmops.errors import TemplateError, UsageError, nearest
from jupyter_llmops.guard.assignments import name_strength
from jupyter_llmops.records.prompt import Prompt, Variable, VariableType
from jupyter_llmops.records.request import Scalar

TYPES: tuple[str, ...] = get_args(VariableType)
_EXAMPLE = 'Type for example --declare "n: int = 3" or --declare "topic: str".'
_LONGEST_SHOWN = 60


def parse_declaration(text: str) -> Variable:
    """Return what ``name: type = default`` says; the type and the default may be left out.

    Raises
    ------
    UsageError
        It is none; the hint holds one that is.
    """
    try:
        (statement,) = ast.parse(text.strip()).body
    except (SyntaxError, ValueError, RecursionError, MemoryError):
        raise UsageError(f"{_short(text)} does not declare a variable.", _EXAMPLE) from None
    if isinstance(statement, ast.Expr):
        return Variable(_declared_name(statement.value, text))
    if isinstance(statement, ast.Assign) and len(statement.targets) == 1:
        name = _declared_name(statement.targets[0], text)
        return checked(Variable(name, "any", _default(statement.value, text), has_default=True))
    if not isinstance(statement, ast.AnnAssign):
        raise UsageError(f"{_short(text)} does not declare a variable.", _EXAMPLE)
    name = _declared_name(statement.target, text)
    written = statement.annotation.id if isinstance(statement.annotation, ast.Name) else ""
    kind = check_type(written or ast.unparse(statement.annotation), name)
    if statement.value is None:
        return Variable(name, kind)
    return checked(Variable(name, kind, _default(statement.value, text), has_default=True))


def check_type(written: str, name: str) -> VariableType:
    """Return a type by its name, or say which there are."""
    if written in TYPES:
        return written  # type: ignore[return-value]
    near = nearest(written, TYPES)
    hint = f"Did you mean {near[0]}? " if near else ""
    raise UsageError(
        f"{_short(written)} is not a type that the variable {name!r} can have.",
        f"{hint}Valid are {', '.join(TYPES)}.",
    )


def checked(variable: Variable) -> Variable:
    """Return a declaration whose default is of its type.

    Raises
    ------
    UsageError
        It is not.
    """
    value = variable.default
    if isinstance(value, float) and not math.isfinite(value):
        raise UsageError(
            f"The default of the variable {variable.name!r} is {value}, which is not a finite number.",
            _EXAMPLE,
        )
    if variable.has_default and value is not None and not _fits(variable.type, value):
        raise UsageError(
            f"The default {_short(value)} of the variable {variable.name!r} is not of the type {variable.type}.",
            _EXAMPLE,
        )
    return variable


def declared(declarations: Iterable[Variable], names: Iterable[str]) -> tuple[Variable, ...]:
    """Return declarations sorted by name, of names that the templates have.

    Raises
    ------
    UsageError
        One is declared twice, or is not in the templates.
    """
    known, found = set(names), dict[str, Variable]()
    for variable in declarations:
        if variable.name in found:
            raise UsageError(f"The variable {variable.name!r} is declared twice.", "Leave one out.")
        if variable.name not in known:
            raise UsageError(
                f"The variable {variable.name!r} is declared, and the template does not have it.",
                _did_you_mean(variable.name, known) or f"Write {{{{ {variable.name} }}}} in the template.",
            )
        found[variable.name] = variable
    return tuple(found[name] for name in sorted(found))


def inherited(declarations: Iterable[Variable], includes: Iterable[Prompt]) -> tuple[Variable, ...]:
    """Return what a prompt and those that it includes declare; its own word counts, then the first's."""
    found = {variable.name: variable for variable in declarations}
    for prompt in includes:
        for variable in prompt.declarations:
            found.setdefault(variable.name, variable)
    return tuple(found.values())


def with_defaults(declarations: Sequence[Variable], values: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return values with the defaults of those that are missing, after a look at their types.

    Raises
    ------
    TemplateError
        A value is of another type than its variable.
    """
    if not declarations:
        return values
    for variable in declarations:
        if variable.name in values and not _fits_declared(variable, values[variable.name]):
            raise _wrong(variable, values[variable.name])
    defaults = {v.name: v.default for v in declarations if v.has_default and v.name not in values}
    # The mapping may be a whole notebook's: it is not copied.
    return ChainMap(dict(defaults), values) if defaults else values  # type: ignore[arg-type]


def read_text(variable: Variable, text: str) -> Any:
    """Return what a text that was typed means as a value of a variable.

    Raises
    ------
    TemplateError
        It is not of the variable's type.
    """
    value: Any = text
    try:
        if variable.type == "int":
            value = int(text)
        elif variable.type == "float":
            value = float(text)
        elif variable.type == "bool":
            value = {"true": True, "false": False}[text.strip().lower()]
        elif variable.type in ("list", "dict"):
            value = _literal(text)
    except (ValueError, KeyError, SyntaxError, RecursionError, MemoryError):
        raise _wrong(variable, text) from None
    if not _fits(variable.type, value) or (isinstance(value, float) and not math.isfinite(value)):
        raise _wrong(variable, text)
    return value


def written(variable: Variable) -> str:
    """Return a declaration as it is typed: ``n: int = 3``."""
    kind = f": {variable.type}" if variable.type != "any" else ""
    space = " " if kind else ""
    return (
        f"{variable.name}{kind}{space}={space}{variable.default!r}"
        if variable.has_default
        else variable.name + kind
    )


def _literal(text: str) -> Any:
    try:
        return json.loads(text)
    except ValueError:
        return ast.literal_eval(text)


def _fits_declared(variable: Variable, value: object) -> bool:
    if variable.has_default and variable.default is None and value is None:
        return True
    return _fits(variable.type, value)


def _fits(kind: VariableType, value: object) -> bool:
    if kind == "any":
        return True
    if kind == "bool":
        # NumPy's truth values are no Python bool.
        return isinstance(value, bool) or type(value).__name__ in ("bool_", "bool")
    if kind == "int":
        return isinstance(value, Integral) and not isinstance(value, bool)
    if kind == "float":
        return isinstance(value, Real) and not isinstance(value, bool)
    types: dict[str, tuple[type, ...]] = {"str": (str,), "list": (list, tuple), "dict": (Mapping,)}
    return isinstance(value, types[kind])


def _wrong(variable: Variable, value: object) -> TemplateError:
    right = {
        "str": "'cats'", "int": "3", "float": "0.5", "bool": "true", "list": "[1, 2]", "dict": '{"a": 1}', "any": "1",
    }  # fmt: skip
    # An error stays in the notebook: what a secret may be is not shown.
    shown = "what it was given" if name_strength(variable.name) else _short(value)
    return TemplateError(
        f"The variable {variable.name!r} is {_a(variable.type)}, and {shown} is {_a(type(value).__name__)}.",
        f"Give one, e.g. {variable.name}={right[variable.type]}.",
    )


def _a(kind: str) -> str:
    return f"an {kind}" if kind[0] in "aeiou" else f"a {kind}"


def _declared_name(node: ast.expr, text: str) -> str:
    if not isinstance(node, ast.Name):
        raise UsageError(f"{_short(text)} does not declare a variable.", _EXAMPLE)
    return node.id


def _default(node: ast.expr, text: str) -> Scalar:
    try:
        value = ast.literal_eval(node)
    except (ValueError, SyntaxError, TypeError, RecursionError, MemoryError):
        raise UsageError(f"The default in {_short(text)} is not a plain value.", _EXAMPLE) from None
    if value is not None and not isinstance(value, str | int | float | bool):
        raise UsageError(
            f"The default in {_short(text)} is a {type(value).__name__}.",
            "A default is a text, a number, True, False or None.",
        )
    return value


def _did_you_mean(name: str, known: Iterable[str]) -> str:
    near = nearest(name, known)
    return f"Did you mean {' or '.join(near)}?" if near else ""


def _short(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= _LONGEST_SHOWN else shown[: _LONGEST_SHOWN - 1] + "…"
