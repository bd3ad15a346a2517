"""Where documents come from: a data frame, a list, files and folders."""

from __future__ import annotations

import hashlib
import json
import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_llmops.errors import UsageError
from jupyter_llmops.records.collection import Document, Scalar
from jupyter_llmops.retrieval.files import FileDocuments, files_below

if TYPE_CHECKING:
    from pandas import DataFrame

LONGEST_NAME = 1_000


@dataclass(frozen=True, slots=True)
class ListedDocuments:
    """Documents that are in memory.

    Parameters
    ----------
    documents : tuple of Document
        With names that occur once.
    skipped : list of (str, str)
        What is no document, and why.
    """

    documents: tuple[Document, ...]
    skipped: list[tuple[str, str]] = field(default_factory=list)

    @property
    def size(self) -> int:
        """All their characters."""
        return sum(len(document.text) for document in self.documents)

    def __iter__(self) -> Iterator[tuple[Document, int]]:
        """Yield each document with its share of `size`."""
        return ((document, len(document.text)) for document in self.documents)


Documents = ListedDocuments | FileDocuments


def documents_of(source: Any, *, text: str = "", id: str = "") -> Documents:
    """Return the documents of what a user named.

    Parameters
    ----------
    source : DataFrame, list or path
        A data frame; a list of texts, of dicts or of `Document`; a file or a folder with ``.txt``,
        ``.md`` and ``.ipynb`` files.
    text : str
        Column or key of the text; "text" by default, or the only column with texts.
    id : str
        Column or key of the name; without it a data frame's own index names the rows where it is
        not just their numbers, else each text names itself by its digest, so that the same text
        again is the same document.

    Raises
    ------
    UsageError
        There is no such column or file, or two documents have one name.
    """
    if isinstance(source, str | Path):
        if text or id:
            raise UsageError(
                "--text and --id name columns, but files have none.", "Leave them out, or add a data frame."
            )
        return FileDocuments(*files_below(Path(source)))
    if _is_frame(source):
        return _listed(_of_frame(source, text, id))
    if isinstance(source, Mapping) or not isinstance(source, Sequence) or isinstance(source, bytes):
        raise UsageError(
            f"Documents can't be taken from {_article(type(source).__name__)}.",
            "Give a data frame, a list of texts or of dicts, or the path of a file or a folder.",
        )
    return _listed([_of_item(item, number, text, id) for number, item in enumerate(source, start=1)])


def _is_frame(source: Any) -> bool:
    import sys

    pandas = sys.modules.get("pandas")
    return pandas is not None and isinstance(source, pandas.DataFrame)


def _of_frame(frame: DataFrame, text: str, id: str) -> list[Document]:
    columns = [str(name) for name in frame.columns]
    if len(set(columns)) != len(columns):
        raise UsageError("The data frame has two columns of one name.", "Rename one of them.")
    text = text or _text_column(frame, columns)
    for option, name in (("--text", text), ("--id", id)):
        if name and name not in columns:
            raise UsageError(
                f"The data frame has no column {name!r}.", f"Type {option} with one of: {', '.join(columns)}."
            )
    values = {name: frame.iloc[:, number].tolist() for number, name in enumerate(columns)}
    names: list[Any] | None = values.get(id)
    if names is None and not _just_numbered(frame):
        names = frame.index.tolist()
    documents = []
    for row, content in enumerate(values[text]):
        metadata = {name: scalar(values[name][row]) for name in columns if name not in (text, id)}
        documents.append(_document(content, None if names is None else names[row], metadata, f"row {row}"))
    return documents


def _text_column(frame: DataFrame, columns: Sequence[str]) -> str:
    if "text" in columns:
        return "text"
    import pandas as pd

    texts = [name for number, name in enumerate(columns) if not _numeric(pd, frame.iloc[:, number])]
    if len(texts) == 1:
        return texts[0]
    raise UsageError(
        "Which column holds the texts?", f"Type --text with one of: {', '.join(columns) or 'none is there'}."
    )


