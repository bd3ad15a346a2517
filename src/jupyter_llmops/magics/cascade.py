"""``%cascade``: small models first."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from IPython.core.magic import line_cell_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments

from jupyter_llmops.errors import UsageError
from jupyter_llmops.magics.arguments import parse, usage
from jupyter_llmops.magics.base import WorkspaceMagics
from jupyter_llmops.magics.live import LiveAnswer
from jupyter_llmops.records.listing import Listing

if TYPE_CHECKING:
    from jupyter_llmops.records.cascade import Cascade

NEW = "%cascade new NAME --labels yes,no --stage CLASSIFIER:0.8 --stage smollm2-135m-instruct"
RUN = '%cascade run NAME "a text"'


@magics_class
class CascadeMagics(WorkspaceMagics):
    """The cascade magic."""

    @no_var_expand
    @magic_arguments()
    @argument(
        "--labels",
        metavar="A,B",
        default="",
        help="new: the possible answers, or a variable that holds them.",
    )
    @argument(
        "--stage",
        action="append",
        metavar="NAME:THRESHOLD",
        help="new: a variable with a fitted classifier, or a model; it answers when its confidence is at "
        "least THRESHOLD. Repeat it, cheapest first; the last needs no threshold.",
    )
    @argument(
        "--instruction", metavar="VAR", default="", help="new: variable with the template for the model."
    )
    @argument(
        "--answer", metavar="VAR", default="", help="new: variable with the sentence that the answer is."
    )
    @argument(
        "--examples", metavar="VAR", default="", help="new: variable with answered texts, (text, label) each."
    )
    @argument(
        "--unlabelled",
        metavar="VAR",
        default="",
        help="new: variable with texts (no labels needed) on which the model's own leaning to a label is "
        "measured, to be taken off its answers.",
    )
    @argument(
        "--truth", metavar="VAR", default="", help="run: right labels of many texts; shows the accuracy."
    )
    @argument(
        "words",
        nargs="*",
        metavar="COMMAND",
        help="new NAME, run NAME TEXT, or NAME TEXT; nothing lists them.",
    )
    @line_cell_magic
    def cascade(self, line: str, cell: str | None = None) -> Any:
        """Ask a small classifier first, and a language model only where it is not sure.

        ::

            %cascade new mood --labels positive,negative --stage classifier:0.8 --stage smollm2-135m-instruct
            %cascade run mood "I love it"
            %cascade run mood texts --truth labels

        ``%%cascade NAME`` takes one text a line.
        """
        arguments = parse(self.cascade, line, self.shell)
        words = arguments.words
        if not words:
            return Listing("cascade", self.workspace.cascades, f"Make one with {NEW}.")
        if words[0] == "new":
            return self._new(words[1:], arguments)
        if words[0] == "run":
            words = words[1:]
        if not words:
            raise UsageError("Which cascade is missing.", f"Type {RUN}.")
        return self._run(words[0], words[1:], cell, arguments)

    def _new(self, words: Sequence[str], arguments: Namespace) -> Cascade:
        from jupyter_llmops.cascade.specification import build_cascade, parse_stages

        if len(words) != 1:
            raise UsageError("A cascade is made with one name.", f"Type {NEW}.")
        labels = self._labels(arguments.labels)
        stages = parse_stages(arguments.stage or [], lambda name: name in self.namespace)
        for stage in stages:
            if stage.kind == "llm":
                self.workspace.model(stage.name)  # an unknown name is an error here, not at the first text
        instruction = self._text(arguments.instruction, "--instruction") if arguments.instruction else ""
        examples = self._answered(arguments.examples) if arguments.examples else ()
        answer = self._text(arguments.answer, "--answer") if arguments.answer else ""
        cascade = build_cascade(words[0], labels, stages, instruction, examples, answer)
        classifiers = {stage.name: self.namespace[stage.name] for stage in stages if stage.kind == "classic"}
        unlabelled = self._many(arguments.unlabelled, "texts") if arguments.unlabelled else None
        self.workspace.define_cascade(cascade, classifiers)
        if unlabelled is None:
            return cascade
        with LiveAnswer(self.shell) as live:
            calibrated = self.workspace.cascade(cascade.name, live.progress).calibrate(list(unlabelled))
        return self.workspace.define_cascade(calibrated, classifiers)

    def _labels(self, text: str) -> tuple[str, ...]:
        if not text:
            raise UsageError("A cascade needs the possible answers.", f"Type {NEW}.")
        value = self.namespace.get(text)
        if value is not None and not isinstance(value, str):
            return tuple(str(label) for label in self._many(text, "labels"))
        return tuple(label.strip() for label in text.split(",") if label.strip())

    def _run(self, name: str, words: Sequence[str], cell: str | None, arguments: Namespace) -> Any:
        texts = self._texts(words, cell)
        with LiveAnswer(self.shell) as live:
            runner = self.workspace.cascade(name, live.progress)
            if arguments.truth:
                if isinstance(texts, str):
                    raise UsageError(
                        "--truth goes with many texts.", f"Type %cascade run {name} texts --truth labels."
                    )
                truth = self._many(arguments.truth, "labels")
                return runner.evaluate(texts, [str(label) for label in truth])
            if isinstance(texts, str):
                return runner.run(texts)
            return Listing("cascade answer", runner.run_many(texts))

    def _texts(self, words: Sequence[str], cell: str | None) -> str | list[str]:
        """Return one text, or many from a variable or the cell's lines."""
        if cell is not None:
            lines = [line for line in cell.splitlines() if line.strip()]
            if not lines:
                raise UsageError("The cell holds no text.", "Write one text a line below the %%cascade line.")
            return lines[0] if len(lines) == 1 else lines
        if not words:
            raise UsageError("The text is missing.", f"Type {RUN}, or a variable that holds texts.")
        if len(words) == 1 and words[0].isidentifier() and words[0] in self.namespace:
            value = self.namespace[words[0]]
            return value if isinstance(value, str) else self._many(words[0], "texts")
        return " ".join(words)

    def _many(self, name: str, wanted: str) -> list[Any]:
        """Return what a variable with a list, a tuple, an array or a data frame's column holds."""
        value: Any = self.namespace.get(name)
        to_list = getattr(value, "tolist", None)
        listed = to_list() if callable(to_list) else value
        if not isinstance(listed, list | tuple) or not listed:
            raise UsageError(
                f"{name} is not a variable that holds {wanted}.",
                f"Give a list or a data frame's column, e.g. {wanted} = df['{wanted.rstrip('s')}'].",
            )
        return list(listed)

    def _text(self, name: str, option: str) -> str:
        value = self.namespace.get(name)
        if not isinstance(value, str):
            raise UsageError(f"{option} {name} is not a variable that holds a text.", usage(self.cascade))
        return value

    def _answered(self, name: str) -> list[tuple[Any, Any]]:
        pairs = self._many(name, "examples")
        if not all(isinstance(pair, list | tuple) and len(pair) == 2 for pair in pairs):
            raise UsageError(
                f"{name} does not hold answered texts.", f"Type e.g. {name} = [('I love it', 'positive')]."
            )
        return [(text, label) for text, label in pairs]
