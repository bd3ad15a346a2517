"""Endpoints over a real HTTP server on the loopback: answers, streams, and every way to fail."""

from __future__ import annotations

import _thread
import json
import logging
import pickle
import threading
import time
from collections.abc import Iterator
from typing import Any

import pytest

from jupyter_llmops.errors import (
    ContextError,
    EndpointAnswerError,
    EndpointError,
    EndpointLimitError,
    EndpointRefusedError,
    EndpointUnreachableError,
    InferenceError,
    LLMOpsError,
    OutputSchemaError,
    UsageError,
)
from jupyter_llmops.inference.endpoints.engine import EndpointEngine
from jupyter_llmops.inference.endpoints.policy import EndpointOptions
from jupyter_llmops.inference.endpoints.pool import pool_of
from jupyter_llmops.records.completion import Generation
from jupyter_llmops.records.model import Model
from openai_server import OpenAIServer, Reply, endpoint_model, endpoint_request, error, serving, stream_of

KEY = "sk-team-0123456789abcdef"


@pytest.fixture(scope="module")
def running() -> Iterator[list[OpenAIServer]]:
    with serving("a", "b") as servers:
        yield servers


@pytest.fixture
def servers(running: list[OpenAIServer]) -> list[OpenAIServer]:
    for server in running:
        server.delay, server.trouble, server.usage, server.most_at_once = 0.0, None, True, 0
        server.asked, server.keys, server.times = [], [], []
    return running


@pytest.fixture
def server(servers: list[OpenAIServer]) -> OpenAIServer:
    return servers[0]


@pytest.fixture
def engine() -> Iterator[EndpointEngine]:
    engine = EndpointEngine()
    yield engine
    engine.close()


def many(engine: EndpointEngine, model: Model, texts: list[str], **parameters: Any) -> list[Any]:
    """Return what came of each text; fails where one came twice or not at all."""
    requests = [endpoint_request(engine, model, text, **parameters) for text in texts]
    found: dict[int, Any] = {}

    def on_done(position: int, outcome: Generation | LLMOpsError) -> None:
        assert threading.current_thread() is threading.main_thread()
        assert position not in found
        found[position] = outcome

    engine.generate_many(requests, model, on_done)
    return [found[position] for position in range(len(texts))]


def pool(*servers: OpenAIServer, spec: str = "a,b") -> Model:
    by_name = {server.name: endpoint_model(server, server.name) for server in servers}
    return pool_of(spec, by_name.__getitem__)


def test_an_answer_with_all_that_the_endpoint_says_of_it(
    server: OpenAIServer, engine: EndpointEngine
) -> None:
    model = endpoint_model(server)
    found = engine.generate(endpoint_request(engine, model, "Grüße an 東京", seed=3, temperature=0.5), model)
    assert (found.text, found.finish_reason) == ("echo: Grüße an 東京", "stop")
    assert (found.tokens_in, found.tokens_out, found.token_ids) == (7, 4, ())
    assert (found.served_by, found.served_version) == (server.address, "big-2026-01-01 fp_a")
    assert found.seconds > 0
    assert server.asked[0] | {"stream_options": None} == {
        "model": "big", "messages": [{"role": "user", "content": "Grüße an 東京"}], "max_tokens": 256,
        "temperature": 0.5, "seed": 3, "stream": True, "stream_options": None,
    }  # fmt: skip


def test_text_comes_in_pieces_in_the_calling_thread(server: OpenAIServer, engine: EndpointEngine) -> None:
    model, pieces, threads = endpoint_model(server), list[str](), set[Any]()

    def on_text(piece: str) -> None:
        pieces.append(piece)
        threads.add(threading.current_thread())

    found = engine.generate(
        endpoint_request(engine, model, "one two three four", max_new_tokens=4), model, on_text
    )
    assert pieces == ["echo: one two", " three"]
    assert "".join(pieces) == found.text
    assert found.finish_reason == "length"
    assert threads == {threading.main_thread()}


def test_what_the_endpoint_does_not_count_stays_zero(server: OpenAIServer, engine: EndpointEngine) -> None:
    server.usage = False
    model = endpoint_model(server)
    found = engine.generate(endpoint_request(engine, model, "x"), model)
    assert (found.tokens_in, found.tokens_out) == (0, 0)


