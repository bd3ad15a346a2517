"""Real kernels on a catalog of their own, with the real default model."""

from __future__ import annotations

import os
import queue
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from jupyter_client.manager import KernelManager

CELL_SECONDS = 300


@dataclass
class Shown:
    """What a cell showed."""

    status: str = ""
    error: str = ""
    text: str = ""
    html: str = ""
    stderr: str = ""
    messages: list[dict[str, Any]] = field(default_factory=list)


class Kernel:
    """A kernel as a frontend sees it."""

    def __init__(self, cwd: Path, env: dict[str, str]) -> None:
        self.manager = KernelManager(kernel_name="python3")
        self.manager.start_kernel(cwd=str(cwd), env=env)
        self.client = self.manager.blocking_client()
        self.client.start_channels()
        self.client.wait_for_ready(timeout=CELL_SECONDS)

    def run(self, source: str, during: Callable[[dict[str, Any]], None] | None = None) -> Shown:
        """Run a cell to its end and return what it showed; `during` gets every message."""
        sent = self.client.execute(source)
        shown = Shown()
        deadline = time.monotonic() + CELL_SECONDS
        while time.monotonic() < deadline:
            try:
                message = self.client.get_iopub_msg(timeout=1)
            except queue.Empty:
                assert self.manager.is_alive(), "the kernel died"
                continue
            if message["parent_header"].get("msg_id") != sent:
                continue
            shown.messages.append(message)
            if during:
                during(message)
            if self._take(shown, message):
                break
        else:
            pytest.fail(f"the cell did not end: {source}")
        shown.status = self._status(sent)
        return shown

    def _status(self, sent: str) -> str:
        while True:  # replies to the questions of `wait_for_ready` may still be there
            reply = self.client.get_shell_msg(timeout=CELL_SECONDS)
            if reply["parent_header"].get("msg_id") == sent:
                return str(reply["content"]["status"])

    @staticmethod
    def _take(shown: Shown, message: dict[str, Any]) -> bool:
        content = message["content"]
        match message["msg_type"]:
            case "stream":
                if content["name"] == "stdout":
                    shown.text += content["text"]
                else:
                    shown.stderr += content["text"]
            case "execute_result":
                shown.text += content["data"].get("text/plain", "")
                shown.html += content["data"].get("text/html", "")
            case "error":
                shown.error = "\n".join(content["traceback"])
            case "status":
                return bool(content["execution_state"] == "idle")
        return False

    def stop(self) -> None:
        """End the kernel as a frontend does."""
        self.client.stop_channels()
        self.manager.shutdown_kernel(now=False)


@dataclass
class Desk:
    """A user's folders, and the kernels that were started on them."""

    root: Path
    env: dict[str, str]
    kernels: list[Kernel] = field(default_factory=list)

    def kernel(self, folder: str = ".", *, load: bool = True) -> Kernel:
        """Start a kernel in a folder and load the extension."""
        cwd = self.root / folder
        cwd.mkdir(parents=True, exist_ok=True)
        kernel = Kernel(cwd, self.env)
        self.kernels.append(kernel)
        if load:
            shown = kernel.run("%load_ext jupyter_llmops")
            assert shown.status == "ok", shown.error
        return kernel


def make_desk(root: Path, models_folder: Path) -> Desk:
    """Return folders that nobody else uses, but with the shared models."""
    env = {
        **os.environ,
        "HOME": str(root / "home"),
        "JUPYTER_CONFIG_DIR": str(root / "config"),
        "JUPYTER_DATA_DIR": str(root / "data"),
        "JUPYTER_RUNTIME_DIR": str(root / "runtime"),
        "IPYTHONDIR": str(root / "ipython"),
        "LLMOPS_HOME": str(root / "llmops"),
        "LLMOPS_CATALOG": str(root / "catalog"),
        "HF_HUB_OFFLINE": "1",
    }
    env.pop("JPY_PARENT_PID", None)
    (root / "llmops").mkdir()
    (root / "llmops" / "models").symlink_to(models_folder)
    (root / "config").mkdir()
    (root / "config" / "jupyter_llmops_config.py").write_text("c.LLMOps.agent = 'off'\n")
    return Desk(root, env)
