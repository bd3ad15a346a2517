"""``%prompts``: the registry of saved prompts."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from IPython.core.magic import line_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments

from jupyter_llmops.magics.arguments import choose, one_name, parse
from jupyter_llmops.magics.base import WorkspaceMagics
from jupyter_llmops.records.listing import Listing

if TYPE_CHECKING:
    from jupyter_llmops.records.prompt import Prompt


@magics_class
class PromptsMagics(WorkspaceMagics):
    """The prompt registry."""

    @no_var_expand
    @magic_arguments()
    @argument(
        "words", nargs="*", metavar="COMMAND", help="show NAME[@VERSION] or find TEXT; nothing lists all."
    )
    @line_magic
    def prompts(self, line: str) -> Any:
        """List the saved prompts, show one, or find those that hold a text.

        ::

            %prompts
            %prompts show summary@2
            %prompts find entropy
        """
        words = parse(self.prompts, line, self.shell).words
        if not words:
            return self.workspace.prompts()
        commands = {"show": self._show, "find": self._find}
        command, rest = choose("%prompts", words, commands, "%prompts show NAME")
        return command(rest)

    def _show(self, words: list[str]) -> Prompt:
        return self.workspace.saved_prompt(one_name(words, "%prompts show NAME"))

    def _find(self, words: list[str]) -> Listing[Prompt]:
        wanted = " ".join(words).casefold()
        found = [
            prompt
            for prompt in self.workspace.prompts()
            if any(wanted in text.casefold() for text in (prompt.name, prompt.template, prompt.description))
        ]
        return Listing("prompt", found, f"None holds {wanted!r}; %prompts lists all.")
