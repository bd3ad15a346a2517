"""Verifying a log of a million records: chain, form, Merkle tree, tiles and entries, beside the line-by-line way.

One session of synthetic cell records of about 700 bytes, without content, sealed into a log as tiles. The peers
look at the same lines in the same run: hashlib reads the file and hashes every line once, which is all that a bare
hash chain needs and says nothing of a line's form; the other parses each line with json and writes it again
with rfc8785, which is how the form is checked by its specification (over a part of the lines, and extrapolated).

`%audit verify` also compares every row of one's own in the catalog with what its line makes of it. So all records,
or the first `--published` of them, lie in a catalog as well, and what a user types is timed beside the rest.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import math
import os
import resource
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any

import rfc8785

from jupyter_llmops.audit.files import Head, Mark, head_path, journal_path
from jupyter_llmops.audit.leaf import NO_PREVIOUS, canonical, new_leaf
from jupyter_llmops.audit.tlog.checkpoint import Checkpoint
from jupyter_llmops.audit.tlog.note import format_note, sign_note
from jupyter_llmops.audit.tlog.tiles import TileStore
from jupyter_llmops.audit.verification import TrustedKeys, verify
from jupyter_llmops.keys.signing import LogKeys, keys_folder
from jupyter_llmops.records.run import Verification

if TYPE_CHECKING:
    import pyarrow as pa

    from jupyter_llmops.workspace import Workspace

SESSION = "20261103T101502Z-5f0c2a9e"
ORIGIN = f"jupyter-llmops/{SESSION}"
BEGUN = datetime(2026, 11, 3, 10, 15, tzinfo=UTC)
SITE = "lab"
ROWS_AT_ONCE = 50_000


def lines(count: int, user: str, catalog: Path) -> Iterator[bytes]:
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
        if not number:
            fields["catalog"] = str(catalog)
        leaf = new_leaf(
            seq=number, prev=previous, session=SESSION, parent="", user=user, host=SITE, status="ok",
            run_id=f"{number:016x}", kind="cell" if number else "session", redacted=(), digests={},
            started_at=BEGUN + timedelta(seconds=number), seconds=0.0123, fields=fields,
        )  # fmt: skip
        line = canonical(leaf)
        previous = hashlib.sha256(line).hexdigest()
        yield line


def write(folder: Path, count: int, user: str, catalog: Path, keys: LogKeys) -> None:
    """Write a journal, its head and its sealed log."""
    journal_path(folder, SESSION).parent.mkdir(parents=True)
    store = TileStore(folder / "log" / SESSION, sync=False)
    last = b""

    def written() -> Iterator[bytes]:
        nonlocal last
        with journal_path(folder, SESSION).open("wb") as file:
            for last in lines(count, user, catalog):
                file.write(last + b"\n")
                yield last

    store.append(written())
    mark = Mark(count - 1, hashlib.sha256(last).hexdigest())
    head_path(folder, SESSION).write_bytes(Head(mark, mark, closed=True).to_bytes())
    checkpoint = Checkpoint(ORIGIN, count, store.root(count))
    store.write_checkpoint(format_note(sign_note(checkpoint.text, ORIGIN, keys.log)))


def publish(workspace: Workspace, count: int) -> None:
    """Put the rows of the first records into the catalog, as the agent does, but with no look at each."""
    from jupyter_llmops.agent.carried import CarriedMemory
    from jupyter_llmops.agent.election import agent_file
    from jupyter_llmops.catalog.schemas import RUNS, schema_of

    catalog, folder = workspace.catalog, workspace.audit_folder
    catalog.migrate()
    schema = schema_of(RUNS)
    with journal_path(folder, SESSION).open("rb") as file:
        for begin in range(0, count, ROWS_AT_ONCE):
            some = [next(file)[:-1] for _ in range(min(ROWS_AT_ONCE, count - begin))]
            rows = rows_of(some, schema)
            catalog._connection.writing(RUNS, lambda handle, rows=rows: handle.add(rows))
    CarriedMemory(agent_file(folder, catalog.location, "carried")).keep({SESSION: count - 1})


def rows_of(some: list[bytes], schema: pa.Schema) -> pa.Table:
    """Return the rows of some lines."""
    import pyarrow as pa

    leaves = [json.loads(line) for line in some]
    made: dict[str, Any] = {
        "leaf": [line.decode() for line in some],
        "leaf_digest": [f"sha256:{hashlib.sha256(line).hexdigest()}" for line in some],
        "site": [SITE] * len(some),
        "seconds": [leaf["microseconds"] / 1e6 for leaf in leaves],
    }
    columns = []
    for field in schema:
        empty = "" if field.type == pa.string() else None
        values = made.get(field.name) or [leaf.get(field.name, empty) for leaf in leaves]
        columns.append(pa.array(values, None if field.name == "started_at" else field.type).cast(field.type))
    return pa.table(columns, schema=schema)


def opened(place: Path) -> Workspace:
    """Return a workspace whose home and catalog lie in a folder."""
    from jupyter_llmops.settings import LLMOps
    from jupyter_llmops.workspace import Workspace

    os.environ |= {"LLMOPS_HOME": str(place / "home"), "LANCEDB_LOG": "error"}
    return Workspace(LLMOps(site=SITE, agent="off", audit=False), place / "catalog")


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


def processor_seconds() -> float:
    """Return what this process and those that it waited for have used, s."""
    used = [resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN)]
    return sum(one.ru_utime + one.ru_stime for one in used)


def checked(work: Callable[[], Verification], records: int) -> Callable[[], None]:
    """Return the same, which stops the benchmark where it does not verify."""

    def check() -> None:
        found = work()
        if not found.ok or found.records != records:
            raise SystemExit(f"it did not verify: {found.problems[:3]}")

    return check


def memory(name: str) -> float:
    """Return what Linux says of this process' memory, MB: VmRSS for now, VmHWM for the most since it was forgotten."""
    said = Path("/proc/self/status").read_text()
    return int(said.split(f"{name}:")[1].split()[0]) / 1024


