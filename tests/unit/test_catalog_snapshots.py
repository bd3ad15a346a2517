from __future__ import annotations

import threading
from datetime import timedelta
from pathlib import Path

import pytest

from catalog_writer import a_run
from fake_encoder import FakeEncoder
from jupyter_llmops.catalog import Catalog, snapshots
from jupyter_llmops.catalog.connection import Connection
from jupyter_llmops.catalog.schemas import CONTENTS, ITEMS_PREFIX, KEYS, LEASES, SNAPSHOTS
from jupyter_llmops.errors import CatalogError, UnknownNameError, UsageError
from jupyter_llmops.records.model import Model
from jupyter_llmops.retrieval.adding import add_documents
from jupyter_llmops.retrieval.documents import documents_of
from jupyter_llmops.retrieval.search import search
from s3_server import S3Bucket

ITEMS = f"{ITEMS_PREFIX}0123"


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "catalog", site="lab", user="ada", retention=timedelta(0))


def opened(catalog: Catalog, name: str) -> Catalog:
    """Return a snapshot as a colleague opens it."""
    return Catalog(catalog.folder, site="lab", user="bob", snapshot=name)


def add_items(connection: Connection, begin: int, count: int) -> None:
    """Add passages to a collection's table."""
    import pyarrow as pa

    rows = [
        {"id": f"i{n}", "text": f"words of {n}", "vector": [float(n), 1.0]}
        for n in range(begin, begin + count)
    ]
    schema = pa.schema({"id": pa.string(), "text": pa.string(), "vector": pa.list_(pa.float32(), 2)})
    connection.create(ITEMS, schema)
    connection.writing(ITEMS, lambda handle: handle.add(pa.Table.from_pylist(rows, schema=schema)))


def fill(catalog: Catalog) -> None:
    catalog.prompts.publish("greeting", "first")
    catalog.models.add(Model("m", "llm", "folder:/m"))
    catalog.changes.move("prompt", "greeting", "alias:live", 1)
    catalog.runs.append([a_run("s", 0)])
    add_items(catalog._connection, 0, 20)


def test_a_snapshot_shows_everything_as_it_was_also_after_cleaning(catalog: Catalog) -> None:
    fill(catalog)
    made = catalog.snapshots.create("release 1", "before the big change")
    catalog.prompts.publish("greeting", "second")
    catalog.prompts.publish("farewell", "new")
    catalog.models.add(Model("n", "llm", "folder:/n"))
    catalog.changes.move("prompt", "greeting", "alias:live", 2)
    catalog.runs.append([a_run("s", 1)])
    catalog._connection.writing(ITEMS, lambda handle: handle.delete("id = 'i3'"))
    add_items(catalog._connection, 20, 5)
    for _ in range(2):
        assert set(catalog.optimize(after=1)) >= {"prompts", "models", "changes", "runs", ITEMS}

    then = opened(catalog, "release 1")
    assert [prompt.name for prompt in then.prompts.list()] == ["greeting"]
    assert then.prompts.get("greeting").template == "first"
    assert [model.name for model in then.models.list()] == ["m"]
    (alias,) = then.changes.current("prompt")
    assert alias.value == 1
    assert [run.seq for run in then.runs.list()] == [0]
    items = then._connection.read(ITEMS)
    assert items is not None
    assert sorted(items["id"].to_pylist()) == sorted(f"i{n}" for n in range(20))
    # The catalog itself goes on.
    assert catalog.prompts.get("greeting").template == "second"
    assert catalog._connection.count(ITEMS) == 24

    assert catalog.snapshots.list() == [made]
    assert catalog.snapshots.get("release 1") == made
    assert (made.description, made.created_by, made.site) == ("before the big change", "ada", "lab")
    assert {table for table, _ in made.versions} == set(KEYS) - {CONTENTS, LEASES, SNAPSHOTS} | {ITEMS}


def test_searching_in_a_snapshot_uses_the_indexes_of_its_time(catalog: Catalog) -> None:
    from jupyter_llmops.catalog.indexes import ensure_indexes

    catalog.migrate()
    add_items(catalog._connection, 0, 20)
    assert ensure_indexes(catalog._connection, ITEMS) == ["text"]
    catalog.snapshots.create("v1")
    catalog._connection.writing(ITEMS, lambda handle: handle.delete("id != 'i1'"))
    for _ in range(2):
        catalog.optimize(after=1)

    def found(words: str) -> list[str]:
        rows = opened(catalog, "v1")._connection.reading(
            ITEMS, lambda handle: handle.search(words, query_type="fts").limit(50).to_arrow()
        )
        return sorted(rows["id"].to_pylist())  # type: ignore[index]

    assert found("7") == ["i7"]
    assert len(found("words")) == 20


