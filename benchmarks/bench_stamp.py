"""What stamping adds to a cell, beside bare IPython in the same process and over the same cells.

Two shells run the same mixed cells in turn, block by block; one is stamped. IPython writes its
history from a thread whose cost lands on the next cell, so means over blocks of mixed cells are
compared, and the difference is the median over all rounds. Beside that stands the time inside our
two hooks, cell by cell, and that of the journal's line alone (no content, no redaction).
"""

from __future__ import annotations

import argparse
import atexit
import contextlib
import gc
import io
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from IPython.core.interactiveshell import InteractiveShell
from traitlets.config import Config

from jupyter_llmops.audit.cells import CellStamper
from jupyter_llmops.audit.journal import Journal
from jupyter_llmops.guard.redaction import Redactor

BARE, STAMPED = "bare IPython", "IPython + jupyter_llmops"

CELLS = (
    "x = 1 + 1",
    "pass",
    "import math\nmath.pi * 2",
    "def area(radius):\n    '''Area of a circle.'''\n    return math.pi * radius**2\n\narea(3)",
    "rows = [{'city': c, 'price': p} for c, p in zip('abcdefgh', range(8))]\nrows[:3]",
    (
        "totals = {}\nfor row in rows:\n    totals[row['city']] = totals.get(row['city'], 0) + row['price']\n"
        "sorted(totals.items(), key=lambda item: item[1])[-3:]"
    ),
    "%precision 3",
    "text = ' '.join(str(n) for n in range(300))\nlen(text)",
    (
        "class Reader:\n    def __init__(self, path, encoding='utf-8'):\n        self.path = path\n"
        "        self.encoding = encoding\n\n    def lines(self):\n        with open(self.path) as file:\n"
        "            yield from file\n\nReader('x').path"
    ),
    "from collections import Counter\nwords = Counter(text.split())\nwords.most_common(3)",
    "\n".join(f"column_{n} = [value * {n} for value in range(10)]" for n in range(25)),
    "# the longest one\n" + "\n".join(f"tokens_{n} = text.split()[{n}:{n + 5}]" for n in range(60)),
)


