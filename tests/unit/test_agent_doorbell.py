"""The kernel's doorbell against real HTTP servers on the loopback."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from jupyter_llmops.agent.doorbell import Doorbell, find_server


class House(ThreadingHTTPServer):
    """Answers with `status` and remembers every request."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Door)
        self.status = 204
        self.location = ""
        self.heard: list[tuple[str, str, str | None, Any]] = []


class Door(BaseHTTPRequestHandler):
    server: House

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        self.server.heard.append(
            (self.command, self.path, self.headers.get("Authorization"), json.loads(body) if body else None)
        )
        self.send_response(self.server.status)
        if self.server.location:
            self.send_header("Location", self.server.location)
        self.send_header("Content-Length", "0")
        self.end_headers()

    do_GET = do_POST  # noqa: N815 - http.server's own names

    def log_message(self, *arguments: object) -> None:
        pass


def served(house: House) -> Iterator[House]:
    thread = threading.Thread(target=house.serve_forever, daemon=True)
    thread.start()
    yield house
    house.shutdown()
    house.server_close()
    thread.join()


@pytest.fixture
def house() -> Iterator[House]:
    yield from served(House())


@pytest.fixture
def elsewhere() -> Iterator[House]:
    yield from served(House())


@pytest.fixture
def announce(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Write the file that a Jupyter server of this process's parent would write."""
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("JPY_PARENT_PID", "4242")

    def write(url: str, token: str = "secret") -> None:
        facts = {"url": url, "token": token, "pid": 4242, "base_url": "/"}
        (tmp_path / "jpserver-4242.json").write_text(json.dumps(facts))

    return write


def until(condition: Callable[[], object], seconds: float = 60) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


def url_of(house: House, path: str = "/") -> str:
    return f"http://127.0.0.1:{house.server_port}{path}"


def test_a_ring_is_a_post_with_the_token_in_a_header(house: House, announce: Callable[..., None]) -> None:
    announce(url_of(house, "/user/ada/"))
    doorbell = Doorbell()
    assert doorbell.address == url_of(house, "/user/ada/")
    assert not doorbell.connected
    doorbell.ring("prompts")
    until(lambda: doorbell.connected)
    assert house.heard == [
        ("POST", "/user/ada/jupyter-llmops/doorbell", "token secret", {"topic": "prompts"})
    ]


def test_rings_that_come_close_together_are_few(house: House, announce: Callable[..., None]) -> None:
    announce(url_of(house))
    doorbell = Doorbell()
    for _ in range(2000):
        doorbell.ring("runs")
        doorbell.ring("models")
    until(lambda: {body["topic"] for *_, body in house.heard} == {"runs", "models"})
    settled = -1
    while settled != len(house.heard):
        settled = len(house.heard)
        time.sleep(0.3)
    assert settled < 200
    doorbell.ring("runs")
    until(lambda: len(house.heard) == settled + 1)


def test_no_proxy_is_asked(
    house: House, elsewhere: House, announce: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "all_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, url_of(elsewhere))
    monkeypatch.delenv("no_proxy", raising=False)
    monkeypatch.delenv("NO_PROXY", raising=False)
    announce(url_of(house))
    doorbell = Doorbell()
    doorbell.ring("runs")
    until(lambda: doorbell.connected)
    assert doorbell.check() == ""
    assert elsewhere.heard == []


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_no_redirect_carries_the_token_elsewhere(
    house: House, elsewhere: House, announce: Callable[..., None], status: int
) -> None:
    announce(url_of(house))
    house.status, house.location = status, url_of(elsewhere, "/jupyter-llmops/doorbell")
    doorbell = Doorbell()
    doorbell.ring("runs")
    until(lambda: house.heard)
    assert "does not answer as it should" in doorbell.check()
    assert elsewhere.heard == []
    assert not doorbell.connected


@pytest.mark.parametrize(
    ("status", "sentence"),
    [(404, "without the jupyter_llmops extension"), (403, "does not accept"), (500, "500")],
)
def test_the_check_says_what_is_wrong(
    house: House, announce: Callable[..., None], status: int, sentence: str
) -> None:
    announce(url_of(house))
    house.status = status
    answer = Doorbell().check()
    assert sentence in answer
    assert "secret" not in answer
    assert house.heard[0][:2] == ("GET", "/jupyter-llmops/status")


def test_without_a_server_nothing_happens(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    monkeypatch.delenv("JPY_PARENT_PID", raising=False)
    before = threading.active_count()
    doorbell = Doorbell()
    doorbell.ring("runs")
    assert threading.active_count() == before
    assert (doorbell.connected, doorbell.address) == (False, "")
    assert doorbell.check() == "No Jupyter server started this kernel."


@pytest.mark.parametrize(
    "text",
    [
        "", "{", "[]", "1", "{}", '{"url": null}', '{"url": 1}', '{"url": "file:///etc/passwd"}',
        '{"url": "http+unix://%2Ftmp%2Fs/"}', '{"url": "http://"}', '{"url": "http://h:x/"}', "\u00ff\x00",
    ],
)  # fmt: skip
def test_a_strange_server_file_is_no_server(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    monkeypatch.setenv("JUPYTER_RUNTIME_DIR", str(tmp_path))
    monkeypatch.setenv("JPY_PARENT_PID", "4242")
    (tmp_path / "jpserver-4242.json").write_bytes(text.encode("latin-1"))
    assert find_server() is None
    doorbell = Doorbell()
    doorbell.ring("runs")
    assert doorbell.address == ""


def test_a_parent_that_is_no_number_is_no_file_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("JPY_PARENT_PID", "../../secrets")
    assert find_server() is None


@pytest.mark.parametrize(
    ("told", "called"),
    [
        ("http://0.0.0.0:8888/", "http://127.0.0.1:8888/"),
        ("http://[::]:8888/lab", "http://[::1]:8888/lab/"),
        ("https://host.example:443/a/?token=x#y", "https://host.example:443/a/"),
    ],
)
def test_the_address_is_one_that_can_be_called(announce: Callable[..., None], told: str, called: str) -> None:
    announce(told)
    assert Doorbell().address == called


def test_the_token_is_in_no_text(announce: Callable[..., None]) -> None:
    announce("http://127.0.0.1:1/")
    server = find_server()
    assert server is not None
    assert "secret" not in repr(server)
    assert "secret" not in Doorbell().check()


def test_a_server_that_is_gone_harms_nothing_and_is_found_again(
    house: House, announce: Callable[..., None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("jupyter_llmops.agent.doorbell._SECONDS_AFTER_FAILURE", 0.0)
    announce("http://127.0.0.1:1/")
    doorbell = Doorbell()
    doorbell.ring("runs")
    until(lambda: doorbell._server is None)
    assert not doorbell.connected
    announce(url_of(house))  # restarted on another port
    doorbell.ring("runs")
    until(lambda: doorbell.connected)


@pytest.mark.skipif(shutil.which("openssl") is None, reason="needs the openssl program for a certificate")
def test_https_with_its_own_certificate_is_spoken_on_the_loopback_only(
    house: House, tmp_path: Path, announce: Callable[..., None]
) -> None:
    import ssl

    from jupyter_llmops.agent.request import _https

    key, certificate = tmp_path / "key.pem", tmp_path / "cert.pem"
    made = subprocess.run(
        [
            "openssl",
            "req",
            "-x509",
            "-newkey",
            "rsa:2048",
            "-nodes",
            "-days",
            "1",
            "-subj",
            "/CN=jupyter",
            "-keyout",
            str(key),
            "-out",
            str(certificate),
        ],
        capture_output=True,
        check=False,
    )
    assert made.returncode == 0, made.stderr
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    house.socket = context.wrap_socket(house.socket, server_side=True)
    announce(url_of(house).replace("http:", "https:"))
    doorbell = Doorbell()
    doorbell.ring("runs")
    until(lambda: doorbell.connected)
    (handler,) = _https("https://jupyter.example:8888/")
    assert handler._context.verify_mode == ssl.CERT_REQUIRED  # type: ignore[attr-defined]
    assert handler._context.check_hostname  # type: ignore[attr-defined]


def test_a_forked_child_rings_nothing(house: House, announce: Callable[..., None]) -> None:
    announce(url_of(house))
    doorbell = Doorbell()
    doorbell.ring("runs")
    until(lambda: doorbell.connected)
    heard = len(house.heard)
    doorbell._pid = os.getpid() + 1
    doorbell.ring("runs")
    time.sleep(0.2)
    assert len(house.heard) == heard


def test_a_ring_costs_microseconds_and_imports_nothing_heavy() -> None:
    program = """
import sys
from jupyter_llmops.agent.doorbell import Doorbell
Doorbell().ring("runs")
heavy = {"jupyter_server", "lancedb", "pyarrow", "tornado", "requests", "filelock", "urllib.request"}
print(sorted(heavy & set(sys.modules)))
"""
    done = subprocess.run(
        [sys.executable, "-c", program],
        env={k: v for k, v in os.environ.items() if k != "JPY_PARENT_PID"},
        capture_output=True,
        text=True,
        check=True,
    )
    assert done.stdout.strip() == "[]"
