"""Adding to a collection: what is there costs a digest, what is broken is never half there."""

from __future__ import annotations

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest

from fake_encoder import FakeEncoder
from jupyter_llmops.catalog import Catalog
from jupyter_llmops.errors import CatalogError, Interrupted, LLMOpsError, SpaceError, UsageError
from jupyter_llmops.records.collection import AddReport, Chunk, Chunking
from jupyter_llmops.retrieval import adding, meter
from jupyter_llmops.retrieval.adding import add_documents
from jupyter_llmops.retrieval.chunking import text_digest
from jupyter_llmops.retrieval.documents import documents_of


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "catalog", site="lab", user="ada")


@pytest.fixture
def encoder() -> FakeEncoder:
    return FakeEncoder()


def add(catalog: Catalog, encoder: FakeEncoder, source: Any, name: str = "c", **options: Any) -> AddReport:
    return add_documents(catalog, name, documents_of(source), encoder, **options)


def stored(catalog: Catalog, name: str = "c") -> dict[str, list[str]]:
    """Return the chunks of every document, in order."""
    items = catalog.collections.items(name)
    found: dict[str, list[str]] = {}
    for rows in items.batches(list(items.documents()), 10_000):
        for document, text in zip(rows["document"].to_pylist(), rows["text"].to_pylist(), strict=True):
            found.setdefault(document, []).append(text)
    return found


def rows(**texts: str) -> list[dict[str, str]]:
    return [{"id": name, "text": text} for name, text in texts.items()]


def long(*sentences: str) -> str:
    """Return sentences of which each becomes a chunk."""
    return "\n\n".join(f"{sentence} " + "filler " * 60 for sentence in sentences)


def test_only_what_is_new_or_changed_is_embedded(catalog: Catalog, encoder: FakeEncoder) -> None:
    first = add(catalog, encoder, rows(a=long("one", "two", "three"), b="short"), chunking=Chunking(80, 0))
    assert (first.added, first.changed, first.unchanged, first.embedded, first.reused) == (2, 0, 0, 4, 0)
    encoder.embedded.clear()
    again = add(catalog, encoder, rows(a=long("one", "two", "three"), b="short"))
    assert (again.added, again.changed, again.unchanged) == (0, 0, 2)
    assert encoder.embedded == []
    changed = add(catalog, encoder, rows(a=long("one", "zwei"), c="short"))
    assert (changed.added, changed.changed, changed.embedded, changed.reused) == (1, 1, 1, 2)
    assert [text.split()[0] for text in encoder.embedded] == ["zwei"]
    assert [text.split()[0] for text in stored(catalog)["a"]] == ["one", "zwei"]
    digest = text_digest("short")
    vectors = catalog.collections.items("c").vectors([digest])
    assert np.allclose(vectors[digest], encoder.embed_query("short"))


def test_other_metadata_alone_embeds_nothing(catalog: Catalog, encoder: FakeEncoder) -> None:
    add(catalog, encoder, [{"id": "a", "text": "one", "year": 2020}])
    encoder.embedded.clear()
    report = add(catalog, encoder, [{"id": "a", "text": "one", "year": 2021, "who": "Ann"}])
    assert (report.changed, report.embedded, report.reused) == (1, 0, 1)
    assert encoder.embedded == []
    assert catalog.collections.get("c").metadata == ("year", "who")


def test_empty_texts_are_left_out_and_a_text_that_became_empty_is_taken_out(
    catalog: Catalog, encoder: FakeEncoder
) -> None:
    report = add(catalog, encoder, rows(a="one", b=" \n", c=""))
    assert report.added == 1
    assert report.skipped == (("b", "it holds no words"), ("c", "it holds no words"))
    assert add(catalog, encoder, rows(a="")).changed == 1
    assert stored(catalog) == {}


def test_what_is_no_unicode_is_left_out(catalog: Catalog, encoder: FakeEncoder) -> None:
    report = add(catalog, encoder, rows(a="half \ud800 pair", b="漢字 🎉 e\u0301"))
    assert [name for name, _ in report.skipped] == ["a"]
    assert stored(catalog) == {"b": ["漢字 🎉 e\u0301"]}