def forget_peak() -> float:
    """Let `memory` begin anew with its peak; return what is in use now, MB."""
    Path("/proc/self/clear_refs").write_text("5")
    return memory("VmRSS")


def main() -> None:
    """Write the log, verify it in turn with the peers, print a table and one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--published", type=int, help="of how many the catalog has rows; all by default")
    parser.add_argument("--rounds", type=int, default=3)
    options = parser.parse_args()
    published = options.records if options.published is None else min(options.published, options.records)
    with tempfile.TemporaryDirectory() as place:
        workspace = opened(Path(place))
        keys = LogKeys.load(keys_folder())
        folder = workspace.audit_folder
        write(folder, options.records, workspace.user, Path(place) / "catalog", keys)
        path = journal_path(folder, SESSION)
        size = path.stat().st_size
        trusted = TrustedKeys(workspace.user, SITE, (keys.log_public,))
        part = min(options.records, 20_000)
        ways = {"jupyter_llmops": checked(lambda: verify(folder, trusted=trusted), options.records)}
        if published:
            publish(workspace, published)
            ways[f"%audit verify, with {published:,} published rows"] = checked(
                workspace.verify, options.records
            )
        ways["hashlib, every line once"] = lambda: by_hashlib(path)
        taken: dict[str, list[float]] = {}
        used: dict[str, float] = {}
        grown: dict[str, float] = {}
        for _ in range(options.rounds):
            for name, work in ways.items():
                before, at_first = processor_seconds(), forget_peak()
                taken.setdefault(name, []).append(seconds(work))
                used[name] = min(used.get(name, math.inf), processor_seconds() - before)
                grown[name] = max(grown.get(name, 0.0), memory("VmHWM") - at_first)
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
    note = f"{options.records:,} records, {size / 1e6:.0f} MB of journal; " + "; ".join(
        f"{name}: {used[name]:.1f} s of processors, {grown[name]:.0f} MB of memory more at its peak"
        for name in list(ways)[: 2 if published else 1]
    )
    print(note)
    claim = "A log of 1,000,000 records is verified in at most 10 s"
    print(json.dumps({"claim": claim, "unit": "s", "rows": rows, "note": note}))


if __name__ == "__main__":
    main()
