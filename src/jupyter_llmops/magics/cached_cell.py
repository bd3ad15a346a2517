"""``%%cache``: what a cell assigns, kept and given again instead of running it."""

from __future__ import annotations

import ast
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from jupyter_llmops.cache.cells import CellNames, attributes_in, definitions_of, imports_of, names_of
from jupyter_llmops.cache.fingerprint import NoFingerprintError, digest, fingerprint, imported, refuse_unseen
from jupyter_llmops.cache.functions import FunctionCache
from jupyter_llmops.errors import UsageError

_ABSENT = object()


class CachedCell:
    """One run of a cell under ``%%cache``.

    Parameters
    ----------
    shell : InteractiveShell
        Where it runs.
    kept : FunctionCache
        Where what it assigned is kept.
    name : str
        What its user calls it; part of what tells it from other cells.
    cell : str
        Its source.
    """

    def __init__(self, shell: InteractiveShell, kept: FunctionCache, name: str, cell: str) -> None:
        self._shell = shell
        self._kept = kept
        self._name = name
        source = shell.transform_cell(cell)
        self._quiet = cell.rstrip().endswith(";")
        # As for any cell, so that a traceback shows its lines.
        self._file = shell.compile.cache(source, shell.execution_count, raw_code=cell)
        try:
            self._module = ast.parse(source, self._file)
        except SyntaxError:
            shell.showsyntaxerror()
            raise UsageError("The cell has a syntax error.", "It is shown above.") from None
        self._names: CellNames = names_of(self._module)
        self._attributes = attributes_in(self._module)
        self._result: Any = None
        self._space: dict[str, Any] = shell.user_ns

    def run(self) -> Any:
        """Give what the cell assigned when it ran, or run it; return the value of its last line."""
        names = self._names
        if names.unfit == "awaits something":
            raise UsageError(
                "A cell under %%cache can't await at its top level.", "Await in a cell of its own."
            )
        label = f"the cell {self._name}" if self._name else "the cell"
        unfit = names.unfit or ("" if names.assigned else "assigns nothing")
        if unfit:
            print(f"Not kept: it {unfit}, so it ran as always.")
            self._run()
            return self._result
        found = self._kept.call(label, self._identity, self._compute)
        if found.reused:
            self._give(found.value)
            print(f"Reused {', '.join(sorted(found.value))}: {found.said}.")
        return self._result

    def _identity(self) -> str:
        return digest("cell", self._name, self._names.tree, *self._inputs().values())

    def _inputs(self) -> dict[str, str]:
        """Return a fingerprint of everything that the cell may read."""
        refuse_unseen(self._names.read - self._space.keys(), "it")
        given = {
            name: digest("given", name, fingerprint(self._space[name], name, self._attributes))
            if name in self._space
            else digest("absent", name)
            for name in sorted(self._names.read)
        }
        # What it imports itself; a blank keeps these apart from its names.
        for name in imports_of(self._module):
            module = fingerprint(imported(name), name, self._attributes)
            given[f"import {name}"] = digest("imported", name, module)
        return given

    def _compute(self) -> dict[str, Any]:
        try:
            before = self._inputs()
        except NoFingerprintError:
            before = {}  # then nothing is kept
        only_written = self._names.assigned - self._names.read
        aside = {name: self._space.pop(name, _ABSENT) for name in only_written}
        try:
            self._run()
        finally:
            for name, value in aside.items():
                if value is not _ABSENT:
                    self._space.setdefault(name, value)  # it was not assigned after all
        assigned = {
            name: self._space[name]
            for name in self._names.assigned
            if name in self._space and not (name in aside and self._space[name] is aside[name])
        }
        return assigned | self._changed(before)

    def _changed(self, before: dict[str, str]) -> dict[str, Any]:
        """Return what the cell read and changed in place, such as a list that it appended to."""
        found: dict[str, Any] = {}
        for name, was in before.items():
            if name not in self._space:
                continue
            try:
                now = digest("given", name, fingerprint(self._space[name], name, self._attributes))
            except NoFingerprintError:
                now = ""
            if now != was:
                found[name] = self._space[name]
        return found

    def _give(self, values: dict[str, Any]) -> None:
        self._space.update(values)
        exec(self._compiled(definitions_of(self._module)), self._space)  # noqa: S102 - the user's own cell

    def _run(self) -> None:
        body = self._module.body
        last = body[-1] if body and isinstance(body[-1], ast.Expr) else None
        exec(self._compiled(ast.Module(body[: len(body) - bool(last)], [])), self._space)  # noqa: S102
        if last is not None:
            code = compile(ast.Expression(last.value), self._file, "eval", dont_inherit=True)
            value = eval(code, self._space)  # noqa: S307 - the user's own cell
            self._result = None if self._quiet else value

    def _compiled(self, module: ast.Module) -> Any:
        # Not under the future statements of this file, which turn the cell's annotations into texts.
        return compile(module, self._file, "exec", dont_inherit=True)
