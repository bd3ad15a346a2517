from __future__ import annotations

import asyncio
import json
import os
import shutil
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import pytest
from jupyter_server.serverapp import ServerApp
from tornado.httpclient import HTTPClientError, HTTPResponse
from tornado.routing import RuleRouter

from jupyter_llmops.audit.journal import Journal
from jupyter_llmops.catalog import Catalog
from jupyter_llmops.records.model import Model
from jupyter_llmops.server.extension import ServerState
from jupyter_llmops.server.routes import HANDLERS, LLMOpsHandler
from server_calls import stamp

Fetch = Callable[..., Awaitable[HTTPResponse]]


async def read(jp_fetch: Fetch, route: str, **options: Any) -> Any:
    return json.loads((await jp_fetch("jupyter-llmops", route, **options)).body)


async def refused(jp_fetch: Fetch, route: str, **options: Any) -> tuple[int, dict[str, str]]:
    with pytest.raises(HTTPClientError) as caught:
        await jp_fetch("jupyter-llmops", route, **options)
    body = caught.value.response.body
    return caught.value.code, json.loads(body)


def routes_of(app: ServerApp) -> list[tuple[str, str]]:
    """Return (route, method) of every handler of ours that the running server has."""
    found = []
    rules = [*app.web_app.default_router.rules, *app.web_app.wildcard_router.rules]
    for rule in rules:
        handler = rule.target
        if isinstance(handler, RuleRouter):
            rules.extend(handler.rules)
        elif isinstance(handler, type) and issubclass(handler, LLMOpsHandler):
            path = rule.matcher.regex.pattern.split("/jupyter-llmops/")[1].rstrip("$")
            found += [
                (path, method)
                for method in ("GET", "HEAD", "POST", "PUT", "PATCH", "DELETE")
                if method.lower() in vars(handler)
            ]
    return sorted(set(found))


async def test_every_route_of_the_contract_is_there(jp_serverapp: ServerApp) -> None:
    assert sorted(routes_of(jp_serverapp)) == [
        ("collections", "GET"),
        ("doorbell", "POST"),
        ("gpus", "GET"),
        ("models", "GET"),
        ("prompts", "GET"),
        ("prompts/versions", "GET"),
        ("runs", "GET"),
        ("search", "GET"),
        ("status", "GET"),
    ]
    assert set(HANDLERS) == {route for route, _ in routes_of(jp_serverapp)}


async def test_no_route_answers_without_a_token(jp_serverapp: ServerApp, jp_fetch: Fetch) -> None:
    asked = routes_of(jp_serverapp)
    assert asked
    for route, method in asked:
        for header in ({"Authorization": ""}, {"Authorization": "token wrong"}):
            code, body = await refused(
                jp_fetch,
                route,
                method=method,
                headers=dict(header),
                body='{"topic": "runs"}' if method == "POST" else None,
            )
            assert code == 403, (route, method)
            assert set(body) == {"message", "hint"}


