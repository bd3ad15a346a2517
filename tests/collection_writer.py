"""A process that adds documents to a collection and says the names of each commit in a line of JSON.

``python tests/collection_writer.py PLACE FIRST COUNT TAG`` says "ready", waits for a line on its standard
input, then adds the documents FIRST … FIRST + COUNT - 1, of three chunks each, that begin with TAG. At the
end it says how many chunks it had to embed.
"""

from __future__ import annotations

import json
import sys

from fake_encoder import FakeEncoder
from jupyter_llmops.catalog import Catalog
from jupyter_llmops.records.collection import Chunking
from jupyter_llmops.retrieval import adding
from jupyter_llmops.retrieval.documents import documents_of

NAME = "docs"
CHUNKS = 3


def documents(first: int, count: int, tag: str) -> list[dict[str, str]]:
    """Return documents of three chunks each."""
    texts = (
        "\n\n".join(f"{tag} part{part} of d{n} " + "filler " * 8 for part in range(CHUNKS))
        for n in range(first, first + count)
    )
    return [{"id": f"d{n}", "text": text, "tag": tag} for n, text in enumerate(texts, start=first)]


def main(place: str, first: str, count: str, tag: str) -> None:
    """Add them."""
    import lancedb  # noqa: F401 - imported before "ready", so that all begin at one time

    adding.CHUNKS_A_COMMIT = 2 * CHUNKS
    catalog = Catalog(place, site="here", user=tag)
    encoder = FakeEncoder()
    source = documents_of(documents(int(first), int(count), tag))
    print(json.dumps("ready"), flush=True)
    sys.stdin.readline()

    def say(names: object) -> None:
        print(json.dumps(names), flush=True)

    adding.add_documents(
        catalog,
        NAME,
        source,
        encoder,
        chunking=Chunking(16, 0),
        committed=say,  # type: ignore[arg-type]
    )
    print(json.dumps({"embedded": len(encoder.embedded)}), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
