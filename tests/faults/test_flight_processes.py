"""Many processes ask the same: one computes, also when it is killed, frozen or interrupted midway."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from cache_answers import GENERATION, Engine, asking
from jupyter_llmops.cache.exact import ExactCache
from soak import SoakScale

Worker = subprocess.Popen[str]


def until(condition: Callable[[], object], seconds: float = 120) -> None:
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it did not happen in time"
        time.sleep(0.01)


@contextmanager
def workers(repository: Path, count: int, *arguments: object, **environment: str) -> Iterator[list[Worker]]:
    """Start processes that are ready to ask; those that still run at the end are killed."""
    path = os.pathsep.join([str(repository / "tests"), str(repository / "src")])
    started = [
        subprocess.Popen(
            [sys.executable, str(repository / "tests" / "flight_worker.py"), *map(str, arguments)],
            env={**os.environ, "PYTHONPATH": path, **environment},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(count)
    ]
    try:
        for worker in started:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        yield started
    finally:
        for worker in started:
            worker.kill()
            worker.communicate()


def ask(*asking: Worker) -> None:
    for worker in asking:
        assert worker.stdin is not None
        worker.stdin.write("\n")
        worker.stdin.flush()


def result(worker: Worker) -> dict[str, Any]:
    return dict(json.loads(worker.communicate(timeout=120)[0].splitlines()[-1]))


def computed(log: Path) -> list[int]:
    """Return the processes that computed, in their order."""
    return [int(line) for line in log.read_text().split()] if log.exists() else []


def test_of_many_that_ask_the_same_one_computes(tmp_path: Path, repository: Path, soak_scale: SoakScale):
    log = tmp_path / "computed"
    with workers(repository, soak_scale(6, 12), tmp_path / "cache", "Q", 0.5, log) as started:
        ask(*started)
        results = [result(worker) for worker in started]
    assert len(computed(log)) == 1
    assert [one["text"] for one in results] == [GENERATION.text] * len(started)
    assert sum(one["hit"] for one in results) == len(started) - 1
    assert not list((tmp_path / "cache").glob("v2-*/leases/*"))
    assert not list((tmp_path / "cache").glob("v2-*/holders/*"))


def test_killed_midway_the_next_one_computes(tmp_path: Path, repository: Path, soak_scale: SoakScale):
    for case in soak_scale.cases(sample=2, full=100):
        chance, log = random.Random(case), tmp_path / f"computed-{case}"
        with workers(repository, 4, tmp_path / str(case), "Q", 0.5, log) as started:
            ask(*started)
            until(lambda log=log: computed(log))
            # Killed at a random moment of its work: the pause decides which, no assertion depends on it.
            time.sleep(chance.uniform(0, 0.3))
            first = computed(log)[0]
            os.kill(first, signal.SIGKILL)
            left = [worker for worker in started if worker.pid != first]
            results = [result(worker) for worker in left]
        assert len(computed(log)) == 2
        assert sum(one["hit"] for one in results) == 2
        assert {one["text"] for one in results} == {GENERATION.text}


def test_frozen_midway_the_next_one_computes_and_the_thawed_one_is_right_too(
    tmp_path: Path, repository: Path
):
    log = tmp_path / "computed"
    patience = {"FLIGHT_STALE_SECONDS": "1.5", "FLIGHT_BEAT_SECONDS": "0.1"}
    with workers(repository, 3, tmp_path / "cache", "Q", 1.0, log, **patience) as started:
        ask(*started)
        until(lambda: computed(log))
        frozen = next(worker for worker in started if worker.pid == computed(log)[0])
        frozen.send_signal(signal.SIGSTOP)
        results = [result(worker) for worker in started if worker is not frozen]
        assert len(computed(log)) == 2
        assert sorted(one["hit"] for one in results) == [False, True]
        frozen.send_signal(signal.SIGCONT)
        assert result(frozen)["text"] == GENERATION.text
    assert len(computed(log)) == 2
    assert ExactCache(tmp_path / "cache").fetch(asking("Q"), Engine()).hit


def test_ctrl_c_while_waiting_ends_the_waiting_alone(tmp_path: Path, repository: Path):
    log, cache = tmp_path / "computed", tmp_path / "cache"
    with workers(repository, 1, cache, "Q", 600, log) as (first,):
        ask(first)
        until(lambda: computed(log))
        with workers(repository, 1, cache, "Q", 600, log) as (second,):
            ask(second)
            assert second.stdout is not None
            assert second.stdout.readline().startswith("ada@lab is computing this answer; waiting since ")
            second.send_signal(signal.SIGINT)
            interrupted = result(second)
        assert interrupted["interrupted"]
        assert computed(log) == [first.pid]
        assert first.poll() is None


def test_ctrl_c_while_computing_lets_the_next_one_compute(tmp_path: Path, repository: Path):
    log = tmp_path / "computed"
    with workers(repository, 3, tmp_path / "cache", "Q", 1.0, log) as started:
        ask(*started)
        until(lambda: computed(log))
        first = next(worker for worker in started if worker.pid == computed(log)[0])
        first.send_signal(signal.SIGINT)
        results = [result(worker) for worker in started]
    assert sum("interrupted" in one for one in results) == 1
    assert sorted(one["hit"] for one in results if "hit" in one) == [False, True]
    assert len(computed(log)) == 2
