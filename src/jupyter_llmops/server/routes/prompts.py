"""GET prompts: the newest version of each."""

from __future__ import annotations

from typing import Any

from jupyter_server.auth.decorator import authorized
from tornado.web import authenticated

from jupyter_llmops.records.prompt import Prompt
from jupyter_llmops.server.routes.base import LLMOpsHandler, when


class PromptsHandler(LLMOpsHandler):
    """The saved prompts of the catalog."""

    @authenticated
    @authorized
    async def get(self) -> None:
        """Answer the prompts, sorted by name."""
        await self.answer(lambda: {"prompts": [_prompt(p) for p in self.state.catalog.prompts.list()]})


def _prompt(prompt: Prompt) -> dict[str, Any]:
    return {
        "name": prompt.name,
        "version": prompt.version,
        "digest": prompt.digest,
        "template": prompt.template,
        "system": prompt.system,
        "variables": list(prompt.variables),
        "model": prompt.model,
        "description": prompt.description,
        "created_by": prompt.created_by,
        "created_at": when(prompt.created_at),
        "site": prompt.site,
    }
