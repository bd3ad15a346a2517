"""A real Jupyter server in a process of its own, with folders of its own."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

TOKEN = "a-token-of-this-test"
PATIENCE = 60


@dataclass
class RunningServer:
    """A server, and how to talk to it.

    Parameters
    ----------
    url : str
        Its address, with a slash at the end.
    folder : Path
        Everything of it lies below.
    """

    url: str
    folder: Path
    process: subprocess.Popen[bytes]

    @property
    def audit(self) -> Path:
        """The audit folder of its user."""
        return self.folder / "home" / "audit"

    def ask(self, route: str, body: Any = None, method: str | None = None) -> Any:
        """Return what the server answers."""
        request = urllib.request.Request(
            f"{self.url}{route}",
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"token {TOKEN}", "Content-Type": "application/json"},
            method=method,
        )
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=60) as answer:
            return json.loads(answer.read() or b"null")

    def end(self, route: str) -> None:
        """Delete what lies at a route."""
        self.ask(route, method="DELETE")


@contextmanager
def running_server(folder: Path, config: Mapping[str, Any] | None = None) -> Iterator[RunningServer]:
    """Start a server with this extension and end it as a user does."""
    (folder / "work").mkdir()
    (folder / "config").mkdir()
    values = {"ServerApp": {"jpserver_extensions": {"jupyter_llmops": True}}}
    (folder / "config" / "jupyter_server_config.json").write_text(json.dumps(values))
    if config:
        (folder / "config" / "jupyter_llmops_config.json").write_text(json.dumps(config))
    environ = {k: v for k, v in os.environ.items() if k not in ("LLMOPS_CATALOG", "JPY_PARENT_PID")} | {
        "JUPYTER_CONFIG_DIR": str(folder / "config"),
        "JUPYTER_DATA_DIR": str(folder / "data"),
        "JUPYTER_RUNTIME_DIR": str(folder / "runtime"),
        "IPYTHONDIR": str(folder / "ipython"),
        "LLMOPS_HOME": str(folder / "home"),
        "HF_HUB_OFFLINE": "1",
    }
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = int(probe.getsockname()[1])
    command = [
        sys.executable, "-m", "jupyter_server", "--no-browser", "--allow-root", f"--ServerApp.port={port}",
        f"--ServerApp.root_dir={folder / 'work'}", f"--IdentityProvider.token={TOKEN}",
    ]  # fmt: skip
    with (folder / "server.log").open("w") as log:
        process = subprocess.Popen(command, env=environ, cwd=folder, stdout=log, stderr=log)
        found = RunningServer(f"http://127.0.0.1:{port}/", folder, process)
        deadline = time.monotonic() + PATIENCE
        try:
            while not _answers(found):
                assert process.poll() is None, (folder / "server.log").read_text()
                assert time.monotonic() < deadline, (folder / "server.log").read_text()
                time.sleep(0.05)
            yield found
        finally:
            process.terminate()
            process.wait(PATIENCE)


def _answers(server: RunningServer) -> bool:
    try:
        server.ask("api")
    except (OSError, ValueError):
        return False
    return True