def _numeric(pd: Any, column: Any) -> bool:
    types = pd.api.types
    return bool(
        types.is_numeric_dtype(column) or types.is_bool_dtype(column) or types.is_datetime64_any_dtype(column)
    )


def _just_numbered(frame: DataFrame) -> bool:
    """Return whether the index only counts: a sorted or filtered frame's numbers name nothing either."""
    return frame.index.name is None and bool(frame.index.inferred_type == "integer")


def _of_item(item: Any, number: int, text: str, id: str) -> Document:
    if isinstance(item, Document):
        return item
    if isinstance(item, str):
        return _document(item, None, {}, f"item {number}")
    if not isinstance(item, Mapping):
        raise UsageError(
            f"Item {number} of the list is {_article(type(item).__name__)}.",
            "A list of documents holds texts, or dicts with a text.",
        )
    text = text or "text"
    for name in (text, *([id] if id else [])):
        if name not in item:
            raise UsageError(
                f"Item {number} of the list has no {name!r}.",
                f"It has {', '.join(map(repr, item)) or 'nothing'}; name the keys with --text and --id.",
            )
    key = id or ("id" if "id" in item else "")
    metadata = {str(name): scalar(value) for name, value in item.items() if name not in (text, key)}
    return _document(item[text], item[key] if key else None, metadata, f"item {number}")


def _document(content: Any, name: Any, metadata: dict[str, Scalar], place: str) -> Document:
    if content is None or (isinstance(content, float) and math.isnan(content)) or _is_missing(content):
        content = ""
    if not isinstance(content, str):
        raise UsageError(
            f"The text of {place} is {_article(type(content).__name__)}, not a text.",
            "Convert the column, e.g. with df['text'].astype(str).",
        )
    known: dict[str, Scalar] = {key: value for key, value in metadata.items() if value is not None}
    if name is None:  # a text without words is left out, and its place says which
        name = _named_by(content, known) if content.strip() else place
    label = str(scalar(name)) if scalar(name) is not None else ""
    if not label.strip() or len(label) > LONGEST_NAME:
        raise UsageError(
            f"The id of {place} is {'too long' if label.strip() else 'empty'}.",
            f"An id has 1 to {LONGEST_NAME:,} characters.",
        )
    return Document(label, content, known)


def _named_by(content: str, metadata: Mapping[str, Scalar]) -> str:
    whole = json.dumps([content, metadata], sort_keys=True)
    return "text-" + hashlib.sha256(whole.encode()).hexdigest()[:16]


def _listed(documents: Sequence[Document]) -> ListedDocuments:
    twice = [name for name, count in Counter(document.name for document in documents).items() if count > 1]
    unique = {document.name: document for document in documents}
    for name in twice:
        if any(document.name == name and document != unique[name] for document in documents):
            raise UsageError(
                f"Two different documents have the id {name[:80]!r}; nothing was added.",
                "Give every document an id of its own, or leave --id out.",
            )
    return ListedDocuments(tuple(unique.values()))


def scalar(value: Any) -> Scalar:
    """Return a value as metadata holds it: a text, a number, a truth value, or None where it is missing.

    Instants become ISO 8601, which sorts as text; lists and dicts become JSON.
    """
    if value is None or isinstance(value, str | bool):
        return value
    if isinstance(value, int):
        return int(value)
    if isinstance(value, float):
        return float(value) if math.isfinite(value) else None
    if _is_missing(value):
        return None
    if hasattr(value, "isoformat"):
        return str(value.isoformat())
    if hasattr(value, "item") and getattr(value, "ndim", None) == 0:
        return scalar(value.item())
    if isinstance(value, list | tuple | dict):
        return json.dumps(value, default=str, ensure_ascii=False, sort_keys=True)
    return str(value)


def _is_missing(value: Any) -> bool:
    return type(value).__name__ in ("NAType", "NaTType")


def _article(word: str) -> str:
    return f"{'an' if word[:1].lower() in 'aeiou' else 'a'} {word}"
