"""Chunks are exact pieces of their document, and end where people end a thought."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fake_encoder import FakeEncoder
from jupyter_llmops.errors import UsageError
from jupyter_llmops.records.collection import Chunking, Document, Section
from jupyter_llmops.retrieval.chunking import LONGEST_TOKEN, check_chunking, chunks_of

ENCODER = FakeEncoder()


class Dropping(FakeEncoder):
    """Leaves characters out, as a real tokenizer does with control characters."""

    def token_spans(self, text: str) -> list[tuple[int, int]]:
        return [(start, end) for start, end in super().token_spans(text) if text[start:end] not in "\u200d!é"]


TEXTS = st.text(
    alphabet=st.one_of(st.sampled_from("ab. \n\t!?。é漢\u200d\r\"'"), st.characters(codec="utf-8")),
    max_size=400,
)
CHUNKINGS = st.builds(Chunking, st.integers(8, 40), st.integers(0, 4))


@given(TEXTS, CHUNKINGS, st.sampled_from([ENCODER, Dropping()]))
@settings(max_examples=200, deadline=None)
def test_every_chunk_is_its_span_and_every_character_lies_in_one(
    text: str, chunking: Chunking, encoder: FakeEncoder
) -> None:
    chunks = chunks_of(Document("d", text, {}), encoder, chunking)
    covered: set[int] = set()
    for number, chunk in enumerate(chunks):
        assert text[chunk.start : chunk.end] == chunk.text
        assert chunk.text == chunk.text.strip() != ""
        assert chunk.ordinal == number
        assert len(encoder.token_spans(chunk.text)) <= chunking.max_tokens
        covered.update(range(chunk.start, chunk.end))
    if encoder.token_spans(text):
        assert all(place in covered or letter.isspace() for place, letter in enumerate(text))
    else:
        assert chunks == []


@given(st.lists(TEXTS, max_size=4), CHUNKINGS)
@settings(max_examples=50, deadline=None)
def test_no_chunk_leaves_its_section(parts: list[str], chunking: Chunking) -> None:
    sections, place = [], 0
    for number, part in enumerate(parts):
        sections.append(Section(place, place + len(part), {"cell": number}))
        place += len(part) + 2
    document = Document("d", "\n\n".join(parts), {"a": 1}, tuple(sections))
    for chunk in chunks_of(document, ENCODER, chunking) if sections else ():
        section = sections[chunk.metadata["cell"]]  # type: ignore[index]
        assert section.start <= chunk.start < chunk.end <= section.end
        assert document.text[chunk.start : chunk.end] == chunk.text
        assert chunk.metadata["a"] == 1


def texts_of(text: str, most: int = 12, overlap: int = 0) -> list[str]:
    return [chunk.text for chunk in chunks_of(Document("d", text, {}), ENCODER, Chunking(most, overlap))]


def test_a_paragraph_is_preferred_to_a_sentence_and_a_sentence_to_a_word() -> None:
    words = "one two three four five six seven"
    assert texts_of(f"{words}.\n\neight nine. ten eleven twelve thirteen") == [
        f"{words}.",
        "eight nine. ten eleven twelve thirteen",
    ]
    assert texts_of(f"{words}. eight nine ten eleven twelve thirteen")[0] == f"{words}."
    assert texts_of("one two three four five six seven eight nine ten eleven alphabetically")[0].endswith(
        "eleven"
    )


def test_a_chunk_repeats_the_end_of_the_one_before() -> None:
    text = " ".join(f"w{number}" for number in range(40))
    first, second, *_ = texts_of(text, most=10, overlap=3)
    assert first.split()[-3:] == second.split()[:3]


def test_a_word_without_end_is_cut_into_readable_pieces() -> None:
    class OneToken(FakeEncoder):
        def token_spans(self, text: str) -> list[tuple[int, int]]:
            return [(0, len(text))]  # WordPiece: an unknown word of any length is one token

    text = "x" * 10_000
    chunks = chunks_of(Document("d", text, {}), OneToken(), Chunking(10, 0))
    assert "".join(chunk.text for chunk in chunks) == text
    assert max(len(chunk.text) for chunk in chunks) <= 10 * LONGEST_TOKEN


@pytest.mark.parametrize("chunking", [Chunking(101, 0), Chunking(0, 0), Chunking(20, 11), Chunking(20, -1)])
def test_what_an_encoder_does_not_read_whole_is_refused(chunking: Chunking) -> None:
    with pytest.raises(UsageError, match=r"--max-tokens|--overlap"):
        check_chunking(chunking, ENCODER.space)


def test_a_heading_stays_with_what_it_heads() -> None:
    text = (
        "one two three four five six seven eight.\n\n## Rental\n\nnine ten eleven twelve thirteen fourteen."
    )
    assert texts_of(text, most=12, overlap=4) == [
        "one two three four five six seven eight.",
        "## Rental\n\nnine ten eleven twelve thirteen fourteen.",
    ]
