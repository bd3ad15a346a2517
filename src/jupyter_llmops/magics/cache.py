"""``%cache``: what was reused, and why the last call hit or missed."""

from __future__ import annotations

from typing import Any

from IPython.core.magic import line_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments

from jupyter_llmops.errors import UsageError
from jupyter_llmops.magics.arguments import choose, parse, usage
from jupyter_llmops.magics.base import WorkspaceMagics


@magics_class
class CacheMagics(WorkspaceMagics):
    """The exact cache."""

    @no_var_expand
    @magic_arguments()
    @argument("--yes", action="store_true", help="clear: don't ask.")
    @argument(
        "words", nargs="*", metavar="COMMAND", help="why, clear, off or on; nothing shows hits and misses."
    )
    @line_magic
    def cache(self, line: str) -> Any:
        """Show hits, misses and seconds saved; explain the last look-up; clear; switch off and on.

        ::

            %cache
            %cache why
            %cache clear
            %cache off
        """
        arguments = parse(self.cache, line, self.shell)
        if not arguments.words:
            return self.workspace.cache.stats()
        commands = {
            "why": self._why,
            "clear": lambda: self._clear(confirmed=arguments.yes),
            "off": lambda: self._switch(on=False),
            "on": lambda: self._switch(on=True),
        }
        command, rest = choose("%cache", arguments.words, commands, "%cache why")
        if rest:
            raise UsageError(f"{' '.join(rest)!r} is too much.", usage(self.cache))
        return command()

    def _why(self) -> None:
        print(self.workspace.cache.why())

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
