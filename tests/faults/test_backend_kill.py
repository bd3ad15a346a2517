"""Workers killed at random while they answer: every request exactly once, on loky, Dask and Ray.

The workers are real processes; their engine answers without a model (tests/backend_worker.py), so that many
can be killed.
"""

from __future__ import annotations

import contextlib
import os
import random
import signal
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

import backend_worker
from backend_worker import MODEL, asking
from dask_processes import DaskProcesses
from jupyter_llmops.errors import BackendError
from jupyter_llmops.inference.backends import open_backend, processes, ray_cluster, worker
from jupyter_llmops.inference.backends.backend import Backend
from jupyter_llmops.inference.engines import Engines
from jupyter_llmops.records.completion import Generation
from soak import SoakScale

ROWS = 120


def opened(spec: str, folder: Path, workers: int | None = None) -> Backend:
    engines = Engines(folder, offline=True)
    return open_backend(spec, models_folder=folder, offline=True, engines=engines, workers=workers)


def run(backend: Backend, texts: list[str], on_row: Callable[[int], None] = lambda done: None) -> list[Any]:
    got: dict[int, Any] = {}

    def on_done(position: int, outcome: Any) -> None:
        assert position not in got, "handed over twice"
        got[position] = outcome
        on_row(len(got))

    backend.run([asking(text) for text in texts], MODEL, on_done)
    assert sorted(got) == list(range(len(texts)))
    return [got[position] for position in range(len(texts))]


def texts_of(outcomes: list[Any]) -> list[str]:
    return [outcome.text if isinstance(outcome, Generation) else str(outcome) for outcome in outcomes]


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskProcesses]:
    cluster = DaskProcesses(tmp_path_factory.mktemp("dask")).start()
    yield cluster
    cluster.stop()


def test_dask_workers_killed_at_random(scheduler: DaskProcesses, tmp_path: Path, soak_scale: SoakScale):
    backend: Backend | None = None
    for case in soak_scale.cases(sample=2, full=60):
        chance = random.Random(case)
        while len(scheduler.workers) < 2:
            scheduler.add_worker("--preload", "backend_worker")
        scheduler.wait_for(2)
        backend = backend or opened(f"dask:{scheduler.address}", tmp_path)
        fatal = chance.randint(1, ROWS - 20)
        victim = scheduler.workers[chance.randrange(2)]

        def kill(done: int, fatal: int = fatal, victim: Any = victim) -> None:
            if done == fatal:
                victim.kill()

        wanted = [f"text {case} {number}" for number in range(ROWS)]
        assert texts_of(run(backend, wanted, kill)) == [text.upper() for text in wanted]
        assert victim.wait(10) == -signal.SIGKILL
        scheduler.workers.remove(victim)
    assert backend is not None
    backend.close()
    scheduler.end_workers()


def test_the_scheduler_is_killed(tmp_path: Path):
    cluster = DaskProcesses(tmp_path / "dask").start()
    try:
        cluster.add_worker("--preload", "backend_worker")
        cluster.wait_for(1)
        backend = opened(f"dask:{cluster.address}", tmp_path)

        def kill(done: int) -> None:
            if done == 5:
                cluster.scheduler.kill()

        outcomes = run(backend, [f"text {number}" for number in range(160)], kill)
        kept = [outcome for outcome in outcomes if isinstance(outcome, Generation)]
        failed = [outcome for outcome in outcomes if not isinstance(outcome, Generation)]
        assert len(kept) >= 5
        assert {type(failure) for failure in failed} == {BackendError}
        assert "scheduler" in failed[0].message
        backend.close()
    finally:
        cluster.stop()


@pytest.fixture
def loky(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Backend]:
    monkeypatch.setattr(worker, "ignore_interrupts", backend_worker.install)
    backend = opened("loky:2", tmp_path)
    yield backend
    backend.close()


