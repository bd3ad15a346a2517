"""GET collections: the vector stores, and the space of their vectors."""

from __future__ import annotations

from typing import Any

from jupyter_server.auth.decorator import authorized
from tornado.web import authenticated

from jupyter_llmops.records.collection import Collection
from jupyter_llmops.server.routes.base import LLMOpsHandler, when
from jupyter_llmops.server.routes.sharing import from_both


class CollectionsHandler(LLMOpsHandler):
    """The collections of the team and of the user, retired ones too."""

    @authenticated
    @authorized
    async def get(self) -> None:
        """Answer the collections, sorted by name."""
        await self.answer(self._collections)

    def _collections(self) -> dict[str, Any]:
        found = from_both(self.state, lambda catalog: catalog.collections.list())
        return {
            "collections": [
                _collection(one) for one in sorted(found, key=lambda collection: collection.name.casefold())
            ]
        }


def _collection(collection: Collection) -> dict[str, Any]:
    space = collection.space
    return {
        "name": collection.name,
        "items": collection.items,
        "documents": collection.documents,
        "index": collection.index,
        "space": {
            "encoder": space.encoder,
            "dimension": space.dimension,
            "pooling": space.pooling,
            "normalized": space.normalized,
        },
        "metadata": list(collection.metadata),
        "description": collection.description,
        "tags": list(collection.tags),
        "created_by": collection.created_by,
        "created_at": when(collection.created_at),
        "site": collection.site,
        "retired": collection.retired,
        "private": collection.private,
    }
