"""Endpoints as a user meets them: registered, asked, pooled, kept to a site; the server is a real one."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from traitlets import TraitError

from jupyter_llmops.errors import EndpointRefusedError, LLMOpsError, ReproduceError, UsageError
from jupyter_llmops.inference.engines import Engines
from jupyter_llmops.magics.completer import candidates
from jupyter_llmops.settings import user_folder
from magic_shell import Notebook
from openai_server import OpenAIServer, Reply, error, serving

KEY = "sk-notebook-0123456789abcdef"


@pytest.fixture(scope="module")
def running() -> Iterator[list[OpenAIServer]]:
    with serving("one", "two") as servers:
        yield servers


@pytest.fixture
def servers(
    running: list[OpenAIServer], notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> Iterator[list[OpenAIServer]]:
    """Register both servers, with the real engines in place of the fast one."""
    monkeypatch.setenv("TEAM_KEY", KEY)
    workspace = notebook.workspace
    workspace.__dict__["engine"] = engines = Engines(
        workspace.models_folder, offline=True, endpoint_options=workspace._endpoint_options
    )
    for server in running:
        server.asked, server.keys, server.trouble, server.delay = [], [], None, 0.0
        notebook.run(f"%models add {server.name} {server.address}#big --credential env:TEAM_KEY")
    yield running
    engines.endpoints.close()


def test_an_endpoint_answers_once_and_then_the_cache(notebook: Notebook, servers: list[OpenAIServer]) -> None:
    first = notebook.run("%%prompt -m one\nHow many?")
    assert (first.text, first.source, first.engine) == ("echo: How many?", "model", "endpoint")
    assert first.served_by == servers[0].address
    again = notebook.run("%%prompt -m one\nHow many?")
    assert (again.text, again.source, again.served_by) == (first.text, "cache", first.served_by)
    assert len(servers[0].asked) == 1
    assert servers[0].keys == [f"Bearer {KEY}"]
    assert notebook.run("%%prompt -m two\nHow many?").source == "model"  # another endpoint, another answer
    leaf = notebook.workspace.run(first.run_id).leaf
    assert leaf is not None
    assert leaf["served_version"] == "big-2026-01-01 fp_one"
    assert leaf["engine_options"] == {"served_name": "big", "url": servers[0].address}


def test_what_an_endpoint_answered_can_not_be_inferred_again_here(
    notebook: Notebook, servers: list[OpenAIServer]
) -> None:
    notebook.run("%%prompt -m one\nHi")
    failed = notebook.fail("%reproduce")
    assert isinstance(failed, ReproduceError)
    assert "answered by an endpoint" in str(failed)


def test_the_key_is_nowhere(
    notebook: Notebook, servers: list[OpenAIServer], capsys: pytest.CaptureFixture[str]
) -> None:
    notebook.run("%%prompt -m one\nHi")
    servers[0].trouble = lambda _: error(401, f"Incorrect API key provided: {KEY}")
    failed = notebook.fail("%%prompt -m one\nHi again")
    assert isinstance(failed, EndpointRefusedError)
    notebook.workspace.journal.flush()
    out = capsys.readouterr()
    assert KEY not in f"{failed} {out.out} {out.err}"
    places = [user_folder(), notebook.workspace.location.folder]
    files = [path for place in places if place for path in place.rglob("*") if path.is_file()]
    assert files
    assert [path for path in files if KEY.encode() in path.read_bytes()] == []


def test_a_map_over_a_pool_leaves_the_notebook_as_it_is(
    notebook: Notebook, servers: list[OpenAIServer]
) -> None:
    notebook.shell.user_ns["rows"] = [{"n": index} for index in range(24)]
    for server in servers:
        server.delay = 0.01
    result = notebook.run("%%prompt --map rows --into out --backend one=3,two\nNumber {{ n }}")
    assert [row.value for row in result.rows] == [f"echo: Number {index}" for index in range(24)]
    asked = [len(server.asked) for server in servers]
    assert sum(asked) == 24
    assert asked[0] > asked[1] > 0
    again = notebook.run("%%prompt --map rows --into out --backend one=3,two\nNumber {{ n }}")
    assert again.reused == 24


def test_only_engines_of_a_site(notebook: Notebook, servers: list[OpenAIServer]) -> None:
    notebook.run("%models add far https://far.example/v1#big --site lab")
    here = notebook.workspace.settings.site
    assert notebook.run(f"%%prompt -m one --site {here}\nHi").source == "model"
    failed = notebook.fail("%%prompt -m one --site mars\nHi")
    assert isinstance(failed, UsageError)
    assert "There is no site 'mars'" in str(failed)
    assert "lab (far)" in str(failed)
    shown = notebook.run("%%prompt -m one --site lab --dry-run\nHi")
    assert dict(shown.request.engine_options)["url"] == "https://far.example/v1"


def test_tab_offers_endpoints_and_sites(notebook: Notebook, servers: list[OpenAIServer]) -> None:
    notebook.run("%models add far https://far.example/v1#big")
    offered = list(candidates(notebook.workspace, notebook.shell, "prompt", "%%prompt --backend "))
    assert {"kernel", "dask", "one", "two", "far"} <= set(offered)
    offered = list(candidates(notebook.workspace, notebook.shell, "prompt", "%%prompt --site "))
    assert {"far.example", notebook.workspace.settings.site} == set(offered)
    assert notebook.run("%models load one") == f"one needs no loading: one is served by {servers[0].address}."


def test_what_can_not_be_is_said_in_one_sentence(notebook: Notebook, servers: list[OpenAIServer]) -> None:
    assert "no endpoint named 'three'" in str(notebook.fail("%%prompt -m one --backend one,three\nHi"))
    assert "decides its precision itself" in str(notebook.fail("%%prompt -m one --quant nf4\nHi"))
    notebook.run("%models add open http://gpu.example/v1#big")
    assert "not encrypted" in str(notebook.fail("%%prompt -m open\nHi"))
    for limit, value in (("speed", 3), ("concurrency", 0), ("concurrency", 1.5), ("timeout", True)):
        with pytest.raises(TraitError, match=r"is no limit|can't be"):
            notebook.workspace.settings.endpoint_limits = {"one": {limit: value}}
    for line in ("%models grade one", "%models load one --quant fp32"):
        assert isinstance(notebook.fail(line), LLMOpsError)


def test_an_answer_that_breaks_the_schema_is_in_the_record(
    notebook: Notebook, servers: list[OpenAIServer]
) -> None:
    said = f'{{"choices": [{{"message": {{"content": "no JSON, but {KEY}"}}, "finish_reason": "stop"}}]}}'
    servers[0].trouble = lambda _: Reply(body=said)
    failed = notebook.fail("%%prompt -m one --format json\nHi")
    assert "Its text is in the record" in str(failed)
    workspace = notebook.workspace
    content = workspace.content(workspace.runs(1, kind="prompt")[0])
    assert content is not None
    assert content["response"].startswith("no JSON, but ")
    assert KEY not in content["response"]
