"""Finding one of 1,000,000 runs: by words and fields here, by a pattern in IPython's own history.

The catalog is made once, into build/bench-runs, with words as frequent as those of a language (Zipf), and
maintained by the upkeep that an agent does. IPython's history (`%history -g`, HistoryAccessor on SQLite)
holds the same texts; it knows neither users nor models, and its search is a scan with GLOB. A find answers
20 runs whole, with their leaves. The rounds are interleaved.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
PLACE = HERE.parent / "build" / "bench-runs"
BATCH = 100_000
WORDS = 30_000
LENGTH = 25
BEGIN = datetime(2026, 1, 1, tzinfo=UTC)
STEP = timedelta(seconds=25)
LIMIT = 20
FORM = 1
"""Another number makes the catalog anew."""


def main() -> None:
    """Make both, time the finds, print a table and one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--runs", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=40)
    options = parser.parse_args()
    os.environ |= {"LLMOPS_HOME": str(PLACE / "home"), "LANCEDB_LOG": "error"}
    place = made(options.runs)
    finds = {**our_finds(place, options.runs), **history_finds(place)}
    taken: dict[str, list[float]] = {name: [] for name in finds}
    chance = random.Random(5)
    for _ in range(options.rounds):
        word = word_of(chance)
        for name, find in finds.items():
            begun = time.perf_counter()
            find(word, chance)
            taken[name].append((time.perf_counter() - begun) * 1000)
    ours = statistics.median(taken["jupyter_llmops: by text"])
    rows = [row(name, times, ours) for name, times in taken.items()]
    claim = f"Finding among {options.runs:,} runs by text or field (20 whole runs) beside IPython's history"
    print(json.dumps({"claim": claim, "unit": "ms", "rows": rows}, ensure_ascii=False))


def word_of(chance: random.Random) -> str:
    """Return a word: as often a frequent one as a rare one."""
    return f"w{int(WORDS ** chance.random()) - 1:05d}"


def made(runs: int) -> Path:
    """Return the folder of both stores, made where it is not there."""
    place = PLACE / str(runs)
    mark = place / "made"
    if mark.exists() and mark.read_text() == str(FORM):
        return place
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    from jupyter_llmops.catalog import Catalog

    catalog = Catalog(place / "catalog", site="lab", user="ada")
    catalog.migrate()
    history = sqlite3.connect(place / "history.sqlite")
    history.execute(
        "CREATE TABLE sessions (session integer primary key, start timestamp, end timestamp, num_cmds integer, remark text)"
    )
    history.execute(
        "CREATE TABLE history (session integer, line integer, source text, source_raw text, PRIMARY KEY (session, line))"
    )
    history.execute(
        "CREATE TABLE output_history (session integer, line integer, output text, PRIMARY KEY (session, line))"
    )
    begun = time.perf_counter()
    for number, (ours, texts, said) in enumerate(batches(runs), 1):
        catalog._connection.writing("runs", lambda handle, rows=ours: handle.add(rows))
        catalog._connection.writing("contents", lambda handle, rows=texts: handle.add(rows))
        lines = ((number, line, text, text) for line, text in enumerate(said))
        history.executemany("INSERT INTO history VALUES (?, ?, ?, ?)", lines)
        history.commit()
        print(f"{min(number * BATCH, runs):,} runs after {time.perf_counter() - begun:.0f} s", flush=True)
    history.close()
    begun = time.perf_counter()
    catalog.optimize(after=1)
    print(f"Upkeep: {time.perf_counter() - begun:.0f} s, indexes included", flush=True)
    mark.write_text(str(FORM))
    return place


