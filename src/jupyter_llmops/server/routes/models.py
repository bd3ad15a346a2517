"""GET models: those of the catalog, and those that come with a package."""

from __future__ import annotations

from typing import Any

from jupyter_server.auth.decorator import authorized
from tornado.web import authenticated

from jupyter_llmops.inference.sources import known_models
from jupyter_llmops.records.model import Model
from jupyter_llmops.server.routes.base import LLMOpsHandler, when


class ModelsHandler(LLMOpsHandler):
    """Every model that a notebook of this server finds by name."""

    @authenticated
    @authorized
    async def get(self) -> None:
        """Answer the models, sorted by name."""
        await self.answer(self._models)

    def _models(self) -> dict[str, Any]:
        found = {model.name: model for model in known_models()}
        found |= {model.name: model for model in self.state.catalog.models.list()}
        return {"models": [_model(found[name]) for name in sorted(found, key=str.casefold)]}


def _model(model: Model) -> dict[str, Any]:
    return {
        "name": model.name,
        "kind": model.kind,
        "source": model.source,
        "digest": model.digest,
        "family": model.family,
        "license": model.license,
        "parameters": model.parameters,
        "context_length": model.context_length,
        "size_bytes": model.size_bytes,
        "site": model.site,
        "created_by": model.created_by,
        "created_at": when(model.created_at),
    }
