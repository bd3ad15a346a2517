"""A whole cached prompt through the Python API: rendered, guarded, keyed, found, stamped; beside LiteLLM's.

Two hundred prompts of about 2 KB, each answered once before. A call of this project renders a template,
looks for secrets in it, makes the request key, verifies the stored answer's seal, and writes a leaf of the
trail with its content; LiteLLM's ``completion`` with its in-memory cache does the key and the look-up. The
model behind both answers at once, as none is asked. LiteLLM lives in an environment of its own, build/peers
(``make peers``), as it needs another huggingface_hub; without it, it is left out.
"""

from __future__ import annotations

import json
import os
import random
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from time import perf_counter_ns
from typing import Any

HERE = Path(__file__).resolve().parent
PEER = HERE.parent / "build" / "peers" / "bin" / "python"
PROMPTS, ROUNDS = 200, 7
TEMPLATE = "Say in one sentence what this is about.\n\n{{ text }}"


def main() -> None:
    """Time both in turns, print a table and one JSON line."""
    sys.path.insert(0, str(HERE.parent / "tests"))
    texts = [
        " ".join(random.Random(n).choices(["model", "notebook", "prompt", "GPU"], k=330))
        for n in range(PROMPTS)
    ]
    rendered = [TEMPLATE.replace("{{ text }}", text) for text in texts]
    with tempfile.TemporaryDirectory() as folder:
        ours = workspace(Path(folder))
        rows: dict[str, list[list[float]]] = {"jupyter_llmops": []}
        with peer() as other:
            if other is not None:
                rows["LiteLLM, in-memory cache"] = []
            for round_number in range(ROUNDS + 1):
                taken = [timed(ours, text) for text in texts]
                theirs = ask_peer(other, rendered) if other is not None else []
                if round_number:  # the first fills both caches
                    rows["jupyter_llmops"].append(taken)
                    if theirs:
                        rows["LiteLLM, in-memory cache"].append(theirs)
        ours.close()
    report(rows)


def workspace(folder: Path) -> Any:
    """Return a workspace whose engine answers at once."""
    os.environ |= {"LLMOPS_HOME": str(folder / "home"), "HF_HUB_OFFLINE": "1"}
    from fast_engine import FastEngine
    from jupyter_llmops.settings import LLMOps
    from jupyter_llmops.workspace import open_workspace

    settings = LLMOps(agent="off")
    opened = open_workspace(folder / "catalog", settings=settings)
    opened.__dict__["engine"] = FastEngine()
    return opened


def timed(opened: Any, text: str) -> float:
    """Return the microseconds of one prompt."""
    begun = perf_counter_ns()
    opened.prompt(TEMPLATE, variables={"text": text}, max_new_tokens=128)
    return (perf_counter_ns() - begun) / 1000


class peer:  # noqa: N801 - reads as a verb
    """LiteLLM's process for the length of a block; None where it is not installed."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None

    def __enter__(self) -> subprocess.Popen[str] | None:
        if not PEER.exists():
            print("LiteLLM is left out: make peers installs it.")
            return None
        self.process = subprocess.Popen(
            [PEER, HERE / "peers" / "cached_litellm.py"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        return self.process

    def __exit__(self, *_: object) -> None:
        if self.process is not None:
            self.process.communicate()


def ask_peer(process: subprocess.Popen[str], texts: list[str]) -> list[float]:
    """Return the microseconds of LiteLLM's calls."""
    assert process.stdin is not None
    assert process.stdout is not None
    process.stdin.write(json.dumps(texts) + "\n")
    process.stdin.flush()
    answer = json.loads(process.stdout.readline())
    return list(answer["taken"])


def report(rows: dict[str, list[list[float]]]) -> None:
    """Print the medians of the rounds."""
    lines: list[dict[str, Any]] = []
    for name, rounds in rows.items():
        medians = [statistics.median(taken) for taken in rounds]
        everything = sorted(value for taken in rounds for value in taken)
        line = {"name": name, "median": round(statistics.median(medians), 1)}
        line["p99"] = round(everything[int(0.99 * len(everything))], 1)
        if lines:
            line["ratio"] = round(line["median"] / lines[0]["median"], 1)
        lines.append(line)
        print(f"{name:28} p50 {line['median']:8.1f} µs   p99 {line['p99']:8.1f} µs")
    claim = "A whole cached prompt (rendered, guarded, keyed, verified, stamped) takes less than 1 ms"
    print(json.dumps({"claim": claim, "unit": "µs", "rows": lines}, ensure_ascii=False))


if __name__ == "__main__":
    main()
