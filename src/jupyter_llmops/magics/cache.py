"""``%cache``: what was reused, and why the last call hit or missed."""

from __future__ import annotations

import textwrap
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from IPython.core.magic import line_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments

from jupyter_llmops.errors import UsageError
from jupyter_llmops.magics.arguments import choose, parse, usage
from jupyter_llmops.magics.base import WorkspaceMagics
from jupyter_llmops.settings import parse_age

if TYPE_CHECKING:
    from jupyter_llmops.records.cache import CacheLimits

TAKING_A_WORD = ("wrong", "right", "limit")


def _shortened(text: str) -> str:
    return f"{textwrap.shorten(text, 60, placeholder=' …')!r}."


@magics_class
class CacheMagics(WorkspaceMagics):
    """The exact cache."""

    @no_var_expand
    @magic_arguments()
    @argument("--yes", action="store_true", help="clear: don't ask.")
    @argument("--why", metavar="TEXT", help="wrong: why, for the others.")
    @argument("--age", metavar="AGE", help="limit: how old answers may become, e.g. 30d, or off.")
    @argument("--older", metavar="AGE", help="clear: only what was stored longer ago, e.g. 30d.")
    @argument(
        "words",
        nargs="*",
        metavar="COMMAND",
        help="why, wrong [RUN], right [RUN], limit [SIZE], clear, off or on; nothing shows hits and misses.",
    )
    @line_magic
    def cache(self, line: str) -> Any:
        """Show hits, misses and seconds saved; explain the last look-up; clear; switch off and on.

        ``wrong`` marks the last answer, or that of a run, as wrong for everyone: it is never served again.
        ``right`` takes that back. ``limit`` says how much may be kept and how long, for everyone who uses
        the folder: beyond it what is cheap to compute again and not asked for goes first.

        ::

            %cache
            %cache why
            %cache wrong --why "that was before the price change"
            %cache limit 5GB --age 30d
            %cache clear --older 30d --yes
            %cache off
        """
        arguments = parse(self.cache, line, self.shell)
        if not arguments.words:
            return self.workspace.cache_stats()
        commands: dict[str, Callable[..., None]] = {
            "why": self._why,
            "wrong": partial(self._wrong, why=arguments.why or ""),
            "right": self._right,
            "limit": partial(self._limit, age=arguments.age),
            "clear": lambda: self._clear(confirmed=arguments.yes, older=arguments.older),
            "off": lambda: self._switch(on=False),
            "on": lambda: self._switch(on=True),
        }
        command, rest = choose("%cache", arguments.words, commands, "%cache why")
        if len(rest) > (arguments.words[0] in TAKING_A_WORD):
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

    def _limit(self, size: str | None = None, *, age: str | None = None) -> None:
        if size is None and age is None:
            print(f"{self._limits(self.workspace.cache_limits())} %cache limit 5GB --age 30d changes that.")
            return
        limits = self.workspace.limit_cache(size, age)
        print(f"{self._limits(limits)} That holds for everyone who uses {self.workspace.cache_folder}.")

    def _limits(self, limits: CacheLimits) -> str:
        from jupyter_llmops.display.cache import age, limit

        most = (
            "of any size" if limits.size_bytes is None else f"of at most {limit(limits.size_bytes)} together"
        )
        long = "for ever" if limits.age_seconds is None else f"for {age(limits.age_seconds)}"
        return f"Answers {most} are kept {long}."

    def _clear(self, *, confirmed: bool, older: str | None = None) -> None:
        cache = self.workspace.cache
        seconds = None if older is None else parse_age(older)
        if older is not None and seconds is None:
            raise UsageError(
                f"--older {older} names no age.", "Type for example %cache clear --older 30d --yes."
            )
        which = "" if older is None else f" that are older than {older}"
        if not confirmed:
            entries = f"the {cache.stats().entries}" if older is None else "all"
            local = self.workspace.location.is_local
            whose = f"everyone who uses {self.workspace.location}" if local else "yours"
            option = "" if older is None else f" --older {older}"
            raise UsageError(
                f"This would delete {entries} answers{which} of {whose}.",
                f"Type %cache clear{option} --yes to do it.",
            )
        print(f"Deleted {cache.clear(seconds)} answers{which}.")

    def _switch(self, *, on: bool) -> None:
        self.workspace.cache.enabled = on
        print("The cache is on." if on else "The cache is off for this session; %cache on brings it back.")
