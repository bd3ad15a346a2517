"""Adding 2,000 short texts to a collection with the packaged MiniLM, beside sentence-transformers alone.

Ours hashes, cuts, embeds and commits; the peer only embeds. Both run in one process, in turn, with
other texts in every round, so that nothing is reused.
"""

from __future__ import annotations

import argparse
import json
import random
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from jupyter_llmops.catalog import Catalog
from jupyter_llmops.inference import sources
from jupyter_llmops.inference.encoder import open_encoder
from jupyter_llmops.retrieval.adding import add_documents
from jupyter_llmops.retrieval.documents import documents_of

WORDS = [
    "the",
    "a",
    "of",
    "to",
    "in",
    "is",
    "that",
    "it",
    "was",
    "for",
    "on",
    "as",
    "with",
    "they",
    "be",
    "at",
    "one",
    "have",
    "this",
    "from",
    "or",
    "had",
    "by",
    "word",
    "but",
    "what",
    "some",
    "we",
    "can",
    "out",
    "other",
    "were",
    "all",
    "there",
    "when",
    "use",
    "your",
    "how",
    "said",
    "each",
    "she",
    "which",
    "their",
    "time",
    "will",
    "way",
    "about",
    "many",
    "then",
    "them",
    "write",
    "would",
    "like",
    "so",
    "these",
    "her",
    "long",
    "make",
    "thing",
    "see",
    "him",
    "two",
    "has",
    "look",
    "more",
    "day",
    "could",
    "go",
    "come",
    "did",
    "number",
    "sound",
    "no",
    "most",
    "people",
    "my",
    "over",
    "know",
    "water",
    "than",
    "call",
    "first",
    "who",
    "may",
    "down",
    "side",
    "been",
    "now",
    "find",
]


def main() -> None:
    """Time both in turn, print one JSON line."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--texts", type=int, default=2000)
    parser.add_argument("--rounds", type=int, default=4)
    options = parser.parse_args()
    generator = random.Random(20261122)
    with tempfile.TemporaryDirectory() as folder:
        model = sources.resolve(sources.DEFAULT_ENCODER)
        encoder = open_encoder(model, Path(folder) / "models", offline=True)
        plain = sentence_transformers(str(sources.locate(model).path))
        catalog = Catalog(Path(folder) / "catalog", site="bench", user="bench")
        add_documents(catalog, "texts", documents_of(texts(generator, 64)), encoder)
        plain(texts(generator, 64))
        ours, theirs = [], []
        for number in range(options.rounds):
            for side in (("ours", "theirs"), ("theirs", "ours"))[number % 2]:
                fresh = texts(generator, options.texts)
                begun = time.perf_counter()
                if side == "ours":
                    report = add_documents(catalog, "texts", documents_of(fresh), encoder)
                    assert report.embedded == options.texts, report
                    ours.append(options.texts / (time.perf_counter() - begun))
                else:
                    plain(fresh)
                    theirs.append(options.texts / (time.perf_counter() - begun))
            print(f"round {number + 1}: added {ours[-1]:.0f} texts/s, sentence-transformers {theirs[-1]:.0f}")
    share = statistics.median(a / b for a, b in zip(ours, theirs, strict=True))
    rows = [
        {"name": "jupyter_llmops, adding to a collection", "median": round(statistics.median(ours), 1)},
        {
            "name": "sentence-transformers, embedding alone",
            "median": round(statistics.median(theirs), 1),
            "ratio": round(1 / share, 2),
        },
    ]
    note = (
        f"{options.texts:,} texts of 8 to 40 words, {options.rounds} rounds in turn: adding runs at {100 * share:.0f} % of "
        "embedding alone (median of the rounds)."
    )
    claim = "Adding texts to a collection, beside embedding them only"
    print(json.dumps({"claim": claim, "unit": "texts/s", "rows": rows, "note": note}, ensure_ascii=False))


def texts(generator: random.Random, count: int) -> list[str]:
    """Return short texts, each of its own."""
    return [" ".join(generator.choices(WORDS, k=generator.randint(8, 40))) for _ in range(count)]


def sentence_transformers(folder: str) -> Callable[[list[str]], object]:
    """Return the peer's own way, as its documentation has it."""
    from sentence_transformers import SentenceTransformer

    inner = SentenceTransformer(folder, device="cpu", local_files_only=True)
    return lambda sentences: inner.encode(sentences, show_progress_bar=False)


if __name__ == "__main__":
    main()
