"""The composition root: settings in, wired parts out."""

from jupyter_llmops.workspace.facade import Workspace, open_workspace
from jupyter_llmops.workspace.parts import TrailWarning
from jupyter_llmops.workspace.prompt_options import PromptOptions

__all__ = ["PromptOptions", "TrailWarning", "Workspace", "open_workspace"]