def test_a_document_with_a_secret_stays_out_of_a_shared_catalog(
    catalog: Catalog, encoder: FakeEncoder
) -> None:
    report = add(
        catalog, encoder, rows(a="the key is hunter2", b="fine"),
        find_secrets=lambda text: ("password",) if "hunter2" in text else (),
    )  # fmt: skip
    assert report.skipped == (("a", "it holds what looks like a secret (password)"),)
    assert stored(catalog) == {"b": ["fine"]}


def test_a_clash_of_types_is_found_before_anything_is_written(
    catalog: Catalog, encoder: FakeEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adding, "CHUNKS_A_COMMIT", 2)
    add(catalog, encoder, [{"id": "a", "text": "one", "year": 2020}])
    many = [{"id": f"n{i}", "text": f"text {i}", "year": 2020} for i in range(5)]
    with pytest.raises(UsageError, match="'year' holds int64, and text in 'twenty'"):
        add(catalog, encoder, [*many, {"id": "z", "text": "last", "year": "twenty"}])
    assert set(stored(catalog)) == {"a"}
    with pytest.raises(UsageError, match="'Year' differs from 'year' by case only"):
        add(catalog, encoder, [{"id": "b", "text": "one", "Year": 2020}])
    assert set(stored(catalog)) == {"a"}
    report = add(catalog, encoder, pd.DataFrame({"text": ["x"], "year": [2021.0]}))  # pandas beside a NaN
    assert report.added == 1


@pytest.mark.parametrize("name", ["document", "a=b", "a<b", " ", "x" * 200, "line\nbreak"])
def test_a_column_that_no_filter_can_name_is_refused(
    catalog: Catalog, encoder: FakeEncoder, name: str
) -> None:
    with pytest.raises(UsageError):
        add(catalog, encoder, [{"id": "a", "text": "one", name: 1}])


def test_another_space_is_refused_and_both_are_named(catalog: Catalog, encoder: FakeEncoder) -> None:
    add(catalog, encoder, rows(a="one"), name="my docs")
    other = FakeEncoder("other")
    with pytest.raises(SpaceError, match=r"fake .*other .*%collections migrate 'my docs' other"):
        add(catalog, other, rows(b="two"), name="my docs")
    assert other.embedded == []
    assert set(stored(catalog, "my docs")) == {"a"}


def test_other_files_under_the_same_name_are_another_space(catalog: Catalog, encoder: FakeEncoder) -> None:
    add(catalog, encoder, rows(a="one"))
    changed = FakeEncoder()
    changed.space = type(changed.space)("fake", "sha256:" + "0" * 64, "mean", True, 32, 100)
    with pytest.raises(SpaceError, match="files 00000000"):
        add(catalog, changed, rows(b="two"))


def test_a_collection_stays_cut_as_it_was(catalog: Catalog, encoder: FakeEncoder) -> None:
    add(catalog, encoder, rows(a="one"), chunking=Chunking(50, 5))
    assert catalog.collections.get("c").chunking == Chunking(50, 5)
    with pytest.raises(UsageError, match="50 tokens with an overlap of 5"):
        add(catalog, encoder, rows(a="one"), chunking=Chunking(60, 5))
    add(catalog, encoder, rows(b="two"))


@pytest.mark.parametrize("bad", [np.nan, np.inf])
def test_a_vector_that_is_none_writes_nothing(catalog: Catalog, encoder: FakeEncoder, bad: float) -> None:
    add(catalog, encoder, rows(a="one"))
    items = catalog.collections.items("c")
    chunk = Chunk("b", 0, 0, 3, "two", "sha256:x", {})
    with pytest.raises(CatalogError, match="no numbers"):
        items.replace({"b": "d"}, [chunk], np.full((1, 32), bad, dtype=np.float32))
    with pytest.raises(SpaceError, match="7 numbers each, those of the collection 32"):
        items.replace({"b": "d"}, [chunk], np.ones((1, 7), dtype=np.float32))
    assert set(stored(catalog)) == {"a"}


def test_a_stopped_addition_keeps_what_was_committed_and_goes_on_there(
    catalog: Catalog, encoder: FakeEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adding, "CHUNKS_A_COMMIT", 10)
    source = rows(**{f"d{i:03}": f"text number {i}" for i in range(35)})
    acknowledged: list[str] = []

    def stop() -> None:
        if len(encoder.embedded) >= 20:
            raise KeyboardInterrupt

    encoder.before_embedding = stop
    with pytest.raises(Interrupted, match="20 documents of this time"):
        add(catalog, encoder, source, committed=acknowledged.extend)
    assert sorted(stored(catalog)) == sorted(acknowledged)
    assert len(acknowledged) == 20
    encoder.before_embedding = lambda: None
    encoder.embedded.clear()
    report = add(catalog, encoder, source)
    assert (report.added, report.unchanged, len(encoder.embedded)) == (15, 20, 15)


