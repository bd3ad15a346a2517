"""What the trail adds to a notebook of data frames and arrays, beside ipyflow and MLflow's tracing.

The same cells run in two shells of one process in turn, block by block; one is stamped, with all that a
leaf holds. Each peer runs them in an environment of its own (build/peers, the same pandas and NumPy), in
a process for each, and beside it IPython alone in that environment: what a peer adds is the difference.
"""

from __future__ import annotations

import argparse
import atexit
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from jupyter_llmops.audit.cells import CellStamper
from jupyter_llmops.audit.journal import Journal
from jupyter_llmops.guard.redaction import Redactor

PEERS = Path(__file__).resolve().parent / "peers"
PYTHON = PEERS.parent.parent / "build" / "peers" / "bin" / "python"
sys.path.insert(0, str(PEERS))
from bench_stamp import timed_hooks  # noqa: E402
from notebook_cells import CELLS, SETUP, seconds_of, sources  # noqa: E402 - it lies with the peers

BLOCK = len(CELLS)
NAMES = {
    "ipyflow": "ipyflow",
    "async": "MLflow tracing, asynchronous, SQLite",
    "sync": "MLflow tracing, synchronous, SQLite",
}


def main() -> None:
    """Run the notebook in all of them, print a table and one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--cells", type=int, default=1000)
    parser.add_argument("--peer-cells", type=int, default=240, help="cells in each peer, which are slower")
    options = parser.parse_args()
    if options.peer_cells % BLOCK:
        parser.error(f"give a number of peer cells that {BLOCK} divides")
    with tempfile.TemporaryDirectory() as folder:
        bare, stamped, hooks, left_out = ours(Path(folder), options.cells)
        rows = [row("jupyter_llmops", stamped, bare)]
        rows[0]["in its hooks, of 100 ms"] = round(100 * sum(hooks) / (sum(stamped) - sum(hooks)), 2)
        # Alone before and after the peers, as a machine's pace changes within minutes.
        alone = peer("bare", options.peer_cells, Path(folder))
        peers = {name: peer(kind, options.peer_cells, Path(folder)) for kind, name in NAMES.items()}
        alone += peer("bare", options.peer_cells, Path(folder))
        rows += [row(name, taken, alone) for name, taken in peers.items()]
    for one in rows[1:]:
        one["ratio"] = round(one["added to a cell"] / max(rows[0]["added to a cell"], 0.001), 1)
    rows.append({"name": "IPython alone", "a cell": round(statistics.mean(bare) * 1000, 2)})
    print(table(rows))
    note = (
        f"{options.cells} cells over 200,000 rows and 700 x 700 arrays ({options.peer_cells} in each peer). "
        f"Inside the hooks a cell takes {statistics.median(hooks) * 1000:.2f} ms at the median. "
        f"{left_out} of the stamped cells' values have no digest, as it would have taken longer than the cell may wait."
    )
    print(
        json.dumps({"claim": "What the trail adds to a notebook", "unit": "ms", "rows": rows, "note": note})
    )


def ours(folder: Path, count: int) -> tuple[list[float], list[float], list[float], str]:
    """Return the seconds of each cell alone, stamped and within our hooks, and how many values have no digest."""
    os.environ["IPYTHONDIR"] = str(folder / "ipython")
    shells = [new_shell(folder / f"own-{number}.sqlite") for number in range(2)]
    journal = Journal(folder / "audit", context={"user": "user", "host": "host"}, redact=Redactor().redact)
    stamper = CellStamper(shells[1], journal, notebook="analysis.ipynb")
    hooks = timed_hooks(stamper)
    stamper.register()
    kept, sys.stdout = sys.stdout, os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    try:
        for shell in shells:
            for source in SETUP:
                seconds_of(shell, source)
        taken: tuple[list[float], list[float]] = ([], [])
        every = list(sources(count))
        for start in range(0, count, BLOCK):
            # Each goes first in turn, as the second finds its data out of the processor's cache.
            for place in (0, 1) if start // BLOCK % 2 else (1, 0):
                taken[place].extend(seconds_of(shells[place], cell) for cell in every[start : start + BLOCK])
    finally:
        sys.stdout = kept
    told = [json.loads(line).get("values", {}) for line in journal.path.read_bytes().splitlines()]
    values = [text for one in told for text in one.values()]
    journal.close()
    for shell in shells:
        atexit.unregister(shell.atexit_operations)
        shell.atexit_operations()
    within = [sum(pair) / 1e6 for pair in zip(hooks[0::2], hooks[1::2], strict=True)][len(SETUP) :]
    return *taken, within, f"{sum(text.startswith('skipped') for text in values):,} of {len(values):,}"


def new_shell(history: Path) -> InteractiveShell:
    """Return a shell with its history in a file, as a kernel has it."""
    config = Config()
    config.HistoryManager.hist_file = str(history)
    return InteractiveShell(config=config)


def peer(kind: str, count: int, folder: Path) -> list[float]:
    """Return the seconds of each cell in a peer."""
    home = Path(tempfile.mkdtemp(prefix=kind, dir=folder))
    done = subprocess.run(
        [str(PYTHON), str(PEERS / "traced_notebook.py"), kind, str(count), str(home)],
        capture_output=True,
        text=True,
        check=False,
    )
    lines = done.stdout.splitlines()
    if done.returncode or not lines:
        raise SystemExit(f"{kind} failed; is build/peers there (make peers)? {done.stderr[-500:]}")
    taken: list[float] = json.loads(lines[-1])
    return taken


def row(name: str, taken: list[float], alone: list[float]) -> dict[str, Any]:
    """Return what a notebook takes, what was added to a cell on the average and by the median, and its share.

    The share is that of the differences' median by kind of cell: over the same kind of cell they hardly
    vary, while a whole notebook's time does by more than what is measured here.
    """
    added = statistics.mean(
        statistics.median(taken[kind::BLOCK]) - statistics.median(alone[kind::BLOCK]) for kind in range(BLOCK)
    )
    base = statistics.mean(statistics.median(alone[kind::BLOCK]) for kind in range(BLOCK))
    return {
        "name": name,
        "a cell": round(statistics.mean(taken) * 1000, 2),
        "added to a cell": round(added * 1000, 2),
        "added to 100 ms of cells": round(100 * added / base, 2),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table."""
    keys = (
        "name",
        "a cell",
        "added to a cell",
        "added to 100 ms of cells",
        "in its hooks, of 100 ms",
        "ratio",
    )
    lines = [f"| {' | '.join(keys)} |", "|---|" + "---:|" * (len(keys) - 1)]
    lines += [f"| {' | '.join(str(one.get(key, '')) for key in keys)} |" for one in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
