"""Comparing a record with what came out again."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import pytest

from jupyter_llmops.errors import ReproduceError
from jupyter_llmops.records.run import Run
from jupyter_llmops.reproduce.inference import compare
from jupyter_llmops.reproduce.record import RecordedPrompt, recorded_prompt

LEAF: dict[str, Any] = {
    "model": "m",
    "model_digest": "sha256:00",
    "model_source": "folder:/models/m",
    "parameters": {"max_new_tokens": 5, "temperature": 0.0, "seed": None, "extra": {}},
    "engine": "transformers",
    "engine_version": "transformers 5",
    "quantization": "nf4",
    "device": "cpu",
    "finish_reason": "stop",
}
CONTENT = {"message.000.user": "Hi", "response": "one two three", "token_ids": "[1, 2, 3]", "template": "Hi"}
RUN = Run("ab" * 8, "s", 3, "prompt", "ok", datetime.now(UTC), 1.0, "u", "h", source="cache", leaf=LEAF)


def record(**leaf: Any) -> RecordedPrompt:
    return recorded_prompt(replace(RUN, leaf=LEAF | leaf), CONTENT)


def answer(text: str, ids: list[int], **changed: Any) -> dict[str, Any]:
    return {
        "text": text,
        "token_ids": ids,
        "seconds": 0.5,
        "pid": 1,
        "engine_version": "transformers 5",
        "device": "cpu",
        "finish_reason": "stop",
    } | changed


def test_the_same_tokens_are_identical() -> None:
    result = compare(record(), answer("one two three", [1, 2, 3]))
    assert result.identical
    assert result.difference is None
    assert result.record_was_hit


def test_the_first_difference_is_shown() -> None:
    result = compare(record(), answer("one too three", [1, 9, 3]))
    assert not result.identical
    assert result.difference is not None
    assert (result.difference.character, result.difference.token) == (5, 1)
    assert result.difference.before == "one t"
    assert result.difference.recorded == "wo three"
    assert result.difference.inferred == "oo three"


def test_a_shorter_answer_differs_at_its_end() -> None:
    result = compare(record(), answer("one two", [1, 2]))
    assert result.difference is not None
    assert result.difference.token == 2
    assert result.difference.inferred == ""


def test_other_tokens_with_the_same_text_are_not_identical() -> None:
    assert not compare(record(), answer("one two three", [1, 2, 4])).identical


def test_an_interrupted_record_is_compared_as_far_as_it_goes() -> None:
    result = compare(record(finish_reason="interrupted"), answer("one two three four", [1, 2, 3, 4]))
    assert result.identical


def test_reasons_name_what_changed() -> None:
    sampled = {"max_new_tokens": 5, "temperature": 0.7, "seed": None, "extra": {}}
    result = compare(
        record(parameters=sampled), answer("x", [7], engine_version="transformers 6", device="cuda")
    )
    assert len(result.reasons) == 3
    assert "without a seed" in result.reasons[0]
    assert "transformers 6" in result.reasons[1]


def test_a_batch_is_a_reason_unless_it_was_graded_or_exact() -> None:
    other = answer("x", [7])
    assert "a batch of 8" in compare(record(batch_size=8), other).reasons[0]
    assert compare(record(batch_size=8, determinism="same tokens"), other).reasons == ()
    assert compare(record(batch_size=8, exact=True), other).reasons == ()
    assert compare(record(batch_size=1), other).reasons == ()


def test_the_whole_request_comes_back_from_the_record() -> None:
    request = record().request
    assert request.messages[0].role == "user"
    assert request.messages[0].content == "Hi"
    assert request.parameters.max_new_tokens == 5


@pytest.mark.parametrize(
    ("run", "content", "message"),
    [
        (replace(RUN, kind="cell"), CONTENT, "only a prompt"),
        (RUN, None, "not on this machine"),
        (replace(RUN, leaf=LEAF | {"redacted": ["openai-key"]}), CONTENT, "openai-key"),
        (RUN, {"template": "Hi"}, "without an answer"),
        (replace(RUN, leaf={}), CONTENT, "form that this version can't read"),
        (RUN, CONTENT | {"token_ids": "nonsense"}, "form that this version can't read"),
    ],
)
def test_a_record_that_is_not_enough_says_what_is_missing(run: Run, content: Any, message: str) -> None:
    with pytest.raises(ReproduceError, match=message):
        recorded_prompt(run, content)
