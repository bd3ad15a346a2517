"""What the server tests do to a journal and to a catalog."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

from jupyter_llmops.audit.journal import Journal
from jupyter_llmops.catalog import Catalog
from jupyter_llmops.records.collection import Chunk, Chunking, Collection, EmbeddingSpace

SPACE = EmbeddingSpace("tiny", "sha256:" + "0" * 64, "mean", normalized=True, dimension=4, max_tokens=256)


def stamp(journal: Journal, source: str = "x = 1", **fields: Any) -> str:
    """Append a cell to the journal and return its run's id."""
    run_id = journal.stamp(
        "cell", started_at=datetime.now(UTC), seconds=0.5, fields=fields, content={"source": source}
    )
    journal.flush()
    return run_id


def create_collection(catalog: Catalog, name: str) -> Collection:
    """Create a collection of a space that needs no encoder."""
    return catalog.collections.create(name, SPACE, Chunking())


def add_documents(catalog: Catalog, collection: str, texts: Mapping[str, str]) -> None:
    """Put texts into a collection, one chunk each, in the direction of their number."""
    import numpy as np

    chunks = [Chunk(document, 0, 0, len(text), text, digest_of(text), {}) for document, text in texts.items()]
    vectors = np.eye(len(chunks), SPACE.dimension, dtype="float32")
    digests = {document: digest_of(text) for document, text in texts.items()}
    catalog.collections.items(collection).replace(digests, chunks, vectors)


def digest_of(text: str) -> str:
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()
