"""A real Jupyter server in a process of its own, with real kernels."""

from __future__ import annotations

import json
import os
import queue
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.blocking.client import BlockingKernelClient

TOKEN = "a-token-of-this-test"
PATIENCE = 120


@dataclass
class RunningServer:
    """A server, and how to talk to it as the sidebar does."""

    url: str
    runtime: Path

    def ask(self, route: str, body: dict[str, Any] | None = None) -> Any:
        request = urllib.request.Request(
            f"{self.url}{route}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"token {TOKEN}", "Content-Type": "application/json"},
        )
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
            return json.loads(answer.read() or b"null")

    def kernel(self, folder: str) -> BlockingKernelClient:
        """Start a kernel as a notebook in `folder` would."""
        session = {"path": f"{folder}/n.ipynb", "type": "notebook", "name": "", "kernel": {"name": "python3"}}
        kernel_id = self.ask("api/sessions", session)["kernel"]["id"]
        client = BlockingKernelClient(connection_file=str(self.runtime / f"kernel-{kernel_id}.json"))
        client.load_connection_file()
        client.start_channels()
        deadline = time.monotonic() + PATIENCE
        while True:
            try:
                client.wait_for_ready(timeout=PATIENCE)
            except RuntimeError:  # it takes a kernel without a heartbeat yet for a dead one
                assert time.monotonic() < deadline
            else:
                return client


def run(client: BlockingKernelClient, code: str) -> str:
    """Run `code` in a kernel and return what it printed."""
    printed: list[str] = []

    def hear(message: dict[str, Any]) -> None:
        if message["msg_type"] == "stream":
            printed.append(message["content"]["text"])

    reply = client.execute_interactive(code, timeout=PATIENCE, output_hook=hear)
    assert reply["content"]["status"] == "ok", reply["content"]
    return "".join(printed).strip()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def answering(facts: Path) -> RunningServer | None:
    """Return the server once it has written where it is and answers there."""
    try:
        found = RunningServer(json.loads(facts.read_text())["url"], facts.parent)
        found.ask("api")
    except (OSError, ValueError):
        return None
    return found


@pytest.fixture
def server(tmp_path: Path) -> Iterator[RunningServer]:
    work = tmp_path / "work"
    for folder in ("one", "two"):
        (work / folder).mkdir(parents=True)
    config = tmp_path / "config"
    config.mkdir()
    (config / "jupyter_server_config.json").write_text(
        json.dumps({"ServerApp": {"jpserver_extensions": {"jupyter_llmops": True}}})
    )
    environ = {k: v for k, v in os.environ.items() if k not in ("LLMOPS_CATALOG", "JPY_PARENT_PID")} | {
        "JUPYTER_CONFIG_DIR": str(config),
        "JUPYTER_DATA_DIR": str(tmp_path / "data"),
        "JUPYTER_RUNTIME_DIR": str(tmp_path / "runtime"),
        "IPYTHONDIR": str(tmp_path / "ipython"),
        "LLMOPS_HOME": str(tmp_path / "home"),
        "HF_HUB_OFFLINE": "1",
    }
    log = (tmp_path / "server.log").open("w")
    process = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "jupyter_server",
            "--no-browser",
            "--allow-root",
            f"--ServerApp.port={free_port()}",
            f"--ServerApp.root_dir={work}",
            f"--IdentityProvider.token={TOKEN}",
        ],
        env=environ,
        cwd=tmp_path,
        stdout=log,
        stderr=log,
    )
    facts = tmp_path / "runtime" / f"jpserver-{process.pid}.json"
    deadline = time.monotonic() + PATIENCE
    try:
        while not (found := answering(facts)):
            assert process.poll() is None, (tmp_path / "server.log").read_text()
            assert time.monotonic() < deadline, (tmp_path / "server.log").read_text()
            time.sleep(0.05)
        yield found
    finally:
        process.terminate()
        process.wait(PATIENCE)
        log.close()


@pytest.mark.slow
def test_notebooks_in_sibling_folders_and_the_sidebar_agree(server: RunningServer) -> None:
    import threading

    import websocket  # the client of Jupyter's own kernels' channel, here for the events

    status = server.ask("jupyter-llmops/status")
    events = websocket.create_connection(
        f"{server.url.replace('http', 'ws', 1)}api/events/subscribe",
        header={"Authorization": f"token {TOKEN}"},
        timeout=PATIENCE,
    )
    heard: queue.Queue[str] = queue.Queue()

    def listen() -> None:
        while True:
            try:
                event = json.loads(events.recv())
            except (websocket.WebSocketException, OSError, ValueError):
                return
            if "topic" in event:
                heard.put(event["topic"])

    listener = threading.Thread(target=listen, daemon=True)
    listener.start()

    one, two = server.kernel("one"), server.kernel("two")
    opened = """
import jupyter_llmops, os
ws = jupyter_llmops.open_workspace()
print(ws.folder)
"""
    assert run(one, opened) == run(two, opened) == status["catalog"]["path"]
    assert run(one, "print(ws.catalog.prompts.publish('shared', 'Hello').version)") == "1"
    assert run(two, "print(ws.catalog.prompts.get('shared').template)") == "Hello"
    assert [p["name"] for p in server.ask("jupyter-llmops/prompts")["prompts"]] == ["shared"]

    # The kernel finds its server without being told where it is.
    assert run(two, "print(ws.doorbell.check() or ws.doorbell.address)") == server.url
    run(two, "ws.doorbell.ring('gpus')")
    while heard.get(timeout=PATIENCE) != "gpus":
        pass
    one.stop_channels()
    two.stop_channels()
    events.close()
    listener.join(60)
