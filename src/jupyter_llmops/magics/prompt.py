"""``%%prompt``: ask a model. ``%prompt NAME``: run a saved prompt."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Mapping
from keyword import iskeyword
from typing import TYPE_CHECKING, Any, cast

from IPython.core.magic import line_cell_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments

from jupyter_llmops.errors import UsageError, nearest
from jupyter_llmops.magics.arguments import pairs, parse, scalars, secret_values, usage
from jupyter_llmops.magics.base import WorkspaceMagics
from jupyter_llmops.magics.live import LiveAnswer
from jupyter_llmops.magics.mapping import check_map_options, map_rows, refuse_unquoted

if TYPE_CHECKING:
    from jupyter_llmops.records.completion import Completion
    from jupyter_llmops.records.map import MapResult
    from jupyter_llmops.records.prompt import Prompt
    from jupyter_llmops.records.prompting import DryRun
    from jupyter_llmops.workspace import PromptOptions


@magics_class
class PromptMagics(WorkspaceMagics):
    """The prompt magic."""

    @no_var_expand
    @magic_arguments()
    @argument("-m", "--model", default="", help="Model; %%models lists them.")
    @argument("-s", "--save", metavar="NAME", default="", help="Save the template in the catalog as NAME.")
    @argument("--description", default="", metavar="TEXT", help="With -s: what it is for.")
    @argument("--tag", action="append", metavar="TAG", help="With -s: a tag; repeatable.")
    @argument("--private", action="store_true", help="With -s: save it in your own catalog, not the team's.")
    @argument(
        "--declare",
        action="append",
        metavar="'k: type = default'",
        help="Type and default of a variable (any, str, int, float, bool, list, dict); repeatable.",
    )
    @argument("-n", "--max-new-tokens", type=int, metavar="N", help="Most tokens of the answer.")
    @argument(
        "-t", "--temperature", type=float, metavar="T", help="0 (default) is greedy; above it, sampling."
    )
    @argument("--seed", type=int, metavar="N", help="Makes a sampled answer repeatable.")
    @argument("--system", default="", metavar="TEXT", help="System message, a template too.")
    @argument("--var", action="append", metavar="k=v", help="A variable of the template; repeatable.")
    @argument(
        "--param", action="append", metavar="k=v", help="A further generation parameter, e.g. top_p=0.9."
    )
    @argument(
        "--quant",
        choices=("auto", "nf4", "int8", "bf16", "fp32", "gguf"),
        default="",
        help="Precision of the weights; auto takes what fits the free memory.",
    )
    @argument(
        "--format", choices=("text", "json"), default="", help="json: the answer is JSON by construction."
    )
    @argument(
        "--schema",
        metavar="NAME",
        default="",
        help="A pydantic model or JSON Schema of the notebook that the answer follows; implies --format json.",
    )
    @argument("--exact", action="store_true", help="Batches, padding and threads change no token; slower.")
    @argument(
        "--reuse", action="store_true", help="Reuse a stored answer although it was sampled without a seed."
    )
    @argument("--truncate", action="store_true", help="Cut a prompt that is longer than the model's context.")
    @argument("--site", default="", metavar="S", help="Only engines of this site may answer.")
    @argument(
        "--backend",
        default="",
        metavar="B",
        help="Where it runs: kernel (default), loky, dask, ray, or endpoints: 'team-llama=3,spare'.",
    )
    @argument(
        "--map",
        metavar="ROWS",
        default="",
        help="Ask for each row of a data frame, or of a list of dicts or texts.",
    )
    @argument("--column", metavar="NEW", default="", help="With --map: add the answers to the data frame.")
    @argument("--replace", action="store_true", help="With --column: the column may exist already.")
    @argument("--retry", type=int, metavar="N", help="With --map: try rows that failed again, N times.")
    @argument("--into", metavar="VAR", default="", help="Also keep the result in this variable.")
    @argument(
        "--dry-run", action="store_true", help="Show what would be sent, its tokens and whether it would hit."
    )
    @argument("--no-cache", action="store_true", help="Neither read nor write the cache.")
    @argument(
        "--context",
        action="append",
        metavar="COLLECTION",
        help="Show the model passages of a collection, before the text or at {{ context }}; repeatable.",
    )
    @argument("-k", "--k", type=int, metavar="K", help="How many passages, 5 by default.")
    @argument(
        "--context-query",
        default="",
        metavar="TEXT",
        help="What to search for, a template too; the prompt's text by default.",
    )
    @argument("saved", nargs="*", metavar="NAME", help="%%prompt only: a saved prompt and its variables.")
    @line_cell_magic
    def prompt(self, line: str, cell: str | None = None) -> Completion | MapResult | DryRun | None:
        """Ask a model: the cell's body is a Jinja2 template over the notebook's variables.

        ::

            %%prompt -n 60
            Say in one sentence what {{ topic }} is.

        ``%prompt NAME topic=entropy`` runs a prompt that was saved with ``-s NAME``; ``NAME@3`` is a
        version and ``NAME@prod`` an alias. Variables have types and defaults where they are declared::

            %%prompt -s explain --declare "topic: str" --declare "words: int = 30"
            Explain {{ topic }} in {{ words }} words.

        A text whose first line is ``system:``, ``user:`` or ``assistant:`` alone is a chat; each such
        line begins a message, and the last is the user's. Messages are told apart before variables
        are filled in, so that no value can begin one::

            %%prompt
            system:
            You answer in one word.
            user:
            Is {{ city }} a capital?

        A saved prompt is included by name and version: ``{% include "house-style@2" %}``.

        ``--map`` asks once for each row, whose columns are the variables; equal rows are computed
        once, what fails is a value of its row, and after Ctrl-C the same cell goes on::

            %%prompt --map df --column summary -n 40
            Summarize in one sentence: {{ review }}
        """
        # Before anything can fail: the cell is stamped whatever comes, and its source holds this line.
        for name, value in secret_values(line).items():
            self.workspace.redactor.learn(name, value)
        arguments = parse(self.prompt, line, self.shell)
        if arguments.into and (not arguments.into.isidentifier() or iskeyword(arguments.into)):
            raise UsageError(
                f"--into {arguments.into!r} is not the name of a variable.", "Type --into answer."
            )
        _check_saving(arguments)
        check_map_options(arguments)
        template, options = self._what_to_run(arguments, cell)
        if arguments.map:
            return map_rows(
                self.workspace,
                self.shell,
                arguments,
                template,
                options,
                typed=self._typed(arguments),
                on_saved=_say_what_was_saved,
                names=self.namespace,
            )
        if arguments.dry_run:
            if arguments.save:
                print(f"Nothing was saved as {arguments.save}: this is a dry run.")
            return self.workspace.dry_run(template, use_cache=not arguments.no_cache, **options)
        with LiveAnswer(self.shell) as live:
            completion = self.workspace.prompt(
                template,
                save_as=arguments.save,
                description=arguments.description,
                tags=arguments.tag or (),
                private=arguments.private,
                on_saved=_say_what_was_saved,
                use_cache=not arguments.no_cache,
                on_text=live.write,
                progress=live.progress,
                **options,
            )
        if live.written_out and completion.run_id:  # unstamped answers can't be told apart
            from jupyter_llmops.display.completion import was_written_out

            was_written_out(completion.run_id)
        if arguments.into:
            self.namespace[arguments.into] = completion
        return completion

    def _typed(self, arguments: Namespace) -> dict[str, str]:
        return pairs(arguments.saved[1:], "") | pairs(arguments.var, "--var ")

    def _what_to_run(self, arguments: Namespace, cell: str | None) -> tuple[str, PromptOptions]:
        if cell is not None:
            if arguments.saved:
                if arguments.map:
                    refuse_unquoted(arguments)
                raise UsageError(
                    f"{arguments.saved[0]!r} is not an option; the prompt's text goes below the %%prompt line.",
                    usage(self.prompt),
                )
            declarations = arguments.declare or []
            template, options = cell.strip("\n"), cast("PromptOptions", {"declarations": declarations})
            typed = self.workspace.read_variables(pairs(arguments.var, "--var "), declarations=declarations)
        else:
            if not arguments.saved:
                raise UsageError(
                    "There is no prompt to run.",
                    "Type %prompt NAME for a saved one (%prompts lists them), or %%prompt with a text below.",
                )
            if arguments.declare:
                raise UsageError(
                    "--declare belongs to a text of its own, and this prompt is saved already.",
                    "Type %%prompt -s NAME --declare … with the text below.",
                )
            reference = arguments.saved[0]
            prompt = self.workspace.saved_prompt(reference)
            template, options = prompt.template, self.workspace.saved_options(prompt, reference)
            typed = self.workspace.read_variables(self._typed(arguments), prompt)
        needed = self.workspace.variables_needed(template, arguments.system or options.get("system", ""))
        options["variables"] = self.namespace.told_of(set(needed) - typed.keys()) | typed
        if arguments.schema:
            options["schema"] = self._schema(arguments.schema)
        return template, _with_arguments(options, arguments)

    def _schema(self, name: str) -> Any:
        """Return the notebook's variable of that name, or the JSON that was typed in its stead."""
        if name in self.namespace:
            return self.namespace[name]
        if name.lstrip().startswith("{"):
            return name
        near = nearest(name, [key for key in self.namespace if not key.startswith("_")])
        raise UsageError(
            f"--schema {name}: there is no variable of that name.",
            f"Did you mean {near[0]}?" if near else "Name a pydantic model or a dict with a JSON Schema.",
        )