def main() -> None:
    """Run both shells in turn, print a table and one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=60, help="blocks of all cells in each shell")
    parser.add_argument("--stamps", type=int, default=3000, help="stamps of the journal alone")
    parser.add_argument("--many", type=int, default=100_000, help="stamps of one long session")
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        rounds, hooks = cells(Path(folder), options.rounds)
        line = stamps(Path(folder) / "line", options.stamps, content=False)
        leaf = stamps(Path(folder) / "leaf", options.stamps, content=True)
        many = stamps(Path(folder) / "many", options.many, content=True)
    bare, stamped = ([statistics.mean(block[name]) for block in rounds] for name in (BARE, STAMPED))
    added = statistics.median(after - before for before, after in zip(bare, stamped, strict=True))
    every = {name: [cell for block in rounds for cell in block[name]] for name in (BARE, STAMPED)}
    rows: list[dict[str, Any]] = [
        row(STAMPED, every[STAMPED], statistics.median(stamped)),
        row(BARE, every[BARE], statistics.median(bare)),
        {"name": "added to a cell (median of the rounds' differences)", "mean": round(added, 1)},
        row("full leaf: inside our two hooks, cell by cell", hooks, statistics.mean(hooks)),
        row("journal line alone", line, statistics.mean(line)),
        row("line, redaction, content sidecar", leaf, statistics.mean(leaf)),
        row("the same, 100th to 1,100th of a session", many[:1000], statistics.mean(many[:1000])),
        row(f"the same, the 1,000 up to the {options.many:,}th", many[-1000:], statistics.mean(many[-1000:])),
    ]
    rows[1]["ratio"] = round(statistics.median(bare) / statistics.median(stamped), 2)
    flat = statistics.median(many[-1000:]) / statistics.median(many[:1000])
    print(table(rows))
    print(f"\nThe {options.many:,}th stamp costs {flat:.2f} times the 100th.")
    claim = "What stamping adds to a cell, beside bare IPython"
    note = (
        f"{len(CELLS)} mixed cells, {options.rounds} interleaved rounds, history on. "
        "A share of IPython's own history write lands on the next cell, so cells are compared by their mean. "
        "A full leaf holds names, values' and outputs' digests, random states; "
        f"the {options.many:,}th costs {flat:.2f} times the 100th."
    )
    print(json.dumps({"claim": claim, "unit": "µs", "rows": rows, "note": note}, ensure_ascii=False))


def cells(folder: Path, rounds: int) -> tuple[list[dict[str, list[float]]], list[float]]:
    """Return the microseconds of every cell by shell and round, and of our hooks in every cell."""
    os.environ["IPYTHONDIR"] = str(folder / "ipython")
    shells = {name: new_shell(folder / f"{number}.sqlite") for number, name in enumerate((BARE, STAMPED))}
    journal = Journal(folder / "audit", context={"user": "user", "host": "host"}, redact=Redactor().redact)
    stamper = CellStamper(shells[STAMPED], journal, notebook="notebooks/analysis.ipynb")
    hooks = timed_hooks(stamper)
    stamper.register()
    measured = []
    for number in range(rounds + 3):
        order = [BARE, STAMPED] if number % 2 else [STAMPED, BARE]
        gc.collect()
        block = {name: [one_cell(shells[name], source, number) for source in CELLS] for name in order}
        measured.append(block)
    journal.close()
    for shell in shells.values():
        atexit.unregister(shell.atexit_operations)
        shell.atexit_operations()  # ends the history before its folder goes
    # The first rounds fill caches: imports, IPython's own, the page cache.
    return measured[3:], [sum(pair) for pair in zip(hooks[0::2], hooks[1::2], strict=True)][3 * len(CELLS) :]


def new_shell(history: Path) -> InteractiveShell:
    """Return a shell with its history in a file, as a kernel has it."""
    config = Config()
    config.HistoryManager.hist_file = str(history)
    return InteractiveShell(config=config)


def timed_hooks(stamper: CellStamper) -> list[float]:
    """Put a clock around the stamper's two hooks; return the list that will hold their microseconds."""
    taken: list[float] = []

    def clocked(hook: Callable[[Any], None]) -> Callable[[Any], None]:
        def timed(argument: Any) -> None:
            begun = time.perf_counter_ns()
            hook(argument)
            taken.append((time.perf_counter_ns() - begun) / 1000)

        return timed

    stamper._before = clocked(stamper._before)  # type: ignore[method-assign]
    stamper._after = clocked(stamper._after)  # type: ignore[method-assign]
    return taken


def one_cell(shell: InteractiveShell, source: str, number: int) -> float:
    """Return the microseconds of one cell; its source is another one in every round."""
    source = f"{source}\n# {number}" if not source.startswith("%") else source
    with contextlib.redirect_stdout(io.StringIO()):
        begun = time.perf_counter_ns()
        result = shell.run_cell(source, store_history=True)
        taken = (time.perf_counter_ns() - begun) / 1000
    if not result.success:
        raise AssertionError(f"a cell failed: {source}")
    return taken


def stamps(folder: Path, count: int, *, content: bool) -> list[float]:
    """Return the microseconds of stamps alone, without (or with) content and redaction."""
    redact = {"redact": Redactor().redact} if content else {}
    journal = Journal(folder, context={"user": "user", "host": "host"}, **redact)
    taken = []
    started = datetime.now(UTC)
    for number in range(count + 100):
        source = {"source": f"{CELLS[number % len(CELLS)]}\n# {number}"} if content else {}
        fields = {"notebook": "notebooks/analysis.ipynb", "cell": "7d0f9a3e", "execution_count": number}
        begun = time.perf_counter_ns()
        journal.stamp("cell", started_at=started, seconds=0.1, fields=fields, content=source)
        taken.append((time.perf_counter_ns() - begun) / 1000)
    journal.close()
    return taken[100:]


def row(name: str, taken: list[float], mean: float) -> dict[str, Any]:
    """Return one row: microseconds."""
    p99 = statistics.quantiles(taken, n=100)[98]
    return {
        "name": name,
        "median": round(statistics.median(taken), 1),
        "p99": round(p99, 1),
        "mean": round(mean, 1),
    }


def table(rows: list[dict[str, Any]]) -> str:
    """Return the rows as a Markdown table."""
    lines = ["| stamp | p50 µs | p99 µs | mean µs |", "|---|---:|---:|---:|"]
    lines += [f"| {r['name']} | {r.get('median', '')} | {r.get('p99', '')} | {r['mean']} |" for r in rows]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
