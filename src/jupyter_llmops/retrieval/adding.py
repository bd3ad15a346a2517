"""Documents go into a collection: what is new or changed is cut and embedded, what is there costs a digest.

Each commit holds whole documents, so that a killed or interrupted addition left nothing half done:
the same call goes on behind the last commit.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import time
import unicodedata
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from typing import TYPE_CHECKING

from jupyter_llmops.errors import CatalogError, ConflictError, Interrupted, SpaceError, UsageError
from jupyter_llmops.records.collection import AddReport, Chunk, Chunking, Document, Scalar
from jupyter_llmops.retrieval.chunking import check_chunking, chunks_of
from jupyter_llmops.retrieval.documents import Documents, ListedDocuments
from jupyter_llmops.retrieval.meter import Meter, Progress
from jupyter_llmops.retrieval.spaces import quoted, require_space

if TYPE_CHECKING:
    import numpy as np

    from jupyter_llmops.catalog import Catalog
    from jupyter_llmops.catalog.collections import Standing
    from jupyter_llmops.catalog.items import Items
    from jupyter_llmops.inference.encoder import Encoder

# A commit of one row costs up to 250 times as much a row as one of a hundred,
# and texts of like length are embedded together; a killed addition embeds as many once more.
CHUNKS_A_COMMIT = 1024
# Removals and the like are committed, too, when so many documents wait.
DOCUMENTS_A_COMMIT = 1024
# With so many chunks outside of the full-text index a search by words takes tens of milliseconds.
MOST_UNINDEXED = 5_000


@dataclass
class _Tally:
    """What has been done so far."""

    added: int = 0
    changed: int = 0
    unchanged: int = 0
    embedded: int = 0
    reused: int = 0
    skipped: list[tuple[str, str]] = field(default_factory=list)


@dataclass
class _Batch:
    """What the next commit holds."""

    digests: dict[str, str] = field(default_factory=dict)
    chunks: list[Chunk] = field(default_factory=list)
    added: int = 0
    changed: int = 0


def add_documents(
    catalog: Catalog,
    name: str,
    documents: Documents,
    encoder: Encoder,
    *,
    chunking: Chunking | None = None,
    find_secrets: Callable[[str], Sequence[str]] | None = None,
    progress: Progress | None = None,
    committed: Callable[[Sequence[str]], None] | None = None,
) -> AddReport:
    """Add documents to a collection, which is created where it is not there yet.

    Parameters
    ----------
    catalog : Catalog
        The user's or the team's.
    name : str
        The collection.
    documents : Documents
        From `documents_of`; one that is there under its name is replaced where it differs.
    encoder : Encoder
        Of the collection's space; a new collection takes its.
    chunking : Chunking, optional
        How to cut; the collection's own by default.
    find_secrets : callable, optional
        Returns the kinds of secrets in a text; a document with any is left out.
    progress : callable, optional
        Told how far it is, how fast, and how long it will take.
    committed : callable, optional
        Told the names of documents once they can't get lost any more.

    Raises
    ------
    SpaceError
        The encoder makes vectors of another space, or the collection moves to another one.
    UsageError
        A column has values of two types, or chunks can't be cut like that.
    Interrupted
        Ctrl-C; what was committed stays.
    """
    begun = time.monotonic()
    name = unicodedata.normalize("NFC", name)
    standing, chunking = _opened(catalog, name, encoder, chunking)
    addition = _Addition(catalog, name, encoder, standing, chunking, find_secrets, committed)
    try:
        addition.run(documents, progress)
    except KeyboardInterrupt:
        done = addition.tally
        raise Interrupted(
            f"Adding to {name!r} was stopped: {done.added + done.changed:,} documents of this time are in it.",
            "The same line goes on where it stopped.",
        ) from None
    tally = addition.tally
    # The agent does it, too, but where a large addition is searched at once it takes 0.1 s for 10,000 chunks.
    items = catalog.collections.items_at(standing)
    if items.unindexed() > MOST_UNINDEXED:
        if progress is not None:
            progress("Indexing the words", None)
        with contextlib.suppress(CatalogError):  # everything is there and found, only slower
            items.put_into_indexes()
    return AddReport(
        collection=name,
        added=tally.added,
        changed=tally.changed,
        unchanged=tally.unchanged,
        embedded=tally.embedded,
        reused=tally.reused,
        seconds=time.monotonic() - begun,
        skipped=(*documents.skipped, *tally.skipped),
    )


def _opened(
    catalog: Catalog, name: str, encoder: Encoder, chunking: Chunking | None
) -> tuple[Standing, Chunking]:
    """Return where the collection is and how it is cut, made where it is not there yet."""
    catalog.migrate()  # refuses a snapshot and a newer catalog before anything is embedded
    catalog.collections.prepare_write()  # before anything is embedded for nothing
    if name not in catalog.collections.names():
        wanted = chunking or Chunking()
        if chunking is None and wanted.max_tokens > encoder.space.max_tokens:
            wanted = Chunking(encoder.space.max_tokens, encoder.space.max_tokens // 10)
        catalog.collections.create(name, encoder.space, check_chunking(wanted, encoder.space))
    collection = catalog.collections.get(name)
    standing = catalog.collections.standing(name)
    _refuse_closing(name, standing)
    require_space(name, standing.space, encoder.space, "added to")
    if chunking is not None and chunking != collection.chunking:
        known = collection.chunking
        raise UsageError(
            f"The collection {name!r} is cut into chunks of {known.max_tokens} tokens with an overlap of "
            f"{known.overlap_tokens}, and all of it stays so.",
            "Leave --max-tokens and --overlap out, or begin a collection of another name.",
        )
    return standing, collection.chunking


def _refuse_closing(name: str, standing: Standing) -> None:
    if standing.closing:
        raise SpaceError(
            f"The collection {name!r} is about to move to the encoder {standing.closing} "
            f"({standing.closed_by} migrates it), so nothing can be added now.",
            f"Wait a moment; if it was given up, type %collections migrate {quoted(name)} {standing.closing}",
        )


class _Addition:
    """One addition on its way."""

    def __init__(
        self,
        catalog: Catalog,
        name: str,
        encoder: Encoder,
        standing: Standing,
        chunking: Chunking,
        find_secrets: Callable[[str], Sequence[str]] | None,
        committed: Callable[[Sequence[str]], None] | None,
    ) -> None:
        self.tally = _Tally()
        self._catalog = catalog
        self._name = name
        self._encoder = encoder
        self._standing = standing
        self._items: Items = catalog.collections.items_at(standing)
        self._chunking = chunking
        self._find_secrets = find_secrets
        self._committed = committed
        self._batch = _Batch()

    def run(self, documents: Documents, progress: Progress | None) -> None:
        meter = Meter(documents.size, progress)
        known = self._items.documents()
        types = self._items.columns()
        if isinstance(documents, ListedDocuments):
            # All are here: a clash of types is found before anything is written.
            types = fitting_types([document.metadata for document in documents.documents], types)
        for document, size in documents:
            meter.wait(size)
            problem = self._problem(document)
            if problem:
                self.tally.skipped.append((document.name, problem))
                continue
            digest = document_digest(document, self._chunking)
            before = known.get(document.name)
            if before == digest:
                self.tally.unchanged += 1
            else:
                self._take(document, digest, before, types)
            if len(self._batch.chunks) >= CHUNKS_A_COMMIT or len(self._batch.digests) >= DOCUMENTS_A_COMMIT:
                self._commit(meter)
            elif not self._batch.digests:
                meter.done(0)
        if self._batch.digests:
            self._commit(meter)

    def _problem(self, document: Document) -> str:
        try:
            document.text.encode()
            document.name.encode()
        except UnicodeEncodeError:
            return "it holds half of a Unicode surrogate pair, which is no character"
        found = self._find_secrets(document.text) if self._find_secrets is not None else ()
        return f"it holds what looks like a secret ({', '.join(sorted(set(found)))})" if found else ""

    def _take(self, document: Document, digest: str, before: str | None, types: Mapping[str, str]) -> None:
        """Put a new or changed document into the next commit."""
        chunks = chunks_of(_fitted(document, types), self._encoder, self._chunking)
        if not chunks and before is None:
            self.tally.skipped.append((document.name, "it holds no words"))
            return
        self._batch.digests[document.name] = digest
        self._batch.chunks += chunks
        self._batch.added += before is None
        self._batch.changed += before is not None

    def _commit(self, meter: Meter) -> None:
        batch, self._batch = self._batch, _Batch()
        vectors, embedded = self._vectors(batch.chunks, meter)
        self._items.add_columns(fitting_types([chunk.metadata for chunk in batch.chunks], {}))
        self._items.replace(batch.digests, batch.chunks, vectors)
        self._still_there()
        self.tally.embedded += embedded
        self.tally.reused += len(batch.chunks) - embedded
        self.tally.added += batch.added
        self.tally.changed += batch.changed
        if self._committed is not None:
            self._committed(list(batch.digests))
        meter.done(embedded)

    def _vectors(self, chunks: Sequence[Chunk], meter: Meter) -> tuple[np.ndarray, int]:
        """Return a vector a chunk, and how many of them had to be embedded."""
        import numpy as np

        known = self._items.vectors([chunk.digest for chunk in chunks])
        missing = {chunk.digest: chunk.text for chunk in chunks if chunk.digest not in known}
        if missing:
            made = self._encoder.embed(list(missing.values()), meter.embedding(len(missing)))
            known.update(zip(missing, made, strict=True))
        vectors = np.empty((len(chunks), self._encoder.space.dimension), dtype=np.float32)
        for place, chunk in enumerate(chunks):
            vectors[place] = known[chunk.digest]
        return vectors, len(missing)

    def _still_there(self) -> None:
        """Make sure that the table that was just written to still counts.

        A migration closes it before its last look and switches afterwards, so what was written while
        it was open is never lost; what came later is not acknowledged.
        """
        now = self._catalog.collections.standing(self._name)
        _refuse_closing(self._name, now)
        if now.table != self._standing.table:
            raise ConflictError(
                f"The collection {self._name!r} moved to the encoder {now.space.encoder} meanwhile.",
                "The same line, without --encoder, adds what is missing.",
            )


def document_digest(document: Document, chunking: Chunking) -> str:
    """Return ``sha256:…`` over all that decides a document's rows."""
    facts = [
        document.text,
        document.metadata,
        [asdict(section) for section in document.sections],
        asdict(chunking),
    ]
    text = json.dumps(facts, sort_keys=True, ensure_ascii=True, separators=(",", ":"))
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def fitting_types(rows: Iterable[Mapping[str, Scalar]], known: Mapping[str, str]) -> dict[str, str]:
    """Return the type of every metadata column; those that are known keep theirs.

    Whole numbers fit a column of fractions, and fractions without a fraction one of whole numbers.

    Raises
    ------
    UsageError
        A column holds values of two types.
    """
    types = dict(known)
    for row in rows:
        for name, value in row.items():
            if value is None:
                continue
            kind = _kind(value)
            before = types.setdefault(name, kind)
            if before == kind or (before, kind) == ("float64", "int64"):
                continue
            if (before, kind) == ("int64", "float64"):
                if isinstance(value, float) and value.is_integer():
                    continue
                if name not in known:
                    types[name] = "float64"
                    continue
            raise UsageError(
                f"The column {name!r} holds {before}, and {kind} in {str(value)[:40]!r}.",
                "Convert the values to one type, or leave the column out.",
            )
    return types


def _kind(value: Scalar) -> str:
    if isinstance(value, bool):
        return "bool"
    if isinstance(value, int):
        if not -(2**63) <= value < 2**63:
            raise UsageError(f"{value} does not fit 64 bits.", "Convert the column to text.")
        return "int64"
    return "float64" if isinstance(value, float) else "text"


def _fitted(document: Document, types: Mapping[str, str]) -> Document:
    """Return the document with its numbers as its collection's columns have them."""
    convert = {"float64": float, "int64": int}
    metadata = {
        name: convert[types[name]](value)
        if types.get(name) in convert and isinstance(value, int | float) and not isinstance(value, bool)
        else value
        for name, value in document.metadata.items()
    }
    return replace(document, metadata=metadata)
