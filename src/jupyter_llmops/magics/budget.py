"""``%budget``: how much prompts may cost."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Final

from IPython.core.magic import line_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments

from jupyter_llmops.errors import UsageError
from jupyter_llmops.magics.arguments import parse
from jupyter_llmops.magics.base import WorkspaceMagics

if TYPE_CHECKING:
    from jupyter_llmops.records.budget import BudgetStatus

# Else the parser takes it for an option that there is not.
_BELOW_ZERO: Final = re.compile(r"(?<!\S)['\"]?(-\s*[$€£]?\s*\.?\d[^\s'\"]*)")
_EXAMPLE: Final = "Type %budget 5USD, or %budget off."


@magics_class
class BudgetMagics(WorkspaceMagics):
    """The budget."""

    @no_var_expand
    @magic_arguments()
    @argument(
        "--per",
        default="session",
        metavar="PERIOD",
        help="session (default), or day or month: all your kernels together.",
    )
    @argument("words", nargs="*", metavar="AMOUNT", help="5USD, or off; nothing shows what was spent.")
    @line_magic
    def budget(self, line: str) -> BudgetStatus:
        """Show what was spent; set how much prompts may cost: over it a prompt stops before it runs.

        Local answers cost the seconds they take at LLMOps.price_per_hour, remote ones what the public price
        lists say; what nobody knows is counted as unknown.

        ::

            %budget
            %budget 5USD
            %budget 20EUR --per month
            %budget off
        """
        if below := _BELOW_ZERO.search(line):
            raise UsageError(f"A budget is an amount above 0, not {below[1]}.", _EXAMPLE)
        arguments = parse(self.budget, line, self.shell)
        if not arguments.words:
            if arguments.per != "session":
                raise UsageError("--per belongs to an amount.", f"Type %budget 5USD --per {arguments.per}.")
            return self.workspace.budget()
        typed = " ".join(arguments.words)
        return self.workspace.set_budget(None if typed == "off" else typed, per=arguments.per)
