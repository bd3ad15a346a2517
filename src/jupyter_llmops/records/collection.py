"""Shared vector stores: collections, the space of their vectors, and what a search finds."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal


@dataclass(frozen=True, slots=True)
class EmbeddingSpace:
    """What makes two vectors comparable; vectors of different spaces are never mixed.

    Parameters
    ----------
    encoder : str
        Name of the model that embeds.
    encoder_digest : str
        ``sha256:…`` of its files.
    pooling : str
        How token vectors become one: "mean", "cls", "lasttoken", …
    normalized : bool
        Whether every vector has length 1.
    dimension : int
        Numbers in a vector.
    max_tokens : int
        Longest text that is embedded whole, in tokens.
    """

    encoder: str
    encoder_digest: str
    pooling: str
    normalized: bool
    dimension: int
    max_tokens: int


@dataclass(frozen=True, slots=True)
class Chunking:
    """How documents are cut.

    Parameters
    ----------
    max_tokens : int
        Most tokens of a chunk.
    overlap_tokens : int
        Tokens that a chunk repeats of the one before.
    """

    max_tokens: int = 200
    overlap_tokens: int = 20


@dataclass(frozen=True, slots=True)
class Collection:
    """A named shared vector store.

    Parameters
    ----------
    name : str
        What a user types, unique in a catalog.
    space : EmbeddingSpace
        What its vectors mean.
    chunking : Chunking
        How its documents are cut.
    items, documents : int
        How many chunks, from how many documents.
    index : str
        "flat", or the vector index that it has, e.g. "IVF_SQ".
    metadata : tuple of str
        Columns that filters can name.
    """

    name: str
    space: EmbeddingSpace
    chunking: Chunking = Chunking()
    items: int = 0
    documents: int = 0
    index: str = "flat"
    metadata: tuple[str, ...] = ()
    description: str = ""
    tags: tuple[str, ...] = ()
    created_by: str = ""
    created_at: datetime | None = None
    site: str = ""
    retired: bool = False
    private: bool = False


@dataclass(frozen=True, slots=True)
class Passage:
    """One chunk that a search found, or that a model was shown.

    Parameters
    ----------
    id : str
        Of the item, unique in its collection.
    collection : str
        Where it was found.
    document : str
        The document it comes from: a file's name, a row's id.
    start, end : int
        Its characters in that document, half open.
    text : str
        The chunk.
    digest : str
        ``sha256:…`` of the text.
    score : float
        Higher is better; only comparable within one search.
    metadata : dict
        The document's other columns.
    """

    id: str
    collection: str
    document: str
    start: int
    end: int
    text: str
    digest: str
    score: float = 0.0
    metadata: dict[str, Any] | None = None


@dataclass(frozen=True, slots=True)
class SearchResult:
    """What a search found, best first.

    Parameters
    ----------
    how : {"hybrid", "vector", "text"}
        What it compared.
    seconds : float
        How long it took, the embedding of the query included.
    """

    query: str
    collection: str
    passages: tuple[Passage, ...]
    how: Literal["hybrid", "vector", "text"] = "hybrid"
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class AddReport:
    """What adding documents to a collection did.

    Parameters
    ----------
    added, changed, unchanged : int
        Documents.
    embedded, reused : int
        Chunks that were embedded, and chunks whose vector was there already.
    seconds : float
        How long it took.
    """

    collection: str
    added: int
    changed: int
    unchanged: int
    embedded: int
    reused: int
    seconds: float
