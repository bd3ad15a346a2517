"""Hits while 10 % of 50,000 answers are evicted: this project's cache beside plain joblib.Memory and diskcache.

One process reads stored answers of about 2 KB at random, as fast as it can, from disk; another one evicts the
tenth. What is timed is each hit of the reader between the evictor's first and last moment of work, and, for
comparison, as many hits before it began. The files are in the page cache.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
import time
import warnings
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import diskcache
import joblib
from bench_hit import generation_number, plain_answer, request_number

from jupyter_llmops.cache.eviction import Evictor
from jupyter_llmops.cache.exact import ExactCache
from jupyter_llmops.cache.recall import Recall
from jupyter_llmops.cache.request_key import request_key
from jupyter_llmops.records.cache import CacheLimits

OURS = "jupyter_llmops"
NAMES = (OURS, "joblib.Memory", "diskcache")
QUIET_HITS = 20_000
Look = Callable[[int], bool]


def main() -> None:
    """Fill, evict and read, print a table and one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--entries", type=int, default=50_000)
    parser.add_argument("--rounds", type=int, default=2)
    parser.add_argument("--only", choices=NAMES, help="measure one of them")
    parser.add_argument("--evict", nargs=2, metavar=("NAME", "FOLDER"), help="be the evictor")
    options = parser.parse_args()
    if options.evict:
        evict(options.evict[0], Path(options.evict[1]), options.entries)
        return
    warnings.simplefilter("error")
    names = [options.only] if options.only else NAMES
    rounds = {
        name: [one_round(name, options.entries) for _ in range(options.rounds if name == OURS else 1)]
        for name in names
    }
    rows = [summary(name, rounds[name]) for name in names]
    ours = rows[0]["p99.9 evicting"]
    for row in rows[1:]:
        row["ratio"] = round(row["p99.9 evicting"] / ours, 2)
    for row in rows:
        print(row)
    claim = f"Evicting a tenth of {options.entries:,} answers leaves a hit's p99.9 under 5 ms"
    print(json.dumps({"claim": claim, "unit": "ms", "rows": rows}, ensure_ascii=False))


def one_round(name: str, entries: int) -> dict[str, float]:
    """Fill a cache anew, read it, and read it while a tenth goes."""
    # Hits are noted by a thread, which may write while the folder is being removed.
    with tempfile.TemporaryDirectory(ignore_cleanup_errors=True) as place:
        folder = Path(place)
        look = filled(name, folder, entries)
        chance = random.Random(entries)
        quiet = [timed(look, chance.randrange(entries))[0] for _ in range(QUIET_HITS)]
        arguments = ["--evict", name, str(folder), "--entries", str(entries)]
        with subprocess.Popen(
            [sys.executable, __file__, *arguments], stdout=subprocess.PIPE, text=True
        ) as other:
            assert other.stdout is not None
            assert other.stdout.readline() == "begin\n"
            os.set_blocking(other.stdout.fileno(), False)
            hits, said = [], ""
            while not said:
                for _ in range(100):
                    took, hit = timed(look, chance.randrange(entries))
                    hits += [took] if hit else []
                said = other.stdout.readline()
        result = json.loads(said)
        if not 0.05 * entries < result["gone"] < 0.15 * entries:
            raise AssertionError(f"{name} evicted {result['gone']} of {entries}")
        print(
            f"{name}: {result['gone']} gone in {result['seconds']:.1f} s, {len(hits)} hits meanwhile",
            flush=True,
        )
        return {
            "median": statistics.median(hits),
            "p99.9 evicting": quantile(hits, 0.999),
            "p99.9 quiet": quantile(quiet, 0.999),
            "eviction": result["seconds"] * 1000,
        }


def filled(name: str, folder: Path, entries: int) -> Look:
    """Return a look-up by number, True for a hit, over a cache that holds `entries` answers."""
    if name == OURS:
        cache = ExactCache(folder, Recall(most=0))
        for number in range(entries):
            cache.keep(request_number(number), generation_number(number))
        hour_ago = time.time() - 3600
        for path in folder.rglob("*.item"):  # what has just come is never evicted
            os.utime(path, (hour_ago, hour_ago))
        requests = [request_number(number) for number in range(entries)]
        return lambda number: cache.find(requests[number]) is not None
    if name == "diskcache":
        disk = diskcache.Cache(str(folder), size_limit=2**40, eviction_policy="least-recently-used")
        keys = [request_key(request_number(number)) for number in range(entries)]
        for number in range(entries):
            disk.set(keys[number], asdict(generation_number(number)))
        return lambda number: disk.get(keys[number]) is not None
    plain = joblib.Memory(folder, verbose=0).cache(plain_answer)
    arguments = [request_number(number).canonical() for number in range(entries)]
    for number in range(entries):
        plain(arguments[number])

    def look(number: int) -> bool:
        if not plain.check_call_in_cache(arguments[number]):
            return False
        plain(arguments[number])
        return True

    return look


def timed(look: Look, number: int) -> tuple[float, bool]:
    """Return the milliseconds of one look-up and whether it hit."""
    begun = time.perf_counter_ns()
    hit = look(number)
    return (time.perf_counter_ns() - begun) / 1e6, hit


def evict(name: str, folder: Path, entries: int) -> None:
    """Evict a tenth and say how long it took."""
    kept = entries * 9 // 10
    disk = diskcache.Cache(str(folder)) if name == "diskcache" else None
    memory = joblib.Memory(folder, verbose=0) if name == "joblib.Memory" else None
    evictor = Evictor(folder)
    size = sum(path.stat().st_size for path in folder.rglob("*.item")) if name == OURS else 0
    print("begin", flush=True)
    begun = time.perf_counter()
    gone = 0
    if disk is not None:
        disk.reset("size_limit", int(disk.volume() * 0.9))
        gone = disk.cull()
    elif memory is not None:
        memory.reduce_size(items_limit=kept)
        gone = entries - len(memory.store_backend.get_items())
    else:
        # It goes on to nine tenths of its limit, so a limit just below what is there lets a tenth go.
        gone = evictor.evict(CacheLimits(size - 1)).items
    print(json.dumps({"gone": gone, "seconds": time.perf_counter() - begun}), flush=True)


def quantile(values: list[float], share: float) -> float:
    """Return the value below which a share of them lies."""
    return sorted(values)[min(len(values) - 1, int(len(values) * share))]


def summary(name: str, rounds: list[dict[str, Any]]) -> dict[str, Any]:
    """Return the medians over the rounds."""
    return {"name": name} | {key: round(statistics.median(r[key] for r in rounds), 3) for key in rounds[0]}


if __name__ == "__main__":
    main()
