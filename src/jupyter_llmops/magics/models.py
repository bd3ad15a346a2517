"""``%models``: the registry of models."""

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
    from jupyter_llmops.records.change import Change
    from jupyter_llmops.records.determinism import Determinism
    from jupyter_llmops.records.model import Model
    from jupyter_llmops.records.scan import ModelScan

Command = Callable[[list[str], Namespace], Any]


@magics_class
class ModelsMagics(WorkspaceMagics):
    """The model registry."""

    @no_var_expand
    @magic_arguments()
    @argument("--all", action="store_true", help="List retired models too.")
    @argument(
        "--quant",
        choices=("auto", "nf4", "int8", "bf16", "fp32", "gguf"),
        default="",
        help="load, grade: the precision.",
    )
    @argument("--exact", action="store_true", help="grade: the exact mode.")
    @argument("--private", action="store_true", help="add, scan: into your own catalog, not the team's.")
    @argument("--dry-run", action="store_true", help="scan: show what is found, register nothing.")
    @argument("--check", action="store_true", help="push: read what is there, replace what is damaged.")
    @argument("--remove", action="store_true", help="alias: take it away.")
    @argument("--was", metavar="NAME", help="alias: move it only if it points to this model now.")
    @argument("--why", metavar="TEXT", default="", help="alias, retire: the reason, kept in the history.")
    @argument("--base", metavar="NAME", default="", help="add: the model that it was made from.")
    @argument("--description", metavar="TEXT", default="", help="add: what it is, for people.")
    @argument(
        "--tag", metavar="WORD", action="append", default=[], help="add, describe: a tag; repeat it for more."
    )
    @argument("--license", "--licence", metavar="SPDX", default="", help="add: its licence, e.g. Apache-2.0.")
    @argument(
        "--data-digest", metavar="DIGEST", default="", help="add: digest of the data it was trained on."
    )
    @argument(
        "--credential",
        metavar="WHERE",
        default="",
        help="add, scan: where an endpoint's key is, env:NAME or keyring:SERVICE/USER; never the key.",
    )
    @argument("--site", metavar="S", default="", help="add: where an endpoint computes; its host by default.")
    @argument(
        "words",
        nargs="*",
        metavar="COMMAND",
        help="find TEXT, scan [PLACE …], add NAME SOURCE, show NAME, alias ALIAS NAME, aliases, history NAME, "
        "describe NAME TEXT, push NAME, pull NAME, retire NAME, restore NAME, publish NAME, load [NAME], "
        "unload [NAME], grade [NAME]; nothing lists all.",
    )
    @line_magic
    def models(self, line: str) -> Any:
        """List, find, scan, add, share and load models; let aliases point to them.

        ::

            %models
            %models find small model for sentiment
            %models scan                               # installed packages and the Hugging Face cache
            %models scan /data/models --dry-run        # or a folder, https://host/v1, mlflow:URI
            %models add tiny /data/models/tiny --description "For tests"
            %models add gpt https://host/v1#gpt-oss --credential env:TEAM_KEY
            %models show tiny
            %models alias prod tiny                    # the next prompt of -m prod uses tiny, everywhere
            %models alias prod --remove
            %models history prod
            %models push tiny                          # files to the team's storage
            %models pull tiny                          # and from there to this machine
            %models load --quant fp32
            %models grade --quant nf4                  # how repeatable are its answers on this machine?
        """
        arguments = parse(self.models, line, self.shell)
        if not arguments.words:
            return self.workspace.models(retired=arguments.all)
        command, rest = choose("%models", arguments.words, self._commands(), "%models show NAME")
        return command(rest, arguments)

    def _commands(self) -> dict[str, Command]:
        return {
            "find": self._find,
            "scan": self._scan,
            "add": self._add,
            "show": lambda words, _: self.workspace.show_model(one_name(words, "%models show NAME")),
            "alias": self._alias,
            "aliases": lambda words, _: self._aliases(words),
            "history": lambda words, _: self.workspace.model_history(one_name(words, "%models history NAME")),
            "describe": self._describe,
            "push": self._push,
            "pull": self._pull,
            "retire": self._retire,
            "restore": lambda words, _: self.workspace.restore_model(one_name(words, "%models restore NAME")),
            "publish": self._publish,
            "load": self._load,
            "unload": lambda words, _: self._unload(words),
            "grade": self._grade,
        }

    def _find(self, words: list[str], _: Namespace) -> Listing[Model]:
        if not words:
            raise UsageError("There is nothing to look for.", "Type %models find WORDS.")
        with LiveAnswer(self.shell) as live:
            return self.workspace.find_models(" ".join(words), live.progress)

    def _scan(self, words: list[str], arguments: Namespace) -> ModelScan:
        with LiveAnswer(self.shell) as live:
            return self.workspace.scan_models(
                words,
                private=arguments.private,
                dry_run=arguments.dry_run,
                credential=arguments.credential,
                progress=live.progress,
            )

    def _add(self, words: list[str], arguments: Namespace) -> Model:
        if len(words) != 2:
            raise UsageError(
                "A model is added with a name and where its files are.",
                "Type %models add NAME FOLDER, OWNER/NAME for one of the Hugging Face hub, or https://host/v1#MODEL.",
            )
        with LiveAnswer(self.shell) as live:
            return self.workspace.add_model(
                words[0],
                words[1],
                private=arguments.private,
                base=arguments.base,
                description=arguments.description,
                tags=arguments.tag,
                credential=arguments.credential,
                data_digest=arguments.data_digest,
                license=arguments.license,
                site=arguments.site,
                progress=live.progress,
            )

    def _alias(self, words: list[str], arguments: Namespace) -> str | Listing[Change]:
        if not words:
            return self.workspace.model_aliases()
        if arguments.remove:
            alias = one_name(words, "%models alias ALIAS --remove")
            gone = self.workspace.remove_alias(alias, reason=arguments.why)
            whose = f"Your own alias {alias}" if gone.private else f"The alias {alias}"
            return f"{whose} is gone; %models history {alias} keeps where it pointed."
        if len(words) != 2:
            raise UsageError(
                "An alias is moved with the name of a model.",
                f"Type %models alias {words[0]} NAME, or %models alias {words[0]} --remove.",
            )
        alias, name = words
        moved = self.workspace.point_alias(alias, name, was=arguments.was, reason=arguments.why)
        if moved.private:
            return f"{alias} → {moved.value}, both yours alone: your next prompt with -m {alias} uses it."
        said = f"{alias} → {moved.value}: the next prompt with -m {alias} uses it, in every notebook"
        now = next(
            (one for one in self.workspace.model_aliases() if one.private and one.field == moved.field), None
        )
        if now is None:
            return f"{said}."
        return f"{said} but yours: your own alias {alias} → {now.value} comes first. %models alias {alias} --remove takes it away."

    def _aliases(self, words: list[str]) -> Listing[Change]:
        if words:
            raise UsageError(
                "%models aliases lists all of them.", f"Type %models history {words[0]} for one."
            )
        return self.workspace.model_aliases()

    def _describe(self, words: list[str], arguments: Namespace) -> Model:
        if not words or (len(words) == 1 and not arguments.tag):
            raise UsageError("A description is missing.", "Type %models describe NAME what it is good for.")
        described = None
        if len(words) > 1:
            described = self.workspace.describe_model(words[0], " ".join(words[1:]))
        if arguments.tag:
            described = self.workspace.tag_model(words[0], arguments.tag)
        assert described is not None
        return described

    def _push(self, words: list[str], arguments: Namespace) -> Model:
        name = one_name(words, "%models push NAME")
        with LiveAnswer(self.shell) as live:
            return self.workspace.push_model(name, check=arguments.check, progress=live.progress)

    def _pull(self, words: list[str], _: Namespace) -> Model:
        name = one_name(words, "%models pull NAME")
        with LiveAnswer(self.shell) as live:
            return self.workspace.pull_model(name, progress=live.progress)

    def _publish(self, words: list[str], _: Namespace) -> Model:
        published = self.workspace.publish_model(one_name(words, "%models publish NAME"))
        print(f"Published as {published.name} in the team's catalog.")
        return published

    def _retire(self, words: list[str], arguments: Namespace) -> str:
        model = self.workspace.retire_model(one_name(words, "%models retire NAME"), arguments.why)
        pointing = f" Its aliases still point to it: {', '.join(model.aliases)}." if model.aliases else ""
        name = f"{model.name} (yours)" if model.private else model.name
        return f"{name} is retired: hidden from lists, usable by name; %models restore {model.name} undoes it.{pointing}"

    def _load(self, words: list[str], arguments: Namespace) -> str:
        name = one_name(words, "%models load NAME") if words else self.workspace.settings.model
        with LiveAnswer(self.shell) as live:
            return self.workspace.load_model(name, arguments.quant, live.progress)

    def _grade(self, words: list[str], arguments: Namespace) -> Determinism:
        name = one_name(words, "%models grade NAME") if words else self.workspace.settings.model
        with LiveAnswer(self.shell) as live:
            return self.workspace.grade_model(
                name, quantization=arguments.quant, exact=arguments.exact, progress=live.progress
            )

    def _unload(self, words: list[str]) -> str:
        names = self.workspace.unload_models(one_name(words, "%models unload NAME") if words else "")
        return f"Unloaded {', '.join(names)}." if names else "Nothing was loaded."
