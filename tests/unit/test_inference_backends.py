"""Backends of maps without their processes: what is typed, how work is cut, and each request once."""

from __future__ import annotations

import random
from concurrent.futures import Future
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from backend_worker import MODEL, EchoEngines, answer, asking
from jupyter_llmops.errors import (
    BackendError,
    ContextError,
    LLMOpsError,
    MissingDependencyError,
    ModelNotAvailableError,
    UnknownNameError,
    UsageError,
)
from jupyter_llmops.inference.backends import distribution as distribution_module
from jupyter_llmops.inference.backends import is_backend, jobs, open_backend, parse_backend, worker
from jupyter_llmops.inference.backends.backend import Backend
from jupyter_llmops.inference.backends.chunks import LARGEST, Chunks
from jupyter_llmops.inference.backends.distribution import Distribution
from jupyter_llmops.records.completion import Generation
from jupyter_llmops.records.model import Model, ModelFile


@pytest.mark.parametrize(
    ("text", "kind", "address", "workers"),
    [
        ("kernel", "kernel", "", None),
        ("Loky", "loky", "", None),
        ("loky:4", "loky", "", 4),
        ("dask", "dask", "", None),
        ("dask:3", "dask", "", 3),
        ("dask:tcp://10.0.0.1:8786", "dask", "tcp://10.0.0.1:8786", None),
        ("ray:head:6379", "ray", "head:6379", None),
        ("ray:ray://head:10001", "ray", "ray://head:10001", None),
    ],
)
def test_what_is_typed(text: str, kind: str, address: str, workers: int | None):
    found = parse_backend(text)
    assert (found.kind, found.address, found.workers) == (kind, address, workers)
    assert is_backend(text)


@pytest.mark.parametrize(
    "text", ["", "dusk", "loky:", "loky:0", "loky:many", "kernel:2", "dask:", "loky:9999", "dask:0"]
)
def test_what_can_not_be_meant(text: str, tmp_path: Path):
    with pytest.raises(UsageError) as caught:
        open_backend(text, models_folder=tmp_path, offline=True, engines=EchoEngines(tmp_path))
    assert "loky:4" in caught.value.hint
    assert "Did you mean dask" in caught.value.hint or text != "dusk"


def test_endpoint_names_are_no_backends():
    assert not is_backend("alpha=3,beta")


