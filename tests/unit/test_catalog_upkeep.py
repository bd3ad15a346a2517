from __future__ import annotations

import subprocess
import sys
import time
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from jupyter_llmops.catalog import Catalog, indexes, upkeep
from jupyter_llmops.catalog.leases import UPKEEP
from jupyter_llmops.catalog.schemas import ITEMS_PREFIX
from jupyter_llmops.errors import CatalogError

ITEMS = f"{ITEMS_PREFIX}0123"


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "catalog", site="lab", user="ada", retention=timedelta(0))


@pytest.fixture(autouse=True)
def few_commits(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let upkeep be due after 10 commits, and look every time it is asked."""
    monkeypatch.setattr(upkeep.Upkeep._is_due, "__defaults__", (10,))
    monkeypatch.setattr(upkeep, "_LITTER", 5)
    monkeypatch.setattr(upkeep, "_LOOK_SECONDS", 0.0)
    monkeypatch.setattr(upkeep, "_RETRY_SECONDS", 0.0)


def another(catalog: Catalog, **changes: Any) -> Catalog:
    """Return the same catalog as another process has it open."""
    return Catalog(catalog.folder, site="lab", user="bob", **({"retention": timedelta(0)} | changes))


def publish(catalog: Catalog, count: int) -> None:
    for number in range(count):
        catalog.prompts.publish("p", f"{time.monotonic_ns()} {number}")


def look(catalog: Catalog) -> list[str]:
    return catalog.upkeep.look(catalog.marks())


def manifests(catalog: Catalog, table: str) -> int:
    return len(list((catalog.folder / f"{table}.lance" / "_versions").glob("*.manifest")))


def test_what_is_due_is_joined_and_cleaned_once(catalog: Catalog) -> None:
    publish(catalog, 3)
    assert look(catalog) == []
    publish(catalog, 9)
    assert look(catalog) == ["prompts"]
    assert catalog._connection.fragments("prompts") == 1
    assert manifests(catalog, "prompts") == 1
    assert len(catalog.prompts.versions("p")) == 12
    before = catalog.marks()
    for _ in range(3):
        assert look(catalog) == []
    assert catalog.marks() == before, "upkeep with nothing to do must not commit"


def test_the_last_pieces_of_a_burst_are_joined_when_it_is_over(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(upkeep, "COMMITS_BEFORE_QUIET", 4)
    now = time.monotonic()
    monkeypatch.setattr(time, "monotonic", lambda: now)
    look(catalog)
    publish(catalog, 3)
    assert look(catalog) == []
    now += 40
    publish(catalog, 3)
    assert look(catalog) == []
    now += 40  # only now it was quiet for that long
    assert look(catalog) == []
    now += 30
    assert look(catalog) == ["prompts"]
    assert catalog._connection.fragments("prompts") == 1
    before = catalog.marks()
    for _ in range(4):
        now += 100
        assert look(catalog) == []
    assert catalog.marks() == before


def test_rows_that_are_replaced_count_too(catalog: Catalog) -> None:
    """They leave one piece however often they are replaced, but every time a version."""
    from jupyter_llmops.catalog.leases import Leases

    leases = Leases(catalog._connection, catalog._migrations, "lab")
    assert leases.acquire("other", "a", 60)
    assert look(catalog) == []
    for _ in range(12):
        assert leases.renew("other", "a", 60)
    assert catalog._connection.fragments("leases") < 10
    assert look(catalog) == ["leases"]
    assert manifests(catalog, "leases") <= 3


def test_one_does_it_and_the_others_wait_for_the_next_commit(catalog: Catalog) -> None:
    other = another(catalog)
    assert look(other) == []
    publish(catalog, 12)
    assert catalog.upkeep._leases.acquire(UPKEEP, "a third, busy", 60)
    assert look(catalog) == []
    assert look(other) == []
    assert catalog._connection.fragments("prompts") == 12
    catalog.upkeep._leases.release(UPKEEP, "a third, busy")
    assert look(other) == ["prompts"]
    assert look(catalog) == []
    assert catalog.upkeep._leases.holder(UPKEEP) == ""


def test_versions_stay_for_their_readers_until_the_retention_has_passed(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = another(catalog, retention=timedelta(hours=1))
    publish(catalog, 12)
    before = manifests(catalog, "prompts")
    assert look(keeper) == ["prompts"]
    assert keeper._connection.fragments("prompts") == 1
    assert manifests(catalog, "prompts") > before
    assert look(keeper) == []
    # An hour later, without any commit meanwhile, also in a process that was not there before.
    keeper.upkeep.retention = timedelta(microseconds=1)
    later = time.monotonic() + 3700
    monkeypatch.setattr(time, "monotonic", lambda: later)
    assert "prompts" in look(keeper)
    assert manifests(catalog, "prompts") == 1


def test_a_new_process_cleans_what_a_former_one_had_to_leave(catalog: Catalog) -> None:
    publish(catalog, 12)
    assert another(catalog, retention=timedelta(hours=1)).optimize(after=10) == ["prompts"]
    assert manifests(catalog, "prompts") > 10
    assert look(another(catalog, retention=timedelta(hours=1))) == []
    assert look(another(catalog)) == ["prompts"]
    assert manifests(catalog, "prompts") == 1


def test_an_idle_server_never_loads_lancedb(catalog: Catalog) -> None:
    publish(catalog, 2)
    code = (
        "import sys, time; from jupyter_llmops.catalog import Catalog\n"
        f"catalog = Catalog({str(catalog.folder)!r}, site='lab', user='ada')\n"
        "for _ in range(3): assert catalog.upkeep.look(catalog.marks()) == []\n"
        "assert 'lancedb' not in sys.modules and 'pyarrow' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def test_readers_of_older_handles_and_of_open_streams_go_on(catalog: Catalog) -> None:
    publish(catalog, 12)
    reader = another(catalog)
    assert len(reader.prompts.versions("p")) == 12
    handle = reader._connection._table("prompts")
    for _ in range(3):
        publish(catalog, 10)
        assert look(catalog) == ["prompts"]
        assert len(reader.prompts.versions("p")) == catalog.prompts.get("p").version
        assert handle.count_rows() == catalog.prompts.get("p").version


def test_a_damaged_table_does_not_keep_the_others_from_it(catalog: Catalog) -> None:
    publish(catalog, 12)
    for number in range(12):
        catalog.changes.move("prompt", "p", "alias:live", number + 1)
    for path in (catalog.folder / "changes.lance" / "data").iterdir():
        path.write_bytes(b"not a Lance file")
    with pytest.raises(CatalogError, match=r"changes\.lance"):
        look(another(catalog))
    assert catalog._connection.fragments("prompts") == 1


def add_items(catalog: Catalog, begin: int, count: int) -> Any:
    import numpy as np
    import pyarrow as pa

    vectors = np.random.default_rng(begin).normal(size=(count, 16)).astype(np.float32)
    columns = {
        "id": pa.array([f"i{n}" for n in range(begin, begin + count)]),
        "text": pa.array([f"passage {n} of the whole" for n in range(begin, begin + count)]),
        "vector": pa.FixedSizeListArray.from_arrays(pa.array(vectors.ravel()), 16),
    }
    rows = pa.table(columns)
    catalog._connection.create(ITEMS, rows.schema)
    catalog._connection.writing(ITEMS, lambda handle: handle.add(rows))
    return vectors


def indexed(catalog: Catalog) -> dict[str, Any]:
    found = catalog._connection.reading(ITEMS, lambda handle: handle.list_indices()) or ()
    return {index.columns[0]: index for index in found}


def test_collections_get_their_indexes_in_the_background_and_keep_them(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(indexes, "VECTOR_ROWS", 3000)
    monkeypatch.setattr(indexes, "ROWS_PER_PARTITION", 500)
    monkeypatch.setattr(indexes, "MOST_SEGMENTS", 3)
    catalog.migrate()
    add_items(catalog, 0, 2000)
    assert look(catalog) == [ITEMS]
    assert set(indexed(catalog)) == {"text"}, "few vectors are compared one by one"
    vectors = add_items(catalog, 2000, 2000)
    assert look(catalog) == [ITEMS]
    assert {index.index_type for index in indexed(catalog).values()} == {"FTS", "IvfSq"}

    most = 0
    for number in range(6):
        add_items(catalog, 4000 + number * 50, 50)
        # What came since is found before upkeep has seen it …
        assert nearest(catalog, vectors[7]) == "i2007"
        catalog.optimize(after=2)
        found = indexed(catalog)
        assert found["vector"].num_unindexed_rows == found["text"].num_unindexed_rows == 0
        most = max(most, found["vector"].num_segments)
    # … and the index is built anew before it lies in too many segments.
    assert 2 <= most <= 4
    assert catalog._connection.fragments(ITEMS) <= 4
    assert nearest(catalog, vectors[7]) == "i2007"
    rows = catalog._connection.reading(
        ITEMS, lambda handle: handle.search("4299", query_type="fts").limit(2).to_arrow()
    )
    assert rows["id"].to_pylist() == ["i4299"]  # type: ignore[index]


def nearest(catalog: Catalog, vector: Any) -> str:
    def search(handle: Any) -> Any:
        query = handle.search(vector, vector_column_name="vector").distance_type(indexes.METRIC)
        return query.nprobes(indexes.PROBES).refine_factor(indexes.REFINE).limit(1).to_arrow()

    found = catalog._connection.reading(ITEMS, search)
    assert found is not None
    return str(found["id"][0].as_py())
