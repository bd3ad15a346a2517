"""Documents are cut into chunks that an encoder reads whole, best where a paragraph or a sentence ends."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Protocol

from jupyter_llmops.errors import UsageError
from jupyter_llmops.records.collection import Chunk, Chunking, Document, EmbeddingSpace

LEAST_TOKENS = 8
# A tokenizer may take a very long word for one token: a chunk stays readable all the same.
LONGEST_TOKEN = 200
_SENTENCE_ENDS = ".!?…。！？"
_HEADING = "#"  # of Markdown
_CLOSING = "\"')]}»”’"

TokenSpans = Sequence[tuple[int, int]]


class Tokenizer(Protocol):
    """What chunking needs of an encoder."""

    @property
    def space(self) -> EmbeddingSpace:
        """Its longest text, in tokens."""

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        """Return where each token begins and ends."""


def check_chunking(chunking: Chunking, space: EmbeddingSpace) -> Chunking:
    """Return how documents are to be cut, or say what an encoder can't do.

    Raises
    ------
    UsageError
        A chunk would be longer than the encoder reads, too short, or mostly overlap.
    """
    most, overlap = chunking.max_tokens, chunking.overlap_tokens
    if not LEAST_TOKENS <= most <= space.max_tokens:
        raise UsageError(
            f"A chunk can't have {most} tokens: {space.encoder} reads {LEAST_TOKENS} to {space.max_tokens}.",
            f"Type for example --max-tokens {min(200, space.max_tokens)}.",
        )
    if not 0 <= overlap <= most // 2:
        raise UsageError(
            f"An overlap of {overlap} tokens does not fit chunks of {most}.",
            f"Type --overlap with a number from 0 to {most // 2}.",
        )
    return chunking


def chunks_of(document: Document, tokenizer: Tokenizer, chunking: Chunking) -> list[Chunk]:
    """Return a document's chunks in order; ``document.text[chunk.start:chunk.end] == chunk.text``.

    Every character but white space lies in a chunk, and no chunk leaves its section. A text without
    any token has none.
    """
    chunks: list[Chunk] = []
    parts = [(part.start, part.end, part.metadata) for part in document.sections]
    for begin, end, metadata in parts or [(0, len(document.text), {})]:
        text = document.text[begin:end]
        for start, stop in cut(text, tokenizer.token_spans(text), chunking):
            piece = text[start:stop]
            chunks.append(
                Chunk(
                    document=document.name,
                    ordinal=len(chunks),
                    start=begin + start,
                    end=begin + stop,
                    text=piece,
                    digest=text_digest(piece),
                    metadata={**document.metadata, **metadata},
                )
            )
    return chunks


def text_digest(text: str) -> str:
    """Return ``sha256:…`` of a text; half of a surrogate pair counts as it is."""
    return "sha256:" + hashlib.sha256(text.encode("utf-8", "surrogatepass")).hexdigest()


def cut(text: str, tokens: TokenSpans, chunking: Chunking) -> list[tuple[int, int]]:
    """Return where the chunks of a text begin and end, as characters, half open.

    A chunk ends before the last heading in its second half, else at the last end of a paragraph, of a
    sentence, of a line, of a word there, else where it is full. A heading stays with what it heads.
    """
    starts = [place for start, end in tokens for place in range(start, max(end, start + 1), LONGEST_TOKEN)]
    if not starts:
        return []
    ends = [*starts[1:], len(text)]
    starts[0] = 0
    spans: list[tuple[int, int]] = []
    first = 0
    while first < len(starts):
        after = min(first + chunking.max_tokens, len(starts))
        if after < len(starts):
            after = _best_end(text, starts, first + chunking.max_tokens // 2, after)
        span = _stripped(text, starts[first], ends[after - 1])
        if span[0] < span[1]:
            spans.append(span)
        if after == len(starts):
            break
        first = _begin_next(text, starts, first, after, chunking.overlap_tokens)
    return spans


def _best_end(text: str, starts: Sequence[int], least: int, full: int) -> int:
    """Return the number of the token before which to cut, from `least` + 1 to `full`."""
    best, rank = full, 0
    for after in range(full, least, -1):
        found = _rank(text, starts[after - 1], starts[after])
        if found > rank:
            best, rank = after, found
            if rank == 5:
                break
    return best


def _rank(text: str, token: int, following: int) -> int:
    """Return how good it is to cut before a token: 5 for a heading, 4 for a paragraph's end, 0 inside a word."""
    piece = text[token:following]
    body = piece.rstrip()
    gap = piece[len(body) :]
    if "\n" in gap:
        if text.startswith(_HEADING, text.rfind("\n", 0, token) + 1):
            return 1
        if text.startswith(_HEADING, following):
            return 5
    if gap.count("\n") > 1:
        return 4
    ended = body.rstrip(_CLOSING)[-1:] or body[-1:]
    if ended and ended in _SENTENCE_ENDS and (gap or ended in "。！？"):
        return 3
    if "\n" in gap:
        return 2
    return 1 if gap else 0


def _begin_next(text: str, starts: Sequence[int], first: int, after: int, overlap: int) -> int:
    """Return the token that the next chunk begins with: at a word or a heading, and always further on."""
    if text.startswith(_HEADING, starts[after]) and text[starts[after] - 1] == "\n":
        return after  # what stands above a heading is about something else
    for begin in range(max(after - overlap, first + 1), after):
        if text[starts[begin] - 1].isspace():
            return begin
    return after


def _stripped(text: str, start: int, end: int) -> tuple[int, int]:
    while start < end and text[start].isspace():
        start += 1
    while end > start and text[end - 1].isspace():
        end -= 1
    return start, end
