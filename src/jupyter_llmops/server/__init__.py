"""The Jupyter Server skin: routes and one event, over the same rooms that the magics use."""

from __future__ import annotations

from jupyter_llmops.server.extension import LLMOpsExtension

__all__ = ["LLMOpsExtension"]
