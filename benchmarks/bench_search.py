"""Hybrid search over 100,000 passages, beside LanceDB's own hybrid search with and without a vector index.

Vectors are synthetic: 384 numbers around cluster centres, normalized; texts are words with Zipf's
frequencies. Queries are near a stored vector and hold three of its text's words. Recall is against
brute force: all 100,000 cosines for the vectors, fused by ranks with the same full-text ranking for
the hybrid. Embedding the query is not in the figures, but has a row of its own.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import tempfile
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np

from jupyter_llmops.catalog import Catalog
from jupyter_llmops.catalog.indexes import PROBES, REFINE, ensure_indexes
from jupyter_llmops.catalog.items import Items, item_id
from jupyter_llmops.records.collection import Chunk, Chunking, EmbeddingSpace
from jupyter_llmops.retrieval.search import DEPTH, fused, search

DIMENSION, WORDS, TOP = 384, 20_000, 10
# Queries before the clock runs, and how many the slowest way answers.
WARM, FLAT_QUERIES = 5, 60
INDEXED = "LanceDB hybrid (RRF), the same indexes"
FLAT = "LanceDB hybrid (RRF), flat vectors"
SPACE = EmbeddingSpace("synthetic", "sha256:" + "0" * 64, "mean", True, DIMENSION, 256)


class Given:
    """Has the query's vector already."""

    space = SPACE
    vector: np.ndarray

    def embed_query(self, _: str) -> np.ndarray:
        return self.vector


