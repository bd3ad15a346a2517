"""What the routes tell of the shared catalog: aliases, versions, collections, what is private or retired."""

from __future__ import annotations

import json
import sys
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

import pytest
from tornado.httpclient import HTTPClientError, HTTPResponse

from jupyter_llmops.audit.journal import Journal
from jupyter_llmops.records.model import Model
from jupyter_llmops.server.extension import ServerState
from jupyter_llmops.server.routes.prompts import MOST_CHARACTERS
from jupyter_llmops.settings import private_catalog
from server_calls import add_documents, create_collection

Fetch = Callable[..., Awaitable[HTTPResponse]]

# An Arabic name, one that turns the writing around, markup, SQL, what a URL and a shell would read.
HOSTILE = [
    "\u0645\u0644\u062e\u0635",
    "a' OR name <> 'b",
    "<script>alert(1)</script>",
    "x&private=1#y?name=z",
    "../../etc/passwd",
    "100 %25",
]


async def read(jp_fetch: Fetch, *route: str, **query: str) -> Any:
    return json.loads((await jp_fetch("jupyter-llmops", *route, params=query)).body)


async def refused(jp_fetch: Fetch, *route: str, **query: str) -> tuple[int, dict[str, str]]:
    with pytest.raises(HTTPClientError) as caught:
        await jp_fetch("jupyter-llmops", *route, params=query)
    assert caught.value.response is not None
    return caught.value.code, json.loads(caught.value.response.body)


# Models


async def test_a_model_tells_what_points_to_it_and_where_it_lies(jp_fetch: Fetch, state: ServerState) -> None:
    models = state.catalog.models
    models.add(
        Model("m", "llm", "folder:/m", digest="sha256:aa", quantizations=("Q4_1",), format="gguf", base="b")
    )
    models.point("prod", "m")
    models.add_place("m", "storage:files", site="storage")
    models.describe("m", "the one")
    models.tag("m", ["fast"])
    shown = {model["name"]: model for model in (await read(jp_fetch, "models"))["models"]}["m"]
    assert (shown["aliases"], shown["tags"], shown["description"]) == (["prod"], ["fast"], "the one")
    assert (shown["quantizations"], shown["format"], shown["base"]) == (["Q4_1"], "gguf", "b")
    assert {"site": "storage", "source": "storage:files"} in shown["places"]
    assert (shown["retired"], shown["private"], shown["speeds"]) == (False, False, [])
    assert "credential" not in shown


async def test_a_model_tells_how_fast_it_answered(
    jp_fetch: Fetch, state: ServerState, journal: Journal
) -> None:
    state.catalog.models.add(Model("m", "llm", "folder:/m", digest="sha256:aa"))
    journal.stamp(
        "prompt",
        started_at=datetime.now(UTC),
        seconds=2.0,
        fields={
            "model": "m", "model_digest": "sha256:aa", "quantization": "nf4", "source": "model",
            "tokens_in": 5, "tokens_out": 30, "computed_microseconds": 2_000_000,
        },
        content={},
    )  # fmt: skip
    journal.flush()
    state.background.wake()
    while not state.catalog.runs.list():  # the agent carries it
        await jp_fetch("jupyter-llmops", "doorbell", method="POST", body='{"topic": "runs"}')
    shown = {model["name"]: model for model in (await read(jp_fetch, "models"))["models"]}["m"]
    (speed,) = shown["speeds"]
    assert (speed["host"], speed["quantization"], speed["tokens_per_second"]) == ("lab", "nf4", 15.0)


async def test_what_is_retired_is_told_as_such(jp_fetch: Fetch, state: ServerState) -> None:
    state.catalog.models.add(Model("old", "llm", "folder:/m", digest="sha256:aa"))
    state.catalog.models.retire("old")
    state.catalog.prompts.publish("old", "one")
    state.catalog.prompts.retire("old")
    create_collection(state.catalog, "old")
    state.catalog.collections.retire("old")
    for route in ("models", "prompts", "collections"):
        found = (await read(jp_fetch, route))[route]
        assert [one["retired"] for one in found if one["name"] == "old"] == [True], route


