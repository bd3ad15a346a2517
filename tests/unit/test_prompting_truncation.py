"""Cutting a chat to the context: what goes, what stays, and that it is said."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from hypothesis import given
from hypothesis import strategies as st

from jupyter_llmops.prompting.truncation import cut_to_fit
from jupyter_llmops.records.request import Message

CHAT = (
    Message("system", "Be brief."),
    Message("user", "first question"),
    Message("assistant", "first answer"),
    Message("user", "second question"),
)


def room(characters: int) -> Callable[[Sequence[Message]], bool]:
    return lambda messages: sum(len(message.content) for message in messages) <= characters


def test_what_fits_is_sent_as_it_is() -> None:
    assert cut_to_fit(CHAT, room(1000)) == (CHAT, "")


def test_the_oldest_turns_go_first_and_the_system_message_stays() -> None:
    sent, said = cut_to_fit(CHAT, room(40))
    assert [message.content for message in sent] == ["Be brief.", "first answer", "second question"]
    assert said == "Cut to fit the context: the oldest message."
    sent, said = cut_to_fit(CHAT, room(30))
    assert [message.content for message in sent] == ["Be brief.", "second question"]
    assert "the 2 oldest messages" in said


def test_then_the_middle_of_the_last_message_goes() -> None:
    text = "BEGIN " + "x" * 5000 + " END"
    (sent,), said = cut_to_fit([Message("user", text)], room(100))
    assert sent.content.startswith("BEGIN ")
    assert sent.content.endswith(" END")
    assert "[…]" in sent.content
    assert len(sent.content) == 100
    assert "4,915 characters from the middle of the last message" in said


def test_what_can_not_be_cut_to_fit_is_left_to_the_engine_to_refuse() -> None:
    assert cut_to_fit(CHAT, room(3)) == (CHAT, "")


@given(st.lists(st.text(max_size=60), min_size=1, max_size=5), st.integers(0, 200))
def test_it_fits_or_is_as_it_was(texts: list[str], characters: int) -> None:
    chat = [Message("user", text) for text in texts]
    fits = room(characters)
    sent, said = cut_to_fit(chat, fits)
    assert fits(sent) or (list(sent) == chat and not said)
    assert bool(said) == (list(sent) != chat)
