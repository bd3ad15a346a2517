"""What runs said in the catalog: found, and really deleted."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import lancedb
import numpy as np
import pytest

from jupyter_llmops.catalog import Catalog
from jupyter_llmops.catalog.contents import RunText
from jupyter_llmops.errors import CatalogError

PHRASE = "quuxwordforgotten"


def text_of(number: int, text: str = "") -> RunText:
    text = text or f"ordinary words of run {number}"
    moment = datetime(2026, 1, 1, tzinfo=UTC)
    return RunText(f"{number:016x}", "session", number, "ada", "cell", text[:20], text, moment)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "catalog", site="lab", user="ada")


def handle_of(catalog: Catalog) -> Any:
    return lancedb.connect(catalog.folder).open_table("contents")


def in_any_version(catalog: Catalog, word: str) -> bool:
    """Return whether a row of any version that Lance still keeps holds the word."""
    handle = handle_of(catalog)
    for version in handle.list_versions():
        handle.checkout(version["version"])
        if any(word in text for text in handle.to_arrow()["text"].to_pylist()):
            return True
    return False


def files_of(catalog: Catalog) -> set[Path]:
    return {path for path in (catalog.folder / "contents.lance").rglob("*.lance") if path.is_file()}


def test_append_once_and_get(catalog: Catalog) -> None:
    assert catalog.contents.get("0" * 16) is None
    assert catalog.contents.counts() == {}
    assert catalog.contents.delete(["0" * 16]) == 0
    assert catalog.contents.append([text_of(1), text_of(2)]) == 2
    assert catalog.contents.append([text_of(2), text_of(3)]) == 1
    assert catalog.contents.get(text_of(2).id) == text_of(2)
    assert catalog.contents.counts() == {"session": 3}
    assert sorted(catalog.contents.ids_of_sessions(["session", "other"])) == [
        text_of(n).id for n in (1, 2, 3)
    ]


def test_deleted_text_is_in_no_version_no_piece_and_no_index(catalog: Catalog) -> None:
    """One row of a large piece: Lance itself would leave it there, only marked as deleted."""
    catalog.contents.append([text_of(n, f"words {n} {PHRASE}" if n == 77 else "") for n in range(2000)])
    catalog.optimize(after=1)
    assert handle_of(catalog).list_indices(), "upkeep builds the index"
    old = files_of(catalog)
    assert in_any_version(catalog, PHRASE)
    assert len(handle_of(catalog).search(PHRASE, query_type="fts").to_list()) == 1

    assert catalog.contents.delete([text_of(77).id]) == 1

    assert catalog.contents.get(text_of(77).id) is None
    assert not in_any_version(catalog, PHRASE)
    assert not files_of(catalog) & old, "no file that ever held it is left"
    assert handle_of(catalog).count_rows() == 1999
    assert catalog.contents.get(text_of(78).id) == text_of(78)
    assert handle_of(catalog).search("run", query_type="fts").limit(5).to_list(), "the index is back"
    assert catalog.contents.delete([text_of(77).id]) == 0


def test_the_last_rows_can_be_deleted_too(catalog: Catalog) -> None:
    catalog.contents.append([text_of(1, PHRASE), text_of(2, PHRASE)])
    catalog.optimize(after=1)
    assert catalog.contents.delete([text_of(1).id, text_of(2).id, "f" * 16]) == 2
    assert not in_any_version(catalog, PHRASE)
    assert catalog.contents.append([text_of(3)]) == 1


def test_what_is_deleted_of_a_session_leaves_anothers_row_of_that_id(catalog: Catalog) -> None:
    catalog.contents.append([text_of(1), text_of(2)])
    planted = {name: getattr(text_of(1), name) for name in RunText.__slots__} | {"site": "lab"}
    handle_of(catalog).add([planted | {"session": "other"}])
    vectors = [((text_of(n).id, "d"), np.ones(3, np.float32)) for n in (1, 2)]
    catalog.meanings.add("run", "space", vectors)
    assert catalog.pruning.prune(["other"], "ada") == 1
    assert catalog.contents.rows(text_of(1).id) == [text_of(1)]
    assert len(catalog.meanings.vectors("run", "space").rows) == 2
    assert catalog.pruning.prune(["session"], "ada") == 2
    assert catalog.contents.counts() == {}
    assert not catalog.meanings.vectors("run", "space").rows


def test_no_snapshot_keeps_it(catalog: Catalog) -> None:
    catalog.contents.append([text_of(1, PHRASE)])
    catalog.snapshots.create("release")
    release = Catalog(catalog.folder, site="lab", user="ada", snapshot="release")
    assert release.contents.get(text_of(1).id) is None
    with pytest.raises(CatalogError, match="read only"):
        release.contents.append([text_of(2)])
    catalog.contents.delete([text_of(1).id])
    catalog.upkeep.retention = timedelta(0)
    assert not in_any_version(catalog, PHRASE)
