"""A hit at 50,000 entries: this project's exact cache beside plain joblib.Memory and diskcache.

All hold the same answers to the same requests of about 2 KB, on the same disk, and every timed call
begins with the request, newly made: making the key is part of a hit. Each is asked the same short row of
requests in its turn, and the turns go round, so that what else the machine does falls on all alike. The files
are in the page cache. From memory this project is asked what it was asked a moment ago, as a notebook that is
run again does; the others keep nothing in memory.

Plain joblib.Memory memoizes a function of the request as a dict; diskcache keeps a dict under this
project's request key. Both unpickle what they find; only this project verifies it, by its seal.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import diskcache
import joblib

from jupyter_llmops.cache.exact import ExactCache
from jupyter_llmops.cache.recall import Recall
from jupyter_llmops.cache.request_key import canonical_json, request_key
from jupyter_llmops.records.completion import Generation
from jupyter_llmops.records.request import GenerationParameters, InferenceRequest, Message

OURS, MEMORY = "jupyter_llmops, from disk", "jupyter_llmops, from memory"
Look = Callable[[InferenceRequest], Any]


def request_number(number: int) -> InferenceRequest:
    """Return a request whose canonical form has about 2 KB."""
    words = random.Random(number).choices(["model", "notebook", "prompt", "cascade", "GPU", "«é»"], k=230)
    return InferenceRequest(
        model="smollm2-135m-instruct",
        model_digest="sha256:" + "ab" * 32,
        messages=(Message("system", "You are brief."), Message("user", f"{number}: {' '.join(words)}")),
        parameters=GenerationParameters(128, 0.0, None, (("repetition_penalty", 1.1),)),
        engine="transformers",
        engine_version="transformers 5.23.0, torch 2.13.0+cpu",
        quantization="nf4",
        device="cpu",
    )


def generation_number(number: int) -> Generation:
    """Return an answer of 128 tokens."""
    chance = random.Random(-number)
    tokens = tuple(chance.randrange(49_152) for _ in range(128))
    return Generation(" ".join(f"token{token}" for token in tokens[:80]), tokens, 400, 5.5, "length")


def plain_answer(request: dict[str, Any]) -> dict[str, Any]:
    """Return what a model would answer; the function that plain joblib.Memory memoizes."""
    number = int(request["messages"][1]["content"].split(":")[0])
    return asdict(generation_number(number))


def never() -> Generation:
    """Fail: every look-up here has to hit."""
    raise AssertionError("a miss")


def main() -> None:
    """Fill the three caches, time hits, print a table and one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--entries", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--hits", type=int, default=300, help="hits of each a round")
    parser.add_argument("--row", type=int, default=100, help="hits of each in its turn")
    options = parser.parse_args()
    # What was asked for how often is still noted while the folder goes.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as folder:
        looks = filled(Path(folder), options.entries)
        rounds = [
            one_round(looks, options.entries, options.hits, options.row, seed)
            for seed in range(options.rounds + 1)
        ]
    rows = summary(rounds[1:])  # the first one warms up imports, page cache and branch predictors
    print(table(rows))
    claim = f"A verified exact hit at {options.entries:,} entries costs less than joblib's own unverified one"
    print(json.dumps({"claim": claim, "unit": "µs", "rows": rows}, ensure_ascii=False))


def filled(folder: Path, entries: int) -> dict[str, Look]:
    """Return the look-ups by name, over caches that hold `entries` answers each."""
    warnings.simplefilter("error")
    os.environ["LLMOPS_HOME"] = str(folder / "home")
    from_disk = ExactCache(folder / "ours", Recall(most=0))
    from_memory = ExactCache(folder / "ours")
    plain = joblib.Memory(folder / "joblib", verbose=0).cache(plain_answer)
    disk = diskcache.Cache(str(folder / "diskcache"), size_limit=2**40)
    for number in range(entries):
        request, generation = request_number(number), generation_number(number)
        from_disk.keep(request, generation)
        plain(request.canonical())
        disk.set(request_key(request), asdict(generation))
    sizes = [len(canonical_json(request_number(number).canonical()).encode()) for number in range(100)]
    print(f"{entries:,} entries; requests of {statistics.mean(sizes):.0f} bytes")
    return {
        OURS: lambda request: from_disk.fetch(request, never).generation,
        MEMORY: lambda request: from_memory.fetch(request, never).generation,
        "joblib.Memory": lambda request: plain(request.canonical()),
        "diskcache": lambda request: disk[request_key(request)],
    }


def one_round(looks: dict[str, Look], entries: int, hits: int, row: int, seed: int) -> dict[str, list[float]]:
    """Return the microseconds of every hit by name."""
    chance, names = random.Random(seed), list(looks)
    taken: dict[str, list[float]] = {name: [] for name in names}
    for _ in range(hits // row):
        numbers = [chance.randrange(entries) for _ in range(row)]
        names = [*names[1:], names[0]]
        for number in numbers:
            looks[MEMORY](request_number(number))  # asked a moment ago
        for name in names:
            requests = [request_number(number) for number in numbers]
            answers = []
            for request in requests:
                begun = time.perf_counter_ns()
                answer = looks[name](request)
                taken[name].append((time.perf_counter_ns() - begun) / 1000)
                answers.append(answer)
            for number, answer in zip(numbers, answers, strict=True):
                text = answer["text"] if isinstance(answer, dict) else answer.text
                if text != generation_number(number).text:
                    raise AssertionError(f"{name} gave a wrong answer")
    return taken


def summary(rounds: list[dict[str, list[float]]]) -> list[dict[str, Any]]:
    """Return a row a cache: medians over the rounds, and the ratio to this project's hit from disk."""
    medians = {name: statistics.median(statistics.median(r[name]) for r in rounds) for name in rounds[0]}
    p99 = {
        name: statistics.median(statistics.quantiles(r[name], n=100)[98] for r in rounds)
        for name in rounds[0]
    }
    rows: list[dict[str, Any]] = []
    for name, median in medians.items():
        row = {"name": name, "median": round(median, 1), "p99": round(p99[name], 1)}
        if not name.startswith("jupyter_llmops"):
            row["ratio"] = round(median / medians[OURS], 2)
        rows.append(row)
    return rows


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| hit | p50 µs | p99 µs | p50 / ours from disk |", "|---|---:|---:|---:|"]
    lines += [f"| {row['name']} | {row['median']} | {row['p99']} | {row.get('ratio', '')} |" for row in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
