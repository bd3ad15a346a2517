from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import psutil
import pytest

from jupyter_llmops.agent.election import Election
from jupyter_llmops.agent.loop import AgentLoop
from jupyter_llmops.agent.process import AgentStarter, start_if_absent
from jupyter_llmops.audit.journal import Journal
from jupyter_llmops.catalog import Catalog
from jupyter_llmops.catalog.upkeep import Upkeep


def until(condition: Callable[[], object], seconds: float = 90) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.1)  # looking costs: it takes the processor from who is waited for


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "catalog", site="lab", user="ada")


@pytest.fixture
def journal(tmp_path: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch) -> Journal:
    monkeypatch.setenv("LLMOPS_HOME", str(tmp_path / "home"))  # an agent maintains the user's own, too
    return Journal(tmp_path / "audit", context={"user": "ada", "host": "lab", "catalog": str(catalog.folder)})


def stamp(journal: Journal) -> None:
    journal.stamp("cell", started_at=datetime.now(UTC), seconds=0.1, fields={}, content={})
    journal.flush()


def agents(journal: Journal) -> list[psutil.Process]:
    """Return the agent processes of this test's folder."""
    found = []
    for process in psutil.process_iter(["cmdline", "status"]):
        words = process.info["cmdline"] or []
        mine = f"--journals={journal.folder}" in words and "jupyter_llmops.agent" in words
        if mine and process.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(process)
    return found


@pytest.fixture
def clean(journal: Journal) -> Iterator[None]:
    yield
    for process in agents(journal):
        process.kill()


@pytest.mark.slow
@pytest.mark.usefixtures("clean")
def test_one_process_is_started_and_flushes(journal: Journal, catalog: Catalog) -> None:
    stamp(journal)
    election = Election(journal.folder, catalog.folder)
    assert election.is_vacant()
    assert start_if_absent(catalog.folder, journal.folder, site="lab", idle_seconds=300)
    until(lambda: catalog.runs.last_seq(journal.session) == 1)
    assert not election.is_vacant()
    assert not start_if_absent(catalog.folder, journal.folder, idle_seconds=2)
    (process,) = agents(journal)
    # Detached: not a child of ours, in a session of its own, with none of our files.
    assert process.ppid() != os.getpid()
    assert os.getsid(process.pid) != os.getsid(0)
    assert process.cwd() == str(election.path.parent)
    assert not {file.path for file in process.open_files()} & {"/dev/tty"}
    stamp(journal)
    until(lambda: catalog.runs.last_seq(journal.session) == 2)
    assert election.log.read_text() == ""


@pytest.mark.slow
@pytest.mark.usefixtures("clean")
def test_of_several_that_are_started_at_once_one_stays(journal: Journal, catalog: Catalog) -> None:
    stamp(journal)
    command = [sys.executable, "-m", "jupyter_llmops.agent", "--catalog", str(catalog.folder)]
    command += ["--journals", str(journal.folder), "--idle-seconds", "300"]
    processes = [subprocess.Popen(command) for _ in range(3)]
    try:
        until(lambda: sum(process.poll() is None for process in processes) == 1)
        until(lambda: catalog.runs.last_seq(journal.session) == 1)
        (agent,) = [process for process in processes if process.poll() is None]
        assert [process.returncode for process in processes if process is not agent] == [0, 0]
        stamp(journal)
        agent.send_signal(signal.SIGTERM)
        assert agent.wait(60) == 0
    finally:
        for process in processes:
            process.kill()
            process.wait()
    # What was stamped just before the end was still carried.
    assert catalog.runs.last_seq(journal.session) == 2
    assert Election(journal.folder, catalog.folder).is_vacant()


@pytest.mark.slow
@pytest.mark.usefixtures("clean")
def test_after_a_killed_agent_the_next_one_goes_on(journal: Journal, catalog: Catalog) -> None:
    stamp(journal)
    assert start_if_absent(catalog.folder, journal.folder, idle_seconds=300)
    until(lambda: catalog.runs.last_seq(journal.session) == 1)
    (process,) = agents(journal)
    process.kill()
    until(Election(journal.folder, catalog.folder).is_vacant)
    stamp(journal)
    starter = AgentStarter(catalog.folder, journal.folder, site="lab")
    starter.nudge()
    until(lambda: catalog.runs.last_seq(journal.session) == 2)
    assert starter.problem == ""


