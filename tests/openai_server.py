"""An OpenAI-compatible server on the loopback that behaves, or misbehaves as it is told; a real uvicorn.

Its counterpart with a real model is in tests/unit/test_inference_scan_endpoint.py.
"""

from __future__ import annotations

import asyncio
import json
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import uvicorn

from jupyter_llmops.inference.endpoints.engine import EndpointEngine
from jupyter_llmops.records.model import Model
from jupyter_llmops.records.request import GenerationParameters, InferenceRequest, Message

# From the body of a request to (status, headers, body): what it does instead of answering.
Trouble = Callable[[dict[str, Any]], "Reply | None"]


@dataclass
class Reply:
    """What is sent: a status with a body, or pieces of one, after which the connection may be cut."""

    status: int = 200
    body: str | bytes = ""
    kind: str = "application/json"
    headers: dict[str, str] = field(default_factory=dict)
    pieces: list[str] = field(default_factory=list)
    cut: bool = False
    hang: bool = False


def error(status: int, message: str = "", code: str = "", **headers: str) -> Reply:
    """Return an error as OpenAI writes it."""
    return Reply(status, json.dumps({"error": {"message": message, "code": code}}), headers=headers)


class OpenAIServer:
    """Answers ``echo: <last message>``, three words a chunk where it streams.

    Attributes
    ----------
    delay : float
        Seconds before it answers; trouble comes at once.
    trouble : callable or None
        Sees each request first.
    asked : list of dict
        The bodies, in order; `keys` has the ``Authorization`` headers.
    most_at_once : int
        How many requests were open at the same time.
    """

    def __init__(self, name: str = "server") -> None:
        self.name = name
        self.delay = 0.0
        self.trouble: Trouble | None = None
        self.usage = True
        self.asked: list[dict[str, Any]] = []
        self.keys: list[str | None] = []
        self.times: list[float] = []
        self.open = self.most_at_once = 0
        self.address = ""
        self._server: uvicorn.Server | None = None

    def start(self) -> OpenAIServer:
        """Listen on a free port."""
        # Named, so that asyncio turns Nagle's algorithm off as it does for sockets of its own.
        listening = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        listening.bind(("127.0.0.1", 0))
        self.address = f"http://127.0.0.1:{listening.getsockname()[1]}/v1"
        config = uvicorn.Config(
            self._app, interface="asgi3", log_level="critical", lifespan="off", date_header=False
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=self._server.run, args=([listening],), daemon=True)
        self._thread.start()
        deadline = time.monotonic() + 20
        while not self._server.started:
            assert time.monotonic() < deadline, "the server did not start"
            time.sleep(0.005)
        return self

    def stop(self) -> None:
        """Stop listening; what still runs is cut."""
        assert self._server is not None
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(20)

    async def _app(self, scope: Any, receive: Any, send: Any) -> None:
        assert scope["type"] == "http"
        body = await _body(receive)
        headers = {name.decode(): value.decode() for name, value in scope["headers"]}
        if scope["path"] != "/v1/chat/completions":
            await _send(send, error(404, f"Unknown path {scope['path']}"))
            return
        asked = json.loads(body)
        self.asked.append(asked)
        self.keys.append(headers.get("authorization"))
        self.times.append(time.monotonic())
        self.open += 1
        self.most_at_once = max(self.most_at_once, self.open)
        try:
            reply = self.trouble(asked) if self.trouble else None
            if reply is None:
                await asyncio.sleep(self.delay)
                reply = self._answer(asked)
        finally:
            self.open -= 1  # before the client knows: it may come again at once
        await _send(send, reply)

    def _answer(self, asked: dict[str, Any]) -> Reply:
        words = f"echo: {asked['messages'][-1]['content']}".split(" ")
        limit = asked.get("max_tokens") or asked["max_completion_tokens"]
        finish = "length" if len(words) > limit else "stop"
        text = " ".join(words[:limit])
        facts = {"id": "x", "model": f"{asked['model']}-2026-01-01", "system_fingerprint": f"fp_{self.name}"}
        usage = {"prompt_tokens": 7, "completion_tokens": min(len(words), limit)} if self.usage else None
        if not asked.get("stream"):
            choice = {"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}
            return Reply(body=json.dumps({**facts, "choices": [choice], "usage": usage}))
        return Reply(kind="text/event-stream", pieces=stream_of(text, finish, facts, usage))


def stream_of(
    text: str, finish: str | None, facts: dict[str, Any], usage: dict[str, int] | None
) -> list[str]:
    """Return the server-sent events of an answer; without `finish` it ends in the middle."""
    words = text.split(" ")
    groups = [" ".join(words[i : i + 3]) for i in range(0, len(words), 3)]
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}]
    deltas += [{"content": group if i == 0 else f" {group}"} for i, group in enumerate(groups)]
    events = [{**facts, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    if finish:
        events.append({**facts, "choices": [{"index": 0, "delta": {}, "finish_reason": finish}]})
        if usage:
            events.append({**facts, "choices": [], "usage": usage})
    lines = [f"data: {json.dumps(event)}\n\n" for event in events]
    return [": a comment\n\n", *lines, *(["data: [DONE]\n\n"] if finish else [])]


async def _body(receive: Any) -> bytes:
    parts = []
    while True:
        event = await receive()
        parts.append(event.get("body", b""))
        if not event.get("more_body"):
            return b"".join(parts)


async def _send(send: Any, reply: Reply) -> None:
    headers = [(name.encode(), value.encode()) for name, value in reply.headers.items()]
    headers.append((b"content-type", reply.kind.encode()))
    if reply.cut and not reply.pieces:
        headers.append((b"content-length", b"100000"))
    await send({"type": "http.response.start", "status": reply.status, "headers": headers})
    for piece in reply.pieces:
        await send({"type": "http.response.body", "body": piece.encode(), "more_body": True})
        await asyncio.sleep(0)
    if reply.hang:
        await asyncio.sleep(60)
    body = reply.body.encode() if isinstance(reply.body, str) else reply.body
    if reply.cut:
        await send({"type": "http.response.body", "body": body, "more_body": True})
        raise ConnectionAbortedError  # uvicorn closes the connection without ending the answer
    await send({"type": "http.response.body", "body": body})


@contextmanager
def serving(*names: str) -> Iterator[list[OpenAIServer]]:
    """Start servers and stop them in the end."""
    servers = [OpenAIServer(name).start() for name in names or ("server",)]
    try:
        yield servers
    finally:
        for server in servers:
            server.stop()


def endpoint_model(server: OpenAIServer, name: str = "gpt", credential: str = "") -> Model:
    """Return the model "big" of a server as the catalog would have it."""
    source = f"endpoint:{server.address}#big"
    return Model(name=name, kind="llm", source=source, format="endpoint", credential=credential)


def endpoint_request(
    engine: EndpointEngine, model: Model, text: str, output_schema: str = "", **parameters: Any
) -> InferenceRequest:
    """Return the request that asks an endpoint one thing."""
    identity = engine.identify(model, "auto")
    return InferenceRequest(
        model=model.name,
        model_digest="",
        messages=(Message("user", text),),
        parameters=GenerationParameters(**parameters),
        engine=identity.engine,
        engine_version=identity.engine_version,
        quantization=identity.quantization,
        device=identity.device,
        output_schema=output_schema,
        engine_options=identity.options,
    )
