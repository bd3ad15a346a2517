"""``%gpus``: what can run a model."""

from __future__ import annotations

from typing import TYPE_CHECKING

from IPython.core.magic import line_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments

from jupyter_llmops.magics.arguments import parse
from jupyter_llmops.magics.base import WorkspaceMagics

if TYPE_CHECKING:
    from jupyter_llmops.records.gpu import DeviceInventory


@magics_class
class GpusMagics(WorkspaceMagics):
    """The GPU registry."""

    @no_var_expand
    @magic_arguments()
    @argument("--free", metavar="SIZE", default="", help="Only GPUs with at least this much free, e.g. 20GB.")
    @argument("--sort", choices=("index", "free", "price"), default="index", help="Order of the GPUs.")
    @line_magic
    def gpus(self, line: str) -> DeviceInventory:
        """Show every GPU of this machine: memory, use, processes, and the CPU with the RAM as the last row.

        ::

            %gpus
            %gpus --free 20GB --sort free
        """
        arguments = parse(self.gpus, line, self.shell)
        return self.workspace.gpus(free=arguments.free, sort=arguments.sort)
