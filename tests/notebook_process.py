"""Another person's notebook: a workspace in a process, a home and a site of its own.

``python tests/notebook_process.py CATALOG SITE`` reads one expression over ``ws`` (the workspace) a line and
answers a line of JSON: what it is, as text, or the error's name and words.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Self

from jupyter_llmops.location import Location


class OtherNotebook:
    """Runs expressions in another process.

    Parameters
    ----------
    catalog : Path or Location
        The catalog that it shares with the test.
    home : Path
        Its private folder.
    site : str
        The name of its host.
    """

    def __init__(self, catalog: Path | Location, home: Path, site: str) -> None:
        environment = {**os.environ, "LLMOPS_HOME": str(home), "HF_HUB_OFFLINE": "1", "OMP_NUM_THREADS": "1"}
        environment |= {"JUPYTER_CONFIG_DIR": str(home / "config"), "JUPYTER_DATA_DIR": str(home / "data")}
        environment.pop("JPY_PARENT_PID", None)
        self.process = subprocess.Popen(
            [sys.executable, str(Path(__file__)), str(catalog), site],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
            text=True,
        )

    def __call__(self, expression: str) -> str:
        """Return what an expression is, as text; what it raises is raised here as a `RuntimeError`."""
        answer = self.ask(expression)
        if "error" in answer:
            raise RuntimeError(answer["error"])
        return str(answer["value"])

    def ask(self, expression: str) -> dict[str, Any]:
        """Return the whole answer."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(expression + "\n")
        self.process.stdin.flush()
        answer: dict[str, Any] = json.loads(self.process.stdout.readline())
        return answer

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)


def main(catalog: str, site: str) -> None:
    """Answer until the standard input ends."""
    from fast_engine import FastEngine
    from jupyter_llmops.settings import LLMOps
    from jupyter_llmops.workspace import Workspace

    ws = Workspace(LLMOps(site=site, agent="off"), catalog)
    ws.__dict__["engine"] = FastEngine()
    for line in sys.stdin:
        try:
            answer = {"value": str(eval(line, {"ws": ws, "Path": Path}))}
        except Exception as error:  # noqa: BLE001 - the test gets it
            answer = {"error": f"{type(error).__name__}: {error}"}
        print(json.dumps(answer), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
