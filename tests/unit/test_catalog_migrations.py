from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import pytest

import catalog_v1
from catalog_processes import write_at_once
from catalog_writer import a_run
from fake_encoder import FakeEncoder
from jupyter_llmops.catalog import Catalog, migrations
from jupyter_llmops.catalog.connection import Connection
from jupyter_llmops.catalog.schemas import KEYS, MIGRATIONS, SCHEMA_VERSION, rows_of, schema_of
from jupyter_llmops.errors import CatalogNewerError
from jupyter_llmops.records.model import Model
from jupyter_llmops.retrieval.adding import add_documents
from jupyter_llmops.retrieval.documents import documents_of


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "catalog", site="lab", user="ada")


def record_newer(catalog: Catalog) -> None:
    """Do to the catalog what a newer version of the package would."""
    import lancedb

    table = lancedb.connect(str(catalog.folder)).open_table(MIGRATIONS)
    row = {"version": SCHEMA_VERSION + 1, "name": "from the future", "applied_at": datetime.now(UTC)}
    table.add([row])


def recorded(catalog: Catalog) -> list[tuple[int, str, str]]:
    """Return who took which step."""
    rows = rows_of(Connection(catalog.location).read(MIGRATIONS))
    return sorted((row["version"], row["applied_by"], row["site"]) for row in rows)


def test_the_steps_are_numbered_without_gaps_up_to_the_schema_version() -> None:
    assert [step.version for step in migrations.STEPS] == list(range(1, SCHEMA_VERSION + 1))


def test_migrate_creates_every_table_and_records_who_did_it(catalog: Catalog) -> None:
    assert catalog.migrate() == SCHEMA_VERSION
    state = catalog.describe()
    assert (state.exists, state.writable, state.problem) == (True, True, "")
    assert state.schema_version == SCHEMA_VERSION
    assert {table.name for table in state.tables} == set(KEYS)
    assert recorded(catalog) == [(version, "ada", "lab") for version in range(1, SCHEMA_VERSION + 1)]


def test_migrating_again_changes_nothing(catalog: Catalog) -> None:
    catalog.migrate()
    catalog.models.add(Model("m", "llm", "folder:/m"))
    before = catalog.revisions()
    assert Catalog(catalog.folder, site="lab", user="bob").migrate() == SCHEMA_VERSION
    assert catalog.revisions() == before
    assert catalog.models.get("m").created_by == "ada"


def test_a_newer_catalog_can_be_read_and_not_written(catalog: Catalog) -> None:
    catalog.prompts.publish("p", "x")
    rows, encoder = documents_of([{"id": "a", "text": "some words"}]), FakeEncoder()
    add_documents(catalog, "notes", rows, encoder)
    record_newer(catalog)
    # One that has it open already, and one that opens it now.
    for reader in (catalog, Catalog(catalog.folder, site="lab", user="bob")):
        before = reader.revisions()
        assert reader.prompts.get("p").template == "x"
        assert reader.collections.get("notes").items == 1
        for write in (
            lambda reader=reader: reader.prompts.publish("p", "y"),
            lambda reader=reader: reader.models.add(Model("m", "llm", "folder:/m")),
            lambda reader=reader: reader.runs.append([a_run("s", 0)]),
            lambda reader=reader: reader.changes.move("prompt", "p", "alias:prod", 1),
            lambda reader=reader: reader.snapshots.create("v1"),
            lambda reader=reader: add_documents(reader, "notes", rows, encoder),
            reader.migrate,
        ):
            with pytest.raises(CatalogNewerError, match=r"newer version.*pip install --upgrade"):
                write()
        assert reader.revisions() == before
        state = reader.describe()
        assert not state.writable
        assert "newer" in state.problem
        assert state.schema_version == SCHEMA_VERSION + 1


def test_columns_that_a_newer_catalog_added_are_left_out(catalog: Catalog) -> None:
    import lancedb

    catalog.prompts.publish("p", "x")
    lancedb.connect(str(catalog.folder)).open_table("prompts").add_columns({"tags": "'new'"})
    record_newer(catalog)
    assert Catalog(catalog.folder, site="lab", user="bob").prompts.get("p").template == "x"


def test_a_step_that_was_killed_before_it_was_recorded_runs_again(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    def killed(self: object, step: object) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(migrations.Migrations, "_record", killed)
        with pytest.raises(KeyboardInterrupt):
            catalog.migrate()
    assert catalog.describe().schema_version == 0
    assert recorded(catalog) == []
    assert catalog.prompts.publish("p", "x").version == 1
    assert catalog.describe().schema_version == SCHEMA_VERSION


def test_every_table_has_its_primary_key(catalog: Catalog) -> None:
    import lancedb

    catalog.migrate()
    database = lancedb.connect(str(catalog.folder))
    for name, key in KEYS.items():
        field = database.open_table(name).schema.field(key)
        assert field.metadata == {b"lance-schema:unenforced-primary-key:position": b"1"}
        with pytest.raises(ValueError, match="already set"):
            database.open_table(name).set_unenforced_primary_key(key)


def test_six_processes_migrate_a_catalog_of_the_first_release_at_once(catalog: Catalog) -> None:
    catalog_v1.build(catalog.folder)
    # Reading needs no migration.
    assert catalog.prompts.get("greeting").template == "Hello {{ name }}"
    assert catalog.changes.current("prompt") == []
    assert catalog.describe().schema_version == 1

    writers = [f"writer{number}" for number in range(6)]
    answers = write_at_once(catalog.folder, "migrate", writers, 1)

    assert [answer for _, _, answer in answers] == [[SCHEMA_VERSION, 1]] * 6
    steps = recorded(catalog)
    assert [version for version, _, _ in steps] == [1, 2, 3]
    assert steps[0][1] == "grace"
    assert steps[1][1] in writers
    assert {change.name for change in catalog.changes.current("prompt")} == {f"{w} 0" for w in writers}
    check_first_release(catalog)


def check_first_release(catalog: Catalog) -> None:
    """Find what the first release wrote, in tables that have every column and their primary key."""
    import lancedb

    prompt = catalog.prompts.get("greeting")
    assert (prompt.version, prompt.template, prompt.variables) == (1, "Hello {{ name }}", ("name",))
    assert (prompt.created_by, prompt.created_at) == ("grace", catalog_v1.WRITTEN_AT)
    assert catalog.models.get("old").size_bytes == 270
    assert [run.id for run in catalog.runs.list()] == ["0" * 16]
    database = lancedb.connect(str(catalog.folder))
    for table, key in KEYS.items():
        schema = database.open_table(table).schema
        assert set(schema.names) == set(schema_of(table).names)
        assert schema.field(key).metadata == {b"lance-schema:unenforced-primary-key:position": b"1"}
    assert catalog.prompts.publish("greeting", "something new").version == 2


@pytest.mark.parametrize(
    ("step", "table"), [("create", "places"), ("create", "leases"), ("add_missing_columns", "prompts")]
)
def test_a_migration_that_was_killed_midway_is_done_again(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch, step: str, table: str
) -> None:
    catalog_v1.build(catalog.folder)
    whole = getattr(Connection, step)

    def killed_at(self: Connection, name: str) -> None:
        if name == table:
            raise KeyboardInterrupt
        whole(self, name)

    with monkeypatch.context() as patch:
        patch.setattr(Connection, step, killed_at)
        with pytest.raises(KeyboardInterrupt):
            catalog.migrate()
    assert recorded(catalog) == [(1, "grace", "lab")]
    assert catalog.migrate() == SCHEMA_VERSION
    check_first_release(catalog)
