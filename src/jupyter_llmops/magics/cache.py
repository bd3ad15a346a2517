"""``%cache``: what was reused, and why the last call hit or missed."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from functools import partial
from typing import Any

from IPython.core.magic import line_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments

from jupyter_llmops.errors import UsageError
from jupyter_llmops.magics.arguments import choose, parse, usage
from jupyter_llmops.magics.base import WorkspaceMagics

TAKING_A_RUN = ("wrong", "right")


def _shortened(text: str) -> str:
    return f"{textwrap.shorten(text, 60, placeholder=' …')!r}."


@magics_class
class CacheMagics(WorkspaceMagics):
    """The exact cache."""

    @no_var_expand
    @magic_arguments()
    @argument("--yes", action="store_true", help="clear: don't ask.")
    @argument("--why", metavar="TEXT", help="wrong: why, for the others.")
    @argument(
        "words",
        nargs="*",
        metavar="COMMAND",
        help="why, wrong [RUN], right [RUN], clear, off or on; nothing shows hits and misses.",
    )
    @line_magic
    def cache(self, line: str) -> Any:
        """Show hits, misses and seconds saved; explain the last look-up; clear; switch off and on.

        ``wrong`` marks the last answer, or that of a run, as wrong for everyone: it is never served again.
        ``right`` takes that back.

        ::

            %cache
            %cache why
            %cache wrong --why "that was before the price change"
            %cache clear
            %cache off
        """
        arguments = parse(self.cache, line, self.shell)
        if not arguments.words:
            return self.workspace.cache.stats()
        commands: dict[str, Callable[..., None]] = {
            "why": self._why,
            "wrong": partial(self._wrong, why=arguments.why or ""),
            "right": self._right,
            "clear": lambda: self._clear(confirmed=arguments.yes),
            "off": lambda: self._switch(on=False),
            "on": lambda: self._switch(on=True),
        }
        command, rest = choose("%cache", arguments.words, commands, "%cache why")
        if len(rest) > (arguments.words[0] in TAKING_A_RUN):
            raise UsageError(f"{' '.join(rest)!r} is too much.", usage(self.cache))
        return command(*rest)

    def _why(self) -> None:
        print(self.workspace.cache.why())

    def _wrong(self, run: str = "", *, why: str = "") -> None:
        mark = self.workspace.mark_wrong(run, why=why)
        print(
            f"Marked as wrong for everyone: {_shortened(mark.text)} It is never served again; "
            "%cache right takes that back."
        )

    def _right(self, run: str = "") -> None:
        mark = self.workspace.mark_right(run)
        print(f"No longer marked as wrong: {_shortened(mark.text)} The answer is served again.")

    def _clear(self, *, confirmed: bool) -> None:
        cache = self.workspace.cache
        entries = cache.stats().entries
        if not confirmed:
            whose = (
                f"everyone who uses {self.workspace.location}"
                if self.workspace.location.is_local
                else "yours"
            )
            raise UsageError(
                f"This would delete {entries} answers of {whose}.",
                "Type %cache clear --yes to do it.",
            )
        print(f"Deleted {cache.clear()} answers.")

    def _switch(self, *, on: bool) -> None:
        self.workspace.cache.enabled = on
        print("The cache is on." if on else "The cache is off for this session; %cache on brings it back.")
