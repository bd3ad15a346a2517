from __future__ import annotations

import hashlib
from datetime import timedelta
from pathlib import Path

import pytest
import rfc8785

from catalog_writer import START, a_run
from jupyter_llmops.catalog import Catalog
from jupyter_llmops.errors import AmbiguousNameError, UnknownNameError


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "catalog", site="lab", user="ada")


def test_an_absent_catalog_has_no_runs(catalog: Catalog) -> None:
    assert catalog.runs.list() == []
    assert catalog.runs.last_seq("s") is None
    assert catalog.runs.heads() == {}
    assert catalog.runs.digests("s") == {}
    assert catalog.runs.append([]) == 0
    assert not catalog.folder.exists()


def test_a_run_comes_back_whole(catalog: Catalog) -> None:
    leaf = {"schema": "llmops.leaf/1", "seconds": 0.1, "é": [1, None, "'x'"], "seq": 0}
    run = a_run(
        "s",
        0,
        kind="prompt",
        status="interrupted",
        notebook="a/b.ipynb",
        execution_count=7,
        parent="0" * 16,
        model="smol",
        source="cache",
        tokens_in=12,
        tokens_out=0,
        error_type="ValueError",
        leaf=leaf,
    )
    catalog.runs.append([run])
    assert catalog.runs.get(run.id) == run
    assert catalog.runs.list() == [run]
    bare = a_run("s", 1, leaf=None)
    catalog.runs.append([bare])
    assert catalog.runs.get(bare.id) == bare


def test_the_stored_leaf_proves_its_digest(catalog: Catalog) -> None:
    leaf = {"b": 1e21, "a": 0.1, "ü": "€"}
    digest = "sha256:" + hashlib.sha256(rfc8785.dumps(leaf)).hexdigest()
    run = a_run("s", 0, leaf=leaf, leaf_digest=digest)
    catalog.runs.append([run])
    read = catalog.runs.get(run.id)
    assert "sha256:" + hashlib.sha256(rfc8785.dumps(read.leaf)).hexdigest() == read.leaf_digest


def test_a_leaf_of_a_newer_version_is_kept_and_marked(catalog: Catalog) -> None:
    leaf = {"schema": "llmops.leaf/99", "surprise": True}
    catalog.runs.append([a_run("s", 0, leaf=leaf, read_only=True)])
    (read,) = catalog.runs.list()
    assert read.read_only
    assert read.leaf == leaf


def test_append_is_idempotent_and_one_commit(catalog: Catalog) -> None:
    runs = [a_run("s", seq) for seq in range(150)]
    assert catalog.runs.append(runs[:100]) == 100
    before = catalog.revisions()["runs"]
    assert catalog.runs.append([*runs[50:], *runs[50:]]) == 50
    assert catalog.revisions()["runs"] == before + 1
    assert catalog.runs.append(runs) == 0
    assert catalog.runs.digests("s") == {run.seq: run.leaf_digest for run in runs}
    assert catalog.runs.last_seq("s") == 149


def test_the_list_is_newest_first_limited_and_filtered(catalog: Catalog) -> None:
    runs = [a_run("s", seq, kind="prompt" if seq % 3 == 0 else "cell") for seq in range(60)]
    catalog.runs.append(runs[30:])
    catalog.runs.append(runs[:30])
    assert [run.seq for run in catalog.runs.list()] == list(range(59, 9, -1))
    assert [run.seq for run in catalog.runs.list(limit=3)] == [59, 58, 57]
    assert [run.seq for run in catalog.runs.list(limit=2, kind="prompt")] == [57, 54]


def test_the_list_has_a_map_and_not_its_rows(catalog: Catalog) -> None:
    first = a_run("s", 0, kind="map")
    rows = [a_run("s", seq, kind="prompt", parent=first.id) for seq in range(1, 60)]
    alone = a_run("s", 60, kind="prompt", parent=a_run("s", 61).id)
    catalog.runs.append([first, *rows, alone, a_run("s", 61), a_run("s", 62, kind="map")])
    assert [run.seq for run in catalog.runs.list(limit=20)] == [62, 61, 60, 0]
    assert [run.seq for run in catalog.runs.list(limit=2, kind="map")] == [62, 0]
    assert len(catalog.runs.list(limit=100, kind="prompt")) == 60


def test_what_logs_say_of_machines_and_kernels_is_listed_by_its_kind_only(catalog: Catalog) -> None:
    cell, observed = a_run("s", 1), a_run("s", 2, kind="observation")
    catalog.runs.append([a_run("s", 0, kind="environment"), cell, observed])
    assert catalog.runs.list() == [cell]
    assert catalog.runs.list(kind="observation") == [observed]


def test_runs_of_one_instant_are_in_the_order_of_their_lines(catalog: Catalog) -> None:
    catalog.runs.append([a_run("s", seq, started_at=START) for seq in (1, 3, 0, 2)])
    assert [run.seq for run in catalog.runs.list()] == [3, 2, 1, 0]


def test_a_prefix_finds_one_run_or_says_why_not(catalog: Catalog) -> None:
    catalog.runs.append([a_run("s", 0, id="abc1" + "0" * 12), a_run("s", 1, id="abc2" + "0" * 12)])
    assert catalog.runs.get("abc1").seq == 0
    assert catalog.runs.get(" ABC2 ").seq == 1
    with pytest.raises(AmbiguousNameError, match="abc1000000000000, abc2000000000000"):
        catalog.runs.get("abc")
    for typed in ("abd", "", "zz", "a' OR 1=1 --", "%"):
        with pytest.raises(UnknownNameError, match="%runs"):
            catalog.runs.get(typed)


def test_heads_are_the_last_lines_of_every_session(catalog: Catalog) -> None:
    one = [a_run("one", seq) for seq in range(5)]
    two = [a_run("two", seq) for seq in range(3)]
    catalog.runs.append([*one[::-1], *two])
    assert catalog.runs.heads() == {"one": (4, one[4].leaf_digest), "two": (2, two[2].leaf_digest)}


def test_upkeep_joins_pieces_and_loses_nothing(catalog: Catalog) -> None:
    runs = [a_run("s", seq, started_at=START + timedelta(minutes=seq)) for seq in range(40)]
    for run in runs:
        catalog.runs.append([run])
    reader = Catalog(catalog.folder, site="x", user="bob")
    assert len(reader.runs.list()) == 40
    assert catalog.optimize(after=100) == []
    assert catalog.optimize(after=30) == ["runs"]
    assert catalog.optimize(after=30) == []
    assert reader.runs.list(limit=100) == runs[::-1]
    assert catalog.runs.append(runs) == 0
    assert catalog.runs.append([a_run("s", 40)]) == 1
