"""Answers of endpoints that are well-formed enough to be read and odd enough to do harm."""

from __future__ import annotations

import json
from collections.abc import Iterator

import pytest

from jupyter_llmops.errors import EndpointAnswerError
from jupyter_llmops.inference.endpoints.engine import EndpointEngine
from jupyter_llmops.records.completion import Generation
from openai_server import OpenAIServer, Reply, endpoint_model, endpoint_request, serving

EMOJI = "\N{GRINNING FACE}"


@pytest.fixture(scope="module")
def server() -> Iterator[OpenAIServer]:
    with serving("a") as (server,):
        yield server


def streamed(server: OpenAIServer, *deltas: str, times: int = 1) -> tuple[Generation, list[str]]:
    """Ask for a stream of these JSON texts, each one delta's content."""
    events = [f'data: {{"choices": [{{"delta": {{"content": {delta}}}}}]}}\n\n' for delta in deltas] * times
    end = 'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n'
    server.trouble = lambda _: Reply(kind="text/event-stream", pieces=[*events, end])
    engine, model, pieces = EndpointEngine(), endpoint_model(server), list[str]()
    try:
        return engine.generate(endpoint_request(engine, model, "hi"), model, pieces.append), pieces
    finally:
        engine.close()


@pytest.mark.parametrize(
    ("deltas", "text"),
    [
        (('"a\\ud83d"', '"\\ude00b"'), f"a{EMOJI}b"),
        (('"a\\ud83d"', '""', '"\\ude00"'), f"a{EMOJI}"),
        (('"\\ud83d\\ude00"',), EMOJI),
        (('"\\ud83dx"', '"y"'), "\N{REPLACEMENT CHARACTER}xy"),
        (('"a\\ude00"',), "a\N{REPLACEMENT CHARACTER}"),
        (('"a\\ud83d"',), "a"),
    ],
)
def test_a_character_cut_in_halves_is_whole_again(
    server: OpenAIServer, deltas: tuple[str, ...], text: str
) -> None:
    generation, pieces = streamed(server, *deltas)
    assert generation.text == "".join(pieces) == text
    for piece in pieces:
        piece.encode("utf-8")


def test_a_whole_answer_can_be_stored_too(server: OpenAIServer) -> None:
    choice = '{"message": {"content": "a\\ud83d"}, "finish_reason": "stop"}'
    usage = f'{{"prompt_tokens": 1{"0" * 400}, "completion_tokens": 7}}'
    server.trouble = lambda _: Reply(body=f'{{"choices": [{choice}], "usage": {usage}}}')
    engine, model, found = EndpointEngine(), endpoint_model(server), list[object]()
    engine.generate_many([endpoint_request(engine, model, "hi")], model, lambda _, one: found.append(one))
    engine.close()
    (generation,) = found
    assert isinstance(generation, Generation)
    assert (generation.text, generation.tokens_in, generation.tokens_out) == (
        "a\N{REPLACEMENT CHARACTER}", 0, 7,
    )  # fmt: skip


def test_parts_nested_without_end_stop_nobody(server: OpenAIServer) -> None:
    depth = 400
    text = '[{"text": ' * depth + '"x"' + "}]" * depth
    assert streamed(server, text)[0].text == ""


def test_a_stream_without_end_is_cut_off(server: OpenAIServer) -> None:
    with pytest.raises(EndpointAnswerError, match="sent more than 16 MiB for one answer"):
        streamed(server, json.dumps("word " * 100_000), times=40)
