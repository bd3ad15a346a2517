"""Runs in build/peers: python traced_notebook.py PEER COUNT FOLDER; prints the seconds of each cell as JSON.

PEER is "bare" (IPython alone), "ipyflow" (its extension), "sync" or "async" (a span of MLflow's tracing for
each cell, with its source and its result's type, into SQLite).
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from notebook_cells import SETUP, seconds_of, sources


def main() -> None:
    """Run the notebook."""
    peer, count, folder = sys.argv[1], int(sys.argv[2]), Path(sys.argv[3])
    os.environ["IPYTHONDIR"] = str(folder / "ipython")
    # What the cells print goes nowhere; ipyflow can't do with a redirection for each.
    sys.stdout = os.fdopen(os.open(os.devnull, os.O_WRONLY), "w")
    shell = new_shell(peer, folder)
    finish = trace(shell, folder, wait=peer == "sync") if peer in {"sync", "async"} else lambda: None
    for source in SETUP:
        seconds_of(shell, source)
    taken = [seconds_of(shell, source) for source in sources(count)]
    finish()
    sys.__stdout__.write("\n" + json.dumps(taken) + "\n")
    sys.__stdout__.flush()
    os._exit(0)


def new_shell(peer: str, folder: Path) -> Any:
    """Return the shell that a notebook would have, its history in a file."""
    from traitlets.config import Config

    config = Config()
    config.HistoryManager.hist_file = str(folder / f"{peer}.sqlite")
    from IPython.core.interactiveshell import InteractiveShell

    shell = InteractiveShell.instance(config=config)
    if peer == "ipyflow":
        shell.run_line_magic("load_ext", "ipyflow")
    return shell


def trace(shell: Any, folder: Path, *, wait: bool) -> Any:
    """Have MLflow trace each cell; return what waits for its last span."""
    os.environ["MLFLOW_ENABLE_ASYNC_TRACE_LOGGING"] = "false" if wait else "true"
    import mlflow

    mlflow.set_tracking_uri(f"sqlite:///{folder / 'mlflow.db'}")
    mlflow.set_experiment("notebook")
    spans: list[Any] = []

    def before(info: Any) -> None:
        spans.append(mlflow.start_span_no_context("cell", inputs={"source": info.raw_cell}))

    def after(result: Any) -> None:
        if spans:
            spans.pop().end(outputs={"type": type(result.result).__name__})

    shell.events.register("pre_run_cell", before)
    shell.events.register("post_run_cell", after)
    return lambda: None if wait else mlflow.flush_trace_async_logging()


if __name__ == "__main__":
    main()