def workers_here() -> list[psutil.Process]:
    """Return the loky workers of this process."""
    found = []
    for child in psutil.Process().children(recursive=True):
        with contextlib.suppress(psutil.Error):
            if "loky.backend.popen_loky_posix" in " ".join(child.cmdline()):
                found.append(child)
    return found


def test_loky_workers_killed_at_random(loky: Backend, soak_scale: SoakScale):
    for case in soak_scale.cases(sample=2, full=60):
        chance = random.Random(case)
        fatal = chance.randint(1, ROWS - 20)

        def kill(done: int, fatal: int = fatal, chance: random.Random = chance) -> None:
            if done == fatal:
                os.kill(chance.choice(workers_here()).pid, signal.SIGKILL)

        wanted = [f"text {case} {number}" for number in range(ROWS)]
        assert texts_of(run(loky, wanted, kill)) == [text.upper() for text in wanted]


def test_a_request_that_kills_its_worker_fails_alone(loky: Backend):
    wanted = [*(f"text {number}" for number in range(7)), "die"]
    outcomes = run(loky, wanted)
    assert texts_of(outcomes[:-1]) == [text.upper() for text in wanted[:-1]]
    assert isinstance(outcomes[-1], BackendError)


def test_ctrl_c_ends_loky_workers(loky: Backend, tmp_path: Path):
    note = tmp_path / "note"

    def press() -> None:
        until = time.monotonic() + 60
        while not (note.exists() and note.read_text()) and time.monotonic() < until:
            time.sleep(0.01)
        # As a terminal or Jupyter does it: to every process of the group, the workers too.
        for child in workers_here():
            child.send_signal(signal.SIGINT)
        signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)

    presser = threading.Thread(target=press)
    presser.start()
    with pytest.raises(KeyboardInterrupt):
        run(loky, [f"note {note}"])
    presser.join()
    assert not psutil.pid_exists(int(note.read_text()))
    # The same backend goes on.
    assert texts_of(run(loky, ["a", "b"])) == ["A", "B"]


def test_idle_workers_are_shared_by_nobody(loky: Backend):
    run(loky, ["a"])
    import joblib

    # The notebook's own parallel loops neither resize nor end our pool.
    assert joblib.Parallel(n_jobs=2, backend="loky")(joblib.delayed(abs)(-n) for n in range(3)) == [0, 1, 2]
    assert texts_of(run(loky, ["a"])) == ["A"]
    joblib.externals.loky.get_reusable_executor().shutdown(wait=True, kill_workers=True)
    assert processes.share_of_threads(10_000) == 1


@pytest.mark.slow
def test_ray_nodes_killed_at_random(tmp_path: Path, soak_scale: SoakScale, monkeypatch: pytest.MonkeyPatch):
    """A real Ray cluster of two nodes on this machine; one of them is killed midway."""
    if not soak_scale.full:
        pytest.skip("a cluster of Ray takes half a minute to start; make soak runs it")
    pytest.importorskip("ray")
    from ray.cluster_utils import Cluster

    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", str(Path(__file__).resolve().parent.parent))
    monkeypatch.setattr(ray_cluster, "_Actor", backend_worker.EchoActor)
    # The node that this process belongs to computes nothing.
    cluster = Cluster(initialize_head=True, head_node_args={"num_cpus": 0})
    backend: Backend | None = None
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1)
        backend = opened(f"ray:{cluster.address}", tmp_path)
        for case in soak_scale.cases(sample=1, full=5):
            chance = random.Random(case)
            fatal = chance.randint(1, ROWS - 20)
            victim = chance.choice(sorted(cluster.worker_nodes, key=id))

            def kill(done: int, fatal: int = fatal, victim: Any = victim) -> None:
                if done == fatal:
                    cluster.remove_node(victim, allow_graceful=False)

            wanted = [f"text {case} {number}" for number in range(ROWS)]
            assert texts_of(run(backend, wanted, kill)) == [text.upper() for text in wanted]
            cluster.add_node(num_cpus=1)
    finally:
        if backend is not None:
            backend.close()
        cluster.shutdown()
