"""Shared vector stores: collections, the space of their vectors, and what a search finds."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, Literal

if TYPE_CHECKING:
    from pandas import DataFrame

Scalar = str | int | float | bool | None
Operator = Literal["=", "!=", "<", "<=", ">", ">="]


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

    @property
    def digest(self) -> str:
        """``sha256:…`` over what makes two spaces different; the encoder's name does not."""
        facts = asdict(self)
        del facts["encoder"]
        text = json.dumps(facts, sort_keys=True, separators=(",", ":"))
        return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


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
class Section:
    """A part of a document that no chunk leaves, e.g. one cell of a notebook.

    Parameters
    ----------
    start, end : int
        Its characters in the document, half open.
    metadata : dict
        Columns of its chunks beside the document's own.
    """

    start: int
    end: int
    metadata: dict[str, Scalar]


@dataclass(frozen=True, slots=True)
class Document:
    """One text of a collection before it is cut.

    Parameters
    ----------
    name : str
        Unique in its collection: a file's name, a row's id.
    text : str
        All of it; the spans of chunks count its characters.
    metadata : dict
        Columns that filters can name; a section's chunks get the section's beside them.
    sections : tuple of Section
        Its parts in order, apart from each other; none means that the whole is one.
    """

    name: str
    text: str
    metadata: dict[str, Scalar]
    sections: tuple[Section, ...] = ()


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document, as it is embedded; ``document.text[start:end] == text``.

    Parameters
    ----------
    document : str
        The document's name.
    ordinal : int
        Its number in the document, from 0.
    digest : str
        ``sha256:…`` of the text.
    metadata : dict
        The document's and the section's columns.
    """

    document: str
    ordinal: int
    start: int
    end: int
    text: str
    digest: str
    metadata: dict[str, Scalar]


@dataclass(frozen=True, slots=True)
class Filter:
    """A condition on one column of a collection.

    Parameters
    ----------
    column : str
        A metadata column, or "document".
    operator : {"=", "!=", "<", "<=", ">", ">="}
        "!=" also fits passages that have no value there.
    value : str, int, float or bool
        Compared with as a value, never read as SQL.
    """

    column: str
    operator: Operator
    value: str | int | float | bool


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

    @property
    def df(self) -> DataFrame:
        """The passages as a pandas data frame, one row each, metadata in columns of their own."""
        import pandas as pd

        rows = []
        for passage in self.passages:
            row = asdict(passage)
            metadata = row.pop("metadata") or {}
            rows.append(row | {f"metadata.{name}": value for name, value in metadata.items()})
        return pd.DataFrame(rows)


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
    skipped : tuple of (str, str)
        What was not added, and why: a text without words, a file that is no text.
    """

    collection: str
    added: int
    changed: int
    unchanged: int
    embedded: int
    reused: int
    seconds: float
    skipped: tuple[tuple[str, str], ...] = ()
    private: bool = False
