"""``%%cache``: a cell whose assignments are kept."""

from __future__ import annotations

from typing import Any

from IPython.core.magic import cell_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments

from jupyter_llmops.magics.arguments import parse
from jupyter_llmops.magics.base import WorkspaceMagics


@magics_class
class CellMagics(WorkspaceMagics):
    """Cells that run once."""

    @no_var_expand
    @magic_arguments()
    @argument(
        "name", nargs="?", default="", metavar="NAME", help="What you call it; told apart from other names."
    )
    @cell_magic
    def cache(self, line: str, cell: str) -> Any:
        """Run the cell once and give what it assigned from then on, to everyone who has the team's key.

        It is given again for the same code (comments and layout don't count), the same values of the names that the
        cell reads, and the same versions of the packages behind these. What the cell does beside assigning, such as
        printing, plotting or writing files, is not done again. Kept are numbers, texts, bytes, NumPy arrays,
        pandas data frames and series, and lists, tuples and dicts of these, never as a pickle; a cell with other
        values runs as always and says why.

        ::

            %%cache features
            table = slow_features(frame)
        """
        arguments = parse(self.cache, line, self.shell)
        from jupyter_llmops.magics.cached_cell import CachedCell

        return CachedCell(self.shell, self.workspace.kept_values, arguments.name, cell).run()
