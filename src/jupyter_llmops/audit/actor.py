"""Who had a cell run: a person at a notebook, an agent, a runner on a server, a console.

A kernel is told little of it, and whoever sends a request writes its header: this is what the request
says of itself, no proof of who sent it.
"""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from itertools import pairwise
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
# After which a runner's command names a notebook that it writes.
_TO = ("--output", "--NbConvertApp.output_base")
# After which papermill's has parameters of the notebook, and how many words.
_PARAMETERS = {"-p": 2, "--parameters": 2, "-r": 2, "--parameters_raw": 2, "-f": 1, "--parameters_file": 1,
               "-y": 1, "--parameters_yaml": 1}  # fmt: skip
_PAPERMILL = re.compile(r"papermill(?:/__main__\.py)? ")
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
    """Return the notebook's path: from the Jupyter server, VS Code, which leaves it in the namespace, or a runner's command."""
    path = os.environ.get("JPY_SESSION_NAME", "")
    if not path:
        found = namespace.get("__vsc_ipynb_file__")
        path = found if type(found) is str else _runners_notebook(os.getppid())
    return path[:4096]


def _mapping(message: dict[str, Any], name: str) -> dict[str, Any]:
    value = message.get(name)
    return value if isinstance(value, dict) else {}


@cache
def _started_by(parent: int) -> Actor:
    """Return what a request without a cell comes from, by the process that started the kernel."""
    command = " ".join(_command(parent))
    if _RUNNERS.search(command):
        return "server"
    return "console" if _CONSOLES.search(command) else "program"


@cache
def _runners_notebook(parent: int) -> str:
    """Return the notebook that a runner of notebooks was told to run; nothing where it runs several."""
    command = _command(parent)
    if not _RUNNERS.search(" ".join(command)):
        return ""
    papermill = _PAPERMILL.search(" ".join(command))
    if papermill:
        command = list(_without_parameters(command))
    named = [
        word
        for before, word in pairwise(command)
        if word.endswith(".ipynb") and not word.startswith("-") and before not in _TO
    ]
    if len(named) > 1 and not papermill:  # papermill's second is what it writes
        return ""
    try:
        return str(Path(f"/proc/{parent}/cwd").readlink() / named[0]) if "://" not in named[0] else named[0]
    except (OSError, IndexError):
        return ""


def _without_parameters(command: list[str]) -> Iterator[str]:
    skipped = 0
    for word in command:
        if not skipped:
            yield word
        skipped = max(skipped - 1, 0) or _PARAMETERS.get(word, 0)


def _command(process: int) -> list[str]:
    """Return the command line of a process, as far as it can be read; only Linux says it cheaply."""
    if not sys.platform.startswith("linux"):
        return []
    try:
        data = Path(f"/proc/{process}/cmdline").read_bytes()[:4096]
    except OSError:
        return []
    return data.decode("utf-8", "replace").split("\0")
