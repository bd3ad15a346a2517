"""GET search?collection=…&q=…&k=5: passages of a collection that hold the words."""

from __future__ import annotations

from typing import Any

from jupyter_server.auth.decorator import authorized
from tornado.web import authenticated

from jupyter_llmops.catalog import Catalog
from jupyter_llmops.errors import UsageError
from jupyter_llmops.retrieval.search import MOST, search
from jupyter_llmops.server.routes.base import LLMOpsHandler
from jupyter_llmops.server.routes.sharing import asked_catalogs, first_that_has

# A passage is for looking at; a notebook has the whole one.
MOST_CHARACTERS = 2_000


class SearchHandler(LLMOpsHandler):
    """A search by words: the server loads no encoder, so meaning is left to the notebook's ``%search``."""

    @authenticated
    @authorized
    async def get(self) -> None:
        """Answer the passages, best first."""
        collection = self.get_query_argument("collection", "", strip=False)
        if not collection:
            raise UsageError(
                "The name of a collection is missing.", "Ask for search?collection=NAME&q=WORDS."
            )
        query = self.get_query_argument("q", "")
        k = self._k()
        asked = asked_catalogs(self.state, self.get_query_argument("private", ""))
        await self.answer(
            lambda: first_that_has(asked, lambda catalog: _found(catalog, collection, query, k))
        )

    def _k(self) -> int:
        typed = self.get_query_argument("k", "5")
        if not (typed.isascii() and typed.isdigit() and 1 <= int(typed) <= MOST):
            raise UsageError(
                f"k={typed[:20]} is not a number of passages.", f"k is a number from 1 to {MOST}."
            )
        return int(typed)


def _found(catalog: Catalog, collection: str, query: str, k: int) -> dict[str, Any]:
    found = search(catalog, collection, query, None, k, how="text")
    return {
        "collection": collection,
        "query": query,
        "how": found.how,
        "passages": [
            {
                "id": passage.id,
                "document": passage.document,
                "start": passage.start,
                "end": passage.end,
                "text": passage.text[:MOST_CHARACTERS],
                "score": passage.score,
            }
            for passage in found.passages
        ],
    }
