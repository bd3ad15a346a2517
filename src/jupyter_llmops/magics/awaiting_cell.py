"""The cell under a magic, which may await at its top level as any cell may."""

from __future__ import annotations

import ast
import inspect
from collections.abc import Callable
from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from jupyter_llmops.errors import UsageError

_ATTRIBUTE = "_llmops_awaiting"


class Cell:
    """A cell's source, compiled before anything is recorded.

    Parameters
    ----------
    shell : InteractiveShell
        Where it runs.
    cell : str
        As it was typed below the magic.

    Raises
    ------
    UsageError
        It is no Python; the error is shown.
    """

    def __init__(self, shell: Any, cell: str) -> None:
        self.source: str = shell.transform_cell(cell)
        # As for any cell, so that a traceback shows its lines.
        file = shell.compile.cache(self.source, shell.execution_count, raw_code=cell)
        try:
            with shell.compile.extra_flags(ast.PyCF_ALLOW_TOP_LEVEL_AWAIT if shell.autoawait else 0):
                # With the flags of the notebook, not with those of this file.
                self._code = shell.compile(shell.compile.ast_parse(self.source, file), file, "exec")
        except SyntaxError:
            shell.showsyntaxerror()
            raise UsageError("The cell has a syntax error.", "It is shown above.") from None
        self._space: dict[str, Any] = shell.user_ns
        self.awaits = _awaits(self._code)

    def run(self) -> None:
        """Run it in the notebook's namespace."""
        __tracebackhide__ = True
        exec(self._code, self._space)  # noqa: S102 - the user's own cell

    async def run_awaiting(self) -> None:
        """Run one that awaits."""
        __tracebackhide__ = True
        await eval(self._code, self._space)  # noqa: S307 - the user's own cell


def let_await(shell: InteractiveShell, magic: str) -> None:
    """Let the shell await a cell magic whose cell awaits; the magic then returns a coroutine.

    IPython looks at the source of a cell, in which a magic is a call, to see whether it must run in the event loop.

    Parameters
    ----------
    shell : InteractiveShell
        Where the magic is registered.
    magic : str
        Its name.
    """
    beginning = f"get_ipython().run_cell_magic({magic!r},"

    def transform(lines: list[str]) -> list[str]:
        if len(lines) != 1 or not lines[0].startswith(beginning) or not shell.autoawait:
            return lines
        # A comprehension awaits without that word.
        may_await = "await" in lines[0] or "async" in lines[0]
        return [f"await {lines[0]}"] if may_await and _body_awaits(shell, lines[0]) else lines

    setattr(transform, _ATTRIBUTE, magic)
    transforms: list[Callable[[list[str]], list[str]]] = shell.input_transformers_post
    transforms[:] = [one for one in transforms if getattr(one, _ATTRIBUTE, "") != magic]
    transforms.append(transform)


def _body_awaits(shell: InteractiveShell, call: str) -> bool:
    try:
        (expression,) = ast.parse(call).body
        body = expression.value.args[2].value  # type: ignore[attr-defined]
        code = compile(
            shell.transform_cell(body), "<cell>", "exec", ast.PyCF_ALLOW_TOP_LEVEL_AWAIT, dont_inherit=True
        )
    except Exception:  # noqa: BLE001 - what is wrong with the cell is said where it runs
        return False
    return _awaits(code)


def _awaits(code: Any) -> bool:
    return bool(code.co_flags & inspect.CO_COROUTINE)
