"""Runs a notebook headless, shows its progress, and says what happened in it.

``make demo`` does ``python example_notebooks/run.py example_notebooks/quickstart.ipynb --into build/demo``.
The exit status is 0 when every cell ran and the trail verifies.
"""

from __future__ import annotations

import argparse
import os
import re
import sys
import textwrap
import time
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nbformat
from memory import PeakMemory
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from tqdm import tqdm

from jupyter_llmops.errors import LLMOpsError

if TYPE_CHECKING:
    from jupyter_llmops.records.run import Run
    from jupyter_llmops.workspace import Workspace

CELL_TIMEOUT_SECONDS = 1800
WIDTH = 100
BAR = "{percentage:3.0f}% |{bar:30}| {n_fmt}/{total_fmt} cells  {elapsed}  {desc}"
ANSI = re.compile(r"\x1b\[[0-9;]*m")

KINDS = ("session", "cell", "map", "prompt", "cascade", "reproduction")

Row = tuple[str, str]


@dataclass
class Outcome:
    """What running a notebook came to.

    Parameters
    ----------
    notebook : NotebookNode
        The notebook with its outputs.
    started_at : datetime
        UTC.
    cells : int
        How many code cells ran.
    seconds : float
        How long they took together, with the start of the kernel.
    peak_bytes : int
        Most memory that this process and the kernel held at one time.
    failure : str
        What stopped the run; empty when every cell ran.
    """

    notebook: nbformat.NotebookNode
    started_at: datetime
    cells: int = 0
    seconds: float = 0.0
    peak_bytes: int = 0
    failure: str = ""


def main() -> int:
    """Run the notebook that the command line names and print what happened."""
    parser = argparse.ArgumentParser(description="Run a notebook headless and say what happened in it.")
    parser.add_argument("notebook", type=Path, help="the notebook to run")
    parser.add_argument("--into", type=Path, required=True, help="folder for the executed notebook and page")
    arguments = parser.parse_args()

    path: Path = arguments.notebook.resolve()
    if not path.is_file():
        parser.error(f"there is no notebook {arguments.notebook}")
    # As a Jupyter server does it, so that the trail says which notebook its cells are of. The working
    # folder is the notebook's, so that this process finds the same catalog as the kernel.
    os.environ["JPY_SESSION_NAME"] = str(path)
    into = arguments.into.resolve()
    here = Path.cwd()
    os.chdir(path.parent)

    outcome = execute(path)
    page = write(outcome.notebook, path.stem, into)
    print()
    if outcome.failure:
        print(framed(outcome.failure), end="\n\n")
    try:
        happened, verified = facts(path, outcome.started_at)
    except LLMOpsError as error:
        happened, verified = [("trail", f"{type(error).__name__}: {error}")], False
    rows = [
        ("cells run", f"{outcome.cells} in {outcome.seconds:.1f} s"),
        *happened,
        ("peak memory", f"{outcome.peak_bytes / 2**30:.2f} GiB, the kernel and all that it started"),
        ("executed page", os.path.relpath(page, here)),
    ]
    ending = "stopped at an error" if outcome.failure else "ran to the end"
    print(f"{path.name} {ending}\n")
    for name, value in rows:
        print(f"  {name:<15}{value}")
    return 1 if outcome.failure or not verified else 0


def execute(path: Path) -> Outcome:
    """Run every cell of a notebook in a fresh kernel, with a progress bar over the code cells."""
    notebook = nbformat.read(path, as_version=4)
    code = [
        index for index, cell in enumerate(notebook.cells) if cell.cell_type == "code" and cell.source.strip()
    ]
    outcome = Outcome(notebook, started_at=datetime.now(UTC))
    begun = time.monotonic()
    current = 0
    with (
        PeakMemory() as memory,
        tqdm(total=len(code), desc="starting a kernel", bar_format=BAR, file=sys.stdout, ncols=WIDTH) as bar,
    ):

        def starts(cell: Any, cell_index: int) -> None:
            nonlocal current
            current = cell_index
            bar.set_description_str(title(cell.source))

        def ended(**_: Any) -> None:
            outcome.cells += 1
            bar.update()
            if outcome.cells == len(code):
                bar.set_description_str(f"{'done':<40}")

        client = NotebookClient(
            notebook,
            timeout=CELL_TIMEOUT_SECONDS,
            kernel_name="python3",
            # It warns that TCP on the loopback is not encrypted, which a headless run can't act on.
            extra_arguments=["--IPKernelApp.log_level=ERROR"],
            resources={"metadata": {"path": str(path.parent)}},
            on_cell_execute=starts,
            on_cell_executed=ended,
        )
        try:
            client.execute()
        except CellExecutionError as error:
            outcome.failure = described(notebook.cells[current], code.index(current) + 1, error.traceback)
        except (CellTimeoutError, DeadKernelError) as error:
            outcome.failure = described(notebook.cells[current], code.index(current) + 1, str(error))
    outcome.seconds = time.monotonic() - begun
    outcome.peak_bytes = memory.peak
    return outcome


