from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from tornado.httpclient import HTTPClientError
from tornado.websocket import WebSocketClientConnection

from jupyter_llmops.audit.journal import Journal
from jupyter_llmops.catalog import Catalog
from jupyter_llmops.server.bell import CHANGED_SCHEMA, TOPICS
from jupyter_llmops.server.extension import ServerState
from server_calls import add_documents, create_collection, stamp

Fetch = Callable[..., Awaitable[Any]]
Connect = Callable[..., Awaitable[WebSocketClientConnection]]


async def hear(socket: WebSocketClientConnection) -> tuple[str, int]:
    """Return topic and revision of the next event of ours."""
    while True:
        message = await socket.read_message()
        assert message is not None
        event = json.loads(message)
        if event["schema_id"] == CHANGED_SCHEMA:
            # It carries no data.
            told = {key for key in event if not key.startswith("__")}
            assert told - {"metadata"} == {"schema_id", "revision", "topic"}
            return event["topic"], event["revision"]


async def ring(jp_fetch: Fetch, body: str) -> int:
    answer = await jp_fetch("jupyter-llmops", "doorbell", method="POST", body=body)
    return int(answer.code)


async def listen(jp_ws_fetch: Connect) -> WebSocketClientConnection:
    return await jp_ws_fetch("api", "events", "subscribe")


async def test_the_doorbell_reaches_whoever_listens(jp_fetch: Fetch, jp_ws_fetch: Connect) -> None:
    socket = await listen(jp_ws_fetch)
    revisions = []
    for topic in TOPICS:
        assert await ring(jp_fetch, json.dumps({"topic": topic})) == 204
        heard, revision = await hear(socket)
        assert heard == topic
        revisions.append(revision)
    assert revisions == sorted(set(revisions))
    status = json.loads((await jp_fetch("jupyter-llmops", "status")).body)
    assert status["revision"] == revisions[-1]
    socket.close()


@pytest.mark.parametrize("body", ["", "[]", "{}", '{"topic": "everything"}', '{"topic": ["runs"]}', "{", "1"])
async def test_anything_else_is_refused_and_rings_nothing(
    jp_fetch: Fetch, jp_ws_fetch: Connect, body: str
) -> None:
    socket = await listen(jp_ws_fetch)
    with pytest.raises(HTTPClientError) as caught:
        await ring(jp_fetch, body)
    assert caught.value.code == 400
    assert set(json.loads(caught.value.response.body)) == {"message", "hint"}  # type: ignore[union-attr]
    await ring(jp_fetch, '{"topic": "gpus"}')
    assert (await hear(socket))[0] == "gpus"
    socket.close()


async def test_after_a_cell_the_run_can_be_read_when_the_last_event_comes(
    jp_fetch: Fetch, jp_ws_fetch: Connect, journal: Journal
) -> None:
    socket = await listen(jp_ws_fetch)
    run_id = stamp(journal)
    await ring(jp_fetch, '{"topic": "runs"}')
    while True:
        await until_heard(socket, "runs")
        found = json.loads((await jp_fetch("jupyter-llmops", "runs")).body)["runs"]
        if run_id in {run["id"] for run in found}:
            break
    socket.close()


async def test_what_another_process_publishes_is_heard_without_its_ringing(
    jp_ws_fetch: Connect, catalog_folder: Path, state: ServerState
) -> None:
    state.catalog.migrate()
    state.watch.look()
    socket = await listen(jp_ws_fetch)
    Catalog(catalog_folder, site="other", user="bob").prompts.publish("p", "one")
    await until_heard(socket, "prompts")
    socket.close()


async def until_heard(socket: WebSocketClientConnection, *topics: str) -> None:
    wanted = set(topics)
    while wanted:
        wanted.discard((await hear(socket))[0])


async def test_a_change_is_heard_by_all_who_may_show_it(
    jp_ws_fetch: Connect, catalog_folder: Path, state: ServerState
) -> None:
    state.catalog.migrate()
    other = Catalog(catalog_folder, site="other", user="bob")
    other.prompts.publish("p", "one")
    state.watch.look()
    socket = await listen(jp_ws_fetch)
    other.changes.move("prompt", "p", "alias:prod", 1)
    await until_heard(socket, "prompts", "models", "collections")
    socket.close()


async def test_a_collection_is_heard(jp_ws_fetch: Connect, catalog_folder: Path, state: ServerState) -> None:
    state.catalog.migrate()
    state.watch.look()
    socket = await listen(jp_ws_fetch)
    create_collection(Catalog(catalog_folder, site="other", user="bob"), "docs")
    await until_heard(socket, "collections")
    socket.close()


async def test_documents_that_are_added_are_heard(
    jp_ws_fetch: Connect, catalog_folder: Path, state: ServerState
) -> None:
    other = Catalog(catalog_folder, site="other", user="bob")
    create_collection(other, "docs")
    state.watch.look()
    socket = await listen(jp_ws_fetch)
    add_documents(other, "docs", {"a": "words"})
    await until_heard(socket, "collections")
    socket.close()


async def test_what_is_private_is_heard_too(jp_ws_fetch: Connect, state: ServerState) -> None:
    state.own.migrate()
    state.watch.look()
    socket = await listen(jp_ws_fetch)
    Catalog(state.own.location, site="lab", user="ada").prompts.publish("mine", "one")
    await until_heard(socket, "prompts")
    socket.close()
