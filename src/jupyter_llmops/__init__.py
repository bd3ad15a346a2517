"""The LLMOps workbench inside the notebook.

In a notebook, ``%load_ext jupyter_llmops``; in Python, ``ws = jupyter_llmops.open_workspace()``.
Everything heavy is imported when it is first used.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from IPython.core.interactiveshell import InteractiveShell

    from jupyter_llmops.workspace import Workspace, open_workspace

__all__ = ["Workspace", "__version__", "load_ipython_extension", "open_workspace", "unload_ipython_extension"]


def load_ipython_extension(shell: InteractiveShell) -> None:
    """Register the magics; IPython calls it on ``%load_ext jupyter_llmops``."""
    from jupyter_llmops.magics.extension import load

    load(shell)


def unload_ipython_extension(shell: InteractiveShell) -> None:
    """Take the hooks out; IPython calls it on ``%unload_ext jupyter_llmops``."""
    from jupyter_llmops.magics.extension import unload

    unload(shell)


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    from jupyter_llmops.server import LLMOpsExtension

    return [{"module": "jupyter_llmops.server", "app": LLMOpsExtension}]


def _jupyter_labextension_paths() -> list[dict[str, str]]:
    return [{"src": "_labextension", "dest": "jupyter-llmops"}]


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib import import_module

        try:  # written when the package is built or installed; importlib.metadata takes 20 ms
            return import_module("jupyter_llmops._version").__version__
        except ImportError:
            return "0+unknown"
    if name in {"Workspace", "open_workspace"}:
        from jupyter_llmops import workspace

        return getattr(workspace, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
