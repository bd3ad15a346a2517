"""What a cell reads and assigns, by its syntax tree."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final

_DEFINITIONS: Final = (ast.Import, ast.ImportFrom, ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
_FUNCTIONS: Final = (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda)


@dataclass(frozen=True, slots=True)
class CellNames:
    """The names of a cell.

    Parameters
    ----------
    read : frozenset of str
        What it may read of what was there before it; rather too many than one too few.
    assigned : frozenset of str
        What it may assign, without what it imports and defines at its top level.
    tree : str
        Its code without comments and layout.
    unfit : str
        Why its effect can't be kept, as the end of "it …"; empty when it can.
    """

    read: frozenset[str]
    assigned: frozenset[str]
    tree: str
    unfit: str = ""


def names_of(module: ast.Module) -> CellNames:
    """Return what a cell reads and assigns.

    Parameters
    ----------
    module : ast.Module
        Its syntax tree, magics turned into calls.
    """
    reader = _Reader()
    reader.block(module.body, set())
    reader.settle(set())
    defined = {name for node in module.body if isinstance(node, _DEFINITIONS) for name in _stored(node)}
    both = defined & reader.assigned
    return CellNames(
        read=frozenset(reader.read),
        assigned=frozenset(reader.assigned),
        tree=ast.dump(module, include_attributes=False),
        unfit=reader.unfit or (f"both defines and assigns {min(both)}" if both else ""),
    )


def definitions_of(module: ast.Module) -> ast.Module:
    """Return the imports and definitions at the top level of a cell, which a reuse runs anew."""
    return ast.Module([node for node in module.body if isinstance(node, _DEFINITIONS)], type_ignores=[])


def imports_of(module: ast.Module) -> list[str]:
    """Return the modules that a cell imports, in its functions too."""
    names: set[str] = set()
    for node in ast.walk(module):
        if isinstance(node, ast.Import):
            names.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            names.add(node.module)
    return sorted(names)


def attributes_in(module: ast.Module) -> frozenset[str]:
    """Return every name that a cell may read of a module."""
    attributes = {node.attr for node in ast.walk(module) if isinstance(node, ast.Attribute)}
    return frozenset(attributes | {node.name for node in ast.walk(module) if isinstance(node, ast.alias)})


class _Reader:
    """Goes through statements in their order; a name is read unless it was surely assigned before."""

    def __init__(self) -> None:
        self.read: set[str] = set()
        self.assigned: set[str] = set()
        self.unfit = ""
        # What the functions read that were defined last: they can't be called before another statement.
        self._later: set[str] = set()

    def block(self, statements: Iterable[ast.stmt], sure: set[str]) -> set[str]:
        """Read statements where `sure` is assigned, and return what surely is after them."""
        sure = set(sure)
        for node in statements:
            sure |= self._statement(node, sure)
        return sure

    def settle(self, sure: set[str]) -> None:
        """Count what functions read as read now, as they may be called."""
        self.read |= self._later - sure
        self._later.clear()

    def _statement(self, node: ast.stmt, sure: set[str]) -> set[str]:
        """Read one statement and return what it surely assigns."""
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and not node.decorator_list:
            self._expressions(_outside(node), sure)
            self._later |= _free_in(node, self)
            self._later -= {node.name}
            return {node.name}
        if isinstance(node, ast.Import | ast.ImportFrom):
            if "*" in _stored(node):
                self.unfit = "imports every name of a module"
            self._later -= _stored(node)
            return _stored(node)
        self.settle(sure)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            self._expressions([*node.decorator_list, *_outside(node)], sure)
            self.read |= _free_in(node, self) - sure - {node.name}
            return {node.name}
        return self._compound(node, sure)

    def _compound(self, node: ast.stmt, sure: set[str]) -> set[str]:
        match node:
            case ast.If():
                self._expressions([node.test], sure)
                return self.block(node.body, sure) & self.block(node.orelse, sure)
            case ast.For() | ast.AsyncFor():
                self._expressions([node.iter, node.target], sure)
                self.block(node.body, sure | _stored(node.target))
                self.block(node.orelse, sure)
            case ast.While():
                self._expressions([node.test], sure)
                self.block(node.body, sure)
                self.block(node.orelse, sure)
            case ast.With() | ast.AsyncWith():
                parts = [
                    part for item in node.items for part in (item.context_expr, item.optional_vars) if part
                ]
                self._expressions(parts, sure)
                self.block(node.body, sure.union(*map(_stored, parts)))
            case ast.Try() | ast.TryStar():
                self.block([*node.body, *node.orelse], sure)
                for handler in node.handlers:
                    self._expressions([handler.type] if handler.type else [], sure)
                    self.assigned |= {handler.name} if handler.name else set()
                    self.block(handler.body, sure | ({handler.name} if handler.name else set()))
                return self.block(node.finalbody, sure) - sure
            case ast.Match():
                self._expressions([node.subject], sure)
                for case in node.cases:
                    captured = _captured(case.pattern)
                    self.assigned |= captured
                    self._expressions([case.guard] if case.guard else [], sure | captured)
                    self.block(case.body, sure | captured)
            case _:
                return self._simple(node, sure)
        return set()

    def _simple(self, node: ast.stmt, sure: set[str]) -> set[str]:
        self._expressions([node], sure)
        if isinstance(node, ast.AugAssign) and isinstance(node.target, ast.Name):
            self.read |= {node.target.id} - sure
        if isinstance(node, ast.Assign):
            return set().union(*map(_stored, node.targets))
        if isinstance(node, ast.AnnAssign) and node.value is not None:
            return _stored(node.target)
        return set()

    def _expressions(self, nodes: Iterable[ast.AST], sure: set[str]) -> None:
        for node in nodes:
            found = _Names()
            found.visit(node)
            self.read |= found.loaded - sure
            self.assigned |= found.stored
            self.unfit = self.unfit or found.unfit


class _Names(ast.NodeVisitor):
    """Collects the names that an expression or a simple statement loads and stores outside of functions."""

    def __init__(self) -> None:
        self.loaded: set[str] = set()
        self.stored: set[str] = set()
        self.unfit = ""

    def visit_Name(self, node: ast.Name) -> None:
        if isinstance(node.ctx, ast.Load):
            self.loaded.add(node.id)
        elif isinstance(node.ctx, ast.Store):
            self.stored.add(node.id)
        else:
            self.unfit = f"deletes {node.id}"

    def visit_Lambda(self, node: ast.Lambda) -> None:
        for part in _outside(node):
            self.visit(part)
        self.loaded |= _free_in(node, self)

    def visit_Await(self, _: ast.Await) -> None:
        self.unfit = "awaits something"

    def _comprehension(self, node: ast.AST) -> None:
        inner = _Names()
        inner.generic_visit(node)
        # A walrus inside assigns outside; the other names are the comprehension's own. What its first
        # source reads of the same name is counted with the walrus' caution: as read.
        outside = {part.target.id for part in ast.walk(node) if isinstance(part, ast.NamedExpr)}
        first = _Names()
        first.visit(node.generators[0].iter)  # type: ignore[attr-defined]
        self.loaded |= (inner.loaded - inner.stored) | first.loaded | (outside & inner.loaded)
        self.stored |= outside
        self.unfit = self.unfit or inner.unfit

    visit_ListComp = visit_SetComp = _comprehension  # noqa: N815 - as ast has it
    visit_DictComp = visit_GeneratorExp = _comprehension  # noqa: N815


def _free_in(node: ast.AST, owner: _Reader | _Names) -> set[str]:
    """Return every name that a function or class body may take from outside."""
    own: set[str] = set()
    if isinstance(node, _FUNCTIONS):
        own = {argument.arg for argument in _arguments(node.args)}
    body = node.body if isinstance(node.body, list) else [node.body]  # type: ignore[attr-defined]
    loaded: set[str] = set()
    for part in body:
        for inner in ast.walk(part):
            if isinstance(inner, ast.Global):
                owner.unfit = f"lets a function assign {inner.names[0]}"
            if isinstance(inner, ast.Name) and isinstance(inner.ctx, ast.Load):
                loaded.add(inner.id)
    # A name that a function's body surely makes its own is one that it stores outside of inner functions;
    # in a class body a name may be read before it is stored.
    if isinstance(node, _FUNCTIONS):
        own |= {name for part in body for name in _stored(part)}
    return loaded - own


def _outside(node: ast.AST) -> list[ast.expr]:
    """Return what of a definition is computed where it stands: defaults, bases."""
    if isinstance(node, ast.ClassDef):
        return [*node.bases, *(keyword.value for keyword in node.keywords)]
    arguments: ast.arguments = node.args  # type: ignore[attr-defined]
    return [*arguments.defaults, *(default for default in arguments.kw_defaults if default)]


def _stored(node: ast.AST) -> set[str]:
    """Return the names that a node stores, outside of functions, classes and comprehensions inside it."""
    match node:
        case ast.FunctionDef() | ast.AsyncFunctionDef() | ast.ClassDef():
            return {node.name}
        case ast.Import():
            return {alias.asname or alias.name.partition(".")[0] for alias in node.names}
        case ast.ImportFrom():
            return {alias.asname or alias.name for alias in node.names}
        case ast.Name():
            return {node.id} if isinstance(node.ctx, ast.Store) else set()
        case ast.Lambda() | ast.ListComp() | ast.SetComp() | ast.DictComp() | ast.GeneratorExp():
            return set()
        case ast.ExceptHandler() if node.name:
            return {node.name}.union(*map(_stored, ast.iter_child_nodes(node)))
    return set().union(*map(_stored, ast.iter_child_nodes(node)))


def _captured(pattern: ast.pattern) -> set[str]:
    names = {getattr(part, "name", None) or getattr(part, "rest", None) for part in ast.walk(pattern)}
    return {name for name in names if isinstance(name, str)}


def _arguments(arguments: ast.arguments) -> list[ast.arg]:
    single = [one for one in (arguments.vararg, arguments.kwarg) if one is not None]
    return [*arguments.posonlyargs, *arguments.args, *arguments.kwonlyargs, *single]
