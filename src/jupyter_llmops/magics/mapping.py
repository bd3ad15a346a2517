"""``%%prompt --map``: one prompt for each row of a table."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any

from IPython.core.interactiveshell import InteractiveShell

from jupyter_llmops.audit.names import names_of
from jupyter_llmops.errors import UnknownNameError, UsageError
from jupyter_llmops.magics.live import LiveAnswer

if TYPE_CHECKING:
    from jupyter_llmops.magics.base import NotebookNames
    from jupyter_llmops.records.map import MapResult
    from jupyter_llmops.records.prompt import Prompt
    from jupyter_llmops.records.prompting import DryRun
    from jupyter_llmops.workspace import PromptOptions, Workspace

_EXAMPLE = "Type %%prompt --map df --column answer."


def check_map_options(arguments: Namespace) -> None:
    """Refuse what belongs to a map where there is none.

    Raises
    ------
    UsageError
        The line has --column, --replace or --retry without --map.
    """
    for option in ("column", "replace", "retry"):
        if getattr(arguments, option) and not arguments.map:
            raise UsageError(
                f"--{option} belongs to a map, and there is no --map.", f"{_EXAMPLE} Or leave it out."
            )
    if arguments.replace and not arguments.column:
        raise UsageError("--replace says which column may be overwritten only with --column.", _EXAMPLE)


def refuse_unquoted(arguments: Namespace) -> None:
    """Refuse an expression whose first word only was taken for the rows.

    Raises
    ------
    UsageError
        Words stand on the line that no option takes, and what --map has got is no whole expression.
    """
    rows = arguments.map
    try:
        compile(rows, "--map", "eval")
    except (SyntaxError, ValueError):
        raise UsageError(
            f"--map takes one word, and {rows!r} is only the beginning of an expression.",
            "Put the expression between quotes, e.g. --map '(x for x in texts)'.",
        ) from None


def map_rows(
    workspace: Workspace,
    shell: InteractiveShell,
    arguments: Namespace,
    template: str,
    options: PromptOptions,
    *,
    typed: Iterable[str],
    on_saved: Callable[[Prompt, bool], None],
    names: NotebookNames,
) -> MapResult | DryRun | None:
    """Run a ``%%prompt --map`` line.

    Parameters
    ----------
    workspace, shell
        Whose rows, variables and display.
    arguments : Namespace
        The parsed line.
    template, options
        What to run.
    typed : iterable of str
        The variables that the line itself gives.
    on_saved : callable
        Is told of a prompt that was saved with -s.
    names : NotebookNames
        The notebook's variables, told of what is read and written.
    """
    rows = _rows(arguments.map, shell, names)
    if arguments.column and not arguments.map.isidentifier():
        raise UsageError(
            f"--column adds to a data frame that has a name, and {arguments.map!r} is an expression.",
            "Put it into a variable first, or leave --column out and type --into answers.",
        )
    _check_typed(rows, typed)
    if arguments.dry_run:
        return _dry_run(workspace, arguments, template, rows, options)

    def keep(result: MapResult) -> None:
        if arguments.into:
            names[arguments.into] = result

    with LiveAnswer(shell) as live:
        result = workspace.map(
            template,
            rows,
            column=arguments.column,
            replace=arguments.replace,
            retry=arguments.retry or 0,
            use_cache=not arguments.no_cache,
            save_as=arguments.save,
            description=arguments.description,
            tags=arguments.tag or (),
            private=arguments.private,
            on_saved=on_saved,
            on_stopped=keep,
            progress=live.progress,
            **options,
        )
    keep(result)
    if arguments.column:
        names.tell_written(arguments.map)
    return result


def _rows(expression: str, shell: InteractiveShell, names: NotebookNames) -> Any:
    """Return what a name or an expression of the notebook is."""
    if expression.isidentifier():
        if expression not in names:
            known = [name for name in names if not name.startswith("_")]
            raise UnknownNameError("variable", expression, known)
        return names[expression]
    names.told_of(names_of(expression).read)
    try:
        return shell.ev(expression)
    except Exception as error:  # noqa: BLE001 - the user's own expression can raise anything
        said = str(error).splitlines()[0].rstrip(".") if str(error) else ""
        raise UsageError(
            f"--map {expression!r} can't be evaluated: {type(error).__name__}{f': {said}' if said else ''}.",
            "Give the name of a data frame or a list.",
        ) from None


def _check_typed(rows: Any, typed: Iterable[str]) -> None:
    from jupyter_llmops.prompting.rows import is_frame

    both = [name for name in typed if is_frame(rows) and name in rows.columns]
    if both:
        raise UsageError(
            f"The variable {both[0]!r} is given on the line and is a column too.",
            "Leave it out, or rename the column.",
        )


def _dry_run(
    workspace: Workspace, arguments: Namespace, template: str, rows: Any, options: PromptOptions
) -> DryRun | None:
    if arguments.save:
        print(f"Nothing was saved as {arguments.save}: this is a dry run.")
    dry = workspace.dry_run_map(template, rows, use_cache=not arguments.no_cache, **options)
    print("The first row would send:" if dry else "There are no rows.")
    return dry