def batches(runs: int) -> Iterator[tuple[Any, Any, list[str]]]:
    """Yield rows of the runs, of their contents, and the texts, a batch at a time."""
    import numpy as np
    import pyarrow as pa

    from jupyter_llmops.catalog.schemas import schema_of

    chance = np.random.default_rng(7)
    words = np.array([f"w{n:05d}" for n in range(WORDS)], dtype=object)
    shares = 1 / np.arange(1, WORDS + 1)
    shares /= shares.sum()

    def of(values: list[str], count: int, weights: list[float] | None = None) -> Any:
        return np.array(values, dtype=object)[chance.choice(len(values), count, p=weights)]

    for first in range(0, runs, BATCH):
        count = min(BATCH, runs - first)
        place = np.arange(count) + first
        ids = [f"{one:016x}" for one in chance.integers(0, 2**63, count)]
        kinds = of(["cell", "prompt", "map"], count, [0.7, 0.29, 0.01])
        status = of(["ok", "error", "interrupted"], count, [0.93, 0.06, 0.01])
        errors = of(["ValueError", "KeyError", "TypeError", "ZeroDivisionError"], count)
        costs = [
            None if kind == "cell" else int(cost)
            for kind, cost in zip(kinds, chance.integers(0, 100_000, count), strict=True)
        ]
        started = np.datetime64(BEGIN.replace(tzinfo=None), "us") + (
            place * int(STEP / timedelta(microseconds=1))
        ).astype("timedelta64[us]")
        texts = [" ".join(line) for line in words[chance.choice(WORDS, (count, LENGTH), p=shares)]]
        sessions = [f"s{one // 1000}" for one in place.tolist()]
        leaves = [
            json.dumps(
                {"cost_millionths": cost, "id": one, "kind": kind, "pad": one * 30}, separators=(",", ":")
            )
            for cost, one, kind in zip(costs, ids, kinds, strict=True)
        ]
        ran: dict[str, Any] = {
            "id": ids, "session": sessions, "seq": place % 1000, "kind": kinds, "status": status,
            "started_at": started, "seconds": chance.random(count), "host": ["lab"] * count,
            "user": of([f"user{n}" for n in range(40)], count),
            "notebook": of([f"team/project{n}/notebook{n}.ipynb" for n in range(2000)], count),
            "execution_count": place % 100, "parent": [""] * count,
            "model": np.where(kinds == "cell", "", of([f"model-{n}" for n in range(30)], count)),
            "error_type": np.where(status == "error", errors, ""), "leaf_digest": ["sha256:" + one * 4 for one in ids],
            "leaf": leaves, "site": ["lab"] * count, "cost_millionths": costs,
        }  # fmt: skip
        said = {name: ran[name] for name in ("id", "session", "seq", "kind", "user", "site")}
        said |= {"title": [text[:20] for text in texts], "text": texts, "created_at": started}
        tables = []
        for table, values in (("runs", ran), ("contents", said)):
            schema = schema_of(table)
            columns = [
                pa.array(values[field.name]).cast(field.type)
                if field.name in values
                else pa.nulls(count, field.type)
                for field in schema
            ]
            tables.append(pa.table(columns, schema=schema))
        yield tables[0], tables[1], texts


def our_finds(place: Path, runs: int) -> dict[str, Callable[[str, random.Random], Any]]:
    """Return finds in this project's catalog."""
    from jupyter_llmops.catalog import Catalog
    from jupyter_llmops.records.run_search import RunFilter

    search = Catalog(place / "catalog", site="lab", user="ada").run_search
    whole = runs * STEP

    def a_filter(chance: random.Random) -> RunFilter:
        begun = BEGIN + whole * chance.random()
        return chance.choice(
            [
                RunFilter(user=f"user{chance.randrange(40)}"),
                RunFilter(notebook=f"notebook{chance.randrange(2000)}.ipynb"),
                RunFilter(model=f"model-{chance.randrange(30)}"),
                RunFilter(status=chance.choice(["ok", "error", "interrupted", "KeyError"])),
                RunFilter(kind=chance.choice(["cell", "prompt", "map"])),
                RunFilter(since=begun, until=begun + timedelta(days=3)),
                RunFilter(until=begun),
                RunFilter(least_cost=chance.randrange(100_000), most_cost=100_000),
            ]
        )

    def by_text(word: str, _: random.Random) -> Any:
        return search.matching(word, RunFilter(), LIMIT)

    def by_two(word: str, chance: random.Random) -> Any:
        return search.matching(f"{word} {word_of(chance)}", RunFilter(), LIMIT)

    def newest(word: str, _: random.Random) -> Any:
        return search.matching(word, RunFilter(), LIMIT, newest_first=True)

    def by_field(_: str, chance: random.Random) -> Any:
        return search.newest(a_filter(chance), LIMIT)

    def both(word: str, chance: random.Random) -> Any:
        return search.matching(word, a_filter(chance), LIMIT)

    finds = {
        "by text": by_text,
        "by two words": by_two,
        "by text, newest first": newest,
        "by a field": by_field,
    }
    finds["by text and a field"] = both
    warm = random.Random(1)
    for find in finds.values():
        for _ in range(5):
            find(word_of(warm), warm)
    return {f"jupyter_llmops: {name}": find for name, find in finds.items()}


def history_finds(place: Path) -> dict[str, Callable[[str, random.Random], Any]]:
    """Return the search of IPython's history, with its real accessor."""
    from IPython.core.history import HistoryAccessor

    accessor = HistoryAccessor(hist_file=str(place / "history.sqlite"))

    def search(word: str, _: random.Random) -> Any:
        return list(accessor.search(f"*{word}*", raw=True, n=LIMIT))

    search("w00000", random.Random(1))
    return {"IPython: %history -g": search}


def row(name: str, times: list[float], ours: float) -> dict[str, Any]:
    """Return a row of the table."""
    found = {
        "name": name,
        "median": round(statistics.median(times), 1),
        "p95": round(statistics.quantiles(times, n=20)[18], 1),
    }
    return found if name.startswith("jupyter_llmops") else found | {"ratio": round(found["median"] / ours, 2)}


if __name__ == "__main__":
    main()
