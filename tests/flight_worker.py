"""A process that asks a shared cache one question, for campaigns in which many ask and some are killed.

``python flight_worker.py FOLDER TEXT SECONDS COMPUTED`` prints "ready", waits for a line, asks, and
prints whom it waits for and then one JSON object. Computing appends its process to the file COMPUTED and takes SECONDS.
FLIGHT_STALE_SECONDS and FLIGHT_BEAT_SECONDS shorten its patience.
"""

from __future__ import annotations

import json
import os
import sys
import time
from pathlib import Path

from cache_answers import GENERATION, asking
from jupyter_llmops.cache.exact import ExactCache
from jupyter_llmops.cache.leases import BEAT_SECONDS, STALE_SECONDS, Leases
from jupyter_llmops.records.completion import Generation


def main() -> None:
    """Ask once, when told."""
    folder, text, seconds, computed = sys.argv[1], sys.argv[2], float(sys.argv[3]), sys.argv[4]
    cache = ExactCache(Path(folder))
    told: list[str] = []
    cache.store.leases = Leases(
        cache.store.items.location,
        who="ada@lab",
        stale_seconds=float(os.environ.get("FLIGHT_STALE_SECONDS", STALE_SECONDS)),
        beat_seconds=float(os.environ.get("FLIGHT_BEAT_SECONDS", BEAT_SECONDS)),
    )

    def compute() -> Generation:
        file = os.open(computed, os.O_WRONLY | os.O_APPEND | os.O_CREAT)
        os.write(file, f"{os.getpid()}\n".encode())
        os.close(file)
        time.sleep(seconds)
        return GENERATION

    def waiting(sentence: str, _: float | None) -> None:
        told.append(sentence)
        print(sentence, flush=True)

    print("ready", flush=True)
    sys.stdin.readline()
    try:
        result = cache.fetch(asking(text), compute, progress=waiting)
    except KeyboardInterrupt:
        print(json.dumps({"interrupted": True, "told": told}), flush=True)
        return
    print(json.dumps({"hit": result.hit, "text": result.generation.text, "told": told}), flush=True)


if __name__ == "__main__":
    main()