def test_a_collection_is_searched_as_it_was_and_nothing_is_added_to_it(catalog: Catalog) -> None:
    encoder = FakeEncoder()

    def add(to: Catalog, **texts: str) -> None:
        rows = [{"id": name, "text": text} for name, text in texts.items()]
        add_documents(to, "notes", documents_of(rows), encoder)

    def found(at: Catalog) -> list[str]:
        return [passage.document for passage in search(at, "notes", "about whales", encoder, k=3).passages]

    add(catalog, a="about whales", b="about ships")
    catalog.snapshots.create("v1")
    add(catalog, a="about nothing at all", c="about whales, again")
    for _ in range(2):
        catalog.optimize(after=1)
    then = opened(catalog, "v1")
    assert found(then)[0] == "a"
    assert "c" not in found(then)
    assert found(catalog)[0] == "c"
    encoder.embedded.clear()
    with pytest.raises(CatalogError, match=r"^'v1' is a snapshot: read only"):
        add(then, d="about more")
    assert encoder.embedded == [], "it is refused before anything is embedded"


def test_every_write_to_a_snapshot_is_refused_in_one_sentence(catalog: Catalog) -> None:
    fill(catalog)
    catalog.snapshots.create("v1")
    then = opened(catalog, "v1")
    before = {table: catalog._connection.version(table) for table in catalog._connection.tables()}
    for write in (
        lambda: then.prompts.publish("greeting", "first"),
        lambda: then.prompts.publish("greeting", "other"),
        lambda: then.models.add(Model("x", "llm", "folder:/x")),
        lambda: then.changes.move("prompt", "greeting", "alias:live", 9),
        lambda: then.runs.append([a_run("s", 7)]),
        lambda: then.snapshots.create("v2"),
        lambda: then.optimize(after=1),
        lambda: add_items(then._connection, 100, 1),
        lambda: then._connection.writing(ITEMS, lambda handle: handle.delete("true")),
        then.migrate,
    ):
        with pytest.raises(CatalogError, match=r"^'v1' is a snapshot: read only"):
            write()
    assert before == {table: catalog._connection.version(table) for table in catalog._connection.tables()}
    state = then.describe()
    assert (state.exists, state.writable, state.problem) == (True, False, "")
    unknown = opened(catalog, "v2").describe()
    assert (unknown.writable, "no snapshot named 'v2'" in unknown.problem) == (False, True)


def test_the_names_of_snapshots(catalog: Catalog) -> None:
    assert catalog.snapshots.list() == []
    with pytest.raises(UnknownNameError, match="There is none yet"):
        opened(catalog, "v1").prompts.list()
    fill(catalog)
    catalog.snapshots.create("release")
    with pytest.raises(UsageError, match=r"already a snapshot named 'release' \(by ada, .*never changes"):
        catalog.snapshots.create("release")
    with pytest.raises(UsageError, match="already a snapshot named 'release'"):
        catalog.snapshots.create("Release")
    with pytest.raises(UnknownNameError, match="Did you mean release"):
        opened(catalog, "relaese").prompts.get("greeting")
    for strange in ("", "a@b", "-x", "find", "../../etc", "été"):
        if strange in ("../../etc", "été"):
            catalog.snapshots.create(strange)
            assert opened(catalog, strange).prompts.get("greeting").template == "first"
        else:
            with pytest.raises(UsageError):
                catalog.snapshots.create(strange)
    # What is typed in another Unicode form is the same name.
    assert opened(catalog, "e\u0301te\u0301").prompts.get("greeting").version == 1
    assert {path.name.removesuffix(".lance") for path in catalog.folder.iterdir() if path.is_dir()} == set(
        KEYS
    ) | {ITEMS}


