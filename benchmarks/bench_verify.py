"""Verifying a log of a million records: chain, form, Merkle tree, tiles and entries, beside the line-by-line way.

One session of synthetic cell records of about 700 bytes, without content, sealed into a log as tiles. The peers
look at the same lines in the same run: hashlib reads the file and hashes every line once, which is all that a bare
hash chain needs and says nothing of a line's form; the other parses each line with json and writes it again
with rfc8785, which is how the form is checked by its specification (over a part of the lines, and extrapolated).
"""

from __future__ import annotations

import argparse
import hashlib
import json
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import rfc8785

from jupyter_llmops.audit.files import Head, Mark, head_path, journal_path
from jupyter_llmops.audit.leaf import NO_PREVIOUS, canonical, new_leaf
from jupyter_llmops.audit.tlog.checkpoint import Checkpoint
from jupyter_llmops.audit.tlog.note import format_note, sign_note
from jupyter_llmops.audit.tlog.tiles import TileStore
from jupyter_llmops.audit.verification import TrustedKeys, verify

SESSION = "20261103T101502Z-5f0c2a9e"
ORIGIN = f"jupyter-llmops/{SESSION}"
BEGUN = datetime(2026, 11, 3, 10, 15, tzinfo=UTC)


def lines(count: int) -> Iterator[bytes]:
    """Yield the lines of a session, each linked to the one before."""
    previous = NO_PREVIOUS
    for number in range(count):
        fields: dict[str, Any] = {
            "actor": "human",
            "execution_count": number,
            "names_read": ["frame", "model", "np"],
            "names_written": ["score"],
            "notebook": "projects/churn/analysis.ipynb",
            "outputs": [{"digest": "sha256:" + hashlib.sha256(b"o%d" % number).hexdigest(), "type": "text/plain"}],
        }  # fmt: skip
        leaf = new_leaf(
            seq=number, prev=previous, session=SESSION, parent="", user="ada", host="lab", status="ok",
            run_id=f"{number:016x}", kind="cell" if number else "session", redacted=(), digests={},
            started_at=BEGUN + timedelta(seconds=number), seconds=0.0123, fields=fields,
        )  # fmt: skip
        line = canonical(leaf)
        previous = hashlib.sha256(line).hexdigest()
        yield line


def write(folder: Path, count: int) -> bytes:
    """Write a journal, its head and its sealed log; return the public key that signed it."""
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

    journal_path(folder, SESSION).parent.mkdir(parents=True)
    store = TileStore(folder / "log" / SESSION, sync=False)
    last = b""

    def written() -> Iterator[bytes]:
        nonlocal last
        with journal_path(folder, SESSION).open("wb") as file:
            for last in lines(count):
                file.write(last + b"\n")
                yield last

    store.append(written())
    mark = Mark(count - 1, hashlib.sha256(last).hexdigest())
    head_path(folder, SESSION).write_bytes(Head(mark, mark, closed=True).to_bytes())
    key = Ed25519PrivateKey.generate()
    checkpoint = Checkpoint(ORIGIN, count, store.root(count))
    store.write_checkpoint(format_note(sign_note(checkpoint.text, ORIGIN, key)))
    return key.public_key().public_bytes_raw()


def by_hashlib(path: Path) -> None:
    """Hash every line."""
    with path.open("rb") as file:
        for line in file:
            hashlib.sha256(line[:-1]).hexdigest()


def by_rfc8785(path: Path, count: int) -> None:
    """Check the form and the chain of the first `count` lines as their specification says."""
    previous = NO_PREVIOUS
    with path.open("rb") as file:
        for line, _ in zip(file, range(count), strict=False):
            leaf = json.loads(line[:-1])
            if rfc8785.dumps(leaf) != line[:-1] or leaf["prev"] != previous:
                raise AssertionError("the chain is broken")
            previous = hashlib.sha256(line[:-1]).hexdigest()


def seconds(work: Callable[[], object]) -> float:
    """Return how long it took, s."""
    begun = time.perf_counter()
    work()
    return time.perf_counter() - begun


def main() -> None:
    """Write the log, verify it in turn with the peers, print a table and one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        public = write(folder, options.records)
        path = journal_path(folder, SESSION)
        size = path.stat().st_size
        trusted = TrustedKeys("ada", "lab", (public,))
        part = min(options.records, 20_000)
        taken: dict[str, list[float]] = {}
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        grown = 0.0
        for number in range(options.rounds):
            found: list[Any] = []
            taken.setdefault("jupyter_llmops", []).append(
                seconds(lambda: found.append(verify(folder, trusted=trusted)))  # noqa: B023
            )
            if not found[0].ok or found[0].records != options.records:
                raise SystemExit(f"it did not verify: {found[0].problems[:3]}")
            if not number:
                grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
            taken.setdefault("hashlib, every line once", []).append(seconds(lambda: by_hashlib(path)))
            one = seconds(lambda: by_rfc8785(path, part)) * options.records / part
            taken.setdefault("json + rfc8785, chain only (extrapolated)", []).append(one)
    ours = statistics.median(taken["jupyter_llmops"])
    rows = [
        {"name": name, "median": round(statistics.median(times), 2), "worst": round(max(times), 2)}
        | ({} if name == "jupyter_llmops" else {"ratio": round(statistics.median(times) / ours, 2)})
        for name, times in taken.items()
    ]
    print("| verifying | median s | worst s |\n|---|---:|---:|")
    for row in rows:
        print(f"| {row['name']} | {row['median']} | {row['worst']} |")
    note = f"{options.records:,} records, {size / 1e6:.0f} MB of journal; {grown:.0f} MB of memory more at its peak"
    print(note)
    claim = "A log of 1,000,000 records is verified in at most 10 s"
    print(json.dumps({"claim": claim, "unit": "s", "rows": rows, "note": note}))


if __name__ == "__main__":
    main()
