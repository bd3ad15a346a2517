"""kill -9 of kernels, agents and servers at any moment: nothing acknowledged is lost, no log forks, all is repaired."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from jupyter_llmops.agent.loop import AgentLoop
from jupyter_llmops.audit.files import journal_path
from jupyter_llmops.audit.reading import complete_lines, list_journals, read_runs
from jupyter_llmops.audit.sealing import SessionLog
from jupyter_llmops.audit.tlog.checkpoint import parse_checkpoint
from jupyter_llmops.audit.tlog.note import parse_note
from jupyter_llmops.audit.verification import TrustedKeys, verify
from jupyter_llmops.catalog import Catalog
from jupyter_llmops.keys.signing import LogKeys, keys_folder
from soak import SoakScale

WORKER = Path(__file__).resolve().parent.parent / "trail_worker.py"
KERNELS = 4
KILLS = 10


@dataclass
class Worker:
    """A process, and what it has said."""

    role: str
    session: str
    process: subprocess.Popen[bytes]
    said: list[str] = field(default_factory=list)
    listener: threading.Thread | None = None

    @classmethod
    def start(cls, role: str, folder: Path, catalog: Path, session: str) -> Worker:
        process = subprocess.Popen(
            [sys.executable, WORKER, role, folder, catalog, session], stdout=subprocess.PIPE
        )
        worker = cls(role, session, process)
        worker.listener = threading.Thread(target=worker._listen, daemon=True)
        worker.listener.start()
        return worker

    def _listen(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            if line.endswith(b"\n"):  # the last one may be cut by the kill: then it was not said
                self.said.append(line.decode().strip())

    def kill(self) -> list[str]:
        assert self.process.poll() is None, f"the {self.role} ended by itself"
        self.process.kill()
        self.process.wait()
        assert self.listener is not None
        self.listener.join(30)
        assert self.process.stdout is not None
        self.process.stdout.close()
        return self.said


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMOPS_HOME", str(tmp_path / "home"))
    return tmp_path


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_nothing_acknowledged_is_lost_and_no_log_forks(home: Path, soak_scale: SoakScale) -> None:
    for seed in soak_scale.cases(sample=1, full=20):  # ten kills each: 200 in a soak
        place = home / str(seed)
        acknowledged = campaign(random.Random(seed), place)
        assert sum(map(len, acknowledged.values())) > 20 * KILLS
        check_repaired(place, acknowledged)


def campaign(chance: random.Random, place: Path) -> dict[str, list[str]]:
    """Kill at random while four kernels write and an agent and a server share the rest; return what was said."""
    folder, catalog = place / "audit", place / "catalog"
    acknowledged: dict[str, list[str]] = {}
    names = (f"s{number:03d}" for number in range(1000))
    workers: list[Worker] = []
    try:
        workers += [Worker.start(role, folder, catalog, "") for role in ("agent", "server")]
        workers += [Worker.start("kernel", folder, catalog, next(names)) for _ in range(KERNELS)]
        wait_for(lambda: all(worker.said for worker in workers))
        for _ in range(KILLS):
            time.sleep(chance.uniform(0.05, 1.2))
            victim = chance.choice(workers)
            wait_for(lambda: bool(victim.said))  # noqa: B023 - one that has begun its work
            said = victim.kill()
            if victim.role == "kernel":
                acknowledged[victim.session] = said
            place_of = workers.index(victim)
            session = next(names) if victim.role == "kernel" else ""
            workers[place_of] = Worker.start(victim.role, folder, catalog, session)
    finally:
        acknowledged |= kill_all(workers)
    return acknowledged


def kill_all(workers: list[Worker]) -> dict[str, list[str]]:
    """Kill the rest, whatever happened, and return what the kernels have said."""
    for worker in workers:
        worker.process.send_signal(signal.SIGSTOP)  # so that all end at one moment
    said = {worker.session: worker.kill() for worker in workers}
    said.pop("", None)
    return said


def check_repaired(place: Path, acknowledged: dict[str, list[str]]) -> None:
    """Let the next agent start and look at what it makes of the rest."""
    folder, catalog = place / "audit", Catalog(place / "catalog", site="lab", user="ada")
    problems: list[str] = []
    loop = AgentLoop(folder, catalog, on_problem=problems.append)
    assert loop.election.win()
    loop.step()
    loop.election.resign()
    assert problems == []
    keys = LogKeys.load(keys_folder())
    published = {path.stem: catalog.runs.digests(path.stem) for path in list_journals(folder)}
    for path in list_journals(folder):
        session = path.stem
        lines, _ = complete_lines(path.read_bytes())
        ids = [run.id for run in read_runs(path)]
        assert set(acknowledged[session]) <= set(ids)
        assert len(ids) <= len(acknowledged[session]) + 2  # the session's own, and one under way
        assert sorted(published[session]) == list(range(len(lines)))
        signed = SessionLog(folder, session, keys).signed()
        assert signed is not None
        assert signed.size == len(lines)
    assert {session for session, said in acknowledged.items() if said} <= {
        path.stem for path in list_journals(folder)
    }
    heads = catalog.heads.list()
    trusted = TrustedKeys("ada", "lab", (keys.log_public,), tuple(catalog.signers.list()))
    found = verify(folder, published=published, trusted=trusted, heads=heads)
    assert found.ok, found.problems
    # No two heads of a size differ, and the largest is that of the whole journal.
    roots: dict[tuple[str, int], str] = {}
    for head in heads:
        assert parse_checkpoint(parse_note(head.checkpoint).text).size == head.size
        assert roots.setdefault((head.session, head.size), head.root) == head.root
    for session in acknowledged:
        if journal_path(folder, session).exists():
            assert max(size for name, size in roots if name == session) == len(published[session])


def wait_for(condition: object, seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    assert callable(condition)
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.02)
