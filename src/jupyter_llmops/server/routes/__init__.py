"""The routes below ``<base_url>/jupyter-llmops/``, one file per noun."""

from __future__ import annotations

from jupyter_llmops.server.routes.base import LLMOpsHandler
from jupyter_llmops.server.routes.collections import CollectionsHandler
from jupyter_llmops.server.routes.doorbell import DoorbellHandler
from jupyter_llmops.server.routes.gpus import GpusHandler
from jupyter_llmops.server.routes.models import ModelsHandler
from jupyter_llmops.server.routes.prompts import PromptsHandler, PromptVersionsHandler
from jupyter_llmops.server.routes.runs import RunsHandler
from jupyter_llmops.server.routes.search import SearchHandler
from jupyter_llmops.server.routes.status import StatusHandler

HANDLERS: dict[str, type[LLMOpsHandler]] = {
    "status": StatusHandler,
    "gpus": GpusHandler,
    "models": ModelsHandler,
    "prompts": PromptsHandler,
    "prompts/versions": PromptVersionsHandler,
    "collections": CollectionsHandler,
    "search": SearchHandler,
    "runs": RunsHandler,
    "doorbell": DoorbellHandler,
}

__all__ = ["HANDLERS", "LLMOpsHandler"]
