"""How long after a publish the sidebar of an open page shows it, in a real JupyterLab and a real Chromium.

Two publishers in the same run: a kernel of this Jupyter server, which rings its doorbell, and another
process of this host, which has no server to ring at. Time runs from the moment the publish returned to the
moment the page's tree holds the row; the sidebar's own poll is switched off.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

REPOSITORY = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(REPOSITORY / "tests"))

from ui.colleague import NOTE_WHEN_SEEN, Colleague  # noqa: E402
from ui.jupyter import Jupyter  # noqa: E402
from ui.workbench import CHROMIUM, CHROMIUM_FLAGS, Workbench  # noqa: E402

LIMIT_MS = 1000.0
NOTEBOOK = "publish.ipynb"
OPEN = "import time, jupyter_llmops\nworkspace = jupyter_llmops.open_workspace()"
PUBLISH = """saved = workspace.catalog.prompts.publish({name!r}, "Say {name}.")
workspace.doorbell.ring("prompts")
print(time.time() * 1000)"""


def main() -> None:
    """Publish in turn from both places, print a table and one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--rounds", type=int, default=30, help="publishes of each kind")
    rounds = parser.parse_args().rounds
    if CHROMIUM is None:
        sys.exit("There is no Chromium on PATH; on Debian: apt install chromium.")
    from playwright.sync_api import sync_playwright

    with (
        tempfile.TemporaryDirectory() as folder,
        sync_playwright() as playwright,
        Jupyter(Path(folder), "real") as jupyter,
        Colleague(jupyter.work / ".llmops") as colleague,
    ):
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=CHROMIUM_FLAGS)
        lab = Workbench(browser.new_page(viewport={"width": 1400, "height": 1000}), jupyter)
        lab.open()
        lab.open_notebook(NOTEBOOK)
        lab.run_cell(NOTEBOOK, OPEN)
        lab.page.evaluate(NOTE_WHEN_SEEN)
        show_all(lab)

        def by_kernel(name: str) -> float:
            return float(lab.run_cell(NOTEBOOK, PUBLISH.format(name=name)))

        publishers: dict[str, Callable[[str], float]] = {
            "a kernel of this server: prompt": by_kernel,
            "another process: prompt": lambda name: colleague.publish("prompt", name),
            "another process: alias": lambda name: colleague.publish("alias", name),
            "another process: collection": lambda name: colleague.publish("collection", name),
        }
        seen: dict[str, list[float]] = {name: [] for name in publishers}
        for number in range(rounds):
            for kind, publish in publishers.items():
                name = f"n{number}-{len(kind)}"
                done = publish(name)
                lab.page.wait_for_function("word => window.seenAt[word] !== undefined", arg=name)
                seen[kind].append(lab.page.evaluate("word => window.seenAt[word]", name) - done)
        browser.close()
    rows = [row(kind, times) for kind, times in seen.items()]
    for found in rows:
        print(f"{found['name']:<34} median {found['median']:>6} ms   p99 {found['p99']:>6} ms")
    every = [time for times in seen.values() for time in times]
    print(
        json.dumps(
            {
                "claim": "What is published shows in the sidebar of an open page within 1 s on the same host",
                "unit": "ms",
                "rows": rows,
                "holds": max(every) <= LIMIT_MS,
            }
        )
    )


def show_all(lab: Workbench) -> None:
    """Keep every row in the page, however many there are: only the first ones are shown at first."""
    lab.page.evaluate(
        """() => new MutationObserver(() => {
          document.querySelectorAll('#jupyter-llmops-sidebar .jp-LLMOps-more').forEach(button => {
            if (button.textContent.startsWith('Show all')) button.click();
          });
        }).observe(document.querySelector('#jupyter-llmops-sidebar'), {childList: true, subtree: true})"""
    )


def row(name: str, times: list[float]) -> dict[str, Any]:
    """Return one publisher's figures, ms."""
    ordered = sorted(times)
    return {
        "name": name,
        "median": round(statistics.median(ordered)),
        "p99": round(ordered[min(len(ordered) - 1, int(len(ordered) * 0.99))]),
        "runs": len(ordered),
    }


if __name__ == "__main__":
    main()
