"""A process that maps a prompt over rows on a shared catalog, for tests in which several do and one is killed.

``python map_worker.py HOME CATALOG COUNT COMPUTED [FROM]`` prints "ready", waits for a line, maps rows
FROM to COUNT and prints one JSON object. Each row that it computes is a line of the file COMPUTED.
"""

from __future__ import annotations

import json
import os
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from fast_engine import FastEngine
from jupyter_llmops.inference.engine import OnDone
from jupyter_llmops.records.model import Model
from jupyter_llmops.records.request import InferenceRequest

SECONDS_PER_ROW = 0.02


class CountingEngine(FastEngine):
    """Says in a file what it computes, and takes its time."""

    def __init__(self, computed: str) -> None:
        super().__init__()
        self._file = os.open(computed, os.O_WRONLY | os.O_APPEND | os.O_CREAT)

    def generate_many(self, requests: Sequence[InferenceRequest], model: Model, on_done: OnDone) -> None:
        """Answer one after the other."""
        for position, request in enumerate(requests):
            os.write(self._file, f"{os.getpid()} {request.messages[-1].content}\n".encode())
            threading.Event().wait(SECONDS_PER_ROW)
            on_done(position, self.generate(request, model))


def main() -> None:
    """Map once, when told."""
    home, catalog, count, computed = sys.argv[1], sys.argv[2], int(sys.argv[3]), sys.argv[4]
    first = int(sys.argv[5]) if len(sys.argv) > 5 else 0
    os.environ["LLMOPS_HOME"] = home
    from jupyter_llmops.workspace import open_workspace

    workspace = open_workspace(Path(catalog))
    workspace.settings.agent = "off"
    workspace.__dict__["engine"] = CountingEngine(computed)
    print("ready", flush=True)
    sys.stdin.readline()
    rows = [f"row {number}" for number in range(count)]
    result = workspace.map("Say {{ row }}", rows[first:] + rows[:first])
    said = {"computed": result.computed, "reused": result.reused, "values": sorted(result.values)}
    print(json.dumps(said), flush=True)


if __name__ == "__main__":
    main()
