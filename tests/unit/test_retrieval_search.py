"""Search finds by meaning and by words; a filter is a value and never SQL."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fake_encoder import FakeEncoder
from jupyter_llmops.catalog import Catalog
from jupyter_llmops.catalog.indexes import ensure_indexes
from jupyter_llmops.errors import SpaceError, UnknownNameError, UsageError
from jupyter_llmops.records.collection import Filter
from jupyter_llmops.retrieval.adding import add_documents
from jupyter_llmops.retrieval.documents import documents_of
from jupyter_llmops.retrieval.filters import parse_filters
from jupyter_llmops.retrieval.search import RRF_CONSTANT, fused, search

ENCODER = FakeEncoder()
ANIMALS = [
    {"id": "cats", "text": "Cats purr and sleep all day", "year": 2019, "author": "Ann", "tame": True},
    {"id": "dogs", "text": "Dogs bark and run in the park", "year": 2020, "author": "Bob", "tame": True},
    {
        "id": "bats",
        "text": "Bats hang head down and sleep by day",
        "year": 2021,
        "author": "O'Hara",
        "tame": False,
    },
    {"id": "newt", "text": "東京 has newts; naïve ones, über-small", "weight": 0.5},
]


@pytest.fixture(scope="module")
def catalog(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    catalog = Catalog(tmp_path_factory.mktemp("search") / "catalog", site="lab", user="ada")
    add_documents(catalog, "animals", documents_of(ANIMALS), ENCODER)  # type: ignore[arg-type]
    return catalog


def names(catalog: Catalog, query: str = "sleep", **options: Any) -> list[str]:
    return [p.document for p in search(catalog, "animals", query, ENCODER, **options).passages]


def test_a_passage_says_where_it_stands(catalog: Catalog) -> None:
    result = search(catalog, "animals", "purr", ENCODER, k=1)
    (passage,) = result.passages
    assert passage.document == "cats"
    assert ANIMALS[0]["text"][passage.start : passage.end] == passage.text  # type: ignore[index]
    assert passage.metadata == {"year": 2019, "author": "Ann", "tame": True}
    assert passage.score == pytest.approx(1.0)
    assert passage.digest.startswith("sha256:")
    assert result.seconds > 0
    assert result.df["metadata.year"].tolist() == [2019]


def test_words_of_any_script_are_found(catalog: Catalog) -> None:
    for query, document in [
        ("東京", "newt"),
        ("naive", "newt"),
        ("UBER", "newt"),
        ("dog", "dogs"),
        ("in the", "dogs"),
    ]:
        assert names(catalog, query, how="text") == [document]
    assert names(catalog, "xyzzy", how="text") == []
    assert len(names(catalog, "xyzzy", how="vector")) == 4


@pytest.mark.parametrize(
    "query", ["sleep AND (", '"unclosed', "*:*", "text:[a TO b]", "sleep\0day", "'); DROP TABLE x; --"]
)
@pytest.mark.parametrize("how", ["hybrid", "text"])
def test_a_query_is_words_and_never_syntax(catalog: Catalog, query: str, how: Any) -> None:
    names(catalog, query, how=how)


def test_a_query_of_ten_megabytes_is_answered(catalog: Catalog) -> None:
    assert "cats" in names(catalog, "purr " * 2_000_000)


@pytest.mark.parametrize(
    ("where", "found"),
    [
        (["year>=2020"], {"dogs", "bats"}),
        (["year > 2019.5", "author=Bob"], {"dogs"}),
        (["author=O'Hara"], {"bats"}),
        (["author='O'Hara'"], {"bats"}),
        (["author!=Ann"], {"dogs", "bats", "newt"}),
        (["author=Ann' OR '1'='1"], set()),
        (["tame=true"], {"cats", "dogs"}),
        (["tame != True"], {"bats", "newt"}),
        (["weight<1"], {"newt"}),
        (["document=cats"], {"cats"}),
        ({"author": "Ann", "year": 2019}, {"cats"}),
        ([Filter("year", "<", 2020)], {"cats"}),
        ("year==2021", {"bats"}),
    ],
)
def test_filters_leave_what_fits(catalog: Catalog, where: Any, found: set[str]) -> None:
    for how in ("hybrid", "vector"):
        assert set(names(catalog, "day", where=where, how=how)) == found


@pytest.mark.parametrize(
    ("where", "message"),
    [
        ("yaer>1", "Did you mean 'year'"),
        ("year=2020 OR 1=1", "another type than '2020 OR 1=1'"),
        ("year>=(SELECT 1)", "another type"),
        ("year=nan", "a number"),
        ("year=1e999", "a number"),
        ("year=99999999999999999999", "64 bits"),
        ("tame>true", "true or false"),
        ("tame=maybe", "true or false"),
        ("1=1", "no column '1'"),
        ("id=x", "no column 'id'"),
        ("vector=1", "no column 'vector'"),
        ("year", "is not a filter"),
        ("year=", "has no value"),
        ("=3", "is not a filter"),
    ],
)
def test_what_is_no_filter_is_an_error(catalog: Catalog, where: str, message: str) -> None:
    with pytest.raises(UsageError, match=message.replace("(", r"\(")):
        names(catalog, where=[where])


def test_too_many_filters_and_filters_without_a_value_are_refused() -> None:
    with pytest.raises(UsageError, match="at most 20"):
        parse_filters(["a=1"] * 21)
    with pytest.raises(UsageError, match="no value"):
        parse_filters({"a": None})


VALUES = st.text(
    alphabet=st.one_of(st.sampled_from("'\"\\`%_;-() =a\n"), st.characters(codec="utf-8")),
    min_size=1,
    max_size=12,
)


@pytest.fixture(scope="module")
def many(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """Return a catalog whose texts carry values that try to be SQL."""
    catalog = Catalog(tmp_path_factory.mktemp("many") / "catalog", site="lab", user="ada")
    rows = [{"id": repr(value), "text": "same", "v": value} for value in TRICKY]
    add_documents(catalog, "animals", documents_of(rows), ENCODER)  # type: ignore[arg-type]
    return catalog


TRICKY = [
    "a",
    "a'",
    "a''",
    "' OR '1'='1",
    "\\",
    "\\'",
    "`v`",
    "v",
    "%",
    "_",
    "NULL",
    "true",
    "1",
    "é",
    "e\u0301",
    "\n",
    "; --",
]


@given(st.one_of(VALUES, st.sampled_from(TRICKY)))
@settings(max_examples=40, deadline=None)
def test_a_value_is_compared_and_never_run(many: Catalog, value: str) -> None:
    found = names(many, "same", where=[Filter("v", "=", value)], k=50, how="text")
    assert found == [repr(known) for known in TRICKY if known == value]
    rest = names(many, "same", where=[Filter("v", "!=", value)], k=50, how="text")
    assert len(rest) + len(found) == len(TRICKY)


@pytest.mark.parametrize("k", [0, -1, 1001, True, 2.5, "5"])
def test_k_has_bounds(catalog: Catalog, k: Any) -> None:
    with pytest.raises(UsageError, match="1 to 1,000"):
        names(catalog, k=k)


def test_what_can_not_be_searched_is_said(catalog: Catalog) -> None:
    with pytest.raises(UsageError, match="query is empty"):
        names(catalog, " \n")
    with pytest.raises(UsageError, match="hybrid, vector, text"):
        names(catalog, how="fuzzy")
    with pytest.raises(UnknownNameError, match="animals"):
        search(catalog, "animal", "x", ENCODER)
    with pytest.raises(SpaceError, match=r"is searched with other .*%collections migrate animals other"):
        search(catalog, "animals", "x", FakeEncoder("other"))
    with pytest.raises(UsageError, match="needs an encoder"):
        search(catalog, "animals", "x", None)
    assert search(catalog, "animals", "purr", None, how="text").passages


def test_ranks_are_fused_by_their_reciprocals() -> None:
    near = [("a", 1, 0.9), ("b", 2, 0.8), ("c", 3, 0.1)]
    worded = [("c", 3, 7.0), ("d", 4, 6.0), ("b", 2, 1.0)]
    best = fused(near, worded)
    highest = 2 / (RRF_CONSTANT + 1)
    expected = {
        "a": 1 / 61,
        "b": 1 / 62 + 1 / 63,
        "c": 1 / 63 + 1 / 61,
        "d": 1 / 62,
    }
    assert [key for key, _, _ in best] == ["c", "b", "a", "d"]
    assert {key: score for key, _, score in best} == pytest.approx(
        {key: score / highest for key, score in expected.items()}
    )
    assert [key for key, _, _ in fused([("b", 1, 1.0)], [("a", 2, 1.0)])] == ["a", "b"]


def test_what_came_after_an_index_or_was_moved_by_upkeep_is_found(tmp_path: Path) -> None:
    catalog = Catalog(tmp_path / "catalog", site="lab", user="ada")
    for number in range(4):
        rows = [{"id": f"{number}-{i}", "text": f"word{number} filler{i}"} for i in range(20)]
        add_documents(catalog, "c", documents_of(rows), ENCODER)  # type: ignore[arg-type]
    items = catalog.collections.items("c")
    found = items.matching("word3", 5)
    ensure_indexes(catalog._connection, items.table)
    catalog._connection.optimize(items.table, timedelta(0))
    # Their rows lie elsewhere now.
    assert {row["document"][0] for row in items.chosen({key: place for key, place, _ in found}).values()} == {
        "3"
    }
    assert items.chosen({"gone": 1}) == {}
    add_documents(catalog, "c", documents_of([{"id": "late", "text": "latecomer"}]), ENCODER)  # type: ignore[arg-type]
    for how in ("text", "vector", "hybrid"):
        result = search(catalog, "c", "latecomer", ENCODER, k=1, how=how)  # type: ignore[arg-type]
        assert [p.document for p in result.passages] == ["late"]


def test_vectors_that_are_not_normalized_are_compared_by_their_angle(tmp_path: Path) -> None:
    class Long(FakeEncoder):
        def _vector(self, text: str) -> np.ndarray:
            return super()._vector(text) * np.float32(len(text))

    catalog = Catalog(tmp_path / "catalog", site="lab", user="ada")
    rows = [{"id": "short", "text": "apple"}, {"id": "long", "text": "pear " * 30}]
    add_documents(catalog, "c", documents_of(rows), Long())  # type: ignore[arg-type]
    result = search(catalog, "c", "apple", Long(), k=2, how="vector")
    assert [p.document for p in result.passages] == ["short", "long"]
    assert result.passages[0].score == pytest.approx(1.0, abs=1e-5)
