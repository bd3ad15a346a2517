"""Two users with homes of their own and one catalog: real agents witness each other, and say what was rewritten."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from hashlib import sha256
from pathlib import Path
from typing import Any

import pytest

from jupyter_llmops.audit.files import head_path, journal_path
from jupyter_llmops.audit.leaf import canonical
from jupyter_llmops.audit.sealing import log_folder
from jupyter_llmops.audit.witnessed import refusals
from jupyter_llmops.catalog import Catalog
from jupyter_llmops.settings import user_name

USER = """
import json, sys
from jupyter_llmops.settings import load_settings
from jupyter_llmops.workspace import open_workspace

settings = load_settings()
settings.site, settings.agent = sys.argv[1], "off"
ws = open_workspace(settings=settings)
for line in sys.stdin:
    verb, *rest = line.split()
    if verb == "stamp":
        for number in range(int(rest[0])):
            ws.journal.stamp("cell", fields={"execution_count": number})
        ws.journal.flush()
        answer = ws.journal.session
    elif verb == "close":
        answer = ws.close()
    else:
        found = ws.verify()
        answer = [[one.message for one in found.problems], found.witnessed, found.witnesses, found.notes]
    print(json.dumps(answer), flush=True)
"""

# The agent as it is, but for how long it waits between two looks.
AGENT = """
import sys
from jupyter_llmops.agent import __main__, heads, loop, witness

heads.SECONDS_BETWEEN_SEALS, witness.SECONDS_BETWEEN_LOOKS, loop.POLL_SECONDS = 1.0, 0.5, 0.2
sys.exit(__main__.main())
"""


@dataclass
class User:
    """A user's kernel and agent, as processes with a home of their own."""

    home: Path
    place: Path
    key: Path
    site: str
    processes: list[subprocess.Popen[str]] = field(default_factory=list)

    @property
    def environment(self) -> dict[str, str]:
        own = {
            "LLMOPS_HOME": str(self.home),
            "LLMOPS_CATALOG": str(self.place),
            "LLMOPS_TEAM_KEY_FILE": str(self.key),
        }
        return os.environ | own

    def kernel(self) -> subprocess.Popen[str]:
        return self._start([sys.executable, "-c", USER, self.site])

    def agent(self, idle: float = 600) -> subprocess.Popen[str]:
        command = [sys.executable, "-P", "-c", AGENT, f"--catalog={self.place}"]
        command += [f"--journals={self.home / 'audit'}", f"--site={self.site}", f"--idle-seconds={idle}"]
        return self._start(command)

    def _start(self, command: list[str]) -> subprocess.Popen[str]:
        process = subprocess.Popen(
            command,
            env=self.environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.processes.append(process)
        return process


def say(kernel: subprocess.Popen[str], line: str) -> Any:
    """Let a kernel do something and return its answer."""
    assert kernel.stdin is not None
    assert kernel.stdout is not None
    kernel.stdin.write(line + "\n")
    kernel.stdin.flush()
    return json.loads(kernel.stdout.readline())


def until(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.2)


@pytest.fixture
def users(tmp_path: Path) -> Iterator[tuple[User, User]]:
    key = tmp_path / "team.key"
    key.write_text("llmops-team-key/1 AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=\n")
    pair = (
        User(tmp_path / "one", tmp_path / "catalog", key, "lab"),
        User(tmp_path / "two", tmp_path / "catalog", key, "desk"),
    )
    yield pair
    for user in pair:
        for process in user.processes:
            process.kill()
            process.wait()


def rewritten(home: Path, session: str, first: int) -> None:
    """Make the chain anew from a record on, with a head that fits, as an owner can; the log is made anew, too."""
    path = journal_path(home / "audit", session)
    lines = path.read_bytes().splitlines()
    made = lines[:first]
    for line in lines[first:]:
        leaf = json.loads(line) | {"prev": sha256(made[-1]).hexdigest()}
        made.append(canonical(leaf | ({"execution_count": 777} if len(made) == first else {})))
    path.write_bytes(b"".join(line + b"\n" for line in made))
    mark = f"{len(made) - 1:>20d} {sha256(made[-1]).hexdigest()}"
    head = "".join(f"{word} {mark}".ljust(103) + "\n" for word in ("wanted", "closed"))
    head_path(home / "audit", session).write_text(head)
    shutil.rmtree(log_folder(home / "audit", session))


@pytest.mark.slow
def test_real_agents_witness_each_other_and_both_verify_what_was_rewritten(users: tuple[User, User]) -> None:
    one, two = users
    catalog = Catalog(one.place, site="lab", user="test")
    kernels = [user.kernel() for user in users]
    sessions = [say(kernel, "stamp 120") for kernel in kernels]
    agents = [user.agent() for user in users]
    until(lambda: {row.session for row in catalog.cosignatures.list()} == set(sessions))
    # A kill of agent and kernel: the next agent seals what was left, the other countersigns it.
    say(kernels[0], "stamp 30")
    kernels[0].kill()
    agents[0].kill()
    agents[0].wait()
    agents[0] = one.agent()
    until(lambda: max(row.size for row in catalog.cosignatures.of([sessions[0]])) == 151)
    kernels[0] = one.kernel()
    problems, witnessed, witnesses, _ = say(kernels[0], "verify")
    assert problems == []
    assert witnessed >= 151
    assert witnesses == [f"{user_name()}@desk"]
    # The owner makes the log anew, and all that the catalog has of it.
    for agent in agents:
        agent.kill()
        agent.wait()
    rewritten(one.home, sessions[0], 50)
    where = f"session = '{sessions[0]}'"
    for table in ("runs", "heads", "cosignatures"):
        catalog._connection.writing(table, lambda handle: handle.delete(where))
    shutil.rmtree(one.home / "audit" / "agent")
    agents = [user.agent() for user in users]
    until(lambda: catalog.heads.of([sessions[0]]))
    until(lambda: any("was rewritten" in one.message for one in refusals(two.home / "audit")))
    problems, *_ = say(kernels[1], "verify")
    assert len(problems) == 1
    assert f"log of session {sessions[0]} (on lab) was rewritten" in problems[0]
    # Its owner sees that it is not witnessed any more.
    assert catalog.cosignatures.of([sessions[0]]) == []
    for agent in agents:
        agent.terminate()
        assert agent.wait(60) == 0


def test_two_homes_of_one_user_on_one_host_do_not_miss_each_other_s_journals(
    users: tuple[User, User],
) -> None:
    one, two = users
    two.site = one.site
    kernels = [user.kernel() for user in users]
    for kernel in kernels:
        say(kernel, "stamp 3")
        assert say(kernel, "verify")[0] == []  # the other's may have no head yet
    for agent in [user.agent(idle=0.1) for user in users]:
        assert agent.wait(120) == 0
    for kernel in kernels:
        problems, _, witnesses, notes = say(kernel, "verify")
        assert problems == []
        assert witnesses == []  # nobody is a witness of the own logs
        assert sum("another home" in note for note in notes) == 1
    # The own journal is missed all the same.
    session = say(kernels[0], "stamp 1")
    say(kernels[0], "close")
    one.agent(idle=0.1).wait(120)
    journal_path(one.home / "audit", session).unlink()
    problems, *_ = say(kernels[0], "verify")
    assert any(session in problem for problem in problems)
