"""The Jupyter Server skin: routes and one event, over the same rooms that the magics use."""

from __future__ import annotations

from typing import Any

from jupyter_llmops.server.extension import LLMOpsExtension

__all__ = ["LLMOpsExtension"]


def _jupyter_server_extension_points() -> list[dict[str, Any]]:
    return [{"module": "jupyter_llmops.server", "app": LLMOpsExtension}]
