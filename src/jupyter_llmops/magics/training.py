"""``%%training``: a cell that trains, with what went in and what came out on record."""

from __future__ import annotations

import ast
from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.magic import cell_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments

from jupyter_llmops.errors import UsageError
from jupyter_llmops.magics.arguments import pairs, parse, scalars
from jupyter_llmops.magics.base import WorkspaceMagics

if TYPE_CHECKING:
    from jupyter_llmops.records.training import Training


@magics_class
class TrainingMagics(WorkspaceMagics):
    """Cells that train."""

    @no_var_expand
    @magic_arguments()
    @argument("name", nargs="?", default="", metavar="NAME", help="What you call it.")
    @argument(
        "-d", "--data", action="append", metavar="DATA", help="A variable, file or folder it learns from; again for more."
    )  # fmt: skip
    @argument(
        "-w", "--weights", action="append", metavar="RESULT",
        help="A variable, file or folder that the cell makes: a model, a state dict …; again for more.",
    )  # fmt: skip
    @argument("--seed", type=int, metavar="N", help="Seeds random, NumPy and torch before the cell.")
    @argument("--loss", default="", metavar="VARIABLE", help="A list of losses that the cell makes.")
    @argument(
        "-p", "--param", action="append", metavar="NAME=VALUE",
        help="A hyperparameter; the cell finds it as a variable of that name.",
    )  # fmt: skip
    @cell_magic
    def training(self, line: str, cell: str) -> Training | None:
        """Run a cell that trains, and record its data, seed, settings, losses and the weights that came out.

        Data are digested before the cell, weights after it, by their values; of a file by its bytes. Under
        torch.distributed use `ws.training(…)` in each process: there is one leaf a rank, and all name their group.

        ::

            %%training news -d table -w model --seed 7 -p C=0.5
            model = LogisticRegression(C=C).fit(table.drop(columns="label"), table.label)
        """
        arguments = parse(self.training, line, self.shell)
        code = _Cell(self.shell, cell)
        settings = scalars(pairs(arguments.param, "-p "))
        data = {
            name: self._value(
                name,
                f"There is no variable, file or folder {name!r} to learn from.",
                "Run the cell that makes it first.",
            )
            for name in arguments.data or ()
        }
        run = self.workspace.training(
            arguments.name, data=data, seed=arguments.seed, hyperparameters=settings
        )
        with run:
            self.namespace.update(settings)
            code.run()
            for name in arguments.weights or ():
                made = self._value(
                    name,
                    f"The cell made no variable, file or folder {name!r}.",
                    "Name what it assigns or saves: -w NAME.",
                )
                run.weights(made, name)
            for value in self._losses(arguments.loss):
                run.loss(value)
        return run.record

    def _value(self, name: str, missing: str, hint: str) -> Any:
        """Return a variable, else the path of what lies under that name."""
        if name in self.namespace:
            return self.namespace[name]
        path = Path(name).expanduser()
        if path.exists():
            return path
        raise UsageError(missing, hint)

    def _losses(self, name: str) -> list[Any]:
        if not name:
            return []
        values = self.namespace.get(name)
        if type(values) is not list:
            raise UsageError(
                f"The cell made no list {name!r} of losses.", "Append each loss to a list: --loss NAME."
            )
        return values


class _Cell:
    """A cell's source, compiled before anything is recorded."""

    def __init__(self, shell: Any, cell: str) -> None:
        source = shell.transform_cell(cell)
        # As for any cell, so that a traceback shows its lines.
        file = shell.compile.cache(source, shell.execution_count, raw_code=cell)
        try:
            module = ast.parse(source, file)
            self._code = compile(module, file, "exec")
        except SyntaxError:
            shell.showsyntaxerror()
            raise UsageError("The cell has a syntax error.", "It is shown above.") from None
        self._space = shell.user_ns

    def run(self) -> None:
        """Run it in the notebook's namespace."""
        exec(self._code, self._space)  # noqa: S102 - the user's own cell
