"""Loading into a shell: magics, formatters, completion, the stamper; and out again."""

from __future__ import annotations

from typing import Any

from IPython.core.interactiveshell import InteractiveShell

from jupyter_llmops.display.formatters import register_formatters
from jupyter_llmops.display.status import workspace_line
from jupyter_llmops.magics.audit import AuditMagics
from jupyter_llmops.magics.base import WorkspaceMagics
from jupyter_llmops.magics.budget import BudgetMagics
from jupyter_llmops.magics.cache import CacheMagics
from jupyter_llmops.magics.cascade import CascadeMagics
from jupyter_llmops.magics.cell import CellMagics
from jupyter_llmops.magics.collections import CollectionsMagics
from jupyter_llmops.magics.completer import register_completers
from jupyter_llmops.magics.gpus import GpusMagics
from jupyter_llmops.magics.llmops import LLMOpsMagics
from jupyter_llmops.magics.models import ModelsMagics
from jupyter_llmops.magics.prompt import PromptMagics
from jupyter_llmops.magics.prompts import PromptsMagics
from jupyter_llmops.magics.runs import RunsMagics
from jupyter_llmops.magics.trail import TrailMagics
from jupyter_llmops.magics.training import TrainingMagics
from jupyter_llmops.settings import load_settings
from jupyter_llmops.workspace import Workspace, open_workspace

MAGICS: tuple[type[WorkspaceMagics], ...] = (
    PromptMagics,
    PromptsMagics,
    ModelsMagics,
    CollectionsMagics,
    GpusMagics,
    CacheMagics,
    CellMagics,
    BudgetMagics,
    CascadeMagics,
    RunsMagics,
    TrailMagics,
    TrainingMagics,
    AuditMagics,
    LLMOpsMagics,
)
_ATTRIBUTE = "_jupyter_llmops"


def load(shell: InteractiveShell) -> Workspace:
    """Load into a shell and print one line; loading twice changes nothing.

    Parameters
    ----------
    shell : InteractiveShell
        A kernel's or a terminal's shell.
    """
    loaded: Workspace | None = getattr(shell, _ATTRIBUTE, None)
    if loaded is not None:
        print(workspace_line(loaded.status()))
        return loaded
    settings = load_settings(shell)
    workspace = open_workspace(settings=settings)
    for magics in MAGICS:
        shell.register_magics(magics(shell, workspace))
    _configurables(shell).append(workspace.settings)  # so that %config LLMOps.… finds it
    register_formatters(shell)
    register_completers(shell, workspace)
    workspace.settings.observe(lambda change: _stamp_cells(shell, workspace, on=change["new"]), "audit")
    workspace.settings.observe(_say_that_it_comes_too_late, ["catalog", "site", "snapshot"])
    _stamp_cells(shell, workspace, on=workspace.settings.audit)
    setattr(shell, _ATTRIBUTE, workspace)
    print(workspace_line(workspace.status()))
    return workspace


def _configurables(shell: InteractiveShell) -> list[Any]:
    configurables: list[Any] = shell.configurables
    return configurables


def _say_that_it_comes_too_late(change: dict[str, Any]) -> None:
    print(
        f"LLMOps.{change['name']} is fixed while a kernel runs: "
        "set it in jupyter_llmops_config.py and restart the kernel."
    )


def _stamp_cells(shell: InteractiveShell, workspace: Workspace, *, on: bool) -> None:
    """Begin or stop to stamp cells; ``%config LLMOps.audit = False`` comes here too."""
    if not on:
        if workspace.stamper is not None:
            workspace.stamper.unregister()
        return
    if workspace.stamper is None:
        from jupyter_llmops.audit.cells import CellStamper

        workspace.stamper = CellStamper(
            shell,
            workspace.journal,
            on_stamp=lambda _: workspace.announce("runs"),
            environment=workspace.watch_environment(),
            kept_items=workspace.take_kept,
        )
    workspace.stamper.register()


def unload(shell: InteractiveShell) -> None:
    """Take the hooks out of a shell; the magics stay until the kernel ends, as IPython has it."""
    workspace: Workspace | None = getattr(shell, _ATTRIBUTE, None)
    if workspace is None:
        return
    if workspace.stamper is not None:
        workspace.stamper.unregister()
        workspace.stamper = None  # its journal is closed below
    _configurables(shell).remove(workspace.settings)
    workspace.close()
    delattr(shell, _ATTRIBUTE)
