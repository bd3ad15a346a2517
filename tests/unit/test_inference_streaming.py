"""Text that comes token by token never shows half a character and joins to the whole."""

from __future__ import annotations

from pathlib import Path

import pytest

from jupyter_llmops.errors import InferenceError
from jupyter_llmops.inference.chat import ChatTokenizer
from jupyter_llmops.inference.preparation import prepare_tokenizer
from jupyter_llmops.inference.sources import locate
from jupyter_llmops.inference.streaming import CallbackFailed, TextStream
from jupyter_llmops.inference.transformers_engine import TransformersEngine
from jupyter_llmops.records.model import Model

TEXTS = [
    "Plain words, and a new line.\nAnd a tab\t.",
    "Emoji 🙂🌱👩‍👩‍👧 in the middle 🎉",
    "日本語のテキスト、ひらがな。",
    "  spaces   kept  ",
    "é ü ß ½ ² ٣ 2024 10,000.50",
]


@pytest.fixture(scope="module")
def chat(engine: TransformersEngine, default_model: Model) -> ChatTokenizer:
    return ChatTokenizer(prepare_tokenizer(default_model, locate(default_model), engine.folder))


@pytest.mark.parametrize("text", TEXTS)
def test_pieces_join_to_the_text(chat: ChatTokenizer, text: str) -> None:
    pieces: list[str] = []
    stream = TextStream(chat.decode, pieces.append)
    for token in chat.encode_answer(text):
        stream.extend([token])
    stream.finish(complete=True)
    assert "".join(pieces) == stream.text == text
    assert not any("\ufffd" in piece for piece in pieces)
    assert len(pieces) > 1


def test_a_cut_answer_ends_before_half_a_character(chat: ChatTokenizer) -> None:
    ids = chat.encode_answer("ok 🌱")
    stream = TextStream(chat.decode)
    stream.extend(ids[:-1])
    stream.finish(complete=False)
    assert stream.text.strip() == "ok"
    assert stream.token_ids == ids[:-1]


def test_special_tokens_are_no_text(chat: ChatTokenizer) -> None:
    stream = TextStream(chat.decode)
    stream.extend([*chat.encode_answer("Done."), chat.inner.eos_token_id])
    stream.finish(complete=True)
    assert stream.text == "Done."


def test_an_exception_of_the_callback_is_carried(chat: ChatTokenizer) -> None:
    def broken(_: str) -> None:
        raise ZeroDivisionError

    stream = TextStream(chat.decode, broken)
    with pytest.raises(CallbackFailed) as caught:
        stream.extend(chat.encode_answer("word"))
    assert isinstance(caught.value.original, ZeroDivisionError)


def test_digits_are_tokens_of_their_own(chat: ChatTokenizer) -> None:
    """The rule "smollm" of the GGUF file, which transformers leaves out when it converts the tokenizer."""
    tokens = chat.inner.convert_ids_to_tokens(chat.encode_answer("  12  34"))
    assert tokens == ["ĠĠ", "1", "2", "ĠĠ", "3", "4"]


@pytest.mark.parametrize("damage", ["nothing", "no json"])
def test_a_tokenizer_that_can_not_be_read_is_said_in_one_sentence(damage: str, tmp_path: Path):
    (tmp_path / "config.json").write_text('{"model_type": "llama"}')
    if damage == "no json":
        (tmp_path / "tokenizer.json").write_text("{")
    with pytest.raises(InferenceError, match=r"^The tokenizer in .* can't be read\.") as caught:
        ChatTokenizer(tmp_path)
    assert "tokenizer.json" in caught.value.hint
