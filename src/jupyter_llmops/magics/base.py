"""What every magic of this package has: the shell and the workspace."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, MutableMapping
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
    def namespace(self) -> NotebookNames:
        """The notebook's variables; the cell's leaf says which were taken from here and which assigned."""
        stamper = self.workspace.stamper
        return NotebookNames(self.shell.user_ns, stamper.tell_names if stamper else _tell_nobody)


class NotebookNames(MutableMapping[str, Any]):
    """The variables of a notebook, as a magic reads and writes them.

    Parameters
    ----------
    variables : dict
        Those of the notebook.
    tell : callable
        Told of the names that are `read` and `written`.
    """

    def __init__(self, variables: dict[str, Any], tell: Callable[..., None]) -> None:
        self.variables = variables
        self._tell = tell

    def told_of(self, names: Iterable[str]) -> dict[str, Any]:
        """Return all variables as they are now; of them, these names are going to be read."""
        self._tell(read=[name for name in names if name in self.variables])
        return self.variables

    def tell_written(self, name: str) -> None:
        """Say that what a name stands for was changed in place."""
        self._tell(written=(name,))

    def __getitem__(self, name: str) -> Any:
        value = self.variables[name]
        self._tell(read=(name,))
        return value

    def __setitem__(self, name: str, value: Any) -> None:
        self.variables[name] = value
        self._tell(written=(name,))

    def __delitem__(self, name: str) -> None:
        del self.variables[name]
        self._tell(written=(name,))

    def __contains__(self, name: object) -> bool:
        return name in self.variables

    def __iter__(self) -> Iterator[str]:
        return iter(self.variables)

    def __len__(self) -> int:
        return len(self.variables)


def _tell_nobody(**names: object) -> None:
    """Stamping is off."""