@given(st.lists(st.integers(0, 4000), max_size=300), st.integers(1, 16))
def test_chunks_hold_everything_once_longest_first(lengths: list[int], workers: int):
    requests = [asking("x" * length) for length in lengths]
    chunks = Chunks(requests)
    taken = []
    while chunks:
        taken.append(chunks.take(workers).positions)
    assert sorted(sum(taken, ())) == list(range(len(requests)))
    sizes = [len(positions) for positions in taken]
    assert all(1 <= size <= LARGEST["cpu"] for size in sizes)
    assert sizes == sorted(sizes, reverse=True)
    # No worker gets more than its share.
    assert not sizes or sizes[0] <= max(1, -(-len(requests) // workers))
    order = [lengths[position] // 4 for positions in taken for position in positions]
    assert order == sorted(order, reverse=True)


@pytest.mark.parametrize(
    ("rows", "workers", "sizes"),
    [(64, 2, [32, 32]), (10, 2, [5, 5]), (1, 4, [1]), (64, 1, [64]), (200, 2, [50, 37, 32, 32, 32, 17])],
)
def test_chunks_are_fair_and_large(rows: int, workers: int, sizes: list[int]):
    chunks = Chunks([asking("a")] * rows)
    found = []
    while chunks:
        found.append(len(chunks.take(workers).positions))
    assert found == sizes


def test_models_and_requests_arrive_as_they_left(tmp_path: Path):
    adapter = Model("tuned", "adapter", "folder:/a", digest="sha256:1", base="echo")
    model = Model("echo", "llm", "folder:/m", files=(ModelFile("a", 1, "0" * 64),), adapter=adapter)
    request = asking("hello")
    job = jobs.write_job([request], model, tmp_path, offline=True)
    assert jobs.read_model(job["model"]) == model
    assert jobs.read_requests(job) == [request]
    # Nothing but plain values: a worker of another version must be able to read it.
    assert _types(job) <= {dict, list, tuple, str, int, float, bool, type(None)}


def _types(value: Any) -> set[type]:
    inner = (
        list(value.values()) if isinstance(value, dict) else value if isinstance(value, (list, tuple)) else []
    )
    return {type(value)}.union(*map(_types, inner))


@pytest.mark.parametrize(
    ("error", "kind"),
    [
        (ContextError("Too long.", "Shorten it."), ContextError),
        (MissingDependencyError("A thing", "gguf"), LLMOpsError),
        (UnknownNameError("model", "x"), UsageError),
    ],
)
def test_errors_arrive_as_they_left(error: LLMOpsError, kind: type):
    found = jobs.read_error(jobs.write_error(error))
    assert type(found) is kind
    assert str(found) == str(error)


@pytest.mark.parametrize("name", ["SystemExit", "nearest", "Any", "MissingDependencyError"])
def test_a_foreign_error_is_one_of_ours(name: str):
    assert str(jobs.read_error({"error": name, "message": "m", "hint": "h"})) == "m h"


class Losing:
    """Workers that compute at once and die at random; `Distribution`'s other side without processes.

    The real ones are in test_inference_backends_dask.py and tests/faults/test_backend_kill.py.
    """

    def __init__(self, chance: random.Random, share: float, count: int = 3) -> None:
        self.chance = chance
        self.share = share
        self.count = count
        self.stopped: list[Any] = []
        self.computed: list[str] = []

    def slots(self) -> int:
        return self.count

    def submit(self, job: dict[str, Any]) -> Future[dict[str, Any]]:
        future: Future[dict[str, Any]] = Future()
        texts = [request["messages"][-1]["content"] for request in job["requests"]]
        if self.chance.random() < self.share or "die" in texts:
            future.set_exception(ConnectionResetError())
        else:
            self.computed += texts
            future.set_result(
                {"worker": "w", "host": "h", "outcomes": [jobs.write_outcome(answer(text)) for text in texts]}
            )
        return future

    def is_lost(self, error: BaseException) -> bool:
        return isinstance(error, ConnectionResetError)

    def leave_out(self, worker: str) -> None:
        self.count -= 1

    def stop(self, running: Any) -> None:
        self.stopped = list(running)


def distribute(workers: Any, texts: list[str], folder: Path, **options: Any) -> dict[int, Any]:
    got: dict[int, Any] = {}

    def on_done(position: int, outcome: Any) -> None:
        assert position not in got, "handed over twice"
        got[position] = outcome

    Distribution(workers, [asking(text) for text in texts], MODEL, on_done, folder=folder, offline=True).run()
    assert sorted(got) == list(range(len(texts)))
    return got


@pytest.fixture(autouse=True)
def at_once(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("backend_worker.SECONDS", 0)


@pytest.mark.parametrize("seed", range(20))
def test_every_request_once_while_workers_die(seed: int, tmp_path: Path):
    chance = random.Random(seed)
    texts = [f"text {number}" for number in range(chance.randint(1, 150))]
    got = distribute(Losing(chance, share=0.1, count=chance.randint(1, 5)), texts, tmp_path)
    lost = [outcome for outcome in got.values() if isinstance(outcome, BackendError)]
    assert len(lost) <= len(texts) // 20
    assert all(got[i].text == texts[i].upper() for i in got if isinstance(got[i], Generation))


def test_a_deadly_request_fails_alone(tmp_path: Path):
    texts = [*(f"text {number}" for number in range(40)), "die", "too long"]
    got = distribute(Losing(random.Random(1), share=0), texts, tmp_path)
    assert isinstance(got[40], BackendError)
    assert "died of it" in got[40].message
    assert isinstance(got[41], ContextError)
    assert [got[i].text for i in range(40)] == [text.upper() for text in texts[:40]]


def test_workers_that_only_die_are_given_up(tmp_path: Path):
    workers = Losing(random.Random(1), share=1)
    got = distribute(workers, [f"text {number}" for number in range(300)], tmp_path)
    assert {type(outcome) for outcome in got.values()} == {BackendError}
    assert "die before they answer" in str(got[0])


def test_no_worker_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(distribution_module, "WITHOUT_WORKERS", 0.0)
    got = distribute(Losing(random.Random(1), share=0, count=0), ["a", "b"], tmp_path)
    assert all(
        isinstance(outcome, BackendError) and "no worker" in outcome.message for outcome in got.values()
    )


def test_a_worker_without_the_model_is_left_out(tmp_path: Path):
    class OneWithout(Losing):
        def submit(self, job: dict[str, Any]) -> Future[dict[str, Any]]:
            if self.stopped:
                return super().submit(job)
            self.stopped.append("only once")
            future: Future[dict[str, Any]] = Future()
            refused = jobs.write_error(ModelNotAvailableError("The worker on h has no files.", "Copy them."))
            future.set_result({"worker": "w", "host": "h", "refused": refused})
            return future

    workers = OneWithout(random.Random(1), share=0, count=2)
    got = distribute(workers, ["a", "b", "c"], tmp_path)
    assert [got[i].text for i in range(3)] == ["A", "B", "C"]


def test_whoever_takes_the_answers_fails(tmp_path: Path):
    class Waiting(Losing):
        def submit(self, job: dict[str, Any]) -> Future[dict[str, Any]]:
            # The first ends, the others run on.
            return super().submit(job) if not self.computed else Future()

    workers = Waiting(random.Random(1), share=0)

    def on_done(position: int, outcome: Any) -> None:
        raise KeyboardInterrupt

    requests = [asking(f"text {number}") for number in range(30)]
    with pytest.raises(KeyboardInterrupt):
        Distribution(workers, requests, MODEL, on_done, folder=tmp_path, offline=True).run()
    assert workers.stopped  # what still ran was ended


def test_an_endpoint_needs_no_workers(tmp_path: Path):
    from dataclasses import replace

    requests = [replace(asking("a"), engine="endpoint", device="")]
    with pytest.raises(UsageError, match="endpoint"):
        Distribution(Losing(random.Random(1), 0), requests, MODEL, print, folder=tmp_path, offline=True).run()


@pytest.fixture
def echo(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(worker, "Engines", EchoEngines)
    monkeypatch.setattr(worker, "_ENGINES", {})


def test_a_worker_says_who_it_is(echo: None, tmp_path: Path):
    job = jobs.write_job([asking("a"), asking("too long")], MODEL, tmp_path, offline=True)
    got = worker.compute(job, threads=1, worker="w1")
    first, second = map(jobs.read_outcome, got["outcomes"])
    assert (first.text, first.served_by, got["worker"]) == ("A", worker.facts()["host"], "w1")
    assert isinstance(second, ContextError)


@pytest.mark.parametrize("change", ["version", "engine", "model"])
def test_a_worker_refuses_what_it_can_not_answer_the_same(
    change: str, echo: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    job = jobs.write_job([asking("a")], MODEL, tmp_path, offline=True)
    if change == "version":
        job["version"] = "0.0.1"
    elif change == "engine":
        job["requests"][0]["engine_version"] = "echo 2"
    else:
        monkeypatch.setenv("ECHO_WITHOUT_MODEL", "1")
    error = jobs.read_error(worker.compute(job, threads=1)["refused"])
    assert isinstance(error, ModelNotAvailableError if change == "model" else BackendError)
    assert f"The worker on {worker.facts()['host']}" in error.message


def test_unwanted_work_ends_after_the_row(echo: None, tmp_path: Path):
    job = jobs.write_job([asking(str(number)) for number in range(9)], MODEL, tmp_path, offline=True)
    asked = []
    got = worker.compute(job, threads=1, cancelled=lambda: bool(asked.append(1)) or len(asked) == 3)
    assert got["outcomes"] is None
    assert len(asked) == 3


def test_the_kernel_is_a_backend(tmp_path: Path):
    backend = open_backend("kernel", models_folder=tmp_path, offline=True, engines=EchoEngines(tmp_path))
    assert isinstance(backend, Backend)
    got: dict[int, Any] = {}
    backend.run([asking("a"), asking("too long")], MODEL, got.__setitem__)
    assert got[0].text == "A"
    assert isinstance(got[1], ContextError)
    backend.close()


@pytest.mark.parametrize(("spec", "package"), [("dask", "distributed"), ("ray", "ray")])
def test_without_the_package(spec: str, package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(MissingDependencyError) as caught:
        open_backend(spec, models_folder=tmp_path, offline=True, engines=EchoEngines(tmp_path))
    assert f"jupyter-llmops[{spec}]" in caught.value.hint
