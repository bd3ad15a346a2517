"""``%models``: the registry of models."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from IPython.core.magic import line_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments

from jupyter_llmops.errors import UsageError
from jupyter_llmops.magics.arguments import choose, one_name, parse
from jupyter_llmops.magics.base import WorkspaceMagics
from jupyter_llmops.magics.live import LiveAnswer
from jupyter_llmops.records.listing import Listing

if TYPE_CHECKING:
    from jupyter_llmops.records.model import Model


@magics_class
class ModelsMagics(WorkspaceMagics):
    """The model registry."""

    @no_var_expand
    @magic_arguments()
    @argument("--quant", choices=("auto", "nf4", "bf16", "fp32"), default="", help="Precision for load.")
    @argument(
        "words",
        nargs="*",
        metavar="COMMAND",
        help="show NAME, find TEXT, add NAME SOURCE, load [NAME] or unload [NAME]; nothing lists all.",
    )
    @line_magic
    def models(self, line: str) -> Any:
        """List the models of the catalog, show or add one, load it into memory or drop it.

        ::

            %models
            %models show smollm2-135m-instruct
            %models add tiny /data/models/tiny      # a folder with config.json and safetensors
            %models load --quant fp32
            %models unload
        """
        arguments = parse(self.models, line, self.shell)
        if not arguments.words:
            return self.workspace.models()
        commands = {
            "show": self._show,
            "find": self._find,
            "add": self._add,
            "load": lambda words: self._load(words, arguments.quant),
            "unload": self._unload,
        }
        command, rest = choose("%models", arguments.words, commands, "%models show NAME")
        return command(rest)

    def _show(self, words: list[str]) -> Model:
        return self.workspace.model(one_name(words, "%models show NAME"))

    def _find(self, words: list[str]) -> Listing[Model]:
        wanted = " ".join(words).casefold()
        found = [
            model
            for model in self.workspace.models()
            if any(wanted in text.casefold() for text in (model.name, model.family, model.source, model.kind))
        ]
        return Listing("model", found, f"None holds {wanted!r}; %models lists all.")

    def _add(self, words: list[str]) -> Model:
        if len(words) != 2:
            raise UsageError(
                "A model is added with a name and where its files are.",
                "Type %models add NAME FOLDER, or %models add NAME OWNER/NAME for one of the Hugging Face hub.",
            )
        return self.workspace.add_model(words[0], words[1])

    def _load(self, words: list[str], quantization: str) -> str:
        name = one_name(words, "%models load NAME") if words else self.workspace.settings.model
        with LiveAnswer(self.shell) as live:
            return self.workspace.load_model(name, quantization, live.progress)

    def _unload(self, words: list[str]) -> str:
        names = self.workspace.unload_models(one_name(words, "%models unload NAME") if words else "")
        return f"Unloaded {', '.join(names)}." if names else "Nothing was loaded."
