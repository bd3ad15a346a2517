"""Finding runs by words and fields, with and without the indexes that upkeep builds."""

from __future__ import annotations

import random
from datetime import timedelta
from pathlib import Path

import numpy as np
import pytest

from catalog_writer import START, a_run
from jupyter_llmops.catalog import Catalog, run_order
from jupyter_llmops.catalog import indexes as catalog_indexes
from jupyter_llmops.catalog.contents import RunText
from jupyter_llmops.catalog.indexes import ensure_indexes, needs_indexes
from jupyter_llmops.catalog.runs import nearest_ids
from jupyter_llmops.errors import UnknownNameError
from jupyter_llmops.records.run import Run
from jupyter_llmops.records.run_search import RunFilter

TEXTS = ("refund policy of the shop", "import pandas", "plot the losses", "translate refund letter")


def fill(catalog: Catalog, count: int = 120) -> list[Run]:
    runs = [
        a_run(
            "s",
            seq,
            kind=("cell", "prompt")[seq % 2],
            user=("ada", "grace")[seq % 3 == 0],
            notebook=f"team/n{seq % 5}.ipynb",
            model="smol" if seq % 2 else "",
            status="error" if seq % 10 == 0 else "ok",
            error_type="KeyError" if seq % 10 == 0 else "",
            leaf={"cost_millionths": seq * 1000} if seq % 2 else {"seq": seq},
        )
        for seq in range(count)
    ]
    catalog.runs.append(runs)
    catalog.contents.append(
        [
            RunText(run.id, run.session, run.seq, run.user, run.kind, "", TEXTS[run.seq % 4], run.started_at)
            for run in runs
        ]
    )
    return runs


