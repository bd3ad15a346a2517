"""``%%training``: a cell that trains, with what went in and what came out on record."""

from __future__ import annotations

import keyword
import re
from argparse import Namespace
from collections.abc import Coroutine, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import cell_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments

from jupyter_llmops.errors import UsageError, nearest
from jupyter_llmops.magics.arguments import pairs, parse, scalars
from jupyter_llmops.magics.awaiting_cell import Cell, let_await
from jupyter_llmops.magics.base import WorkspaceMagics

if TYPE_CHECKING:
    from jupyter_llmops.records.training import Training
    from jupyter_llmops.workspace import Workspace
    from jupyter_llmops.workspace.training import TrainingRun

# What assigns names that the source does not show: calls into Python's namespaces, and other magics.
_HIDES_NAMES = re.compile(r"get_ipython\(|\b(?:exec|globals|locals|vars)\b|\bimport\s*\*")
_NOT_FINITE = {"nan": float("nan"), "inf": float("inf"), "-inf": float("-inf")}


@magics_class
class TrainingMagics(WorkspaceMagics):
    """Cells that train."""

    def __init__(self, shell: InteractiveShell, workspace: Workspace) -> None:
        super().__init__(shell, workspace)
        let_await(shell, "training")

    @no_var_expand
    @magic_arguments("%training")  # one per cent sign is IPython's
    @argument("name", nargs="?", default="", metavar="NAME", help="What you call it.")
    @argument(
        "-d", "--data", action="append", metavar="DATA", help="A variable, file or folder it learns from; again for more."
    )  # fmt: skip
    @argument(
        "-w", "--weights", action="append", metavar="RESULT",
        help="A variable, file or folder that the cell makes: a model, a state dict …; again for more. "
        "A path has a slash: ./model.safetensors.",
    )  # fmt: skip
    @argument(
        "--seed", type=int, metavar="N",
        help="Seeds random, NumPy and torch before the cell; from 0 to 4294967295.",
    )  # fmt: skip
    @argument(
        "--loss", default="", metavar="VARIABLE",
        help="A list of numbers that the cell makes; 1,000 of them are kept at most.",
    )  # fmt: skip
    @argument(
        "-p", "--param", action="append", metavar="NAME=VALUE",
        help="A hyperparameter, again for more; the cell finds it as a variable of that name.",
    )  # fmt: skip
    @cell_magic
    def training(self, line: str, cell: str) -> Training | Coroutine[Any, Any, Training | None] | None:
        """Run a cell that trains, and record its data, seed, hyperparameters, losses and the weights that came out.

        Data are digested before the cell, weights after it, by their values; of a file by its bytes. What a cell
        that fails or is interrupted has made until then is on record, too. Under torch.distributed use
        `ws.training(…)` in each process: there is one leaf a rank, and all name their group.

        ::

            %%training news -d table -w model --seed 7 -p C=0.5
            model = LogisticRegression(C=C).fit(table.drop(columns="label"), table.label)

            %%training digits -d ./images -w ./digits.safetensors --loss losses
            losses = fit("images", save_as="digits.safetensors")
        """
        __tracebackhide__ = True  # of an error of the cell its user sees the cell
        arguments = parse(self.training, line, self.shell)
        settings = _hyperparameters(arguments.param)
        code = Cell(self.shell, cell)
        data = {name: self._data(name) for name in arguments.data or ()}
        self._refuse_what_the_cell_does_not_make(arguments, code, settings)
        run = self.workspace.training(
            arguments.name, data=data, seed=arguments.seed, hyperparameters=settings
        )
        if code.awaits:
            return self._train_awaiting(run, code, arguments, settings)
        with self._recorded(run, arguments, settings):
            code.run()
        return run.record

    async def _train_awaiting(
        self, run: TrainingRun, code: Cell, arguments: Namespace, settings: dict[str, Any]
    ) -> Training | None:
        __tracebackhide__ = True
        with self._recorded(run, arguments, settings):
            await code.run_awaiting()
        return run.record

    @contextmanager
    def _recorded(self, run: TrainingRun, arguments: Namespace, settings: dict[str, Any]) -> Iterator[None]:
        """Record what the cell makes, also one that fails: what it said until then is worth knowing."""
        with run:
            self.namespace.update(settings)
            finished = False
            try:
                yield
                finished = True
            finally:
                self._record_results(run, arguments, finished=finished)

    def _record_results(self, run: TrainingRun, arguments: Namespace, *, finished: bool) -> None:
        for name in arguments.weights or ():
            found = self._found(name)
            if found is not None:
                run.try_weights(found[0], name)
                if not finished:
                    run.note(f"{name} is recorded as the cell left it when it stopped")
            elif finished:
                run.lacks_weights(name, "not found: the cell made no variable, file or folder of that name")
        if not arguments.loss:
            return
        values = _listed(self.namespace.get(arguments.loss))
        try:
            for value in values or ():
                run.loss(value)
        except UsageError as error:
            run.note(f"the losses in {arguments.loss} end early: {error.message}")
        if values is None and finished:
            run.note(f"no losses were recorded: {arguments.loss!r} is no list of numbers")

    def _found(self, name: str) -> tuple[Any] | None:
        """Return a variable, else the path of what lies under that name, else None."""
        if name in self.namespace:
            return (self.namespace[name],)
        path = Path(name).expanduser()
        return (path,) if path.exists() else None

    def _data(self, name: str) -> Any:
        found = self._found(name)
        if found is None:
            raise UsageError(
                f"There is no variable, file or folder {name!r} to learn from.",
                _did_you_mean(name, self._variables()) or "Run the cell that makes it first.",
            )
        return found[0]

    def _variables(self) -> set[str]:
        hidden = self.shell.user_ns_hidden
        return {name for name in self.namespace if not name.startswith("_") and name not in hidden}

    def _refuse_what_the_cell_does_not_make(
        self, arguments: Namespace, code: Cell, settings: dict[str, Any]
    ) -> None:
        """Refuse a misspelt name before a long run, where the source shows that nothing will have it."""
        from jupyter_llmops.audit.names import names_of

        names = names_of(code.source)
        if names.unknown or names.left_out or _HIDES_NAMES.search(code.source):
            return
        known = {*names.written, *settings, *self._variables()}
        for option, word in (
            *(("-w", name) for name in arguments.weights or ()),
            *([("--loss", arguments.loss)] if arguments.loss else []),
        ):
            if word in known or word in self.namespace:
                continue
            if option == "-w" and (not word.isidentifier() or Path(word).exists()):
                continue
            hint = f"Name what it assigns: {option} NAME."
            if option == "-w":
                hint = f"A file or folder that it makes is named as a path: -w ./{word}"
            raise UsageError(
                f"The cell did not run, as it assigns no variable {word!r} and there is none.",
                f"{_did_you_mean(word, known)} {hint}".strip(),
            )


def _hyperparameters(words: list[str] | None) -> dict[str, Any]:
    """Return ``name=value`` words as variables of a cell."""
    given = pairs(words, "-p ", "lr=0.001")
    for name in given:
        if keyword.iskeyword(name):
            raise UsageError(
                f"{name!r} is a word of Python, so no cell can read a variable of that name.",
                f"Choose another: -p {name}_={given[name]}",
            )
    values: dict[str, Any] = dict(scalars(given))
    return {name: _NOT_FINITE.get(given[name].lower(), value) for name, value in values.items()}


def _did_you_mean(name: str, known: set[str]) -> str:
    near = nearest(name, sorted(known))
    return f"Did you mean {' or '.join(near)}?" if near else ""


def _listed(values: Any) -> list[Any] | None:
    """Return what a list, or an array or series of one dimension, holds; None of anything else."""
    if type(values) in (list, tuple):
        return list(values)
    if len(getattr(values, "shape", ())) == 1 and callable(getattr(values, "tolist", None)):
        return list(values.tolist())
    return None
