"""Tells the Jupyter server that started this kernel that something changed.

The server then emits an event, and the sidebar asks for what is new.
"""

from __future__ import annotations

import json
import os
import threading
import time
import urllib.parse
from dataclasses import dataclass
from pathlib import Path

TOPICS = ("runs", "prompts", "models", "collections", "gpus")

_SECONDS_BETWEEN_RINGS = 0.05
_SECONDS_AFTER_FAILURE = 10.0


@dataclass(frozen=True, slots=True)
class Server:
    """Where the Jupyter server answers and what it wants to hear; the token is never shown."""

    url: str
    token: str

    def __repr__(self) -> str:
        return f"Server(url={self.url!r})"


class Doorbell:
    """Rings at the Jupyter server of this kernel, from a daemon thread; never raises, never waits.

    The server is the parent process (``JPY_PARENT_PID``); its address and token are in the file
    that it wrote for this user, and nothing is ever sent elsewhere: no proxy, no redirect.
    """

    def __init__(self) -> None:
        self._pending: set[str] = set()
        self._wake = threading.Event()
        self._thread: threading.Thread | None = None
        self._pid = os.getpid()
        self._server: Server | None = None
        self._looked_at = float("-inf")
        self._connected = False

    @property
    def connected(self) -> bool:
        """Whether the last ring was heard."""
        return self._connected

    @property
    def address(self) -> str:
        """The server's address without its token, empty where no server started this kernel."""
        server = self._find()
        return server.url if server else ""

    def ring(self, topic: str) -> None:
        """Say that `topic` changed; rings that come close together are one.

        Parameters
        ----------
        topic : {"runs", "prompts", "models", "collections", "gpus"}
            What changed; anything else is ignored by the server.
        """
        if self._pid != os.getpid() or "JPY_PARENT_PID" not in os.environ:
            return
        self._pending.add(topic)
        self._wake.set()
        if self._thread is None:
            self._thread = threading.Thread(target=self._keep, name="llmops-doorbell", daemon=True)
            self._thread.start()

    def check(self) -> str:
        """Ask the server whether it hears this kernel; return what is wrong, empty when nothing is."""
        server = self._find(afresh=True)
        if server is None:
            return "No Jupyter server started this kernel."
        from jupyter_llmops.agent.request import ask

        answer = ask(server.url, server.token, "status")
        if answer.ok:
            return ""
        if answer.status == 404:
            return f"The server at {server.url} runs without the jupyter_llmops extension."
        if answer.status in (401, 403):
            return f"The server at {server.url} does not accept this kernel's token."
        return f"The server at {server.url} does not answer as it should: {answer.reason}."

    def _keep(self) -> None:
        while self._wake.wait():
            self._wake.clear()
            while self._pending:
                self._send(self._pending.pop())
            time.sleep(_SECONDS_BETWEEN_RINGS if self._connected else _SECONDS_BETWEEN_RINGS * 4)

    def _send(self, topic: str) -> None:
        server = self._find()
        if server is None:
            self._connected = False
            return
        from jupyter_llmops.agent.request import ask

        self._connected = ask(server.url, server.token, "doorbell", {"topic": topic}).ok
        if not self._connected:
            self._server = None  # it may have been started again, with another token

    def _find(self, *, afresh: bool = False) -> Server | None:
        """Return the server; without one, look for it again only after some seconds."""
        if self._server is not None and not afresh:
            return self._server
        now = time.monotonic()
        if afresh or now - self._looked_at > _SECONDS_AFTER_FAILURE:
            self._looked_at = now
            self._server = find_server()
        return self._server


def find_server() -> Server | None:
    """Return the Jupyter server that is this process's parent, None where there is none."""
    parent = os.environ.get("JPY_PARENT_PID", "")
    if not parent.isdigit():
        return None
    from jupyter_core.paths import jupyter_runtime_dir

    try:
        facts = json.loads((Path(jupyter_runtime_dir()) / f"jpserver-{parent}.json").read_bytes())
        url = _reachable(str(facts["url"]))
        token = str(facts.get("token") or "")
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return None
    return Server(url, token) if url else None


def _reachable(url: str) -> str:
    """Return the address to call, empty for a server that has none (a Unix socket)."""
    parts = urllib.parse.urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        return ""
    host = parts.hostname
    # These name every interface of the machine, and no address.
    host = {"0.0.0.0": "127.0.0.1", "::": "::1", "*": "127.0.0.1"}.get(host, host)  # noqa: S104
    shown = f"[{host}]" if ":" in host else host
    netloc = f"{shown}:{parts.port}" if parts.port else shown
    return urllib.parse.urlunsplit((parts.scheme, netloc, parts.path.rstrip("/") + "/", "", ""))