def main() -> None:
    """Fill a collection, search it in every way, print one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--items", type=int, default=100_000)
    parser.add_argument("--queries", type=int, default=300)
    options = parser.parse_args()
    random = np.random.default_rng(20261122)
    vectors, texts = passages(random, options.items)
    queries = [query(random, vectors, texts) for _ in range(options.queries)]
    with tempfile.TemporaryDirectory() as folder:
        catalog = Catalog(Path(folder) / "catalog", site="bench", user="bench")
        items, filled, built = fill(catalog, vectors, texts)
        print(
            f"{options.items:,} passages added in {filled:.1f} s, indexed in {built:.1f} s: {items.index()}"
        )
        rows, recalls = measured(catalog, items, vectors, queries)
    note = (
        f"{options.items:,} synthetic passages ({DIMENSION} numbers), {options.queries} queries, top {TOP}, the query's vector "
        f"given. recall@{TOP} against brute force: {recalls['vector']:.3f} by vector, {recalls['hybrid']:.3f} hybrid. "
        f"Added in {filled:.1f} s, indexed in {built:.1f} s."
    )
    claim = f"Hybrid search over {options.items:,} passages, beside LanceDB's own"
    print(json.dumps({"claim": claim, "unit": "ms", "rows": rows, "note": note}, ensure_ascii=False))


def passages(random: np.random.Generator, count: int) -> tuple[np.ndarray, list[list[str]]]:
    """Return normalized vectors around centres, and words of each text."""
    centres = random.normal(size=(500, DIMENSION)).astype(np.float32)
    vectors = centres[random.integers(0, 500, count)]
    vectors += 0.6 * random.normal(size=(count, DIMENSION)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    words = np.array([f"w{number}" for number in range(WORDS)])
    frequency = 1 / np.arange(1, WORDS + 1)
    chosen = random.choice(WORDS, (count, 40), p=frequency / frequency.sum())
    return vectors, words[chosen].tolist()


def query(random: np.random.Generator, vectors: np.ndarray, texts: list[list[str]]) -> tuple[np.ndarray, str]:
    """Return a vector near a stored one, and three of its words."""
    number = int(random.integers(len(vectors)))
    near = vectors[number] + 0.3 / np.sqrt(DIMENSION) * random.normal(size=DIMENSION)
    return near.astype(np.float32), " ".join(random.choice(texts[number], 3))


def fill(catalog: Catalog, vectors: np.ndarray, texts: list[list[str]]) -> tuple[Items, float, float]:
    """Add everything and build what the agent would build; return the seconds of both."""
    catalog.collections.create("big", SPACE, Chunking())
    items = catalog.collections.items("big")
    begun = time.perf_counter()
    for first in range(0, len(vectors), 5_000):
        chunks = [
            Chunk(f"d{n}", 0, 0, 1, " ".join(texts[n]), f"sha256:{n:064d}", {})
            for n in range(first, min(first + 5_000, len(vectors)))
        ]
        items.replace({chunk.document: "d" for chunk in chunks}, chunks, vectors[first : first + 5_000])
    filled = time.perf_counter() - begun
    begun = time.perf_counter()
    ensure_indexes(catalog._connection, items.table)
    catalog._connection.optimize(items.table, timedelta(hours=1))
    return items, filled, time.perf_counter() - begun


def measured(
    catalog: Catalog, items: Items, vectors: np.ndarray, queries: list[tuple[np.ndarray, str]]
) -> tuple[list[dict[str, Any]], dict[str, float]]:
    """Return a row for every way to search, and the recall of ours."""
    encoder = Given()
    found: dict[str, list[list[str]]] = {"hybrid": [], "vector": [], "text": []}

    def ours(how: str) -> Callable[[int], None]:
        def one(number: int) -> None:
            encoder.vector, words = queries[number]
            result = search(catalog, "big", words, encoder, k=TOP, how=how)  # type: ignore[arg-type]
            found[how].append([passage.id for passage in result.passages])

        return one

    ways = {
        "jupyter_llmops, hybrid": ours("hybrid"),
        "jupyter_llmops, vector": ours("vector"),
        "jupyter_llmops, text": ours("text"),
        INDEXED: lance(catalog, items, queries, flat=False),
        FLAT: lance(catalog, items, queries, flat=True),
    }
    rows = timed(ways, len(queries))
    # Apart from the others: torch's threads would be in their way.
    rows += timed({"embedding a query with the packaged MiniLM, to be added": embedder()}, 100)
    for row in rows:
        if row["name"] in (INDEXED, FLAT):
            row["ratio"] = round(row["median"] / rows[0]["median"], 2)
    keys = [item_id(f"d{number}", 0) for number in range(len(vectors))]
    recalls = {"vector": 0.0, "hybrid": 0.0}
    for number, (vector, words) in enumerate(queries):
        order = np.argsort(-(vectors @ vector), kind="stable")[:DEPTH]
        near = [(keys[place], 0, 0.0) for place in order]
        best = [key for key, _, _ in fused(near, items.matching(words, DEPTH))][:TOP]
        truth = {"vector": [key for key, _, _ in near[:TOP]], "hybrid": best}
        for how in recalls:
            recalls[how] += len(set(truth[how]) & set(found[how][number + WARM])) / TOP / len(queries)
    return rows, recalls


def lance(
    catalog: Catalog, items: Items, queries: list[tuple[np.ndarray, str]], *, flat: bool
) -> Callable[[int], None]:
    """Return LanceDB's own hybrid search as its documentation has it, on the same table."""
    import lancedb
    from lancedb.rerankers import RRFReranker

    folder = catalog.location.folder
    table = lancedb.connect(str(folder), read_consistency_interval=timedelta(0)).open_table(items.table)
    columns = ["id", "document", "start", "end", "text", "text_digest"]

    def one(number: int) -> None:
        vector, words = queries[number]
        search = table.search(query_type="hybrid", vector_column_name="vector").vector(vector).text(words)
        search = search.distance_type("cosine").rerank(RRFReranker()).limit(TOP).select(columns)
        search = search.bypass_vector_index() if flat else search.nprobes(PROBES).refine_factor(REFINE)
        search.to_arrow()

    return one


def embedder() -> Callable[[int], None]:
    """Return what embeds a query for real."""
    from jupyter_llmops.inference import sources
    from jupyter_llmops.inference.encoder import open_encoder

    with tempfile.TemporaryDirectory() as folder:
        encoder = open_encoder(sources.resolve(sources.DEFAULT_ENCODER), Path(folder), offline=True)

    def one(number: int) -> None:
        encoder.embed_query(f"how do I reset the password of account {number}?")

    return one


def timed(ways: dict[str, Callable[[int], None]], count: int) -> list[dict[str, Any]]:
    """Return the milliseconds of every way; each query goes through all of them in turn."""
    taken: dict[str, list[float]] = {name: [] for name in ways}
    for number in range(WARM):
        for one in ways.values():
            one(number)
    for number in range(count):
        for name, one in ways.items():
            if name == FLAT and number >= FLAT_QUERIES:
                continue
            begun = time.perf_counter()
            one(number)
            taken[name].append(1000 * (time.perf_counter() - begun))
    return [
        {
            "name": name,
            "median": round(statistics.median(times), 1),
            "p95": round(statistics.quantiles(times, n=100)[94], 1),
            "p99": round(statistics.quantiles(times, n=100)[98], 1),
        }
        for name, times in taken.items()
    ]


if __name__ == "__main__":
    os.environ.setdefault("LANCEDB_LOG", "error")
    main()
