"""Who had a cell run: a person at a notebook, an agent, a runner on a server, a console.

A kernel is told little of it, and whoever sends a request writes its header: this is what the request
says of itself, no proof of who sent it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Literal, NamedTuple

Actor = Literal["human", "agent", "server", "console", "program"]
ACTORS: tuple[Actor, ...] = ("human", "agent", "server", "console", "program")

_CLIENT_CHARACTERS = 12
# What agents call themselves in the header's `username`, as whole words.
_AGENT = re.compile(r"(?:^|[^a-z])(?:agent|ai|assistant|bot|copilot|llm|mcp)(?:[^a-z]|$)", re.IGNORECASE)
_RUNNERS = re.compile(
    r"nbconvert|nbclient|papermill|jupyter-execute|jupyter-run|jupytext|jupyter[_-]scheduler"
)
_CONSOLES = re.compile(r"jupyter[_-]console|jupyter[_-]qtconsole|qtconsole")


class Request(NamedTuple):
    """What is known of who had a cell run.

    Parameters
    ----------
    actor : {"human", "agent", "server", "console", "program"}
        "human": a notebook's front end, as it named the cell. "agent": the request calls itself so, by
        ``metadata["actor"]`` or its user's name. "server": no cell is named, and the kernel's parent is a
        runner of notebooks (nbconvert, papermill, …). "console": typed at IPython in a terminal or at
        a Jupyter console. "program": no cell is named and nothing says what sent it.
    client : str
        The first 12 characters of the request's message session; the same for all requests of one
        client to one kernel. Empty outside of a kernel.
    """

    actor: Actor
    client: str


def request_of(shell: Any, cell_id: str) -> Request:
    """Return who had the current cell of a shell run, as far as it can be known.

    Parameters
    ----------
    shell : InteractiveShell
        A kernel's shell keeps the request that it is answering.
    cell_id : str
        Of the notebook's cell, empty where none is named.
    """
    parent = getattr(shell, "parent_header", None)
    if not isinstance(parent, dict):
        return Request("console", "")
    header, metadata = _mapping(parent, "header"), _mapping(parent, "metadata")
    session = header.get("session")
    client = session[:_CLIENT_CHARACTERS] if isinstance(session, str) else ""
    declared = metadata.get("actor")
    if declared in ACTORS:
        return Request(declared, client)
    user = header.get("username")
    if isinstance(user, str) and _AGENT.search(user[:200]):
        return Request("agent", client)
    if cell_id:
        return Request("human", client)
    return Request(_started_by(os.getppid()), client)


def notebook_of(namespace: Mapping[str, Any]) -> str:
    """Return the notebook's path: from the Jupyter server, or what VS Code leaves in the namespace; or nothing."""
    path = os.environ.get("JPY_SESSION_NAME", "")
    if not path:
        found = namespace.get("__vsc_ipynb_file__")
        path = found if type(found) is str else ""
    return path[:4096]


def _mapping(message: dict[str, Any], name: str) -> dict[str, Any]:
    value = message.get(name)
    return value if isinstance(value, dict) else {}


@cache
def _started_by(parent: int) -> Actor:
    """Return what a request without a cell comes from, by the process that started the kernel."""
    if not sys.platform.startswith("linux"):
        return "program"
    try:
        command = (
            Path(f"/proc/{parent}/cmdline")
            .read_bytes()[:4096]
            .replace(b"\0", b" ")
            .decode("utf-8", "replace")
        )
    except OSError:
        return "program"
    if _RUNNERS.search(command):
        return "server"
    return "console" if _CONSOLES.search(command) else "program"
