"""Which collections there are, what is said of them, and that a bucket holds them like a folder."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from fake_encoder import FakeEncoder
from jupyter_llmops.catalog import Catalog
from jupyter_llmops.errors import CatalogError, UnknownNameError, UsageError
from jupyter_llmops.records.collection import Chunk, Chunking
from jupyter_llmops.retrieval.adding import add_documents
from jupyter_llmops.retrieval.documents import documents_of
from jupyter_llmops.retrieval.publishing import publish
from jupyter_llmops.retrieval.search import search
from jupyter_llmops.retrieval.spaces import migrate
from s3_server import S3Bucket

ENCODER = FakeEncoder(dimension=256)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "catalog", site="lab", user="ada")


def fill(catalog: Catalog, name: str, *texts: str, encoder: FakeEncoder = ENCODER) -> None:
    rows = [{"id": text, "text": text, "year": 2020} for text in texts]
    add_documents(catalog, name, documents_of(rows), encoder)  # type: ignore[arg-type]


def test_nothing_is_there_and_looking_makes_nothing(catalog: Catalog, tmp_path: Path) -> None:
    assert catalog.collections.list() == []
    assert catalog.collections.names() == []
    with pytest.raises(UnknownNameError):
        catalog.collections.get("c")
    assert not (tmp_path / "catalog").exists()


def test_a_collection_is_seen_by_a_catalog_that_is_open_already(catalog: Catalog, tmp_path: Path) -> None:
    other = Catalog(tmp_path / "catalog", site="office", user="bob")
    assert other.collections.list() == []
    fill(catalog, "c", "one", "two")
    (found,) = other.collections.list()
    assert (found.name, found.items, found.documents, found.index) == ("c", 2, 2, "flat")
    assert (found.metadata, found.created_by, found.site) == (("year",), "ada", "lab")
    assert found.created_at is not None
    fill(other, "c", "three")
    assert catalog.collections.get("c").items == 3


def test_what_is_said_and_hidden_moves_and_keeps_its_history(catalog: Catalog) -> None:
    fill(catalog, "c", "one")
    catalog.collections.describe("c", "about one", ["b", "a", "a"])
    found = catalog.collections.retire("c", "old")
    assert (found.description, found.tags, found.retired) == ("about one", ("a", "b"), True)
    assert search(catalog, "c", "one", ENCODER).passages
    assert not catalog.collections.restore("c").retired
    assert [(change.field, change.value) for change in catalog.collections.history("c")] == [
        ("description", "about one"),
        ("tags", ["a", "b"]),
        ("retired", True),
        ("retired", None),
    ]


def test_a_name_that_differs_by_case_only_is_refused(catalog: Catalog) -> None:
    fill(catalog, "Straße", "one")
    for name in ("strasse", "STRASSE"):
        with pytest.raises(UsageError, match="'Straße', which differs"):
            fill(catalog, name, "two")
    fill(catalog, "e\u0301", "one")
    assert catalog.collections.get("\u00e9").items == 1


def test_a_row_that_points_elsewhere_leads_nowhere(catalog: Catalog) -> None:
    fill(catalog, "c", "one")
    space = catalog.collections.get("c").space
    value = {
        "table": "../../outside",
        "space": {n: getattr(space, n) for n in space.__slots__},
    }
    catalog.changes.move("collection", "c", "table", value)
    assert catalog.collections.standing("c").table.startswith("items-")
    assert catalog.collections.get("c").items == 1
    catalog.changes.move("collection", "c", "table", {"space": {"encoder": "half"}})
    with pytest.raises(CatalogError, match="can't be understood"):
        catalog.collections.get("c")


def test_a_document_is_replaced_and_never_half_there(catalog: Catalog) -> None:
    catalog.collections.create("c", ENCODER.space, Chunking())
    items = catalog.collections.items("c")

    def put(document: str, *texts: str) -> None:
        chunks = [Chunk(document, n, 0, len(text), text, text, {}) for n, text in enumerate(texts)]
        items.replace({document: "+".join(texts)}, chunks, np.ones((len(texts), 256), dtype=np.float32))

    put("a", "1", "2", "3")
    put("b", "1")
    put("a", "4")
    assert items.count() == (2, 2)
    assert items.documents() == {"a": "4", "b": "1"}
    (before,) = items.batches(["a"], 10)
    put("a", "5")
    (after,) = items.batches(["a"], 10)
    # The place is the key, so that two writers of one document collide.
    assert before["id"].to_pylist() == after["id"].to_pylist()
    put("a", "4")
    assert items.count() == (2, 2)
    assert items.remove(["a", "nobody"]) == 1
    assert items.documents() == {"b": "1"}


def test_publishing_copies_what_differs_with_who_wrote_it(catalog: Catalog, tmp_path: Path) -> None:
    own = Catalog(tmp_path / "own", site="home", user="bob")
    fill(own, "c", "one", "two", "the password is hunter2")
    own.collections.describe("c", "numbers", ["small"])

    def secrets(text: str) -> list[str]:
        return ["password"] if "hunter2" in text else []

    report = publish(own, catalog, "c", find_secrets=secrets)
    assert (report.added, report.changed, report.unchanged, report.embedded) == (2, 0, 0, 0)
    assert [name for name, _ in report.skipped] == ["the password is hunter2"]
    found = catalog.collections.get("c")
    assert (found.items, found.description, found.tags, found.metadata) == (
        2,
        "numbers",
        ("small",),
        ("year",),
    )
    (rows,) = catalog.collections.items("c").batches(["one"], 10)
    assert (rows["created_by"].to_pylist(), rows["site"].to_pylist()) == (["bob"], ["home"])
    fill(own, "c", "three")
    again = publish(own, catalog, "c", find_secrets=secrets)
    assert (again.added, again.unchanged) == (1, 2)
    assert search(catalog, "c", "three", ENCODER, k=1).passages[0].document == "three"


def test_a_bucket_holds_collections(s3_bucket: S3Bucket) -> None:
    catalog = Catalog(s3_bucket.location, site="lab", user="ada")
    fill(catalog, "../c", "one", "two", "three")
    fill(catalog, "../c", "two", "four")
    other = Catalog(s3_bucket.location, site="lab", user="bob")
    assert other.collections.get("../c").items == 4
    for how in ("hybrid", "text", "vector"):
        result = search(other, "../c", "four", ENCODER, k=1, where=["year=2020"], how=how)  # type: ignore[arg-type]
        assert [passage.document for passage in result.passages] == ["four"]
    new = FakeEncoder("new", dimension=128)
    migrate(other, "../c", new)  # type: ignore[arg-type]
    assert catalog.collections.get("../c").space == new.space
    assert search(catalog, "../c", "four", new, k=1).passages[0].document == "four"