async def test_no_route_answers_whom_the_authorizer_refuses(
    jp_serverapp: ServerApp, jp_fetch: Fetch, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[tuple[str, str]] = []

    def refuse(handler: object, user: object, action: str, resource: str) -> bool:
        asked.append((action, resource))
        return False

    monkeypatch.setattr(jp_serverapp.authorizer, "is_authorized", refuse)
    asked_routes = routes_of(jp_serverapp)
    assert asked_routes
    for route, method in asked_routes:
        body = '{"topic": "runs"}' if method == "POST" else None
        code, _ = await refused(jp_fetch, route, method=method, body=body)
        assert code == 403, (route, method)
        assert asked.pop() == ("write" if method == "POST" else "read", "llmops")


async def test_status_of_a_catalog_that_does_not_exist_yet(jp_fetch: Fetch, catalog_folder: Path) -> None:
    status = await read(jp_fetch, "status")
    assert status["catalog"] == {
        "path": str(catalog_folder),
        "kind": "folder",
        "own": str(catalog_folder.parent / "home" / "catalog"),
        "fresh_within_seconds": 0.5,
        "writable": True,
        "problem": "",
    }
    assert (status["site"], status["user"]) == ("lab", __import__("getpass").getuser())
    assert isinstance(status["version"], str)
    assert isinstance(status["revision"], int)
    assert not catalog_folder.exists()  # noqa: ASYNC240


async def test_gpus_end_with_the_cpu_and_its_configured_price(jp_fetch: Fetch) -> None:
    gpus = await read(jp_fetch, "gpus")
    assert (gpus["site"], gpus["currency"]) == ("lab", "EUR")
    assert set(gpus["driver"]) == {"status", "message", "version"}
    cpu = gpus["devices"][-1]
    assert (cpu["kind"], cpu["price_per_hour"]) == ("cpu", 0.5)
    assert cpu["memory_total_bytes"] > 0
    assert cpu["processes"] is None or isinstance(cpu["processes"], int)


async def test_models_are_those_of_the_catalog_and_the_packaged_ones(
    jp_fetch: Fetch, state: ServerState
) -> None:
    before = {model["name"] for model in (await read(jp_fetch, "models"))["models"]}
    assert "smollm2-135m-instruct" in before
    added = state.catalog.models.add(Model("mine", "classic", "folder:/m", digest="sha256:aa", size_bytes=3))
    models = {model["name"]: model for model in (await read(jp_fetch, "models"))["models"]}
    assert set(models) == before | {"mine"}
    assert models["mine"]["size_bytes"] == 3
    assert models["mine"]["parameters"] is None
    assert models["mine"]["created_at"] == added.created_at.isoformat()  # type: ignore[union-attr]


async def test_prompts_that_another_process_would_publish_are_there_at_once(
    jp_fetch: Fetch, catalog_folder: Path
) -> None:
    assert await read(jp_fetch, "prompts") == {"prompts": []}
    other = Catalog(catalog_folder, site="other", user="bob")
    other.prompts.publish("p", "one", variables=["x"])
    other.prompts.publish("p", "two {{ x }}", variables=["x"], description="for x")
    (prompt,) = (await read(jp_fetch, "prompts"))["prompts"]
    assert (prompt["name"], prompt["version"], prompt["template"]) == ("p", 2, "two {{ x }}")
    assert (prompt["variables"], prompt["created_by"], prompt["site"]) == (["x"], "bob", "other")


async def until_runs(jp_fetch: Fetch, count: int) -> list[dict[str, Any]]:
    deadline = time.monotonic() + 60
    while True:
        runs: list[dict[str, Any]] = (await read(jp_fetch, "runs"))["runs"]
        if len(runs) >= count:
            return runs
        assert time.monotonic() < deadline
        await asyncio.sleep(0.05)


async def test_runs_come_from_the_journal_with_a_preview_of_ones_own(
    jp_fetch: Fetch, journal: Journal, state: ServerState
) -> None:
    stamp(journal, "\n\n  answer = 42  \nmore", execution_count=7, notebook="a.ipynb")
    (cell,) = await until_runs(jp_fetch, 1)
    assert (cell["kind"], cell["preview"], cell["execution_count"]) == ("cell", "answer = 42", 7)
    assert (cell["notebook"], cell["user"], cell["seconds"]) == ("a.ipynb", "ada", 0.5)
    assert cell["tokens_in"] is None
    stamp(journal, "y" * 5000)
    assert len((await until_runs(jp_fetch, 2))[0]["preview"]) == 200
    # Without the sidecar, as for a colleague's run, there is none.
    shutil.rmtree(state.audit_folder / "content")
    assert [run["preview"] for run in (await read(jp_fetch, "runs"))["runs"]] == ["", ""]
    assert len((await read(jp_fetch, "runs", params={"limit": "1"}))["runs"]) == 1


@pytest.mark.parametrize("limit", ["0", "-1", "1001", "many", "1e3", "²", "1; DROP TABLE"])
async def test_a_strange_limit_is_refused(jp_fetch: Fetch, limit: str) -> None:
    code, body = await refused(jp_fetch, "runs", params={"limit": limit})
    assert code == 400
    assert body["message"] == "limit is a number from 1 to 1000"


async def test_an_unchanged_answer_is_not_sent_again(jp_fetch: Fetch, state: ServerState) -> None:
    state.catalog.prompts.publish("p", "one")
    first = await jp_fetch("jupyter-llmops", "prompts")
    headers = {"If-None-Match": first.headers["Etag"]}
    code = None
    try:
        await jp_fetch("jupyter-llmops", "prompts", headers=dict(headers))
    except HTTPClientError as error:
        code = error.code
    assert code == 304
    state.catalog.prompts.publish("p", "two")
    assert (await jp_fetch("jupyter-llmops", "prompts", headers=dict(headers))).code == 200


@pytest.mark.parametrize("route", ["prompts", "models", "collections", "runs"])
async def test_a_damaged_catalog_is_a_sentence_and_not_a_traceback(
    jp_fetch: Fetch, state: ServerState, route: str
) -> None:
    state.catalog.migrate()
    table = state.catalog.folder / f"{route}.lance"
    shutil.rmtree(table)
    table.write_text("in the way")
    code, body = await refused(jp_fetch, route)
    assert code == 503
    assert str(table) in body["message"]
    assert "Restore it" in body["hint"]
    assert set(body) == {"message", "hint"}
    status = await read(jp_fetch, "status")
    assert str(table) in status["catalog"]["problem"]
    assert status["catalog"]["writable"] is False


async def test_an_unexpected_error_tells_no_traceback(
    jp_fetch: Fetch, state: ServerState, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(**_: object) -> None:
        raise RuntimeError("inner secret")

    monkeypatch.setattr(state.catalog.prompts, "list", fail)
    code, body = await refused(jp_fetch, "prompts")
    assert code == 500
    assert "inner secret" not in json.dumps(body)


async def test_slow_work_does_not_block_the_server(
    jp_fetch: Fetch, state: ServerState, monkeypatch: pytest.MonkeyPatch
) -> None:
    import threading

    go_on = threading.Event()

    def wait(**_: object) -> list[object]:
        assert go_on.wait(60)
        return []

    monkeypatch.setattr(state.catalog.prompts, "list", wait)
    slow = asyncio.ensure_future(jp_fetch("jupyter-llmops", "prompts"))
    status = await read(jp_fetch, "status")  # would never come if the loop were blocked
    assert status["site"] == "lab"
    assert not slow.done()
    go_on.set()
    assert (await slow).code == 200


async def test_the_kernels_to_come_are_told_the_catalog(state: ServerState) -> None:
    assert os.environ["LLMOPS_CATALOG"] == str(state.catalog.folder)
