"""Ten thousand single publishes with upkeep: what the disk holds then, and what the last one costs.

A second process does what the agent does meanwhile: it looks at the catalog and maintains it once
some 200 commits have come, with a retention of 0 s. Live data is what a copy of the same rows takes
that was written in one commit. Beside it the same rows added to a LanceDB table one by one that
nobody maintains, to a smaller number as its disk grows with the square.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import statistics
import tempfile
import time
from datetime import timedelta
from multiprocessing.synchronize import Event
from pathlib import Path
from typing import Any

from jupyter_llmops.catalog import Catalog
from jupyter_llmops.catalog.connection import Connection
from jupyter_llmops.catalog.schemas import PROMPTS
from jupyter_llmops.catalog.upkeep import COMMITS_BEFORE_QUIET, QUIET_SECONDS

MOST_DISK = 3.0
MOST_COST = 1.5
# As many publishes as between two upkeeps, so that both windows hold as many pieces on average.
WINDOW = 200


def main() -> None:
    """Publish, measure, print a table and one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--publishes", type=int, default=10_000)
    parser.add_argument("--unmaintained", type=int, default=2_000)
    parser.add_argument("--retention", type=float, default=0.0, help="seconds")
    options = parser.parse_args()
    rows = [
        maintained(options.publishes, options.retention),
        unmaintained(options.unmaintained),
    ]
    claim = (
        f"After {options.publishes:,} single publishes with upkeep the disk holds ≤ {MOST_DISK:g} × the live "
        f"data, and the last publish costs ≤ {MOST_COST:g} × the 100th"
    )
    print(json.dumps({"claim": claim, "unit": "ms", "rows": rows}, ensure_ascii=False))


def maintained(count: int, retention: float) -> dict[str, Any]:
    """Publish prompts one by one while another process maintains the catalog."""
    spawn = multiprocessing.get_context("spawn")
    stop = spawn.Event()
    with tempfile.TemporaryDirectory() as place:
        catalog = Catalog(place, site="bench", user="ada")
        catalog.migrate()
        agent = spawn.Process(target=maintain, args=(place, retention, stop))
        agent.start()
        taken = []
        for number in range(count):
            begun = time.perf_counter()
            catalog.prompts.publish(f"prompt {number // 5}", text(number))
            taken.append((time.perf_counter() - begun) * 1000)
            if (number + 1) % 1000 == 0:
                last = statistics.median(taken[-WINDOW:])
                print(f"{number + 1:>7,}  {last:6.1f} ms a publish  {size(place) / 1e6:7.1f} MB", flush=True)
        at_once = size(place, PROMPTS)
        wait_for_upkeep(catalog)
        stop.set()
        agent.join(60)
        disk, live = size(place, PROMPTS), live_data(catalog)
        print(
            f"right after the last publish {at_once / 1e6:.1f} MB, after a quiet minute {disk / 1e6:.1f} MB"
        )
        assert catalog._connection.count(PROMPTS) == count
    return row("jupyter_llmops, with upkeep", taken, disk, live)


def maintain(place: str, retention: float, stop: Event) -> None:
    """Do what the agent does, as often as it does."""
    catalog = Catalog(place, site="bench", user="agent", retention=timedelta(seconds=retention))
    while not stop.wait(1.0):
        done = catalog.upkeep.look(catalog.marks())
        if done:
            print(f"         maintained {', '.join(done)}", flush=True)


def wait_for_upkeep(catalog: Catalog) -> None:
    """Wait until the agent has joined the last pieces: it does when nothing came for a while."""
    deadline = time.monotonic() + QUIET_SECONDS + 60
    while catalog._connection.fragments(PROMPTS) >= COMMITS_BEFORE_QUIET:
        if time.monotonic() > deadline:
            raise AssertionError("upkeep did not come")
        time.sleep(0.5)


def unmaintained(count: int) -> dict[str, Any]:
    """Add the same rows to a plain table one by one."""
    import lancedb

    with tempfile.TemporaryDirectory() as place, tempfile.TemporaryDirectory() as other:
        catalog = Catalog(other, site="bench", user="ada")
        catalog.prompts.publish("prompt", text(0))
        pattern = Connection(other).read(PROMPTS)
        assert pattern is not None
        first = pattern.to_pylist()[0]
        table = lancedb.connect(place).create_table(PROMPTS, schema=pattern.schema)
        taken = []
        for number in range(count):
            name, version = f"prompt {number // 5}", number % 5 + 1
            values = first | {"name": name, "version": version, "template": text(number)}
            begun = time.perf_counter()
            # The least that publishing is: is it there already, which version is next, add it.
            table.search().where(f"name = '{name}'").select(["version", "digest"]).to_list()
            table.add([values | {"key": f"{name} {version}"}])
            taken.append((time.perf_counter() - begun) * 1000)
        disk = size(place)
        with tempfile.TemporaryDirectory() as copy:
            lancedb.connect(copy).create_table(PROMPTS, table.to_arrow())
            live = size(copy)
    return row(f"lancedb, not maintained, {count:,} rows", taken, disk, live)


def live_data(catalog: Catalog) -> int:
    """Return the bytes of the same rows written in one commit."""
    import lancedb

    rows = catalog._connection.read(PROMPTS)
    assert rows is not None
    with tempfile.TemporaryDirectory() as copy:
        lancedb.connect(copy).create_table(PROMPTS, rows)
        return size(copy)


def text(number: int) -> str:
    """Return a template of about 400 characters."""
    return f"Summarize ticket {number} in one sentence for {{{{ reader }}}}.\n" + "Be exact. " * (
        30 + number % 7
    )


def size(place: str, table: str = "") -> int:
    """Return the bytes of all files of a folder, or of one table in it."""
    folder = Path(place) / f"{table}.lance" if table else Path(place)
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def row(name: str, taken: list[float], disk: int, live: int) -> dict[str, Any]:
    """Return one line of the table; the first calls, which import, are in no window."""
    early = statistics.median(taken[WINDOW // 10 : WINDOW])
    late = statistics.median(taken[-WINDOW:])
    result = {
        "name": (
            f"{name}: {disk / 1e6:.1f} MB, {disk / live:.2f} × the live data; "
            f"the last costs {late / early:.2f} × the 100th"
        ),
        "around the 100th": round(early, 1),
        "the last": round(late, 1),
        "p99": round(statistics.quantiles(taken, n=100)[98], 1),
    }
    print(result, flush=True)
    return result


if __name__ == "__main__":
    main()