def test_a_map_runs_as_many_at_once_as_allowed_and_each_row_comes_once(server: OpenAIServer) -> None:
    server.delay = 0.01
    engine = EndpointEngine(lambda: EndpointOptions({"gpt": {"concurrency": 3}}))
    texts = [f"row {index}" for index in range(40)]
    found = many(engine, endpoint_model(server), texts)
    assert [one.text for one in found] == [f"echo: {text}" for text in texts]
    assert server.most_at_once == 3
    assert len(server.asked) == 40
    engine.close()


WAYS_TO_FAIL: list[tuple[str, Any, type[LLMOpsError], str, int]] = [
    ("key", lambda _: error(401, f"Incorrect API key {KEY}"), EndpointRefusedError, r"refuses access \(401\)", 1),
    ("name", lambda _: error(404, "No such model"), EndpointRefusedError, r"knows no model 'big' \(404\)", 1),
    ("quota", lambda _: error(429, "pay", "insufficient_quota"), EndpointLimitError, "quota .* is used up", 1),
    ("minute", lambda _: error(429, **{"Retry-After": "60"}), EndpointLimitError, r"come back in (5\d|60) s", 1),
    ("page", lambda _: Reply(body="<html>", kind="text/html"), EndpointAnswerError, "answers with a web page", 1),
    ("other", lambda _: Reply(body='{"a": 1}'), EndpointAnswerError, "no chat completion", 1),
    ("list", lambda _: Reply(body="[]"), EndpointAnswerError, "no chat completion", 1),
    ("filter", lambda _: Reply(
        body='{"choices": [{"message": {"content": ""}, "finish_reason": "content_filter"}]}'
    ), EndpointAnswerError, "declined to answer", 1),
    ("moved", lambda _: Reply(307, headers={"location": "http://127.0.0.1:9/"}), EndpointAnswerError, "not followed", 1),
    ("odd", lambda _: error(400, f"bad {KEY}\nthing"), EndpointError, r"this request \(400\): bad … thing\.", 1),
    ("long", lambda _: error(400, "maximum context length is 12"), ContextError, "too long for 'big'", 1),
    ("inside", lambda _: Reply(body='{"error": {"code": 401}}'), EndpointRefusedError, "refuses access", 1),
]  # fmt: skip


@pytest.mark.parametrize(
    ("trouble", "kind", "said", "asked"), [w[1:] for w in WAYS_TO_FAIL], ids=[w[0] for w in WAYS_TO_FAIL]
)
def test_each_way_to_fail_is_one_sentence_without_the_key(
    server: OpenAIServer, engine: EndpointEngine, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture,
    trouble: Any, kind: type[LLMOpsError], said: str, asked: int,
) -> None:  # fmt: skip
    caplog.set_level(logging.DEBUG)
    monkeypatch.setenv("TEAM_KEY", KEY)
    server.trouble = trouble
    model = endpoint_model(server, credential="env:TEAM_KEY")
    with pytest.raises(kind, match=said) as caught:
        engine.generate(endpoint_request(engine, model, "hi"), model)
    assert type(caught.value) is kind
    assert "\n" not in str(caught.value)
    assert server.keys == [f"Bearer {KEY}"] * asked
    seen: BaseException | None = caught.value
    while seen is not None:
        assert KEY not in f"{seen!r} {seen} {vars(seen)}"
        seen = seen.__cause__ or seen.__context__
    assert KEY.encode() not in pickle.dumps(caught.value)
    assert KEY not in caplog.text


def test_an_endpoint_that_is_down_says_so_within_seconds(engine: EndpointEngine) -> None:
    with serving() as (server,):
        model = endpoint_model(server)
        request = endpoint_request(engine, model, "hi")
    with pytest.raises(EndpointUnreachableError, match="is down: nothing listens there"):
        engine.generate(request, model)


def test_an_endpoint_that_is_silent_is_too_slow(server: OpenAIServer) -> None:
    server.trouble = lambda _: Reply(pieces=["{"], hang=True)
    engine = EndpointEngine(lambda: EndpointOptions({"gpt": {"timeout": 0.2, "patience": 0.1}}))
    (found,) = many(engine, endpoint_model(server), ["hi"])
    assert isinstance(found, EndpointUnreachableError)
    assert "is too slow: it was silent for 0.2 s" in str(found)
    engine.close()


