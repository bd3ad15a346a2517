"""Digests of a notebook's values beside joblib.hash: how long a cell waits, and how soon a value is passed over.

joblib.hash pickles what it hashes: it calls a value's own code, has no limit, and takes no salt. Values of one kind
are hashed in turn by both; each row is the median of the rounds. The last rows are values that no leaf may wait for:
for joblib they are left out, as it would read ten gigabytes, or never return.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import joblib
import numpy as np
import pandas as pd
import torch
from sklearn.linear_model import LogisticRegression

from jupyter_llmops.audit.values import digest_values, random_states

SALT = "5a" * 16


class _NeverReturns:
    def __repr__(self) -> str:
        while True:
            time.sleep(1)

    __eq__ = __hash__ = __reduce__ = __repr__  # type: ignore[assignment]


def values() -> dict[str, Any]:
    """Return what notebooks hold, by what it is."""
    rng = np.random.default_rng(7)
    table = rng.random((2_000, 10))
    return {
        "a number": 42,
        "a text of 1 kB": "x" * 1_000,
        "a list of 1,000 numbers": list(range(1_000)),
        "200 rows as dicts": [{"id": n, "name": f"row {n}", "tags": ["a", "b"]} for n in range(200)],
        "an array of 160 kB": table,
        "a data frame, 2,000 × 10": pd.DataFrame(table),
        "a series of 5,000 texts": pd.Series([f"text {n % 97}" for n in range(5_000)]),
        "a torch module, 11,000 weights": torch.nn.Sequential(
            torch.nn.Linear(100, 100), torch.nn.Linear(100, 10)
        ),
        "a fitted classifier": LogisticRegression().fit(table[:200], np.arange(200) % 2),
    }


def hostile(folder: Path) -> dict[str, Any]:
    """Return what must be passed over."""
    return {
        "a memory-mapped array of 10 GB": np.memmap(folder / "sparse", np.uint8, "w+", shape=(10**10,)),
        "a text of 100 MB": "x" * 10**8,
        "a list of 10,000,000": [None] * 10**7,
        "a generator without end": iter(int, 1),
        "an object that never returns": _NeverReturns(),
    }


def microseconds(work: Callable[[], object]) -> float:
    """Return how long it took, µs."""
    begun = time.perf_counter()
    work()
    return (time.perf_counter() - begun) * 1e6


def main() -> None:
    """Hash in turn, print a table and one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=200)
    options = parser.parse_args()
    taken: dict[str, tuple[list[float], list[float]]] = {}
    for name, value in values().items():
        space = {"value": value}
        said = digest_values(["value"], space, SALT, 1.0)["value"]
        if not said.startswith("sha256:"):
            raise SystemExit(f"{name}: {said}")
        ours, peers = taken.setdefault(name, ([], []))
        for _ in range(options.rounds):
            ours.append(microseconds(lambda: digest_values(["value"], space, SALT)))  # noqa: B023
            peers.append(microseconds(lambda: joblib.hash(value)))  # noqa: B023
    rows = [
        {
            "name": name,
            "median": round(statistics.median(ours), 1),
            "joblib.hash": round(statistics.median(peers), 1),
        }
        for name, (ours, peers) in taken.items()
    ]
    states = [microseconds(random_states) for _ in range(options.rounds)]
    rows.append({"name": "states of random, NumPy and torch", "median": round(statistics.median(states), 1)})
    with tempfile.TemporaryDirectory() as place:
        space = hostile(Path(place))
        for name in space:
            said = digest_values([name], space, SALT)[name]
            if not said.startswith("skipped: "):
                raise SystemExit(f"{name}: {said}")
            times = [microseconds(lambda: digest_values([name], space, SALT)) for _ in range(options.rounds)]  # noqa: B023
            rows.append({"name": f"{name} ({said})", "median": round(statistics.median(times), 1)})
        whole = [microseconds(lambda: digest_values(space, space, SALT)) for _ in range(options.rounds)]
    print("| value | digest, median µs | joblib.hash, median µs |\n|---|---:|---:|")
    for row in rows:
        print(f"| {row['name']} | {row['median']} | {row.get('joblib.hash', '')} |")
    note = f"all that is passed over in one cell: {max(whole) / 1000:.2f} ms at worst of {options.rounds}"
    print(note)
    claim = "Digests of values take at most 2 ms a cell, and what would take longer is passed over"
    print(json.dumps({"claim": claim, "unit": "µs", "rows": rows, "note": note}))


if __name__ == "__main__":
    main()
