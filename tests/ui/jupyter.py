"""A real Jupyter application in folders of its own."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path
from typing import Any, Literal, Self

REPOSITORY = Path(__file__).resolve().parents[2]
LABEXTENSION = REPOSITORY / "src" / "jupyter_llmops" / "_labextension"
STANDIN = Path(__file__).resolve().parent / "standin"
START_SECONDS = 90

ServerExtension = Literal["real", "standin", "missing"]

NO_NEWS = {"fetchNews": "false", "checkForUpdates": False}

# So rare that a test passes only when the doorbell works.
NO_POLL = {"pollInterval": 3600}


class Jupyter:
    """A Jupyter server with JupyterLab, Notebook 7 and the sidebar; it touches nothing outside its folder.

    Parameters
    ----------
    folder : Path
        Empty; holds configuration, data, catalog and notebooks.
    extension : {"real", "standin", "missing"}
        Which server extension answers the sidebar: ours, the one that a test steers, or none.
    """

    def __init__(self, folder: Path, extension: ServerExtension) -> None:
        self.folder = folder
        self.work = folder / "work"
        self.extension = extension
        self.token = secrets.token_hex(16)
        self.url = ""
        self.sidebar_settings = folder / "config/lab/user-settings/jupyter-llmops/sidebar.jupyterlab-settings"
        self._state_file = folder / "standin.json"
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> Self:
        self._write_configuration()
        port = free_port()
        self.url = f"http://127.0.0.1:{port}/"
        with (self.folder / "server.log").open("wb") as log:
            self._process = subprocess.Popen(
                [
                    sys.executable,
                    "-m",
                    "jupyterlab",
                    "--no-browser",
                    "--allow-root",
                    "--ip=127.0.0.1",
                    f"--port={port}",
                    "--ServerApp.port_retries=0",
                    "--KernelManager.shutdown_wait_time=1",  # nobody waits for what a kernel does at its end
                    f"--IdentityProvider.token={self.token}",
                    f"--ServerApp.root_dir={self.work}",
                    "--LabApp.expose_app_in_browser=True",
                    "--JupyterNotebookApp.expose_app_in_browser=True",
                ],
                cwd=self.work,
                env=self._environment(),
                stdout=log,
                stderr=subprocess.STDOUT,
                stdin=subprocess.DEVNULL,
            )
        self._wait_until_it_answers()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def stop(self) -> None:
        """End the server and its kernels."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(20)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()
        self._process = None

    def log(self) -> str:
        """Return what the server has said."""
        return (self.folder / "server.log").read_text(errors="replace")

    def ask(self, route: str, body: dict[str, Any] | None = None) -> bytes:
        """Return the answer to a request with the server's token; a body makes it a POST."""
        request = urllib.request.Request(
            self.url + route,
            data=None if body is None else json.dumps(body).encode(),
            headers={"Authorization": f"token {self.token}"},
        )
        with urllib.request.urlopen(request, timeout=20) as response:
            return response.read()

    def show(self, ring: str = "", **state: Any) -> None:
        """Have the stand-in answer `state` from now on, and ring the doorbell of a topic."""
        known = json.loads(self._state_file.read_text())
        fresh = self._state_file.with_suffix(".new")
        fresh.write_text(json.dumps(known | state))
        fresh.replace(self._state_file)
        if ring:
            self.ask("jupyter-llmops/doorbell", {"topic": ring})

    def _environment(self) -> dict[str, str]:
        ours = {
            "HOME": str(self.folder / "home"),
            "JUPYTER_CONFIG_DIR": str(self.folder / "config"),
            "JUPYTER_DATA_DIR": str(self.folder / "data"),
            "JUPYTER_RUNTIME_DIR": str(self.folder / "runtime"),
            "JUPYTER_PATH": str(self.folder / "share"),
            "IPYTHONDIR": str(self.folder / "ipython"),
            "LLMOPS_HOME": str(self.folder / "llmops"),
            "LLMOPS_STANDIN": str(self._state_file),
            "HF_HUB_OFFLINE": "1",
            "PYTHONPATH": os.pathsep.join([str(STANDIN), os.environ.get("PYTHONPATH", "")]).rstrip(
                os.pathsep
            ),
        }
        inherited = {key: value for key, value in os.environ.items() if key != "LLMOPS_CATALOG"}
        return inherited | ours

    def _write_configuration(self) -> None:
        for name in ("home", "config", "data", "runtime", "ipython", "llmops"):
            (self.folder / name).mkdir(parents=True)
        # The catalog of a project: found from the server's folder, handed on to its kernels.
        (self.work / ".llmops").mkdir(parents=True)
        self._state_file.write_text("{}")
        extensions = {
            "jupyter_llmops": self.extension == "real",
            "llmops_standin": self.extension == "standin",
        }
        write_json(
            self.folder / "config" / "jupyter_server_config.json",
            {"ServerApp": {"jpserver_extensions": extensions}},
        )
        write_json(
            self.folder
            / "config/lab/user-settings/@jupyterlab/apputils-extension/notification.jupyterlab-settings",
            NO_NEWS,
        )
        write_json(self.sidebar_settings, NO_POLL)
        place = self.folder / "share" / "labextensions"
        place.mkdir(parents=True)
        (place / "jupyter-llmops").symlink_to(LABEXTENSION)

    def _wait_until_it_answers(self) -> None:
        deadline = time.monotonic() + START_SECONDS
        while time.monotonic() < deadline:
            assert self._process is not None
            if self._process.poll() is not None:
                raise RuntimeError(f"Jupyter ended while starting:\n{self.log()[-4000:]}")
            try:
                self.ask("api/status")
                return
            except (urllib.error.URLError, ConnectionError, TimeoutError):
                time.sleep(0.1)
        self.stop()
        raise RuntimeError(f"Jupyter did not answer in {START_SECONDS} s:\n{self.log()[-4000:]}")


def write_json(path: Path, value: Any) -> None:
    """Write a JSON file and the folders above it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value))


def free_port() -> int:
    """Return a port that nobody listens on."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