def test_an_encoder_that_fails_leaves_no_half_document(catalog: Catalog, encoder: FakeEncoder) -> None:
    add(catalog, encoder, rows(a=long("one", "two")), chunking=Chunking(80, 0))

    def fail() -> None:
        raise LLMOpsError("broken")

    encoder.before_embedding = fail
    with pytest.raises(LLMOpsError):
        add(catalog, encoder, rows(a=long("three", "four", "five")))
    assert [text.split()[0] for text in stored(catalog)["a"]] == ["one", "two"]


def test_a_large_addition_is_in_the_index_when_it_ends(
    catalog: Catalog, encoder: FakeEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    add(catalog, encoder, rows(a="one", b="two"))
    items = catalog.collections.items("c")
    assert items.unindexed() == 2
    monkeypatch.setattr(adding, "MOST_UNINDEXED", 2)
    add(catalog, encoder, rows(c="three"))
    assert items.unindexed() == 0
    assert items.count() == (3, 3)


def test_nothing_is_embedded_for_a_snapshot(catalog: Catalog, encoder: FakeEncoder, tmp_path: Path) -> None:
    add(catalog, encoder, rows(a="one"))
    catalog.snapshots.create("v1")
    encoder.embedded.clear()
    frozen = Catalog(tmp_path / "catalog", site="lab", user="ada", snapshot="v1")
    with pytest.raises(CatalogError, match="read only"):
        add(frozen, encoder, rows(b="two"))
    assert encoder.embedded == []
    assert set(stored(frozen)) == {"a"}


def test_progress_says_how_far_how_fast_and_how_long(
    catalog: Catalog, encoder: FakeEncoder, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = iter(range(0, 10_000, 2))
    monkeypatch.setattr(meter, "time", SimpleNamespace(monotonic=lambda: float(next(now))))
    monkeypatch.setattr(adding, "CHUNKS_A_COMMIT", 10)
    told: list[tuple[str, float | None]] = []
    source = rows(**{f"d{i:03}": f"text number {i:03}" for i in range(20)})
    add(catalog, encoder, source, progress=lambda *said: told.append(said))
    assert "10 chunks · 5/s · 2.0 s left" in told[0][0]
    assert told[0][1] == 0.5
    assert told[-1][1] == 1.0


def test_a_document_of_ten_megabytes_is_one_commit(catalog: Catalog) -> None:
    class Lines(FakeEncoder):
        def token_spans(self, text: str) -> list[tuple[int, int]]:
            return [(start, start + 43) for start in range(0, len(text), 44)]

    text = "All work and no play makes Jack a dull boy.\n" * 240_000
    report = add(catalog, Lines(), [{"id": "novel", "text": text}], chunking=Chunking(20, 0))
    assert report.added == 1
    assert (report.embedded, report.reused) == (1, 11_999)  # equal chunks are embedded once
    items = catalog.collections.items("c")
    assert items.count() == (report.embedded + report.reused, 1)


@pytest.mark.parametrize(
    "name", ["../../outside", "/etc/passwd", "a/b", "..", "C:\\x", "ünï cödé 🎉", "'; DROP TABLE"]
)
def test_no_name_becomes_a_path(catalog: Catalog, encoder: FakeEncoder, name: str, tmp_path: Path) -> None:
    add(catalog, encoder, rows(**{"../../x": "one"}), name=name)
    assert stored(catalog, name) == {"../../x": ["one"]}
    tables = {path.name for path in (tmp_path / "catalog").glob("items-*")}
    assert len(tables) == 1
    assert all(
        set(table.removeprefix("items-").removesuffix(".lance")) <= set("0123456789abcdef")
        for table in tables
    )
    assert [path.name for path in tmp_path.iterdir()] == ["catalog"]


@pytest.mark.parametrize("name", ["", "add", "Migrate", "a@b", "x" * 300, "-x"])
def test_names_that_could_not_be_typed_are_refused(catalog: Catalog, encoder: FakeEncoder, name: str) -> None:
    with pytest.raises(UsageError):
        add(catalog, encoder, rows(a="one"), name=name)
