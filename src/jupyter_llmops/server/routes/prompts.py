"""GET prompts: the newest version of each. GET prompts/versions?name=…: all versions of one."""

from __future__ import annotations

from typing import Any

from jupyter_server.auth.decorator import authorized
from tornado.web import authenticated

from jupyter_llmops.catalog import Catalog
from jupyter_llmops.errors import UsageError
from jupyter_llmops.records.prompt import Prompt
from jupyter_llmops.server.routes.base import LLMOpsHandler, when
from jupyter_llmops.server.routes.sharing import (
    asked_catalogs,
    catalogs_of,
    first_that_has,
    from_both,
)

# A template may have megabytes; a list of them is for looking through.
MOST_CHARACTERS = 20_000


class PromptsHandler(LLMOpsHandler):
    """The saved prompts of the team and of the user, retired ones too."""

    @authenticated
    @authorized
    async def get(self) -> None:
        """Answer the prompts, sorted by name."""
        await self.answer(self._prompts)

    def _prompts(self) -> dict[str, Any]:
        aliases = {private: _aliases(catalog) for private, catalog in enumerate(catalogs_of(self.state))}
        found = from_both(self.state, lambda catalog: catalog.prompts.list(retired=True))
        return {
            "prompts": [
                _prompt(prompt, aliases[prompt.private].get(prompt.name, []))
                for prompt in sorted(found, key=lambda prompt: prompt.name.casefold())
            ]
        }


class PromptVersionsHandler(LLMOpsHandler):
    """Every version of one prompt, without its text."""

    @authenticated
    @authorized
    async def get(self) -> None:
        """Answer the versions, newest first."""
        name = self.get_query_argument("name", "", strip=False)
        if not name:
            raise UsageError("The name of a prompt is missing.", "Ask for prompts/versions?name=NAME.")
        asked = asked_catalogs(self.state, self.get_query_argument("private", ""))
        await self.answer(lambda: first_that_has(asked, lambda catalog: self._versions(catalog, name)))

    def _versions(self, catalog: Catalog, name: str) -> dict[str, Any]:
        found = catalog.prompts.versions(name)
        return {
            "name": found[-1].name,
            "private": catalog is not self.state.catalog,
            "versions": [_version(prompt) for prompt in reversed(found)],
        }


def _aliases(catalog: Catalog) -> dict[str, list[dict[str, Any]]]:
    """Return where the aliases of every prompt point now, whichever version that is."""
    found: dict[str, list[dict[str, Any]]] = {}
    for change in catalog.changes.current("prompt", field="alias:"):
        if change.value is not None:
            alias = change.field.removeprefix("alias:")
            found.setdefault(change.name, []).append({"name": alias, "version": change.value})
    return found


def _prompt(prompt: Prompt, aliases: list[dict[str, Any]]) -> dict[str, Any]:
    return {
        "name": prompt.name,
        "version": prompt.version,
        "digest": prompt.digest,
        "template": prompt.template[:MOST_CHARACTERS],
        "system": prompt.system[:MOST_CHARACTERS],
        "shortened": max(len(prompt.template), len(prompt.system)) > MOST_CHARACTERS,
        "variables": list(prompt.variables),
        "declarations": [
            {
                "name": variable.name,
                "type": variable.type,
                "default": variable.default,
                "has_default": variable.has_default,
                "description": variable.description,
            }
            for variable in prompt.declarations
        ],
        "includes": list(prompt.includes),
        "model": prompt.model,
        "parameters": dict(prompt.parameters),
        "description": prompt.description,
        "tags": list(prompt.tags),
        "aliases": aliases,
        "created_by": prompt.created_by,
        "created_at": when(prompt.created_at),
        "site": prompt.site,
        "retired": prompt.retired,
        "private": prompt.private,
    }


def _version(prompt: Prompt) -> dict[str, Any]:
    return {
        "version": prompt.version,
        "digest": prompt.digest,
        "created_by": prompt.created_by,
        "created_at": when(prompt.created_at),
        "aliases": list(prompt.aliases),
    }