def title(source: str) -> str:
    """Return a cell's first line that says something, in 40 columns."""
    lines = [line.strip() for line in source.splitlines() if line.strip() and not line.startswith("#")]
    return f"{(lines or ['(comment)'])[0][:40]:<40}"


def described(cell: Any, number: int, problem: str) -> str:
    """Return which cell failed, its source, and its error as the notebook shows it."""
    shown = [output for output in cell.outputs if output.output_type == "error"]
    if shown:
        problem = "\n".join(shown[-1].traceback)
    return f"Code cell {number} failed:\n\n{textwrap.indent(cell.source, '    ')}\n\n{ANSI.sub('', problem).strip()}"


def framed(text: str) -> str:
    """Return the text between two rules."""
    rule = "─" * WIDTH
    return f"{rule}\n{text}\n{rule}"


def write(notebook: nbformat.NotebookNode, stem: str, into: Path) -> Path:
    """Write the executed notebook and its page; return where the page lies."""
    from nbconvert import HTMLExporter

    into.mkdir(parents=True, exist_ok=True)
    nbformat.write(notebook, into / f"{stem}.ipynb")
    body, _ = HTMLExporter().from_notebook_node(notebook, resources={"metadata": {"name": stem}})
    page = into / f"{stem}.html"
    page.write_text(body, encoding="utf-8")
    return page


def facts(notebook: Path, since: datetime) -> tuple[list[Row], bool]:
    """Return what the catalog and the trail hold of the cells that just ran, and whether the trail verifies."""
    import jupyter_llmops

    workspace = jupyter_llmops.open_workspace()
    recent = [run for run in workspace.runs(limit=100_000) if run.started_at >= since]
    # A cell's run names its notebook; the runs inside a cell share its session.
    sessions = {run.session for run in recent if run.notebook == str(notebook)}
    runs = [run for run in recent if run.session in sessions]
    prompts = [run for run in runs if run.kind == "prompt" and run.status == "ok"]
    kinds = [(kind, sum(run.kind == kind for run in runs)) for kind in KINDS]
    verification = workspace.verify()
    trail = f"verified; {verification.records} records, {verification.sessions} session(s) of this user"
    if not verification.ok:
        trail = f"NOT VERIFIED: {'; '.join(problem.message for problem in verification.problems[:3])}"
    rows = [
        ("answers", answers(prompts)),
        *quoted(workspace, prompts),
        ("cache hits", hits(prompts)),
        *reproduced([run for run in runs if run.kind == "reproduction"]),
        ("runs stamped", f"{len(runs)}: " + ", ".join(f"{count} {kind}" for kind, count in kinds if count)),
        ("trail", trail),
        *(
            ("", textwrap.shorten(note.removeprefix("verified, "), WIDTH - 20, placeholder=" …"))
            for note in verification.notes[:3]
        ),
        ("catalog", str(workspace.folder)),
    ]
    return rows, verification.ok


def answers(prompts: list[Run]) -> str:
    """Return how many answers came from where, and how fast the model was."""
    computed = [run for run in prompts if run.source == "model"]
    tokens = sum(run.tokens_out or 0 for run in computed)
    seconds = sum(computing_seconds(run) for run in computed)
    speed = f" ({tokens} tokens, {tokens / seconds:.1f} tokens/s)" if seconds else ""
    return f"{len(computed)} from the model{speed}, {len(prompts) - len(computed)} from the cache"


def quoted(workspace: Workspace, prompts: list[Run]) -> list[Row]:
    """Return the first line of the newest answer, as the trail's own content has it."""
    for run in prompts:
        text = str((workspace.content(run) or {}).get("response", "")).strip()
        if text:
            return [("", "for example: " + textwrap.shorten(text, WIDTH - 35, placeholder=" …"))]
    return []


def hits(prompts: list[Run]) -> str:
    """Return how many of the look-ups were hits, and the seconds that they saved."""
    found = [run for run in prompts if run.source == "cache"]
    saved = sum(max(0.0, computing_seconds(run) - run.seconds) for run in found)
    return f"{len(found)} of {len(prompts)} prompts, {saved:.1f} s of computing saved"


def reproduced(runs: list[Run]) -> list[Row]:
    """Return how the runs that were inferred again compare with their records."""
    if not runs:
        return []
    identical = sum((run.leaf or {}).get("identical") is True for run in runs)
    return [("reproduced", f"{identical} of {len(runs)} identical to the record")]


def computing_seconds(run: Run) -> float:
    """Return what computing an answer took when the model computed it."""
    return float((run.leaf or {}).get("computed_microseconds", 0)) / 1e6


if __name__ == "__main__":
    sys.exit(main())
