"""GET models: those of the team's catalog and of the user's own, and those that come with a package."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from jupyter_server.auth.decorator import authorized
from tornado.web import authenticated

from jupyter_llmops.inference.sources import known_models
from jupyter_llmops.records.model import Model
from jupyter_llmops.server.routes.base import LLMOpsHandler, when
from jupyter_llmops.server.routes.sharing import from_both


class ModelsHandler(LLMOpsHandler):
    """Every model that a notebook of this server finds by name, retired ones too."""

    @authenticated
    @authorized
    async def get(self) -> None:
        """Answer the models, sorted by name."""
        await self.answer(self._models)

    def _models(self) -> dict[str, Any]:
        found = from_both(self.state, lambda catalog: catalog.models.current())
        known = {model.name for model in found if not model.private}
        found += [model for model in known_models() if model.name not in known]
        # Runs are the team's, whichever catalog names the model.
        speeds = self.state.catalog.models.speeds()
        return {
            "models": [
                _model(replace(model, speeds=speeds.of(model)))
                for model in sorted(found, key=lambda model: model.name.casefold())
            ]
        }


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
        "aliases": list(model.aliases),
        "format": model.format,
        "quantizations": list(model.quantizations),
        "base": model.base,
        "signed_by": model.signed_by,
        "description": model.description,
        "tags": list(model.tags),
        "places": [{"site": place.site, "source": place.source} for place in model.places],
        "speeds": [
            {
                "host": speed.host,
                "quantization": speed.quantization,
                "tokens_per_second": speed.tokens_per_second,
                "runs": speed.runs,
            }
            for speed in model.speeds
        ],
        "retired": model.retired,
        "private": model.private,
    }
