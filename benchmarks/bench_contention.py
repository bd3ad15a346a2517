"""Eight processes that publish, move aliases, register models, add to a collection and search, all at once.

The programs are those of the tests: each says what was acknowledged to it, and afterwards everything is
compared with what must follow from that in whatever order it took effect. Half of the writers don't see
the queue of this host's writers, as if they ran elsewhere. Upkeep runs meanwhile. A wrong catalog is a
failure, not a figure. Beside it eight processes that add rows to a plain LanceDB table under keys that
all of them use, as its own insert-if-absent does it.
"""

from __future__ import annotations

import argparse
import collections
import json
import statistics
import sys
import tempfile
import threading
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

TESTS = Path(__file__).resolve().parent.parent / "tests"
sys.path.insert(0, str(TESTS))

import catalog_mixer  # noqa: E402
from catalog_processes import acknowledged, go, start  # noqa: E402
from jupyter_llmops.catalog import Catalog  # noqa: E402

SEED = 20261122
LABELS = {
    "publish": "publish a new version",
    "agree": "publish what is there",
    "move": "move an alias",
    "compare_and_set": "move it from where it was seen",
    "register": "register a model",
    "add": "add a document",
    "replace_common": "replace a document",
    "search": "search",
}


def main() -> None:
    """Run all, print a table and one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--processes", type=int, default=8)
    parser.add_argument("--operations", type=int, default=500, help="of each process")
    parser.add_argument("--plain", nargs=2, metavar=("PLACE", "COUNT"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.plain:
        insert_plainly(options.plain[0], int(options.plain[1]))
        return
    rows = mixed(options.processes, options.operations)
    rows.append(plain(options.processes, min(options.operations, 100)))
    claim = (
        f"{options.processes} processes × {options.operations} mixed operations: "
        "0 lost, 0 duplicate versions or keys"
    )
    print(json.dumps({"claim": claim, "unit": "ms", "rows": rows}, ensure_ascii=False))


def mixed(processes: int, count: int) -> list[dict[str, Any]]:
    """Let the mixers run against one catalog, check it, and return a row each kind of operation."""
    with tempfile.TemporaryDirectory() as place:
        catalog_mixer.prepare(place)
        started = start(
            [sys.executable, str(TESTS / "catalog_mixer.py"), place, f"w{number}", str(count), str(SEED)]
            for number in range(processes)
        )
        stop = threading.Event()
        agent = threading.Thread(target=maintain, args=(place, stop))
        agent.start()
        begun = time.monotonic()
        go(started)
        said = acknowledged(started, timeout=7200)
        seconds = time.monotonic() - begun
        stop.set()
        agent.join()
        if [process.returncode for process in started] != [0] * processes or len(said) != processes * count:
            raise SystemExit("a process failed")
        catalog_mixer.check(place, said)
    print(f"{len(said):,} operations in {seconds:.0f} s: checked, nothing is lost and nothing is there twice")
    taken = collections.defaultdict(list)
    for _, _, kind, passed, _ in said:
        taken[kind].append(passed * 1000)
    everything = [passed for kind in taken.values() for passed in kind]
    rows = [row(f"all, {len(said) / seconds:.0f} a second: 0 lost, 0 twice", everything)]
    return rows + [row(label, taken[kind]) for kind, label in LABELS.items() if taken[kind]]


def maintain(place: str, stop: threading.Event) -> None:
    """Do what an agent does."""
    catalog = Catalog(place, site="bench", user="agent", retention=timedelta(seconds=30))
    while not stop.wait(1.0):
        catalog.upkeep.look(catalog.marks())


def plain(processes: int, count: int) -> dict[str, Any]:
    """Return what becomes of keys that all insert into a table without a primary key."""
    import lancedb
    import pyarrow as pa

    with tempfile.TemporaryDirectory() as place:
        table = lancedb.connect(place).create_table("rows", pa.table({"key": ["first"], "by": ["nobody"]}))
        started = start([sys.executable, __file__, "--plain", place, str(count)] for _ in range(processes))
        begun = time.monotonic()
        go(started)
        said = acknowledged(started, timeout=7200)
        seconds = time.monotonic() - begun
        table.checkout_latest()
        keys = table.to_arrow()["key"].to_pylist()
    twice = len(keys) - len(set(keys))
    name = f"lancedb, insert if absent: {len(said) / seconds:.0f} a second, {twice} rows too many for {len(set(keys))} keys"
    return row(name, [passed * 1000 for passed in said])


def insert_plainly(place: str, count: int) -> None:
    """Insert keys that the other processes insert, too."""
    import lancedb
    import pyarrow as pa

    table = lancedb.connect(place, read_consistency_interval=timedelta(0)).open_table("rows")
    print(json.dumps("ready"), flush=True)
    sys.stdin.readline()
    for number in range(count):
        begun = time.perf_counter()
        row = pa.table({"key": [f"key {number}"], "by": ["somebody"]})
        table.merge_insert("key").when_not_matched_insert_all().execute(row)
        print(json.dumps(time.perf_counter() - begun), flush=True)


def row(name: str, taken: list[float]) -> dict[str, Any]:
    """Return one line of the table."""
    result = {
        "name": name,
        "median": round(statistics.median(taken), 1),
        "p99": round(statistics.quantiles(taken, n=100, method="inclusive")[98], 1),
        "worst": round(max(taken), 1),
    }
    print(result, flush=True)
    return result


if __name__ == "__main__":
    main()
