"""From publishing in one process to finding it in another that has the catalog open already.

A writer publishes prompts and says the moment at which each call returned (one monotonic clock serves
all processes of a machine). A reader asks for each of them until it is there. Three times: one writer;
eight writers at once, of which one is timed; one writer on a catalog that already holds 10,000 versions.
Beside it a LanceDB handle as `lancedb.connect` gives it, open in the same reader, and MLflow's prompt
registry on SQLite.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import IO, Any

from jupyter_llmops.catalog import Catalog
from jupyter_llmops.errors import UnknownNameError

TARGET_MS = 250.0
Find = Callable[[str, int], bool]


def main() -> None:
    """Time all, print a table and one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--count", type=int, default=300, help="publishes that are timed")
    parser.add_argument("--writers", type=int, default=8, help="writers at once when contended")
    parser.add_argument("--rows", type=int, default=10_000, help="versions that a full catalog holds")
    parser.add_argument("--writer", nargs=3, metavar=("KIND", "PLACE", "NAME"), help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.writer:
        write(*options.writer)
        return
    rows = [
        alone(options.count),
        contended(options.count, options.writers),
        full(options.count // 2, options.rows),
        *default_handle(options.count // 3),
        mlflow(options.count // 3),
    ]
    claim = (
        f"What one process published is found by another that is open already: p99 ≤ {TARGET_MS:.0f} ms "
        "with one writer"
    )
    print(json.dumps({"claim": claim, "unit": "ms", "rows": rows}, ensure_ascii=False))


# -- writing -------------------------------------------------------------------------------------------


def write(kind: str, place: str, name: str) -> None:
    """Publish whenever a line comes ("free": all the time), and say when each call returned."""
    publish = publisher(kind, place)
    publish("warm-up", name)
    print("ready", flush=True)
    number = 0
    while kind == "free" or sys.stdin.readline():
        number += 1
        begun = time.monotonic_ns()
        version = publish(name, f"{name} {number}")
        print(json.dumps([name, version, begun, time.monotonic_ns()]), flush=True)


def publisher(kind: str, place: str) -> Callable[[str, str], int]:
    """Return what publishes a text under a name and returns its version."""
    if kind == "mlflow":
        client = mlflow_client(place)
        return lambda name, text: int(client.register_prompt(name, text).version)
    catalog = Catalog(place, site="bench", user="writer")
    return lambda name, text: catalog.prompts.publish(name, text).version


@contextmanager
def writers(kind: str, place: str, names: list[str]) -> Iterator[list[subprocess.Popen[str]]]:
    """Start writers that are ready, and end them."""
    command = [sys.executable, __file__, "--writer", kind, place]
    started = [
        subprocess.Popen([*command, name], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        for name in names
    ]
    try:
        for process in started:
            assert reading(process).readline() == "ready\n"
        yield started
    finally:
        for process in started:
            process.kill()
            process.communicate()


def reading(process: subprocess.Popen[str]) -> IO[str]:
    """Return what a writer says."""
    assert process.stdout is not None
    return process.stdout


# -- reading -------------------------------------------------------------------------------------------


def lags(writer: subprocess.Popen[str], find: Find, count: int) -> tuple[list[float], list[float]]:
    """Return for each publish how long the call took, and from its return to the answer that held it, in ms."""
    took, lag = [], []
    for _ in range(count):
        assert writer.stdin is not None
        writer.stdin.write("\n")
        writer.stdin.flush()
        name, version, begun, returned = json.loads(reading(writer).readline())
        deadline = time.monotonic() + 30
        while not find(name, version):
            if time.monotonic() > deadline:
                raise AssertionError("published, and not found within half a minute")
        lag.append((time.monotonic_ns() - returned) / 1e6)
        took.append((returned - begun) / 1e6)
    return took, lag


def finder(catalog: Catalog) -> Find:
    """Return what says whether a version is there."""

    def find(name: str, version: int) -> bool:
        try:
            return catalog.prompts.get(name, version).version == version
        except UnknownNameError:
            return False

    return find


def alone(count: int) -> dict[str, Any]:
    """One writer, nobody else."""
    with tempfile.TemporaryDirectory() as place:
        catalog = seeded(place)
        with writers("asked", place, ["one"]) as (writer,):
            took, lag = lags(writer, finder(catalog), count)
    return row("jupyter_llmops, one writer", lag, took)


def contended(count: int, many: int) -> dict[str, Any]:
    """One writer that is timed, the others publishing all the time."""
    with tempfile.TemporaryDirectory() as place:
        catalog = seeded(place)
        free = [f"free{number}" for number in range(many - 1)]
        with writers("free", place, free) as others, writers("asked", place, ["one"]) as (writer,):
            drains = [
                subprocess.Popen(["cat"], stdin=reading(other), stdout=subprocess.DEVNULL) for other in others
            ]
            took, lag = lags(writer, finder(catalog), count // 3)
            for drain in drains:
                drain.kill()
    return row(f"jupyter_llmops, {many} writers at once", lag, took)


def full(count: int, rows: int) -> dict[str, Any]:
    """One writer on a catalog that holds many versions already."""
    from jupyter_llmops.catalog.prompts import row_of

    with tempfile.TemporaryDirectory() as place:
        catalog = seeded(place)
        first = catalog.prompts.get("first")
        many = [
            row_of(first)
            | {"name": f"prompt {n // 5}", "version": n % 5 + 1, "key": f"prompt {n // 5}\x1f{n % 5 + 1}"}
            for n in range(rows)
        ]
        catalog._connection.insert_absent("prompts", many)
        with writers("asked", place, ["one"]) as (writer,):
            took, lag = lags(writer, finder(catalog), count)
    return row(f"jupyter_llmops, one writer, {rows:,} versions there", lag, took)


def default_handle(count: int) -> list[dict[str, Any]]:
    """How many of a writer's rows a plain LanceDB handle that is open already sees."""
    import lancedb

    with tempfile.TemporaryDirectory() as place:
        seeded(place)
        table = lancedb.connect(place).open_table("prompts")
        assert table.count_rows() > 0
        with writers("asked", place, ["one"]) as (writer,):
            found, _ = 0, lags(writer, lambda *_: True, count)
            found = table.count_rows("name = 'one'")
    return [{"name": f"lancedb, default handle: found {found} of {count}"}]


def mlflow(count: int) -> dict[str, Any]:
    """MLflow's prompt registry on SQLite, without a server."""
    with tempfile.TemporaryDirectory() as folder:
        place = f"sqlite:///{folder}/mlflow.db"
        client = mlflow_client(place)
        client.register_prompt("first", "text")
        with writers("mlflow", place, ["one"]) as (writer,):

            def find(name: str, version: int) -> bool:
                return client.get_prompt_version(name, version) is not None

            took, lag = lags(writer, find, count)
    return row("MLflow on SQLite, one writer", lag, took)


def mlflow_client(place: str) -> Any:
    """Return a client of a registry without a server."""
    import logging

    from mlflow import MlflowClient

    logging.getLogger("mlflow").setLevel(logging.ERROR)
    return MlflowClient(tracking_uri=place, registry_uri=place)


def seeded(place: str) -> Catalog:
    """Return a catalog that is open and has been read."""
    catalog = Catalog(place, site="bench", user="reader")
    catalog.prompts.publish("first", "text")
    assert catalog.prompts.list()
    return catalog


def row(name: str, lag: list[float], took: list[float]) -> dict[str, Any]:
    """Return one line of the table."""
    result = {
        "name": name,
        "found after": round(statistics.median(lag), 1),
        "p99": round(statistics.quantiles(lag, n=100, method="inclusive")[98], 1),
        "worst": round(max(lag), 1),
        "publish takes": round(statistics.median(took), 1),
    }
    print(result, flush=True)
    return result


if __name__ == "__main__":
    main()
