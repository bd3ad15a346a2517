"""A map on a real Dask scheduler and its workers, with a real, tiny model and without one."""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from backend_worker import MODEL, asking
from dask_processes import DaskProcesses
from jupyter_llmops.errors import BackendError, ModelNotAvailableError
from jupyter_llmops.inference import sources
from jupyter_llmops.inference.backends import dask_cluster, open_backend
from jupyter_llmops.inference.backends.backend import Backend
from jupyter_llmops.inference.engines import Engines
from jupyter_llmops.records.model import Model
from model_fixtures import make_request

ECHO = ("--preload", "backend_worker")


@pytest.fixture(scope="module")
def scheduler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DaskProcesses]:
    cluster = DaskProcesses(tmp_path_factory.mktemp("dask")).start()
    yield cluster
    cluster.stop()


@pytest.fixture
def cluster(scheduler: DaskProcesses) -> Iterator[DaskProcesses]:
    yield scheduler
    scheduler.end_workers()
    scheduler.wait_for(0)


def opened(cluster: DaskProcesses, folder: Path) -> Backend:
    engines = Engines(folder, offline=True)
    return open_backend(f"dask:{cluster.address}", models_folder=folder, offline=True, engines=engines)


def run(backend: Backend, requests: list[Any], model: Model = MODEL) -> list[Any]:
    got: dict[int, Any] = {}

    def on_done(position: int, outcome: Any) -> None:
        assert position not in got, "handed over twice"
        got[position] = outcome

    backend.run(requests, model, on_done)
    assert sorted(got) == list(range(len(requests)))
    return [got[position] for position in range(len(requests))]


def test_two_workers_answer_what_the_kernel_answers(
    cluster: DaskProcesses, tiny_folder: Path, tmp_path: Path
):
    engines = Engines(tmp_path / "models", offline=True)
    model = engines.with_digest(sources.resolve(str(tiny_folder)))
    engines.transformers.load(model, "fp32")
    requests = [
        make_request(engines.transformers, model, f"question {number}", "fp32", max_new_tokens=6)
        for number in range(12)
    ]
    requests.append(make_request(engines.transformers, model, "x" * 200, "fp32", max_new_tokens=6))
    here = run(open_backend("kernel", models_folder=tmp_path, offline=True, engines=engines), requests, model)
    cluster.add_worker()
    cluster.add_worker()
    cluster.wait_for(2)
    backend = opened(cluster, tmp_path / "models")
    there = run(backend, requests, model)
    assert [outcome.text for outcome in there[:-1]] == [outcome.text for outcome in here[:-1]]
    assert [outcome.token_ids for outcome in there[:-1]] == [outcome.token_ids for outcome in here[:-1]]
    assert {outcome.served_by for outcome in there[:-1]} == {dask_cluster.worker.facts()["host"]}
    assert type(there[-1]) is type(here[-1])  # longer than the context
    assert str(there[-1]) == str(here[-1])
    assert backend.notes == ()
    backend.close()


def test_workers_that_can_not_answer(cluster: DaskProcesses, tmp_path: Path):
    cluster.add_worker(*ECHO, ECHO_WITHOUT_MODEL="1")
    cluster.wait_for(1)
    backend = opened(cluster, tmp_path)
    requests = [asking(f"text {number}") for number in range(20)]
    # None has the model: each row says where it is missing.
    failures = run(backend, requests)
    assert {type(failure) for failure in failures} == {ModelNotAvailableError}
    assert f"The worker on {dask_cluster.worker.facts()['host']}" in failures[0].message
    # One has it: it answers all, and a note says who did not.
    cluster.add_worker(*ECHO)
    cluster.wait_for(2)
    assert [outcome.text for outcome in run(backend, requests)] == [f"TEXT {n}" for n in range(20)]
    assert all("can't answer" in note for note in backend.notes)
    backend.close()


def test_workers_of_another_version_or_without_the_package(cluster: DaskProcesses, tmp_path: Path):
    (cluster.folder / "other_version.py").write_text(
        "import jupyter_llmops._version as v\nv.__version__ = '0.0.1'\ndef dask_setup(_): pass\n"
    )
    (cluster.folder / "no_package.py").write_text(
        "import sys\nsys.modules['jupyter_llmops'] = None\ndef dask_setup(_): pass\n"
    )
    cluster.add_worker("--preload", str(cluster.folder / "other_version.py"), "--name", "other")
    cluster.add_worker("--preload", str(cluster.folder / "no_package.py"), "--name", "without")
    cluster.wait_for(2)
    with pytest.raises(BackendError, match="left out: it has") as caught:
        opened(cluster, tmp_path)
    assert cluster.address.rpartition(":")[0] in caught.value.message
    cluster.add_worker(*ECHO)
    cluster.wait_for(3)
    backend = opened(cluster, tmp_path)
    assert [outcome.text for outcome in run(backend, [asking("a"), asking("b")])] == ["A", "B"]
    notes = " ".join(backend.notes)
    assert "0.0.1" in notes
    assert "no package jupyter_llmops" in notes
    backend.close()


def test_ctrl_c_stops_a_cluster_s_work(cluster: DaskProcesses, tmp_path: Path):
    cluster.add_worker(*ECHO)
    cluster.wait_for(1)
    backend = opened(cluster, tmp_path)
    folder = tmp_path / "asked"
    folder.mkdir()
    requests = [asking(f"touch {folder / str(number)}", max_new_tokens=number + 1) for number in range(24)]
    presser = threading.Thread(target=press_ctrl_c_when, args=(folder,))
    presser.start()
    with pytest.raises(KeyboardInterrupt):
        backend.run(requests, MODEL, lambda *_: None)
    presser.join()
    # The worker is free at once, and what nobody wants any more is not computed.
    assert run(backend, [asking("a")])[0].text == "A"
    assert len(list(folder.iterdir())) < len(requests)
    backend.close()


def press_ctrl_c_when(folder: Path) -> None:
    """Interrupt the main thread as soon as a worker computes."""
    until = time.monotonic() + 60
    while not any(folder.iterdir()) and time.monotonic() < until:
        time.sleep(0.01)
    signal.pthread_kill(threading.main_thread().ident, signal.SIGINT)


def test_there_is_no_scheduler(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(dask_cluster, "CONNECT_SECONDS", 0.5)
    for address in ("tcp://127.0.0.1:1", "nonsense://x", "127.0.0.1:1", str(tmp_path / "none.json")):
        with pytest.raises(BackendError) as caught:
            open_backend(
                f"dask:{address}",
                models_folder=tmp_path,
                offline=True,
                engines=Engines(tmp_path, offline=True),
            )
        assert address in caught.value.message
        assert "--backend dask:tcp://HOST:8786" in caught.value.hint
