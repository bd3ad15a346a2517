"""``%prompts``: the registry of saved prompts."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from IPython.core.magic import line_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments

from jupyter_llmops.errors import UsageError
from jupyter_llmops.magics.arguments import choose, one_name, parse
from jupyter_llmops.magics.base import WorkspaceMagics
from jupyter_llmops.magics.live import LiveAnswer
from jupyter_llmops.records.listing import Listing

if TYPE_CHECKING:
    from jupyter_llmops.records.prompt import Prompt, PromptDiff, PromptFiles, PromptHistory

_PROMOTE = "%prompts promote NAME[@VERSION] ALIAS"


@magics_class
class PromptsMagics(WorkspaceMagics):
    """The prompt registry."""

    @no_var_expand
    @magic_arguments()
    @argument("--all", action="store_true", help="List the retired ones too.")
    @argument("--remove", action="store_true", help="promote: take the alias away.")
    @argument("--description", metavar="TEXT", help="add, describe: what it is for, for people.")
    @argument(
        "--tag",
        action="append",
        metavar="WORD",
        help="add, describe: a tag; repeat it for more, they replace the others.",
    )
    @argument(
        "--why", "--reason", metavar="TEXT", default="", help="retire: the reason, kept in the history."
    )
    @argument("--private", action="store_true", help="add, import: into your own catalog, not the team's.")
    @argument(
        "words",
        nargs="*",
        metavar="COMMAND",
        help="find TEXT, add NAME TEMPLATE, show NAME[@2], diff NAME[@1] [NAME@2], history NAME, promote NAME[@2] "
        "ALIAS, describe NAME TEXT, retire NAME, restore NAME, publish NAME, export FOLDER [NAME …], import "
        "FOLDER; nothing lists all.",
    )
    @line_magic
    def prompts(self, line: str) -> Any:
        """List the saved prompts; find, compare, promote, describe, share them.

        ::

            %prompts
            %prompts find answers to angry customers
            %prompts add summary "Summarize: {{ text }}"    # long ones: %%prompt -s summary
            %prompts show summary@2
            %prompts diff summary@1 summary@2       # or: %prompts diff summary, its last two versions
            %prompts history summary
            %prompts promote summary@2 prod         # the next %prompt summary@prod of everybody uses it
            %prompts promote summary prod --remove
            %prompts describe summary "One sentence for the board." --tag board
            %prompts retire summary --why "see digest"
            %prompts restore summary
            %prompts publish summary                # from your own catalog to the team's
            %prompts export prompts/                # Markdown files, one a prompt, for git
            %prompts import prompts/
            %prompts import mlflow:sqlite:///mlflow.db
        """
        arguments = parse(self.prompts, line, self.shell)
        if not arguments.words:
            return self.workspace.prompts(retired=arguments.all)
        commands: dict[str, Callable[[list[str], Namespace], Any]] = {
            "find": self._find,
            "add": self._add,
            "show": self._show,
            "diff": self._diff,
            "history": self._history,
            "promote": self._promote,
            "describe": self._describe,
            "retire": self._retire,
            "restore": self._restore,
            "publish": self._publish,
            "export": self._export,
            "import": self._import,
        }
        command, rest = choose("%prompts", arguments.words, commands, "%prompts show NAME")
        return command(rest, arguments)

    def _find(self, words: list[str], _: Namespace) -> Listing[Prompt]:
        if not words:
            raise UsageError("There is nothing to look for.", "Type %prompts find WORDS.")
        with LiveAnswer(self.shell) as live:
            return self.workspace.find_prompts(" ".join(words), live.progress)

    def _add(self, words: list[str], arguments: Namespace) -> Prompt:
        if len(words) < 2:
            raise UsageError(
                "A prompt is added with a name and its text.",
                'Type %prompts add NAME "Explain {{ topic }}.", or %%prompt -s NAME with the text below.',
            )
        return self.workspace.save_prompt(
            words[0],
            " ".join(words[1:]),
            description=arguments.description or "",
            tags=arguments.tag or (),
            private=arguments.private,
        )

    def _show(self, words: list[str], _: Namespace) -> Prompt:
        return self.workspace.saved_prompt(one_name(words, "%prompts show NAME, NAME@2 or NAME@prod"))

    def _diff(self, words: list[str], _: Namespace) -> PromptDiff:
        if len(words) not in (1, 2):
            raise UsageError(
                "Two versions are compared.", "Type %prompts diff NAME@1 NAME@2, or %prompts diff NAME."
            )
        return self.workspace.diff_prompts(*words)

    def _history(self, words: list[str], _: Namespace) -> PromptHistory:
        return self.workspace.prompt_history(one_name(words, "%prompts history NAME"))

    def _promote(self, words: list[str], arguments: Namespace) -> Prompt:
        if len(words) != 2:
            raise UsageError(
                "A prompt is promoted to an alias.", f"Type {_PROMOTE}, e.g. %prompts promote summary prod."
            )
        if arguments.remove:
            return self.workspace.demote_prompt(*words)
        return self.workspace.promote_prompt(*words)

    def _describe(self, words: list[str], arguments: Namespace) -> Prompt:
        example = 'Type %prompts describe NAME "What it is for." --tag support.'
        if not words:
            raise UsageError("A name is missing.", example)
        said = " ".join(words[1:]) or arguments.description
        if said is None and arguments.tag is None:
            raise UsageError("There is nothing to say of it.", example)
        tags = None if arguments.tag is None else [tag for tag in arguments.tag if tag]
        return self.workspace.describe_prompt(words[0], said, tags=tags)

    def _retire(self, words: list[str], arguments: Namespace) -> Prompt:
        return self.workspace.retire_prompt(one_name(words, "%prompts retire NAME"), arguments.why)

    def _restore(self, words: list[str], _: Namespace) -> Prompt:
        return self.workspace.restore_prompt(one_name(words, "%prompts restore NAME"))

    def _publish(self, words: list[str], _: Namespace) -> Prompt:
        return self.workspace.publish_prompt(
            one_name(words, "%prompts publish NAME"), on_published=_say_what_was_published
        )

    def _export(self, words: list[str], _: Namespace) -> PromptFiles:
        if not words:
            raise UsageError(
                "A folder is missing.", "Type %prompts export FOLDER, or %prompts export FOLDER NAME."
            )
        return self.workspace.export_prompts(words[0], words[1:])

    def _import(self, words: list[str], arguments: Namespace) -> PromptFiles:
        if len(words) != 1:
            raise UsageError(
                "One folder or registry is imported.",
                "Type %prompts import FOLDER, or %prompts import mlflow:sqlite:///mlflow.db.",
            )
        (source,) = words
        with LiveAnswer(self.shell) as live:
            return self.workspace.import_prompts(source, private=arguments.private, progress=live.progress)


def _say_what_was_published(prompt: Prompt) -> None:
    print(f"Published as {prompt.name}@{prompt.version} in the team's catalog.")
