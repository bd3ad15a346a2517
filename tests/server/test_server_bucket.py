"""The server with a catalog in a bucket."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
from jupyter_server.serverapp import ServerApp

from jupyter_llmops.catalog import Catalog
from jupyter_llmops.server.extension import STATE
from jupyter_llmops.settings import LLMOps, find_catalog
from s3_server import REFUSED, S3Bucket

Fetch = Any


@pytest.fixture(autouse=True)
def _in_a_bucket(_own_folders: None, s3_bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLMOPS_CATALOG", f"{s3_bucket.location}/")


async def get(jp_fetch: Fetch, route: str) -> Any:
    answer = await jp_fetch("jupyter-llmops", route)
    return json.loads(answer.body)


async def test_the_routes_show_the_bucket_and_the_kernels_are_told_of_it(
    jp_fetch: Fetch, jp_serverapp: ServerApp, s3_bucket: S3Bucket
) -> None:
    state = jp_serverapp.web_app.settings[STATE]
    assert state.catalog.location == s3_bucket.location
    assert state.own.location.is_local
    # What a kernel of this server finds, as it inherits the environment.
    assert os.environ["LLMOPS_CATALOG"] == str(s3_bucket.location)
    assert find_catalog(LLMOps(), Path("/")) == s3_bucket.location

    assert (await get(jp_fetch, "status"))["catalog"]["path"] == str(s3_bucket.location)
    Catalog(s3_bucket.location, site="other", user="bob").prompts.publish("greeting", "Hello")
    assert [prompt["name"] for prompt in (await get(jp_fetch, "prompts"))["prompts"]] == ["greeting"]


@pytest.fixture
def refused(s3_bucket: S3Bucket) -> None:
    """Let the server to come be one that the bucket refuses."""
    s3_bucket.as_user(REFUSED)


@pytest.mark.usefixtures("refused")
async def test_a_refusing_bucket_is_a_value_of_the_status(jp_fetch: Fetch) -> None:
    status = (await get(jp_fetch, "status"))["catalog"]
    assert status["writable"] is False
    assert "does not let you read" in status["problem"]


async def test_a_place_that_is_none_is_said_and_the_server_goes_on(
    jp_configurable_serverapp: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMOPS_CATALOG", "ftp://team")
    state = jp_configurable_serverapp().web_app.settings[STATE]
    assert "can't lie in ftp://" in state.settings_problem
    assert state.catalog.location.is_local
    # The kernels say it, too, instead of writing somewhere else.
    assert os.environ["LLMOPS_CATALOG"] == "ftp://team"