async def test_what_is_private_stands_beside_the_teams(jp_fetch: Fetch, state: ServerState) -> None:
    for catalog in (state.catalog, state.own):
        catalog.models.add(Model("both", "llm", "folder:/m", digest="sha256:aa"))
        catalog.prompts.publish("both", f"of {catalog.location}")
        create_collection(catalog, "both")
    for route in ("models", "prompts", "collections"):
        found = (await read(jp_fetch, route))[route]
        assert [one["private"] for one in found if one["name"] == "both"] == [False, True], route


@pytest.fixture
def _no_team(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMOPS_CATALOG", str(private_catalog()))


@pytest.mark.usefixtures("_no_team")
async def test_without_a_teams_catalog_nothing_is_listed_twice(jp_fetch: Fetch, state: ServerState) -> None:
    assert state.own is state.catalog
    state.catalog.prompts.publish("p", "one")
    (prompt,) = (await read(jp_fetch, "prompts"))["prompts"]
    assert prompt["private"] is False


# Prompts


async def test_a_prompt_tells_where_its_aliases_point(jp_fetch: Fetch, state: ServerState) -> None:
    prompts = state.catalog.prompts
    for text in ("one", "two", "three {{ x }}"):
        prompts.publish("p", text, variables=["x"])
    prompts.promote("p", "prod", 2)
    prompts.promote("p", "next", 3)
    (prompt,) = (await read(jp_fetch, "prompts"))["prompts"]
    assert sorted(prompt["aliases"], key=lambda alias: alias["version"]) == [
        {"name": "prod", "version": 2},
        {"name": "next", "version": 3},
    ]
    assert (prompt["version"], prompt["shortened"], prompt["declarations"]) == (3, False, [])
    versions = (await read(jp_fetch, "prompts", "versions", name="p"))["versions"]
    assert [(one["version"], one["aliases"]) for one in versions] == [(3, ["next"]), (2, ["prod"]), (1, [])]
    assert all(one["created_by"] and one["created_at"] for one in versions)


async def test_a_prompt_of_megabytes_is_shortened(jp_fetch: Fetch, state: ServerState) -> None:
    state.catalog.prompts.publish("big", "x" * 3_000_000)
    (prompt,) = (await read(jp_fetch, "prompts"))["prompts"]
    assert (len(prompt["template"]), prompt["shortened"]) == (MOST_CHARACTERS, True)


async def test_versions_of_ones_own_come_before_the_teams(jp_fetch: Fetch, state: ServerState) -> None:
    state.catalog.prompts.publish("p", "team")
    state.own.prompts.publish("p", "own")
    state.own.prompts.publish("p", "own, again")
    for private, count in (("", 2), ("1", 2), ("0", 1)):
        query = {"private": private} if private else {}
        found = await read(jp_fetch, "prompts", "versions", name="p", **query)
        assert (len(found["versions"]), found["private"]) == (count, private != "0")
    state.catalog.prompts.publish("q", "team")
    assert (await read(jp_fetch, "prompts", "versions", name="q"))["private"] is False


async def test_an_unknown_prompt_is_not_found_and_the_nearest_is_named(
    jp_fetch: Fetch, state: ServerState
) -> None:
    state.catalog.prompts.publish("greeting", "one")
    code, body = await refused(jp_fetch, "prompts", "versions", name="greetign")
    assert code == 404
    assert body == {"message": "There is no prompt named 'greetign'.", "hint": "Did you mean greeting?"}


async def test_a_question_that_makes_no_sense_is_answered_with_what_would(
    jp_fetch: Fetch, state: ServerState
) -> None:
    create_collection(state.catalog, "docs")
    asked: list[tuple[str, dict[str, str], str]] = [
        ("prompts/versions", {}, "prompts/versions?name=NAME"),
        ("prompts/versions", {"name": ""}, "prompts/versions?name=NAME"),
        ("prompts/versions", {"name": "p", "private": "yes"}, "1 asks the user's own"),
        ("search", {"q": "words"}, "search?collection=NAME"),
        ("search", {"collection": "docs", "q": "  "}, "%search"),
        ("search", {"collection": "docs", "q": "words", "k": "0"}, "1 to 1000"),
        ("search", {"collection": "docs", "q": "words", "k": "\u00b2"}, "1 to 1000"),
        ("search", {"collection": "docs", "q": "words", "k": "5;--"}, "1 to 1000"),
        ("search", {"collection": "docs", "q": "words", "private": "2"}, "1 asks the user's own"),
    ]
    for route, query, said in asked:
        code, body = await refused(jp_fetch, *route.split("/"), **query)
        assert code == 400, (route, query)
        assert said in body["hint"]


async def test_a_strange_name_is_a_name(jp_fetch: Fetch, state: ServerState) -> None:
    state.catalog.prompts.publish("other", "one")
    for name in HOSTILE:
        code, _ = await refused(jp_fetch, "prompts", "versions", name=name)
        assert code == 404, name
        state.catalog.prompts.publish(name, "one")
        found = await read(jp_fetch, "prompts", "versions", name=name)
        assert (found["name"], len(found["versions"])) == (name, 1)
        create_collection(state.catalog, name)
        add_documents(state.catalog, name, {name: "a word"})
        found = await read(jp_fetch, "search", collection=name, q="word")
        assert [passage["document"] for passage in found["passages"]] == [name]


# Collections


async def test_a_collection_tells_its_size_and_its_space(jp_fetch: Fetch, state: ServerState) -> None:
    assert await read(jp_fetch, "collections") == {"collections": []}
    create_collection(state.catalog, "docs")
    add_documents(state.catalog, "docs", {"a": "one", "b": "two"})
    state.catalog.collections.describe("docs", "for all")
    (shown,) = (await read(jp_fetch, "collections"))["collections"]
    assert (shown["name"], shown["items"], shown["documents"], shown["index"]) == ("docs", 2, 2, "flat")
    assert shown["space"] == {"encoder": "tiny", "dimension": 4, "pooling": "mean", "normalized": True}
    assert (shown["description"], shown["site"]) == ("for all", "lab")
    assert shown["created_at"] is not None


async def test_a_search_finds_words_without_an_encoder(jp_fetch: Fetch, state: ServerState) -> None:
    create_collection(state.catalog, "docs")
    texts = {"moon": "The moon is made of rock.", "cheese": "Cheese is made of milk.", "long": "milk " * 2000}
    add_documents(state.catalog, "docs", texts)
    heavy = {"torch", "sentence_transformers", "transformers"} & set(sys.modules)
    found = await read(jp_fetch, "search", collection="docs", q="milk", k="2")
    assert {passage["document"] for passage in found["passages"]} == {"cheese", "long"}
    assert max(len(passage["text"]) for passage in found["passages"]) == 2000
    assert found["how"] == "text"
    assert {"torch", "sentence_transformers", "transformers"} & set(sys.modules) == heavy
    found = await read(jp_fetch, "search", collection="docs", q="milk", k="1")
    assert len(found["passages"]) == 1
    # Words, never a query language.
    assert (await read(jp_fetch, "search", collection="docs", q='" OR text:* AND ('))["passages"] == []


async def test_an_unknown_collection_is_not_found_and_the_nearest_is_named(
    jp_fetch: Fetch, state: ServerState
) -> None:
    create_collection(state.catalog, "handbook")
    code, body = await refused(jp_fetch, "search", collection="handbok", q="words")
    assert code == 404
    assert body["hint"] == "Did you mean handbook?"