def test_no_row_of_a_snapshot_refers_to_what_it_lacks(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    """While every single table is named, somebody publishes a prompt and moves an alias to it."""
    fill(catalog)
    writer = Catalog(catalog.folder, site="lab", user="eve")
    branch = Connection.branch

    def while_others_write(self: Connection, table: str, name: str) -> int:
        version = branch(self, table, name)
        saved = writer.prompts.publish("greeting", f"while {table} was named")
        writer.changes.move("prompt", "greeting", "alias:live", saved.version)
        return version

    monkeypatch.setattr(Connection, "branch", while_others_write)
    catalog.snapshots.create("v1")
    then = opened(catalog, "v1")
    (alias,) = then.changes.current("prompt")
    assert alias.value > 1
    assert alias.value < writer.prompts.get("greeting").version
    assert then.prompts.get("greeting", alias.value).version == alias.value


@pytest.mark.parametrize("step", ["branch", "insert_absent"])
def test_a_killed_snapshot_leaves_nothing_that_looks_like_one(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, step: str
) -> None:
    fill(catalog)
    whole = getattr(Connection, step)

    def killed(self: Connection, table: str, *rest: object) -> object:
        if table in ("models", SNAPSHOTS):
            raise KeyboardInterrupt
        return whole(self, table, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(Connection, step, killed)
        with pytest.raises(KeyboardInterrupt):
            catalog.snapshots.create("v1")
    assert catalog.snapshots.list() == []
    with pytest.raises(UnknownNameError):
        opened(catalog, "v1").prompts.list()
    assert len(catalog._connection.branches("prompts")) == 1
    made = catalog.snapshots.create("v1")
    assert opened(catalog, "v1").prompts.get("greeting").template == "first"
    # Upkeep takes away what the killed one left, and nothing else.
    catalog.optimize(after=1)
    assert len(catalog._connection.branches("prompts")) == 2
    monkeypatch.setattr(snapshots, "_ORPHAN_AGE", timedelta(seconds=-5))
    catalog.optimize(after=1)
    assert len(catalog._connection.branches("prompts")) == 1
    assert catalog.snapshots.list() == [made]
    assert opened(catalog, "v1").prompts.get("greeting").template == "first"


def test_a_snapshot_that_fails_takes_its_branches_away(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    fill(catalog)

    def refuse(*_: object) -> int:
        raise CatalogError("The disk is full.")

    monkeypatch.setattr(Connection, "insert_absent", refuse)
    with pytest.raises(CatalogError, match="full"):
        catalog.snapshots.create("v1")
    monkeypatch.undo()
    assert {table: catalog._connection.branches(table) for table in ("prompts", "models", ITEMS)} == {
        "prompts": [], "models": [], ITEMS: []
    }  # fmt: skip


@pytest.mark.slow
def test_snapshots_and_upkeep_in_a_bucket(s3_bucket: S3Bucket) -> None:
    catalog = Catalog(s3_bucket.location, site="lab", user="ada", retention=timedelta(0))
    fill(catalog)
    made = catalog.snapshots.create("v1")
    catalog.prompts.publish("greeting", "second")
    catalog._connection.writing(ITEMS, lambda handle: handle.delete("id != 'i1'"))
    assert set(catalog.optimize(after=1)) >= {"prompts", ITEMS}

    then = Catalog(s3_bucket.location, site="lab", user="bob", snapshot="v1")
    assert then.prompts.get("greeting").template == "first"
    assert then._connection.count(ITEMS) == 20
    with pytest.raises(CatalogError, match=r"^'v1' is a snapshot: read only"):
        then.prompts.publish("greeting", "third")
    assert catalog.snapshots.list() == [made]
    assert catalog.prompts.get("greeting").template == "second"
    assert catalog._connection.count(ITEMS) == 1
    # One holds the lease of upkeep here, too, and lets it go.
    first, second = catalog.upkeep._leases, then.upkeep._leases
    assert first.acquire("upkeep", "a", 60)
    assert second.holder("upkeep") == ""  # the leases are no part of a snapshot
    other = Catalog(s3_bucket.location, site="lab", user="eve")
    assert not other.upkeep._leases.acquire("upkeep", "b", 60)
    first.release("upkeep", "a")
    assert other.upkeep._leases.acquire("upkeep", "b", 60)


def test_of_two_that_make_the_same_snapshot_at_once_one_does(catalog: Catalog) -> None:
    fill(catalog)
    gate, said = threading.Barrier(2), list[str]()

    def make(user: str) -> None:
        own = Catalog(catalog.folder, site="lab", user=user)
        assert own.snapshots.list() == []
        gate.wait(30)
        try:
            said.append(own.snapshots.create("v1").created_by)
        except UsageError as error:
            said.append(str(error))

    threads = [threading.Thread(target=make, args=(user,)) for user in ("bob", "eve")]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    (made,) = catalog.snapshots.list()
    assert made.created_by in said
    assert any("already a snapshot named 'v1'" in sentence for sentence in said)
    assert len(catalog._connection.branches("prompts")) == 1
    assert opened(catalog, "v1").prompts.get("greeting").template == "first"