def _check_saving(arguments: Namespace) -> None:
    for option in ("description", "tag", "private"):
        if getattr(arguments, option) and not arguments.save:
            raise UsageError(
                f"--{option} belongs to a prompt that is saved, and there is no -s NAME.",
                f"Type %%prompt -s NAME --{option} …, or leave it out.",
            )


def _say_what_was_saved(prompt: Prompt, is_new: bool) -> None:
    from jupyter_llmops.display.prompt import saved_line

    print(saved_line(prompt, is_new=is_new))


def _with_arguments(options: PromptOptions, arguments: Namespace) -> PromptOptions:
    """Let what was typed win over what was saved."""
    typed: dict[str, Any] = {
        "system": arguments.system,
        "model": arguments.model,
        "quantization": arguments.quant,
        "max_new_tokens": arguments.max_new_tokens,
        "temperature": arguments.temperature,
        "seed": arguments.seed,
        "context": arguments.context,
        "k": arguments.k,
        "context_query": arguments.context_query,
        "format": arguments.format,
        "site": arguments.site,
        "backend": arguments.backend,
        # Only what was switched on: what was saved with a prompt stays.
        **{flag: True for flag in ("exact", "reuse", "truncate") if getattr(arguments, flag)},
    }
    if arguments.context and any(
        word.startswith("context=") for word in (*(arguments.var or ()), *arguments.saved[1:])
    ):
        raise UsageError(
            "The variable context can't be given beside --context, which fills it with passages.",
            "Give the variable another name.",
        )
    merged: dict[str, Any] = {**options, **{k: v for k, v in typed.items() if v not in ("", None)}}
    if arguments.param:
        merged["parameters"] = {**merged.get("parameters", {}), **scalars(pairs(arguments.param, "--param "))}
    _check_numbers(merged)
    return cast("PromptOptions", merged)


def _check_numbers(options: Mapping[str, Any]) -> None:
    tokens, temperature = options.get("max_new_tokens"), options.get("temperature")
    if tokens is not None and tokens < 1:
        raise UsageError(f"-n {tokens} asks for no answer.", "Type -n with 1 or more, e.g. -n 60.")
    if temperature is not None and not 0 <= temperature <= 10:
        raise UsageError(
            f"-t {temperature:g} is not a temperature.", "Type a number from 0 (greedy) to 10, e.g. -t 0.7."
        )