def test_one_leaves_when_idle_and_imports_no_file_of_the_notebooks_folder(
    journal: Journal, catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, clean: None
) -> None:
    notebooks = tmp_path / "notebooks"
    notebooks.mkdir()
    for name in ("argparse", "logging", "filelock"):
        (notebooks / f"{name}.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    monkeypatch.chdir(notebooks)
    stamp(journal)
    assert start_if_absent(catalog.folder, journal.folder, idle_seconds=0.1)
    until(lambda: not agents(journal))
    assert catalog.runs.last_seq(journal.session) == 1
    election = Election(journal.folder, catalog.folder)
    assert election.is_vacant()
    assert election.log.read_text() == ""
    assert not (tmp_path / "ran").exists()


def test_a_folder_that_refuses_the_agent_is_said_and_no_more(catalog: Catalog) -> None:
    starter = AgentStarter(catalog.folder, Path("/sys/llmops"), site="lab")
    starter.nudge()
    until(lambda: starter.problem)
    assert "No agent carries the journal" in starter.problem


def test_the_loop_in_a_thread_tells_what_it_carried(journal: Journal, catalog: Catalog) -> None:
    carried: list[int] = []
    loop = AgentLoop(journal.folder, catalog, on_flush=carried.append)
    thread = threading.Thread(target=loop.run)
    thread.start()
    try:
        stamp(journal)
        loop.wake()
        until(lambda: sum(carried) == 2)
        assert not Election(journal.folder, catalog.folder).is_vacant()
        for _ in range(5):
            stamp(journal)
    finally:
        loop.stop()
        thread.join(60)
    assert not thread.is_alive()
    assert sum(carried) == 7
    assert Election(journal.folder, catalog.folder).is_vacant()


def test_only_the_elected_loop_works_and_another_takes_over(journal: Journal, catalog: Catalog) -> None:
    first, second = (AgentLoop(journal.folder, catalog) for _ in range(2))
    assert first.election.win()
    assert not second.election.win()
    thread = threading.Thread(target=second.run)
    thread.start()
    try:
        stamp(journal)
        first.step()
        assert catalog.runs.last_seq(journal.session) == 1
        first.election.resign()
        stamp(journal)
        until(lambda: catalog.runs.last_seq(journal.session) == 2)
    finally:
        second.stop()
        thread.join(60)


def test_a_problem_is_told_once_and_the_loop_goes_on(journal: Journal, catalog: Catalog) -> None:
    told: list[str] = []
    loop = AgentLoop(journal.folder, catalog, on_problem=told.append)
    stamp(journal)
    catalog.folder.write_text("in the way")
    loop.step()
    loop.step()
    assert len(told) == 1
    assert "a file where a folder should be" in told[0]
    catalog.folder.unlink()
    loop.step()
    assert catalog.runs.last_seq(journal.session) == 1


def test_the_loop_maintains_the_catalog_and_the_users_own(
    journal: Journal, catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert Upkeep._is_due.__defaults__ == (200,)
    monkeypatch.setattr(Upkeep._is_due, "__defaults__", (8,))
    own = Catalog(tmp_path / "own", site="lab", user="ada")
    loop = AgentLoop(journal.folder, catalog, maintains=[own])
    loop.step()
    for place in (catalog, own):
        for number in range(9):
            place.prompts.publish("p", f"text {number}")
        assert place._connection.fragments("prompts") == 9
    loop.step()
    for place in (catalog, own):
        assert place._connection.fragments("prompts") == 1
        assert len(place.prompts.versions("p")) == 9


def test_a_catalog_that_cannot_be_maintained_does_not_keep_the_users_own_from_it(
    journal: Journal, catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Upkeep._is_due, "__defaults__", (3,))
    own = Catalog(tmp_path / "own", site="lab", user="ada")
    told: list[str] = []
    loop = AgentLoop(journal.folder, catalog, maintains=[own], on_problem=told.append)
    loop.step()
    for place in (catalog, own):
        for number in range(4):
            place.prompts.publish("p", f"text {number}")
    for path in (catalog.folder / "prompts.lance" / "data").iterdir():
        path.write_bytes(b"not a Lance file")
    loop.step()
    assert own._connection.fragments("prompts") == 1
    assert len(told) == 1
    assert "prompts.lance" in told[0]


def test_an_idle_loop_before_a_catalog_that_refuses_rests_and_at_last_leaves(
    journal: Journal, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [0.0]
    monkeypatch.setattr("jupyter_llmops.agent.loop.time.monotonic", lambda: now[0])
    catalog.folder.write_text("a file where a folder should be")
    stamp(journal)
    loop = AgentLoop(journal.folder, catalog)
    steps = 0

    def step(*, closing: bool = False) -> None:
        nonlocal steps
        steps += 1
        now[0] += 1.0  # else a loop that never rests would be in this test for ever
        AgentLoop.step(loop, closing=closing)

    def rest(seconds: float) -> bool:
        now[0] += seconds
        return False

    monkeypatch.setattr(loop, "step", step)
    monkeypatch.setattr(loop._stop, "wait", rest)
    loop.run(idle_seconds=120.0)
    assert now[0] > 3600  # it went on trying for an hour
    assert steps < 100  # and rested between
