"""From the line that a user typed to values: options, sub-commands, ``name=value`` pairs."""

from __future__ import annotations

import ast
import shlex
from argparse import Namespace
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any

from IPython.core.error import UsageError as IPythonUsageError
from IPython.core.interactiveshell import InteractiveShell

from jupyter_llmops.errors import UnknownNameError, UsageError

if TYPE_CHECKING:
    from jupyter_llmops.records.request import Scalar


def parse(method: Any, line: str, shell: InteractiveShell) -> Namespace:
    """Return a magic's arguments, with ``$name`` and ``{expression}`` expanded in their values.

    Parameters
    ----------
    method : bound method
        A magic with IPython's ``magic_arguments``.
    line : str
        What stands behind the magic's name.
    shell : InteractiveShell
        Whose variables are used.

    Raises
    ------
    UsageError
        With the magic's usage line.
    """
    parser = method.parser
    try:
        words = [_expand(word, shell) for word in shlex.split(line)]
    except ValueError as error:
        raise UsageError(f"The line can't be read: {error}.", usage(method)) from None
    try:
        arguments: Namespace = parser.parse_intermixed_args(words)  # options may stand anywhere
    except IPythonUsageError as error:
        raise UsageError(f"{_sentence(str(error))}", usage(method)) from None
    return arguments


def usage(method: Any) -> str:
    """Return a magic's usage on one line."""
    text = " ".join(method.parser.format_usage().replace("::", " ").replace("usage:", " ").split())
    name = method.__name__
    return f"Usage: {text} · %{name}? explains every option."


def _sentence(text: str) -> str:
    text = text.strip().rstrip(".")
    return text[:1].upper() + text[1:] + "."


def _expand(word: str, shell: InteractiveShell) -> str:
    """Return a word with the notebook's variables in it; a word that is itself a template stays raw."""
    from IPython.utils.text import DollarFormatter

    if "{{" in word or "{%" in word:
        return word
    # Not `shell.var_expand`: it would also see the local variables of this function.
    try:
        expanded: str = DollarFormatter().vformat(word, args=[], kwargs=dict(shell.user_ns))
    except Exception:  # noqa: BLE001 - as IPython has it: what can't be expanded stays as it was typed
        return word
    return expanded


def choose(
    noun: str, words: list[str], commands: Mapping[str, Callable[..., Any]], example: str
) -> tuple[Callable[..., Any], list[str]]:
    """Return what a sub-command's name stands for, and the words behind it.

    Parameters
    ----------
    noun : str
        The magic's name, with its per cent sign.
    words : list of str
        The sub-command's name first.
    commands : mapping
        What is valid.
    example : str
        A line that works, for the error.
    """
    if words[0] not in commands:
        valid = ", ".join(commands)
        unknown = UnknownNameError(f"{noun} command", words[0], commands)
        raise UsageError(unknown.message, f"{unknown.hint} Valid are {valid}, e.g. {example}".strip())
    return commands[words[0]], words[1:]


def one_name(words: list[str], usage_line: str) -> str:
    """Return the only word, or say how the line is typed."""
    if len(words) != 1:
        raise UsageError(
            "A name is missing." if not words else f"There is one name too many: {' '.join(words[1:])}.",
            f"Type {usage_line}.",
        )
    return words[0]


def pairs(words: Iterable[str] | None, option: str, example: str = "topic=cats") -> dict[str, str]:
    """Return ``name=value`` words as a mapping.

    Raises
    ------
    UsageError
        A word has no equals sign, its name is no identifier, or was given another value before.
    """
    values: dict[str, str] = {}
    for word in words or ():
        name, equals, value = word.partition("=")
        if not equals or not name.isidentifier():
            raise UsageError(
                f"{word!r} is not of the form name=value.",
                f"Type {option}name=value, e.g. {option}{example}.",
            )
        if values.get(name, value) != value:
            raise UsageError(f"{name} is given twice, with two values.", "Leave one of them out.")
        values[name] = value
    return values


def secret_values(line: str) -> dict[str, str]:
    """Return the ``name=value`` of a line whose name says that the value is secret, however wrong the rest is."""
    from jupyter_llmops.guard.assignments import looks_random, name_strength

    try:
        words = shlex.split(line)
    except ValueError:
        words = line.split()
    found: dict[str, str] = {}
    for word in words:
        name, _, value = word.removeprefix("--var=").removeprefix("--param=").partition("=")
        strength = name_strength(name) if value and value[0] not in "${" else 0
        if strength > 1 or (strength and looks_random(value)):
            found[name] = value
    return found


def scalars(values: Mapping[str, str]) -> dict[str, Scalar]:
    """Return texts as the numbers or truth values they look like, else as they are."""
    return {name: _scalar(text) for name, text in values.items()}


def _scalar(text: str) -> Scalar:
    if text.lower() in ("true", "false"):
        return text.lower() == "true"
    try:
        value = ast.literal_eval(text)
    except (ValueError, SyntaxError):
        return text
    return value if isinstance(value, int | float | str) or value is None else text
