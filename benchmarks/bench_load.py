"""What ``%load_ext`` adds to a bare IPython, in fresh processes: this project beside jupyter_ai_magics.

Each round starts every candidate once, in turn, so that a machine that slows down slows all of them.
"""

from __future__ import annotations

import importlib.util
import json
import os
import statistics
import subprocess
import sys
import tempfile

ROUNDS = 9
CANDIDATES = {"bare IPython": "pass", "jupyter_llmops": "%load_ext jupyter_llmops"}
PEER = ("jupyter_ai_magics", "%load_ext jupyter_ai_magics")
PROGRAM = """
import sys, time
from IPython.core.interactiveshell import InteractiveShell
shell = InteractiveShell.instance()
shell.run_cell("pass")
begun = time.perf_counter()
result = shell.run_cell(sys.argv[1])
seconds = time.perf_counter() - begun
result.raise_error()
print("measured", seconds)
"""


def measure(cell: str, home: str) -> float:
    """Return the seconds that a cell takes as the second of a fresh process."""
    folders = (
        "HOME",
        "IPYTHONDIR",
        "JUPYTER_CONFIG_DIR",
        "JUPYTER_DATA_DIR",
        "JUPYTER_RUNTIME_DIR",
        "LLMOPS_HOME",
    )
    env = os.environ | dict.fromkeys(folders, home)
    env.pop("LLMOPS_CATALOG", None)
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM, cell], env=env, capture_output=True, text=True, check=True, cwd=home
    )
    return float(done.stdout.rsplit("measured", 1)[1])


def main() -> None:
    """Measure in turn and print a table and the JSON line."""
    candidates = dict(CANDIDATES)
    if importlib.util.find_spec(PEER[0]) is not None:
        candidates[PEER[0]] = PEER[1]
    seconds: dict[str, list[float]] = {name: [] for name in candidates}
    with tempfile.TemporaryDirectory() as home:
        for cell in candidates.values():
            measure(cell, home)  # byte code and disk cache
        for _ in range(ROUNDS):
            for name, cell in candidates.items():
                seconds[name].append(measure(cell, home) * 1000)
    bare = statistics.median(seconds.pop("bare IPython"))
    added = {name: statistics.median(values) - bare for name, values in seconds.items()}
    rows = [
        {
            "name": name,
            "median": round(value, 1),
            "min": round(min(seconds[name]) - bare, 1),
            "max": round(max(seconds[name]) - bare, 1),
            "ratio": round(value / added["jupyter_llmops"], 1),
        }
        for name, value in added.items()
    ]
    print("| added to bare IPython | median ms | min | max | times ours |")
    print("|---|---:|---:|---:|---:|")
    for row in rows:
        print(f"| {row['name']} | {row['median']} | {row['min']} | {row['max']} | {row['ratio']} |")
    print(json.dumps({"claim": "%load_ext adds little to a bare IPython", "unit": "ms", "rows": rows}))


if __name__ == "__main__":
    main()
