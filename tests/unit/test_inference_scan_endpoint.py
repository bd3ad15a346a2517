"""OpenAI-compatible endpoints: what they list, and what is said when they don't."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from jupyter_llmops.errors import InferenceError, UsageError
from jupyter_llmops.inference.endpoints.engine import EndpointEngine
from jupyter_llmops.inference.preparation import prepare
from jupyter_llmops.inference.scan import scan
from jupyter_llmops.inference.scan.endpoint import models_of_endpoint
from jupyter_llmops.inference.sources import locate
from jupyter_llmops.records.model import Model
from openai_server import endpoint_request

LISTED = {
    "object": "list",
    "data": [
        {"id": "meta-llama/Llama-3.1-8B", "object": "model", "owned_by": "vllm", "max_model_len": 32768},
        {"id": "polite", "object": "model", "parent": "meta-llama/Llama-3.1-8B", "root": "/adapters/polite"},
        {"id": "text-embedding-3-small", "object": "model", "owned_by": "openai"},
        {"id": "q", "meta": {"n_ctx_train": 8192, "n_params": 134515008, "size": 98000000}},
        {"id": 7},
        "nonsense",
    ],
}


class _Endpoint(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        server: Any = self.server
        server.asked.append((self.path, self.headers.get("Authorization")))
        if self.path == "/v1/models":
            self._say(200, json.dumps(LISTED), "application/json")
        elif self.path == "/guarded/models":
            known = self.headers.get("Authorization") == "Bearer sk-right"
            self._say(200 if known else 401, json.dumps({"data": [{"id": "m"}]}), "application/json")
        elif self.path == "/moved/models":
            self.send_response(302)
            self.send_header("Location", "/v1/models")
            self.end_headers()
        elif self.path == "/page/models":
            self._say(200, "<html>Log in</html>", "text/html")
        elif self.path == "/odd/models":
            self._say(200, '{"models": 3}', "application/json")
        elif self.path == "/slow/models":
            self.send_response(200)
            self.end_headers()
            while not server.closing.wait(0.05):  # a byte now and then, for ever
                self.wfile.write(b" ")
                self.wfile.flush()
        else:
            self._say(404, "{}", "application/json")

    def _say(self, status: int, body: str, kind: str) -> None:
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.end_headers()
        self.wfile.write(body.encode())

    def log_message(self, format: str, *args: Any) -> None:
        """Stay quiet."""


@pytest.fixture
def endpoint() -> Iterator[Any]:
    server: Any = ThreadingHTTPServer(("127.0.0.1", 0), _Endpoint)
    server.daemon_threads = True
    server.asked, server.closing = [], threading.Event()
    server.address = f"http://127.0.0.1:{server.server_address[1]}"
    thread = threading.Thread(target=server.serve_forever, daemon=True)
    thread.start()
    yield server
    server.closing.set()
    server.shutdown()
    server.server_close()
    thread.join()


def test_what_an_endpoint_says_is_taken(endpoint: Any) -> None:
    base = f"{endpoint.address}/v1"
    llama, polite, embedding, q = models_of_endpoint(f"{base}/")
    assert (llama.name, llama.kind, llama.format) == ("llama-3.1-8b", "llm", "endpoint")
    assert llama.source == f"endpoint:{base}#meta-llama/Llama-3.1-8B"
    assert llama.context_length == 32768
    assert "vllm" in llama.description
    assert (polite.kind, polite.base) == ("adapter", "meta-llama/Llama-3.1-8B")
    assert embedding.kind == "encoder"
    assert (q.context_length, q.parameters, q.size_bytes) == (8192, 134515008, 98000000)


def test_a_key_is_sent_and_only_its_place_is_kept(endpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM_KEY", "sk-right")
    (model,) = models_of_endpoint(f"{endpoint.address}/guarded", "env:TEAM_KEY")
    assert model.credential == "env:TEAM_KEY"
    assert "sk-right" not in repr(model)


def test_a_key_does_not_follow_to_another_address(endpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM_KEY", "sk-right")
    with pytest.raises(InferenceError, match=r"sends on to another address \(302\)"):
        list(models_of_endpoint(f"{endpoint.address}/moved", "env:TEAM_KEY"))
    assert [path for path, _ in endpoint.asked] == ["/moved/models"]


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("guarded", r"refuses to list its models \(401\)\. Name the place of its key"),
        ("none", r"no list of models .* \(404\)\. Its address often ends in /v1"),
        ("page", "answers with a web page"),
        ("odd", "not with a list of models"),
        ("slow", "did not answer within 0.5 s"),
    ],
)
def test_every_other_answer_is_one_sentence(endpoint: Any, path: str, said: str) -> None:
    with pytest.raises(InferenceError, match=said) as caught:
        list(models_of_endpoint(f"{endpoint.address}/{path}", seconds=0.5 if path == "slow" else 15))
    assert "\n" not in str(caught.value)


def test_a_wrong_key_is_not_repeated(endpoint: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM_KEY", "sk-wrong")
    with pytest.raises(InferenceError, match=r"\(401\)\. Check the key in the place") as caught:
        list(models_of_endpoint(f"{endpoint.address}/guarded", "env:TEAM_KEY"))
    assert "sk-wrong" not in str(caught.value)


def test_nobody_listening_is_a_problem_of_the_scan(endpoint: Any, tmp_path: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        closed = f"http://127.0.0.1:{free.getsockname()[1]}/v1"
    problems: list[str] = []
    models = scan(
        [closed, f"{endpoint.address}/v1"], site="here", models_folder=tmp_path, on_problem=problems.append
    )
    assert len(list(models)) == 4
    assert "nothing listens there" in problems[0]


@pytest.mark.parametrize(
    "address",
    ["https://ann:pw@host/v1", "https://host/v1?key=pw", "https:///v1", "https://a b/v1", "https://h:x/"],
)
def test_an_address_that_can_not_be_used_is_not_repeated(address: str) -> None:
    with pytest.raises(UsageError) as caught:
        list(models_of_endpoint(address))
    assert "pw" not in str(caught.value)


def test_a_key_is_never_sent_unencrypted_to_a_public_address(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TEAM_KEY", "sk-right")
    with pytest.raises(UsageError, match="not encrypted"):
        list(models_of_endpoint("http://203.0.113.9.nip.invalid/v1", "env:TEAM_KEY"))
    with pytest.raises(UsageError, match="not encrypted"):
        list(models_of_endpoint("http://8.8.8.8/v1", "env:TEAM_KEY"))


@pytest.mark.model
@pytest.mark.slow
def test_transformers_serve_lists_the_default_model_and_answers_through_the_engine(
    default_model: Model, models_folder: Path, tmp_path: Path
) -> None:
    prepared = prepare(default_model, locate(default_model), models_folder, "bf16", "cpu")
    cache = tmp_path / "hub" / "models--HuggingFaceTB--SmolLM2-135M-Instruct"
    snapshot = cache / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("a" * 40)
    for folder in (prepared.tokenizer, prepared.weights):
        for path in folder.iterdir():
            if not (snapshot / path.name).exists():
                (snapshot / path.name).symlink_to(path)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    command = [Path(sys.executable).with_name("transformers"), "serve", "--host", "127.0.0.1"]
    environment = {
        **os.environ,
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
    }
    with (tmp_path / "log").open("wb") as log:
        server = subprocess.Popen(
            [*command, "--port", str(port), "--device", "cpu"], env=environment, stdout=log, stderr=log
        )
    try:
        base = f"http://127.0.0.1:{port}/v1"
        model = _first_model(base, server, time.monotonic() + 120)
        assert (model.name, model.kind) == ("smollm2-135m-instruct", "llm")
        served = model.source.partition("#")[2]
        assert served == "HuggingFaceTB/SmolLM2-135M-Instruct"
        _ask_through_the_engine(model)
    finally:
        server.terminate()
        server.wait(30)


def _first_model(base: str, server: subprocess.Popen[bytes], deadline: float) -> Model:
    while True:
        try:
            return next(models_of_endpoint(base))
        except (InferenceError, StopIteration):
            assert server.poll() is None, "the server ended"
            assert time.monotonic() < deadline, "the server never listed its model"
            time.sleep(0.2)


def _ask_through_the_engine(model: Model) -> None:
    engine, pieces = EndpointEngine(), list[str]()
    one, two = (
        endpoint_request(engine, model, f"Say {word}.", max_new_tokens=4) for word in ("hello", "bye")
    )
    streamed = engine.generate(one, model, pieces.append)
    assert streamed.text
    assert "".join(pieces) == streamed.text
    assert (streamed.finish_reason, streamed.tokens_out) == ("length", 4)
    assert streamed.tokens_in > 4
    done: dict[int, Any] = {}
    engine.generate_many([one, two], model, done.__setitem__)
    assert done[0].text == streamed.text  # greedy, whole or streamed
    assert done[1].tokens_out == 4
    engine.close()
