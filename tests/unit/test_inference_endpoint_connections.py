"""Connections to an endpoint: kept open, never mixed up, over TLS and IPv6; and the next row is sent first."""

from __future__ import annotations

import json
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from datetime import UTC, datetime, timedelta
from ipaddress import ip_address
from pathlib import Path
from typing import Any

import pytest

from jupyter_llmops.errors import EndpointUnreachableError, LLMOpsError
from jupyter_llmops.inference.endpoints.client import EndpointClient
from jupyter_llmops.inference.endpoints.engine import EndpointEngine
from jupyter_llmops.inference.endpoints.policy import EndpointOptions
from jupyter_llmops.records.completion import Generation
from jupyter_llmops.records.model import Model
from openai_server import endpoint_request

# Sends what follows a request: gets the connection and how many requests the server has seen.
Script = Callable[[socket.socket, int], None]


def answer(text: str) -> bytes:
    """Return a whole HTTP answer."""
    choice = {"message": {"content": text}, "finish_reason": "stop"}
    body = json.dumps({"choices": [choice]}).encode()
    return b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%b" % (
        len(body),
        body,
    )


class WireServer:
    """Sends bytes as it is told; `connections` counts those accepted."""

    def __init__(self, script: Script, host: str = "127.0.0.1", tls: ssl.SSLContext | None = None) -> None:
        family = socket.AF_INET6 if ":" in host else socket.AF_INET
        self.listening = socket.create_server((host, 0), family=family)
        shown = f"[{host}]" if ":" in host else host
        self.address = f"http{'s' if tls else ''}://{shown}:{self.listening.getsockname()[1]}/v1"
        self.connections = self.requests = 0
        self._script, self._tls = script, tls
        threading.Thread(target=self._serve, daemon=True).start()

    @property
    def model(self) -> Model:
        return Model(name="gpt", kind="llm", source=f"endpoint:{self.address}#big", format="endpoint")

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self.listening.accept()
            except OSError:
                return
            self.connections += 1
            threading.Thread(target=self._talk, args=(connection,), daemon=True).start()

    def _talk(self, connection: socket.socket) -> None:
        try:
            if self._tls is not None:
                connection = self._tls.wrap_socket(connection, server_side=True)
            with connection:
                while _request(connection):
                    self.requests += 1
                    self._script(connection, self.requests)
        except OSError:
            return


def _request(connection: socket.socket) -> bytes:
    """Return one request; empty where the client has gone."""
    data = b""
    while b"\r\n\r\n" not in data:
        part = connection.recv(65536)
        if not part:
            return b""
        data += part
    head, _, body = data.partition(b"\r\n\r\n")
    fields = dict(line.lower().split(b": ", 1) for line in head.split(b"\r\n")[1:])
    while len(body) < int(fields[b"content-length"]):
        body += connection.recv(65536)
    return data


@contextmanager
def wire(script: Script, *arguments: Any) -> Iterator[WireServer]:
    server = WireServer(script, *arguments)
    with closing(server.listening):
        yield server


@pytest.fixture
def engine() -> Iterator[EndpointEngine]:
    engine = EndpointEngine(lambda: EndpointOptions({"gpt": {"concurrency": 1}}))
    yield engine
    engine.close()


def many(engine: EndpointEngine, model: Model, rows: int) -> list[Any]:
    requests = [endpoint_request(engine, model, f"row {row}") for row in range(rows)]
    found: dict[int, Generation | LLMOpsError] = {}
    engine.generate_many(requests, model, found.__setitem__)
    outcomes = [found[row] for row in range(rows)]
    return [one.text if isinstance(one, Generation) else one for one in outcomes]


def test_one_connection_serves_row_after_row(engine: EndpointEngine) -> None:
    with wire(lambda connection, number: connection.sendall(answer(f"{number}"))) as server:
        assert many(engine, server.model, 3) == ["1", "2", "3"]
        assert server.connections == 1


def test_what_nobody_asked_for_is_no_rows_answer(engine: EndpointEngine) -> None:
    told = threading.Event()

    def script(connection: socket.socket, number: int) -> None:
        connection.sendall(answer(f"{number}"))
        if number == 1:
            assert told.wait(20)
            connection.sendall(answer("planted"))

    with wire(script) as server:
        assert many(engine, server.model, 1) == ["1"]
        told.set()
        [idle] = _idle(engine)
        deadline = time.monotonic() + 20
        while idle._is_open:
            assert time.monotonic() < deadline
            time.sleep(0.005)
        assert many(engine, server.model, 1) == ["2"]
        assert server.connections == 2