@pytest.mark.parametrize("abrupt", [True, False])
def test_a_stream_that_is_cut_is_no_answer_and_what_was_shown_is_not_shown_again(
    server: OpenAIServer, engine: EndpointEngine, abrupt: bool
) -> None:
    server.trouble = lambda _: Reply(
        kind="text/event-stream", pieces=stream_of("half an answer", None, {}, None), cut=abrupt
    )
    model, pieces = endpoint_model(server), list[str]()
    with pytest.raises(EndpointUnreachableError, match="cut the connection after 14 characters"):
        engine.generate(endpoint_request(engine, model, "hi"), model, pieces.append)
    assert pieces == ["half an answer"]
    assert len(server.asked) == 1


def test_a_cut_stream_that_nobody_saw_is_asked_again(server: OpenAIServer, engine: EndpointEngine) -> None:
    server.trouble = lambda _: (
        Reply(kind="text/event-stream", pieces=stream_of("half", None, {}, None), cut=True)
        if len(server.asked) == 1
        else None
    )
    model = endpoint_model(server)
    assert engine.generate(endpoint_request(engine, model, "hi"), model).text == "echo: hi"


def test_a_failure_that_passes_costs_no_row(server: OpenAIServer, engine: EndpointEngine) -> None:
    def trouble(_: Any) -> Reply | None:
        number = len(server.asked)
        return [error(500), error(503), Reply(cut=True)][number // 3 % 3] if number % 3 == 0 else None

    server.trouble = trouble
    found = many(engine, endpoint_model(server), [f"row {index}" for index in range(12)])
    assert [one.text for one in found] == [f"echo: row {index}" for index in range(12)]


@pytest.mark.parametrize("form", ["seconds", "milliseconds", "date"])
def test_nobody_comes_back_before_the_endpoint_asked(
    server: OpenAIServer, engine: EndpointEngine, form: str
) -> None:
    headers = {
        "seconds": {"Retry-After": "1"},
        "milliseconds": {"retry-after-ms": "700"},
        # Its clock is years behind: the difference counts.
        "date": {"Retry-After": "Thu, 01 Jan 2015 00:00:01 GMT", "Date": "Thu, 01 Jan 2015 00:00:00 GMT"},
    }[form]
    refused: list[float] = []

    def trouble(_: Any) -> Reply | None:
        if refused:
            return None
        refused.append(time.monotonic())
        return error(429, **headers)

    server.trouble = trouble
    model = endpoint_model(server)
    assert engine.generate(endpoint_request(engine, model, "hi"), model).text == "echo: hi"
    assert server.times[-1] - refused[0] >= (0.7 if form == "milliseconds" else 1.0)
    assert len(server.asked) == 2


def test_a_rest_that_was_asked_for_holds_for_the_next_cell_too(
    server: OpenAIServer, engine: EndpointEngine
) -> None:
    server.trouble = lambda _: error(429, **{"Retry-After": "60"})
    model = endpoint_model(server)
    for _ in range(2):
        with pytest.raises(EndpointLimitError, match=r"come back in (5\d|60) s"):
            engine.generate(endpoint_request(engine, model, "hi"), model)
    assert len(server.asked) == 1


def test_a_map_keeps_what_it_has_and_leaves_a_broken_endpoint_alone(server: OpenAIServer) -> None:
    engine = EndpointEngine(lambda: EndpointOptions({"gpt": {"concurrency": 2, "patience": 0.5}}))
    server.trouble = lambda _: error(401) if len(server.asked) > 10 else None
    found = many(engine, endpoint_model(server), [f"row {index}" for index in range(300)])
    answered = [one for one in found if isinstance(one, Generation)]
    assert len(answered) == 10
    assert all(isinstance(one, EndpointRefusedError) for one in found if one not in answered)
    assert len(server.asked) <= 15  # not once for each of the 290 rows
    server.trouble = None  # the key was put right; the cell is run again
    assert all(isinstance(one, Generation) for one in many(engine, endpoint_model(server), ["x", "y"]))
    engine.close()


def test_slow_first_answers_are_waited_for_although_other_rows_fail(server: OpenAIServer) -> None:
    engine = EndpointEngine(lambda: EndpointOptions({"gpt": {"concurrency": 6, "patience": 0.4}}))
    server.delay = 1.5

    def trouble(asked: dict[str, Any]) -> Reply | None:
        return error(500) if "bad" in asked["messages"][0]["content"] else None

    server.trouble = trouble
    texts = ["bad 1", "bad 2", "bad 3", "bad 4", *(f"row {index}" for index in range(6))]
    found = many(engine, endpoint_model(server), texts)
    assert all(isinstance(one, EndpointUnreachableError) for one in found[:4])
    assert [getattr(one, "text", one) for one in found[4:]] == [f"echo: row {index}" for index in range(6)]
    engine.close()


def test_a_bad_row_concerns_that_row_only(server: OpenAIServer, engine: EndpointEngine) -> None:
    server.trouble = lambda asked: error(400, "no") if "bad" in asked["messages"][0]["content"] else None
    found = many(engine, endpoint_model(server), ["a", "bad 1", "bad 2", "bad 3", "bad 4", "b"])
    assert [isinstance(one, EndpointError) for one in found] == [False, True, True, True, True, False]
    assert len(server.asked) == 6


def test_a_pool_shares_by_weight(servers: list[OpenAIServer], engine: EndpointEngine) -> None:
    for server in servers:
        server.delay = 0.02
    found = many(engine, pool(*servers, spec="a=3,b"), [f"row {index}" for index in range(80)])
    assert len({one.served_by for one in found}) == 2
    share = len(servers[0].asked) / 80
    assert 0.65 <= share <= 0.85


def test_single_prompts_share_by_weight_too(servers: list[OpenAIServer], engine: EndpointEngine) -> None:
    model = pool(*servers, spec="a=3,b")
    for index in range(80):
        engine.generate(endpoint_request(engine, model, f"row {index}"), model)
    assert 0.5 <= len(servers[0].asked) / 80 <= 0.95  # 0.75 ± 0.05; outside once in a million runs


def test_each_endpoint_of_a_pool_has_its_own_limit(servers: list[OpenAIServer]) -> None:
    limited = EndpointEngine(lambda: EndpointOptions({"a": {"concurrency": 1}}))
    for server in servers:
        server.delay = 0.02
    many(limited, pool(*servers), [f"row {index}" for index in range(40)])
    assert (servers[0].most_at_once, servers[1].most_at_once) == (1, 8)
    limited.close()


def test_a_pool_goes_on_with_what_is_left(servers: list[OpenAIServer], engine: EndpointEngine) -> None:
    servers[0].trouble = lambda _: error(500) if len(servers[0].asked) > 5 else None
    found = many(engine, pool(*servers), [f"row {index}" for index in range(100)])
    assert all(isinstance(one, Generation) for one in found)
    # A row that failed there goes to the other at once; the failing one is left alone more and more.
    assert len(servers[0].asked) < 40
    servers[0].trouble = servers[1].trouble = lambda _: error(403)
    found = many(engine, pool(*servers), ["x"] * 50)
    assert all(isinstance(one, EndpointRefusedError) for one in found)


def test_requests_a_minute_are_kept(server: OpenAIServer, engine: EndpointEngine) -> None:
    limited = EndpointEngine(lambda: EndpointOptions({"127.0.0.1": {"requests_per_minute": 2}}))
    model = endpoint_model(server)
    requests = [endpoint_request(limited, model, f"row {index}") for index in range(4)]
    done: list[int] = []

    def on_done(position: int, _: object) -> None:
        done.append(position)
        if len(done) == 2:
            threading.Timer(0.3, _thread.interrupt_main).start()

    with pytest.raises(KeyboardInterrupt):
        limited.generate_many(requests, model, on_done)
    assert len(server.asked) == 2
    limited.close()


def test_ctrl_c_keeps_the_rows_that_came(server: OpenAIServer, engine: EndpointEngine) -> None:
    server.trouble = lambda asked: Reply(hang=True) if len(server.asked) > 4 else None
    model = endpoint_model(server)
    requests = [endpoint_request(engine, model, f"row {index}") for index in range(30)]
    done: dict[int, Any] = {}

    def on_done(position: int, outcome: Any) -> None:
        done[position] = outcome
        if len(done) == 4:
            threading.Timer(0.1, _thread.interrupt_main).start()

    with pytest.raises(KeyboardInterrupt):
        engine.generate_many(requests, model, on_done)
    assert len(done) == 4
    server.trouble = None
    assert engine.generate(requests[29], model).text == "echo: row 29"  # the engine goes on


def test_ctrl_c_keeps_what_came_of_an_answer(server: OpenAIServer, engine: EndpointEngine) -> None:
    pieces = stream_of("so far so good", None, {}, None)
    server.trouble = lambda _: Reply(kind="text/event-stream", pieces=pieces, hang=True)
    model, seen = endpoint_model(server), list[str]()

    def on_text(piece: str) -> None:
        seen.append(piece)
        if len(seen) == 2:
            threading.Timer(0.05, _thread.interrupt_main).start()

    found = engine.generate(endpoint_request(engine, model, "hi"), model, on_text)
    assert (found.text, found.finish_reason) == ("so far so good", "interrupted")


def test_a_failing_callback_passes_through(server: OpenAIServer, engine: EndpointEngine) -> None:
    def on_text(_: str) -> None:
        raise ZeroDivisionError

    model = endpoint_model(server)
    with pytest.raises(ZeroDivisionError):
        engine.generate(endpoint_request(engine, model, "hi"), model, on_text)


def test_a_schema_is_asked_for_and_checked(server: OpenAIServer, engine: EndpointEngine) -> None:
    schema = {
        "type": "object",
        "properties": {"n": {"type": "integer"}},
        "required": ["n"],
        "additionalProperties": False,
    }
    text, model = json.dumps(schema), endpoint_model(server)

    def answer(content: str) -> Any:
        return lambda _: Reply(body=json.dumps({"choices": [{"message": {"content": content}}]}))

    server.trouble = answer('{"n": 3}')
    assert engine.generate(endpoint_request(engine, model, "hi", text), model).text == '{"n": 3}'
    form = server.asked[0]["response_format"]
    assert form["type"] == "json_schema"
    assert (form["json_schema"]["schema"], form["json_schema"]["strict"]) == (schema, True)
    server.trouble = answer('{"n": "three"}')
    with pytest.raises(OutputSchemaError):
        engine.generate(endpoint_request(engine, model, "hi", text), model)


@pytest.mark.parametrize(
    ("complaint", "changed"),
    [
        (
            "Unsupported parameter: 'max_tokens'. Use 'max_completion_tokens' instead.",
            "max_completion_tokens",
        ),
        ("Unknown field stream_options", "stream_options"),
    ],
)
def test_a_field_that_an_endpoint_wants_otherwise_is_sent_so(
    server: OpenAIServer, engine: EndpointEngine, complaint: str, changed: str
) -> None:
    server.trouble = lambda _: error(400, complaint) if len(server.asked) == 1 else None
    model = endpoint_model(server)
    for text in ("one", "two"):
        assert engine.generate(endpoint_request(engine, model, text), model).text == f"echo: {text}"
    assert len(server.asked) == 3  # remembered for the second prompt
    assert (changed in server.asked[2]) is (changed == "max_completion_tokens")


def test_a_proxy_never_stands_before_this_machine(
    server: OpenAIServer, engine: EndpointEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("HTTP_PROXY", "ALL_PROXY", "http_proxy", "all_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.delenv("NO_PROXY", raising=False)
    monkeypatch.delenv("no_proxy", raising=False)
    model = endpoint_model(server)
    assert engine.generate(endpoint_request(engine, model, "hi"), model).text == "echo: hi"


def test_what_an_endpoint_decides_itself_is_refused(engine: EndpointEngine, server: OpenAIServer) -> None:
    model = endpoint_model(server)
    for options in ({"quantization": "nf4"}, {"quantization": "auto", "exact": True}):
        with pytest.raises(UsageError):
            engine.identify(model, **options)
    with pytest.raises(UsageError, match="does not know the parameter 'num_beams'"):
        engine.generate(endpoint_request(engine, model, "hi", extra=(("num_beams", 2),)), model)
    other = Model(name="gpt", kind="llm", source=f"endpoint:{server.address}#small", format="endpoint")
    with pytest.raises(InferenceError, match="for another endpoint"):
        engine.generate(endpoint_request(engine, other, "hi"), model)
    assert server.asked == []


def test_a_key_that_is_not_there_is_missed_before_anybody_is_asked(
    engine: EndpointEngine, server: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("NO_SUCH_KEY", raising=False)
    model = endpoint_model(server, credential="env:NO_SUCH_KEY")
    with pytest.raises(InferenceError, match="NO_SUCH_KEY is empty or not set"):
        engine.load(model, "auto")
    assert server.asked == []
