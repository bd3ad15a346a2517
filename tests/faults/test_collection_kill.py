"""kill -9 while documents are added: what was acknowledged is there whole, once, and the rest goes on."""

from __future__ import annotations

import collections
import json
import random
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from collection_writer import CHUNKS, NAME, documents
from fake_encoder import FakeEncoder
from jupyter_llmops.catalog import Catalog
from jupyter_llmops.records.collection import Chunking
from jupyter_llmops.retrieval.adding import add_documents
from jupyter_llmops.retrieval.documents import documents_of
from soak import SoakScale

WRITER = Path(__file__).parent.parent / "collection_writer.py"


def start(place: Path | str, first: int, count: int, tag: str) -> subprocess.Popen[str]:
    """Start a writer that has imported everything and waits for `go`."""
    process = subprocess.Popen(
        [sys.executable, str(WRITER), str(place), str(first), str(count), tag],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert json.loads(process.stdout.readline()) == "ready"
    return process


def go(process: subprocess.Popen[str]) -> None:
    assert process.stdin is not None
    process.stdin.write("go\n")
    process.stdin.flush()


def chunks(catalog: Catalog) -> dict[str, list[str]]:
    """Return every document's chunks as they lie in the table, and that no key is there twice."""
    items = catalog.collections.items(NAME)
    found: dict[str, list[str]] = collections.defaultdict(list)
    keys: list[str] = []
    for rows in items.batches(list(items.documents()), 10_000):
        keys += rows["id"].to_pylist()
        for document, text in zip(rows["document"].to_pylist(), rows["text"].to_pylist(), strict=True):
            found[document].append(text)
    assert len(keys) == len(set(keys)) == items.count()[0]
    return found


@pytest.mark.slow
def test_a_killed_addition_lost_nothing_and_goes_on_where_it_stopped(
    tmp_path: Path, soak_scale: SoakScale
) -> None:
    for seed in soak_scale.cases(sample=2, full=60):
        generator = random.Random(seed)
        place, total = tmp_path / f"catalog-{seed}", 400
        writer = start(place, 0, total, "first")
        go(writer)
        assert writer.stdout is not None
        acknowledged: list[str] = []
        for _ in range(generator.randint(1, 5)):
            acknowledged += json.loads(writer.stdout.readline())
        # Dies while the next commit is somewhere on its way.
        threading.Event().wait(generator.uniform(0, 0.05))
        writer.send_signal(signal.SIGKILL)
        for line in writer.stdout:
            if line.endswith("\n"):
                acknowledged += json.loads(line)
        assert writer.wait(60) == -signal.SIGKILL
        assert 0 < len(acknowledged) < total

        catalog = Catalog(place, site="here", user="survivor")
        before = chunks(catalog)
        assert set(acknowledged) <= set(before)
        assert all(len(texts) == CHUNKS for texts in before.values())

        encoder = FakeEncoder()
        source = documents_of(documents(0, total, "first"))
        report = add_documents(catalog, NAME, source, encoder, chunking=Chunking(16, 0))  # type: ignore[arg-type]
        assert report.unchanged == len(before)
        assert len(encoder.embedded) == CHUNKS * (total - len(before))
        after = chunks(catalog)
        assert len(after) == total
        assert all(len(texts) == CHUNKS for texts in after.values())


@pytest.mark.slow
def test_two_processes_that_add_the_same_documents_never_mix_them(
    tmp_path: Path, soak_scale: SoakScale
) -> None:
    for seed in soak_scale.cases(sample=1, full=30):
        place = tmp_path / f"catalog-{seed}"
        Catalog(place, site="here", user="ada").migrate()
        # 0-29 by one, 20-49 by the other: ten are written by both, each with words of its own.
        writers = [start(place, 0, 30, "ada"), start(place, 20, 30, "bob")]
        for writer in writers:
            go(writer)
        for writer in writers:
            out, _ = writer.communicate(timeout=120)
            assert writer.returncode == 0
            assert json.loads(out.splitlines()[-1]) == {"embedded": 30 * CHUNKS}
        found = chunks(Catalog(place, site="here", user="ada"))
        assert set(found) == {f"d{n}" for n in range(50)}
        for name, texts in found.items():
            assert len(texts) == CHUNKS, name
            assert len({text.split()[0] for text in texts}) == 1, "a mixture of both"
            assert [text.split()[1] for text in texts] == [f"part{part}" for part in range(CHUNKS)]