@pytest.fixture(params=["scanned", "indexed"])
def catalog(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    catalog = Catalog(tmp_path / "catalog", site="lab", user="ada")
    fill(catalog)
    if request.param == "indexed":
        monkeypatch.setattr(catalog_indexes, "SCALAR_ROWS", 10)
        built = {table: ensure_indexes(catalog._connection, table) for table in ("runs", "contents")}
        assert {"id", "started_at", "cost_millionths", "notebook_words"} <= set(built["runs"])
        assert {"id", "text", "user", "created_at"} <= set(built["contents"])
        assert not needs_indexes(catalog._connection, "runs")
    return catalog


FILTERS = (
    (RunFilter(user="grace"), lambda run: run.user == "grace"),
    (RunFilter(notebook="n3.ipynb"), lambda run: run.notebook == "team/n3.ipynb"),
    (RunFilter(notebook="team/n3.ipynb"), lambda run: run.notebook == "team/n3.ipynb"),
    (RunFilter(notebook="3.ipynb"), lambda run: False),
    (RunFilter(model="smol", kind="prompt"), lambda run: run.model == "smol"),
    (RunFilter(status="error"), lambda run: run.status == "error"),
    (RunFilter(status="KeyError"), lambda run: run.status == "error"),
    (RunFilter(since=START + timedelta(seconds=70)), lambda run: run.seq >= 70),
    (RunFilter(until=START + timedelta(seconds=70)), lambda run: run.seq < 70),
    (RunFilter(least_cost=50_000, most_cost=61_000), lambda run: run.seq in (51, 53, 55, 57, 59, 61)),
    (RunFilter(user="o'hara'; DROP TABLE runs"), lambda run: False),
)


@pytest.mark.parametrize("number", range(len(FILTERS)))
def test_a_filter_finds_exactly_what_fits_newest_first(catalog: Catalog, number: int) -> None:
    chosen, fits = FILTERS[number]
    every = catalog.runs.list(limit=500)
    found = catalog.run_search.newest(chosen, 500).runs
    assert list(found) == [run for run in every if fits(run)]
    words = catalog.run_search.matching("refund", chosen, 500)
    assert {run.id for run in words.runs} == {run.id for run in every if fits(run) and run.seq % 4 in (0, 3)}
    assert words.complete


def test_words_are_found_in_texts_and_in_names(catalog: Catalog) -> None:
    search = catalog.run_search
    best = search.matching("refund letter", RunFilter(), 10).runs
    assert {run.seq % 4 for run in best} == {3}  # both words come before one
    assert {run.status for run in search.matching("KeyError", RunFilter(), 50).runs} == {"error"}
    assert search.matching('"*:( refund', RunFilter(), 5).runs  # read as words, never as syntax
    assert search.matching("???", RunFilter(), 5).runs == ()
    newest = search.matching("refund", RunFilter(), 10, newest_first=True).runs
    assert [run.seq for run in newest] == [119, 116, 115, 112, 111, 108, 107, 104, 103, 100]


def say(catalog: Catalog, run: Run, text: str) -> Run:
    catalog.runs.append([run])
    said = RunText(
        run.id, run.session, run.seq, run.user, run.kind, text.partition("\n")[0], text, run.started_at
    )
    catalog.contents.append([said])
    return run


def test_what_nobody_ran_and_looks_at_runs_are_left_out(catalog: Catalog) -> None:
    search = catalog.run_search
    thing = say(catalog, a_run("z", 0, kind="prompt"), "where do zebras live")
    look = say(catalog, a_run("z", 1), "# again\n%runs find zebras\n\n  %audit verify")
    mixed = say(catalog, a_run("z", 2), "%runs\nprint('zebras')")
    rating = say(catalog, a_run("z", 3, kind="rating", user="zoe"), "zebras: wrong")

    def found(**filters: str) -> set[str]:
        return {run.id for run in search.matching("zebras", RunFilter(**filters), 9).runs}  # type: ignore[arg-type]

    assert found() == {thing.id, mixed.id}
    assert found(kind="cell") == {look.id, mixed.id}
    assert found(kind="all") == {thing.id, look.id, mixed.id, rating.id}
    assert search.newest(RunFilter(user="zoe"), 9).runs == ()
    assert search.newest(RunFilter(user="zoe", kind="all"), 9).runs == (rating,)
    listed = {run.id for run in catalog.runs.list(500)}
    assert rating.id not in listed
    assert listed | {rating.id} == {run.id for run in catalog.runs.list(500, kind="all")}


def test_what_ran_in_a_cell_is_of_its_notebook(catalog: Catalog) -> None:
    cell = a_run("k", 0, notebook="team/zoo.ipynb")
    older = a_run("k", 1, kind="prompt", parent=cell.id)
    catalog.runs.append([cell, older, a_run("k", 2, kind="environment"), a_run("other", 0, parent="x")])
    assert catalog.run_search.newest(RunFilter(notebook="zoo.ipynb"), 9).runs == (older, cell)
    assert catalog.run_search.newest(RunFilter(notebook="oo.ipynb"), 9).runs == ()
    assert catalog.run_search.newest(RunFilter(notebook="???"), 9).runs == ()


def test_what_came_after_the_index_is_found_too(catalog: Catalog) -> None:
    run = a_run("later", 0, kind="cell", user="new")
    catalog.runs.append([run])
    catalog.contents.append([RunText(run.id, "later", 0, "new", "cell", "", "zebra crossing", START)])
    assert [one.id for one in catalog.run_search.matching("zebra", RunFilter(), 5).runs] == [run.id]
    assert [one.id for one in catalog.run_search.newest(RunFilter(user="new"), 5).runs] == [run.id]


def test_ratings_narrow(catalog: Catalog) -> None:
    runs = catalog.runs.list(limit=3)
    catalog.changes.move("run", runs[0].id, "rating", {"rating": "good", "why": ""})
    catalog.changes.move("run", runs[1].id, "rating", {"rating": "good", "why": ""})
    catalog.changes.move("run", runs[1].id, "rating", {"rating": "bad", "why": "wrong"})
    assert catalog.run_search.newest(RunFilter(rating="good"), 9).runs == (runs[0],)
    assert catalog.run_search.newest(RunFilter(rating="bad"), 9).runs == (runs[1],)


@pytest.mark.parametrize("most", [3, 17, 50])
def test_a_span_of_time_gives_the_same_as_sorting_everything(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    monkeypatch.setattr(run_order, "_SORTED", most)
    catalog = Catalog(tmp_path / "catalog", site="lab", user="ada")
    chance = random.Random(most)
    spread = [START + timedelta(seconds=chance.expovariate(1e-6)) for _ in range(200)]
    spread[:20] = [START] * 20  # more than `most` in one instant
    runs = [a_run("s", seq, started_at=moment) for seq, moment in enumerate(spread)]
    catalog.runs.append(runs)
    ordered = sorted(runs, key=lambda run: (run.started_at, run.seq), reverse=True)
    for limit in (1, 5, 60, 190, 500):
        assert list(catalog.run_search.newest(RunFilter(), limit).runs) == ordered[:limit]


def test_a_mistyped_id_names_the_nearest_of_the_newest() -> None:
    ids = ["3f9ac01d" + "0" * 8, "3f9bc01d" + "0" * 8, "deadbeef" + "0" * 8]
    assert nearest_ids("3f9acO1d".lower(), ids)[0] == ids[0]
    assert nearest_ids("3fa9", ids)[0] == ids[0]  # two digits exchanged
    assert nearest_ids("deadbef", ids) == [ids[2]]
    assert nearest_ids("11111111", ids) == []


def test_the_error_of_an_unknown_id_holds_them(catalog: Catalog) -> None:
    run = catalog.runs.list(limit=1)[0]
    typed = "f" + run.id[1:] if run.id[0] != "f" else "0" + run.id[1:]
    with pytest.raises(UnknownNameError, match=run.id):
        catalog.runs.get(typed)


def test_an_older_catalog_gets_the_costs_of_its_runs(tmp_path: Path) -> None:
    from jupyter_llmops.catalog.migrations import _fill_costs

    catalog = Catalog(tmp_path / "catalog", site="lab", user="ada")
    fill(catalog, 20)
    catalog._connection.update("runs", "true", {"cost_millionths": None})
    catalog._connection.writing("runs", _fill_costs)
    assert [run.seq for run in catalog.run_search.newest(RunFilter(least_cost=15_000), 9).runs] == [
        19,
        17,
        15,
    ]


def test_the_vector_of_a_deleted_run_leaves_no_byte(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "catalog", site="lab", user="ada")
    runs = fill(catalog, 5)
    chance = np.random.default_rng(3)
    vectors = {run.id: chance.random(64, dtype=np.float32) for run in runs}
    catalog.meanings.add("run", "space", [((name, "d"), vector) for name, vector in vectors.items()])

    def kept() -> list[str]:
        files = catalog.folder.glob("meanings.lance/data/**/*")
        data = b"".join(file.read_bytes() for file in files if file.is_file())
        return [name for name, vector in vectors.items() if vector.tobytes()[:16] in data]

    assert kept() == list(vectors)
    assert catalog.contents.delete([runs[2].id]) == 1
    assert kept() == [run.id for run in runs if run.seq != 2]
    assert len(catalog.meanings.vectors("run", "space").rows) == 4
