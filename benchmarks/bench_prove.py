"""Proving one of a million runs to a third party, and how large the proof is.

Each proof opens the log anew, as `%audit prove` does: it reads and verifies the signed checkpoint, finds the
leaf, computes the way to the root from the tiles, checks it, and writes the text. The peer is aics-tlog, an
implementation of the same specifications, on the very same files, doing the same; it runs under another
Python (3.12 or newer) in an environment of its own. The rounds are interleaved, the leaves drawn by a seed.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from hashlib import sha256
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
SESSION = "20261122T101112Z-0123abcd"
LEAF_BYTES = 800


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--leaves", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--proofs", type=int, default=40, help="in each round")
    arguments = parser.parse_args()
    rows = []
    with tempfile.TemporaryDirectory() as folder:
        for leaves in (4096, arguments.leaves):
            rows += measure(Path(folder) / str(leaves), leaves, arguments.rounds, arguments.proofs)
    result = {"claim": "One of a million runs is proven in 5 ms", "unit": "ms", "rows": rows}
    print(json.dumps(result))


def measure(folder: Path, leaves: int, rounds: int, proofs: int) -> list[dict[str, Any]]:
    """Return the rows of a log of so many leaves."""
    from jupyter_llmops.audit.sealing import log_folder, origin_of
    from jupyter_llmops.audit.tlog.checkpoint import Checkpoint
    from jupyter_llmops.audit.tlog.note import format_note, sign_note
    from jupyter_llmops.audit.tlog.tiles import TileStore
    from jupyter_llmops.keys.signing import LogKeys

    keys = LogKeys.load(folder / "keys")
    store = TileStore(log_folder(folder, SESSION), sync=False)
    begun = time.perf_counter()
    store.append(leaf(number) for number in range(leaves))
    seconds = time.perf_counter() - begun
    text = Checkpoint(origin_of(SESSION), leaves, store.root()).text
    store.write_checkpoint(format_note(sign_note(text, origin_of(SESSION), keys.log)))
    print(f"{leaves:,} leaves of {LEAF_BYTES} bytes became tiles in {seconds:.1f} s", flush=True)
    vkey = keys.session_vkey(SESSION)

    ours: list[float] = []
    sizes: list[int] = []
    theirs: list[float] = []
    chosen = random.Random(5)
    with peer(log_folder(folder, SESSION), vkey) as ask:
        for _ in range(rounds):
            indexes = [chosen.randrange(leaves) for _ in range(proofs)]
            theirs += ask(indexes)
            for index in indexes:
                took, size = prove_one(folder, vkey, index)
                ours.append(took)
                sizes.append(size)
    rows = [row(f"jupyter_llmops, {leaves:,} runs", ours) | {"bytes": max(sizes)}]
    if theirs:
        ratio = round(statistics.median(theirs) / statistics.median(ours), 2)
        rows.append(row(f"aics-tlog, {leaves:,} leaves", theirs) | {"ratio": ratio})
    return rows


def leaf(number: int) -> bytes:
    """Return what stands for a record."""
    start = b'{"id":"%016x","schema":"llmops.leaf/2","seq":%d,"source":"' % (number, number)
    filling = sha256(start).hexdigest().encode() * (LEAF_BYTES // 64)
    return start + filling[: LEAF_BYTES - len(start) - 2] + b'"}'


def prove_one(folder: Path, vkey: str, index: int) -> tuple[float, int]:
    """Return how long a proof took, in seconds, and its size without the leaf, in bytes."""
    from dataclasses import replace

    from jupyter_llmops.audit.proving import prove
    from jupyter_llmops.audit.reading import parse_run
    from jupyter_llmops.audit.tlog.proof import format_proof, parse_proof

    run = parse_run(leaf(index), SESSION, index)
    assert run is not None
    begun = time.perf_counter()
    data = prove(folder, run, [vkey])
    took = time.perf_counter() - begun
    return took, len(format_proof(replace(parse_proof(data), extra=None)))


class peer:  # noqa: N801 - reads as what it is where it is used
    """aics-tlog's process; a call times its proofs of some leaves, in seconds, none where it can't run."""

    def __init__(self, folder: Path, vkey: str) -> None:
        environment = [sys.executable, str(HERE.parent / "tests" / "other_tlog_environment.py")]
        done = subprocess.run(environment, capture_output=True, text=True, check=False)
        self._process: subprocess.Popen[str] | None = None
        if done.returncode:
            print(f"Without aics-tlog: {done.stderr.strip().splitlines()[-1]}", flush=True)
            return
        command = [done.stdout.strip(), "-I", str(HERE / "peers" / "proving_aics.py"), str(folder), vkey]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def __enter__(self) -> Callable[[list[int]], list[float]]:
        return self._ask

    def _ask(self, indexes: list[int]) -> list[float]:
        if self._process is None:
            return []
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(indexes) + "\n")
        self._process.stdin.flush()
        return list(json.loads(self._process.stdout.readline()))

    def __exit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.communicate(timeout=30)


def row(name: str, seconds: list[float]) -> dict[str, Any]:
    """Return a row of the table."""
    times = [1000 * one for one in seconds]
    return {
        "name": name,
        "median": round(statistics.median(times), 2),
        "p99": round(statistics.quantiles(times, n=100)[98], 2),
    }


if __name__ == "__main__":
    main()
