"""What every magic of this package has: the shell and the workspace."""

from __future__ import annotations

from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from IPython.core.magic import Magics

from jupyter_llmops.workspace import Workspace


class WorkspaceMagics(Magics):
    """A magic that calls the workspace.

    Parameters
    ----------
    shell : InteractiveShell
        Where it is registered.
    workspace : Workspace
        What it calls.
    """

    shell: InteractiveShell

    def __init__(self, shell: InteractiveShell, workspace: Workspace) -> None:
        super().__init__(shell)
        self.workspace = workspace

    @property
    def namespace(self) -> dict[str, Any]:
        """The notebook's variables."""
        names: dict[str, Any] = self.shell.user_ns
        return names
