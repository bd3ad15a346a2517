"""A map of 64 prompts on a Dask cluster of two workers beside one worker, each of one thread.

The peer is what one would write with Dask alone: ``client.map`` of one prompt at a time over the same engine.
Workers are real processes on the loopback; each has loaded the model before anything is timed.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from jupyter_llmops.inference import sources
from jupyter_llmops.inference.backends import open_backend
from jupyter_llmops.inference.backends.jobs import write_job
from jupyter_llmops.inference.engines import Engines
from jupyter_llmops.records.model import Model
from jupyter_llmops.records.request import GenerationParameters, InferenceRequest, Message

Requests = Sequence[InferenceRequest]
SUBJECTS = ("rivers", "bread", "moss", "trains", "glass", "bees", "salt", "maps")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--prompts", type=int, default=64)
    parser.add_argument("--tokens", type=int, default=10)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--models", type=Path, default=Path("build/test-models"))
    chosen = parser.parse_args()
    folder = chosen.models.resolve()
    folder.mkdir(parents=True, exist_ok=True)
    engines = Engines(folder, offline=True)
    model = engines.with_digest(sources.resolve(sources.DEFAULT_LLM))
    requests = questions(engines, model, chosen.prompts, chosen.tokens)

    from distributed import Client, LocalCluster

    times: dict[str, list[float]] = {"one": [], "two": [], "plain": []}
    with tempfile.TemporaryDirectory() as scratch:
        options = {
            "threads_per_worker": 1,
            "dashboard_address": None,
            "memory_limit": 0,
            "local_directory": scratch,
            "env": {"OMP_NUM_THREADS": "1", "OMP_WAIT_POLICY": "PASSIVE"},
        }
        with (
            LocalCluster(n_workers=1, **options) as one,
            LocalCluster(n_workers=2, **options) as two,
            Client(two, set_as_default=False) as plain,
        ):
            maps: dict[str, Callable[[Requests], None]] = {
                "one": mapping(one.scheduler_address, engines, folder, model),
                "two": mapping(two.scheduler_address, engines, folder, model),
                "plain": lambda asked: one_by_one(plain, asked, model, folder),
            }
            for run in maps.values():
                run(requests[:8])  # every worker loads the model
            for _ in range(chosen.rounds):
                for name, run in maps.items():
                    begun = time.perf_counter()
                    run(requests)
                    times[name].append(time.perf_counter() - begun)
                    print(f"{name}: {times[name][-1]:.2f} s", flush=True)
    medians = {name: statistics.median(values) for name, values in times.items()}
    speedup = medians["one"] / medians["two"]
    print(f"two workers are {speedup:.2f} × one; goal ≥ 1.8")
    rows = [
        {
            "name": "jupyter_llmops, dask, 2 workers",
            "median": round(medians["two"], 2),
            "speedup": round(speedup, 2),
        },
        {
            "name": "jupyter_llmops, dask, 1 worker",
            "median": round(medians["one"], 2),
            "ratio": round(speedup, 2),
        },
        {
            "name": "dask alone, client.map one by one, 2 workers",
            "median": round(medians["plain"], 2),
            "ratio": round(medians["plain"] / medians["two"], 2),
        },
    ]
    claim = f"Two Dask workers are at least 1.8 × as fast as one on a map of {chosen.prompts} prompts"
    print(json.dumps({"claim": claim, "unit": "s", "rows": rows}))


def questions(engines: Engines, model: Model, count: int, tokens: int) -> list[InferenceRequest]:
    identity = engines.transformers.identify(model, "nf4")
    return [
        InferenceRequest(
            model=model.name,
            model_digest=model.digest,
            messages=(Message("user", f"Write line {n} of a long list of facts about {SUBJECTS[n % 8]}."),),
            parameters=GenerationParameters(max_new_tokens=tokens),
            engine=identity.engine,
            engine_version=identity.engine_version,
            quantization=identity.quantization,
            device=identity.device,
        )
        for n in range(count)
    ]


def mapping(address: str, engines: Engines, folder: Path, model: Model) -> Callable[[Requests], None]:
    backend = open_backend(f"dask:{address}", models_folder=folder, offline=True, engines=engines)

    def run(requests: Requests) -> None:
        got: dict[int, Any] = {}
        backend.run(requests, model, got.__setitem__)
        failed = [outcome for outcome in got.values() if isinstance(outcome, Exception)]
        if failed or len(got) != len(requests):
            raise SystemExit(f"{len(failed)} of {len(requests)} failed: {failed[:1]}")

    return run


def one_by_one(client: Any, requests: Requests, model: Model, folder: Path) -> None:
    from jupyter_llmops.inference.backends.worker import compute

    jobs = [write_job([request], model, folder, offline=True) for request in requests]
    client.gather(client.map(compute, jobs, threads=1, pure=False))


if __name__ == "__main__":
    os.environ.setdefault("HF_HUB_OFFLINE", "1")
    main()
