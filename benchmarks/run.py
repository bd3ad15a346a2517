"""Runs every benchmark, one at a time, and writes benchmarks/results/latest.json and latest.md.

A benchmark is a script ``bench_<claim>.py`` that measures this project beside its peers. It prints what it likes
and, as its last line, one JSON object::

    {"claim": "A hit costs less than joblib's own", "unit": "µs",
     "rows": [{"name": "jupyter_llmops", "median": 41.0, "p99": 60.2},
              {"name": "joblib.Memory", "median": 364.0, "p99": 410.9, "ratio": 8.9}]}

A row's keys beside ``name`` become columns; ``ratio`` is the peer's figure over this project's.
``python benchmarks/run.py load hit`` runs two of them and keeps the others' last results.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import subprocess
import sys
import time
from datetime import UTC, datetime
from importlib import metadata
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
README = HERE.parent / "README.md"
BEGIN, END = "<!-- bench:begin -->\n", "<!-- bench:end -->"
PACKAGES = ("jupyter-llmops", "ipython", "torch", "transformers", "bitsandbytes", "lancedb", "joblib")


def main() -> int:
    """Run the benchmarks that the command line names, or all, and return 1 when one failed."""
    known = {path.stem.removeprefix("bench_"): path for path in sorted(HERE.glob("bench_*.py"))}
    parser = argparse.ArgumentParser(description="Run the benchmarks and write their results.")
    parser.add_argument(
        "names", nargs="*", metavar="NAME", help=f"one of: {', '.join(known)}; all by default"
    )
    chosen = parser.parse_args().names or list(known)
    unknown = [name for name in chosen if name not in known]
    if unknown or not chosen:
        parser.error(
            f"no such benchmark: {', '.join(unknown) or 'there is none at all'}; valid: {', '.join(known)}"
        )

    results: dict[str, Any] = {name: result for name, result in last_results().items() if name in known}
    failed = []
    for name in chosen:
        print(f"\n── {name} " + "─" * (90 - len(name)), flush=True)
        begun = time.monotonic()
        result = run(known[name])
        if result is None:
            failed.append(name)
            continue
        result |= {
            "seconds": round(time.monotonic() - begun, 1),
            "measured_at": datetime.now(UTC).isoformat(timespec="seconds"),
            "machine": machine(),
        }
        results[name] = result
        write(results)
    print(f"\n{len(chosen) - len(failed)} of {len(chosen)} benchmarks measured; see {RESULTS / 'latest.md'}")
    if failed:
        print(f"Failed: {', '.join(failed)}")
    return 1 if failed else 0


def last_results() -> dict[str, Any]:
    """Return what earlier runs measured."""
    path = RESULTS / "latest.json"
    return json.loads(path.read_text("utf-8")) if path.exists() else {}


def run(script: Path) -> dict[str, Any] | None:
    """Run one script in a process of its own, show what it prints, and return its last line's object."""
    lines = []
    with subprocess.Popen(
        [sys.executable, str(script)],
        cwd=HERE.parent,
        env={**os.environ, "HF_HUB_OFFLINE": "1", "PYTHONUNBUFFERED": "1"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    ) as process:
        assert process.stdout is not None
        for line in process.stdout:
            lines.append(line)
            if not line.startswith("{"):
                print(line, end="", flush=True)
    if process.returncode:
        print(f"{script.name} ended with status {process.returncode}")
        return None
    try:
        result = json.loads(lines[-1])
        rows = table(result)
        if not any(line.startswith("|") for line in lines):
            print("\n".join(rows))
    except (IndexError, ValueError, KeyError, TypeError, AttributeError) as error:
        print(f"{script.name}: its last line is no result ({type(error).__name__}: {error})")
        return None
    return dict(result)


def machine() -> str:
    """Return what the figures were measured on, in one line."""
    import psutil

    memory = psutil.virtual_memory().total / 2**30
    versions = ", ".join(f"{name} {metadata.version(name)}" for name in PACKAGES)
    cores = (
        len(psutil.Process().cpu_affinity()) if hasattr(psutil.Process, "cpu_affinity") else os.cpu_count()
    )
    return (
        f"{processor()}, {cores} cores, {memory:.0f} GiB, {platform.system()}, "
        f"Python {platform.python_version()}, {versions}"
    )


def processor() -> str:
    """Return the processor's name."""
    try:
        text = Path("/proc/cpuinfo").read_text("utf-8")
        return next(
            line.partition(":")[2].strip() for line in text.splitlines() if line.startswith("model name")
        )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()


def table(result: dict[str, Any]) -> list[str]:
    """Return a result as a Markdown table."""
    columns = list(dict.fromkeys(key for row in result["rows"] for key in row))
    heads = [name if name in {"name", "ratio"} else f"{name} ({result['unit']})" for name in columns]
    lines = [" | ".join(heads), " | ".join("---" if name == "name" else "--:" for name in columns)]
    lines += [" | ".join(cell(row.get(name)) for name in columns) for row in result["rows"]]
    return [f"| {line} |" for line in lines]


def cell(value: object) -> str:
    """Return a figure with three significant digits, a text as it is."""
    if isinstance(value, float):
        return f"{value:.0f}" if abs(value) >= 1000 else f"{value:#.3g}".rstrip(".")
    return "" if value is None else str(value)


def write(results: dict[str, Any]) -> None:
    """Write the results for programs and for people."""
    RESULTS.mkdir(exist_ok=True)
    ordered = dict(sorted(results.items()))
    (RESULTS / "latest.json").write_text(json.dumps(ordered, indent=2, ensure_ascii=False) + "\n", "utf-8")
    parts = ["# Benchmarks", "", "Written by `make bench`; medians unless a column says otherwise."]
    for name, result in ordered.items():
        parts += ["", f"## {name}: {result['claim']}", "", *table(result)]
        parts += [f"\n{result['note']}"] if result.get("note") else []
        parts += ["", f"{result['measured_at']}, {result['seconds']:.0f} s. {result['machine']}"]
    (RESULTS / "latest.md").write_text("\n".join(parts) + "\n", "utf-8")
    README.write_text(in_readme(README.read_text("utf-8"), ordered), "utf-8")


def in_readme(text: str, results: dict[str, Any]) -> str:
    """Return the README with the results between its two marks, so that no figure is typed by hand."""
    before, _, rest = text.partition(BEGIN)
    _, _, after = rest.partition(END)
    parts = [
        line
        for name, result in sorted(results.items())
        for line in ("", f"**{name}** — {result['claim']}", "", *table(result))
    ]
    return before + BEGIN + "\n".join([*parts, "", END]) + after


if __name__ == "__main__":
    sys.exit(main())