def test_an_answer_with_more_behind_it_ends_its_connection(engine: EndpointEngine) -> None:
    def script(connection: socket.socket, number: int) -> None:
        connection.sendall(answer(f"{number}") + (answer("planted") if number == 1 else b""))

    with wire(script) as server:
        assert many(engine, server.model, 2) == ["1", "2"]
        assert server.connections == 2


def test_an_answer_may_come_byte_by_byte_after_a_hint(engine: EndpointEngine) -> None:
    def script(connection: socket.socket, number: int) -> None:
        for byte in b"HTTP/1.1 103 Early Hints\r\n\r\n" + answer(f"{number}"):
            connection.sendall(bytes([byte]))

    with wire(script) as server:
        assert many(engine, server.model, 2) == ["1", "2"]
        assert server.connections == 1


def test_a_large_prompt_gets_through_to_a_slow_reader(engine: EndpointEngine) -> None:
    with wire(lambda connection, number: connection.sendall(answer(f"{number}"))) as server:
        request = endpoint_request(engine, server.model, "x" * (8 << 20))
        found: list[Any] = []
        engine.generate_many([request], server.model, lambda _, outcome: found.append(outcome))
        assert [one.text for one in found] == ["1"]


def test_an_ipv6_address_is_asked(engine: EndpointEngine) -> None:
    try:
        socket.create_server(("::1", 0), family=socket.AF_INET6).close()
    except OSError:
        pytest.skip("no IPv6 here")
    with wire(lambda connection, number: connection.sendall(answer(f"{number}")), "::1") as server:
        assert many(engine, server.model, 1) == ["1"]


def test_a_certificate_counts_once_its_file_is_named(
    engine: EndpointEngine, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    monkeypatch.delenv("SSL_CERT_FILE", raising=False)
    certificate = _certificate(tmp_path)
    tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    tls.load_cert_chain(certificate)
    with wire(lambda connection, number: connection.sendall(answer(f"{number}")), "127.0.0.1", tls) as server:
        [refused] = many(engine, server.model, 1)
        assert isinstance(refused, EndpointUnreachableError)
        assert "certificate" in refused.message
        monkeypatch.setenv("SSL_CERT_FILE", str(certificate))
        engine.close()  # its clients have read the system's certificates
        assert many(engine, server.model, 2) == ["1", "2"]
        assert server.connections == 2


def test_comments_without_end_are_no_answer() -> None:
    def script(connection: socket.socket, _: int) -> None:
        connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for _ in range(60):
            connection.sendall(b": ping\n\n")
            time.sleep(0.05)
        connection.close()

    engine = EndpointEngine(lambda: EndpointOptions({"gpt": {"timeout": 0.5, "patience": 0.1}}))
    with wire(script) as server, closing(engine):
        [found] = many(engine, server.model, 1)
    assert isinstance(found, EndpointUnreachableError)
    assert "is too slow: it was silent for 0.5 s" in found.message


def test_the_next_row_is_sent_before_the_finished_one_is_told(
    engine: EndpointEngine, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[str] = []

    async def ask(_: Any, body: Any, _key: str, found: Any, *_more: Any) -> None:
        time.sleep(0.02)  # noqa: ASYNC251 - lets the other thread run, as reading does
        seen.append("sent")
        found.pieces.append(body["messages"][0]["content"])

    monkeypatch.setattr(EndpointClient, "ask", ask)
    model = Model(name="gpt", kind="llm", source="endpoint:http://127.0.0.1:9/v1#big", format="endpoint")
    requests = [endpoint_request(engine, model, f"row {row}") for row in range(2)]
    engine.generate_many(requests, model, lambda *_: seen.append("told"))
    assert seen == ["sent", "sent", "told", "told"]


def _idle(engine: EndpointEngine) -> Any:
    [client] = engine._clients.values()
    [transport] = client._http._mounts.values()
    return transport._idle


def _certificate(folder: Path) -> Path:
    """Return a file with a key and its own certificate for this machine."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "test")])
    now = datetime.now(UTC)
    built = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.IPAddress(ip_address("127.0.0.1"))]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    encoding = serialization.Encoding.PEM
    private = key.private_bytes(encoding, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / "certificate.pem"
    path.write_bytes(private + built.public_bytes(encoding))
    return path
