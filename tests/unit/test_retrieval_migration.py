"""A collection moves to another encoder as a whole: nothing is lost, nobody waits."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from fake_encoder import FakeEncoder
from jupyter_llmops.catalog import Catalog
from jupyter_llmops.errors import ConflictError, Interrupted, SpaceError
from jupyter_llmops.retrieval import spaces
from jupyter_llmops.retrieval.adding import add_documents
from jupyter_llmops.retrieval.documents import documents_of
from jupyter_llmops.retrieval.search import search
from jupyter_llmops.retrieval.spaces import migrate

OLD, LATER = "old", "new"


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    catalog = Catalog(tmp_path / "catalog", site="lab", user="ada")
    add(catalog, FakeEncoder(OLD), *[f"text {i}" for i in range(30)])
    return catalog


def add(catalog: Catalog, encoder: FakeEncoder, *texts: str, **metadata: Any) -> None:
    rows = [{"id": text, "text": text, **metadata} for text in texts]
    add_documents(catalog, "c", documents_of(rows), encoder)  # type: ignore[arg-type]


def documents(catalog: Catalog) -> set[str]:
    return set(catalog.collections.items("c").documents())


def test_it_is_searched_as_before_until_it_is_switched_at_once(catalog: Catalog) -> None:
    old, new = FakeEncoder(OLD), FakeEncoder(LATER, dimension=16)
    seen: list[str] = []
    new.before_embedding = lambda: seen.append(
        search(catalog, "c", "text 7", old, k=1).passages[0].document  # type: ignore[arg-type]
    )
    report = migrate(catalog, "c", new)  # type: ignore[arg-type]
    assert seen == ["text 7"]
    assert (report.before.encoder, report.after.encoder, report.documents, report.chunks) == (
        OLD,
        LATER,
        30,
        30,
    )
    found = catalog.collections.get("c")
    assert (found.space, found.items) == (new.space, 30)
    assert search(catalog, "c", "text 7", new, k=1).passages[0].document == "text 7"  # type: ignore[arg-type]
    with pytest.raises(SpaceError):
        search(catalog, "c", "text 7", old)  # type: ignore[arg-type]
    with pytest.raises(SpaceError):
        add(catalog, old, "late")
    assert [change.reason for change in catalog.collections.history("c")] == [
        "migrating to new",
        "migrated from old",
    ]
    assert migrate(catalog, "c", new).chunks == 0  # type: ignore[arg-type]


def test_what_is_added_and_changed_meanwhile_is_carried_over(catalog: Catalog) -> None:
    old, new = FakeEncoder(OLD), FakeEncoder(LATER)
    waiting = ["during"]

    def meanwhile() -> None:
        if waiting:
            add(catalog, old, waiting.pop(), colour="red")
            catalog.collections.items("c").remove(["text 3"])

    new.before_embedding = meanwhile
    migrate(catalog, "c", new)  # type: ignore[arg-type]
    assert "during" in documents(catalog)
    assert "text 3" not in documents(catalog)
    assert search(catalog, "c", "during", new, where=["colour=red"]).passages  # type: ignore[arg-type]


def test_a_stopped_migration_changes_nothing_and_goes_on_where_it_stopped(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(spaces, "CHUNKS_A_COMMIT", 10)
    new = FakeEncoder(LATER)

    def stop() -> None:
        if len(new.embedded) >= 20:
            raise KeyboardInterrupt

    new.before_embedding = stop
    with pytest.raises(Interrupted):
        migrate(catalog, "c", new)  # type: ignore[arg-type]
    assert catalog.collections.get("c").space.encoder == OLD
    add(catalog, FakeEncoder(OLD), "between")
    new.before_embedding = lambda: None
    migrate(catalog, "c", new)  # type: ignore[arg-type]
    assert len(new.embedded) == 31
    assert len(documents(catalog)) == 31


def test_nothing_is_acknowledged_while_it_is_closed(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = FakeEncoder(LATER)
    refused: list[str] = []
    move = catalog.collections.move

    def then_add(name: str, standing: Any, *, reason: str = "") -> Any:
        moved = move(name, standing, reason=reason)
        if standing.closing:
            with pytest.raises(SpaceError, match="about to move to the encoder new") as error:
                add(catalog, FakeEncoder(OLD), "too late")
            refused.append(str(error.value))
        return moved

    monkeypatch.setattr(catalog.collections, "move", then_add)
    migrate(catalog, "c", new)  # type: ignore[arg-type]
    assert "%collections migrate c new" in refused[0]
    assert "too late" not in documents(catalog)


def test_what_was_written_beside_a_migration_is_not_acknowledged(catalog: Catalog) -> None:
    old, new = FakeEncoder(OLD), FakeEncoder(LATER)
    old.before_embedding = lambda: migrate(catalog, "c", new)  # type: ignore[arg-type]
    acknowledged: list[str] = []
    source = documents_of([{"id": "lost", "text": "lost"}])
    with pytest.raises(ConflictError, match="moved to the encoder new meanwhile"):
        add_documents(catalog, "c", source, old, committed=acknowledged.extend)  # type: ignore[arg-type]
    assert acknowledged == []
    assert len(documents(catalog)) == 30


def test_what_was_committed_just_before_the_closing_is_there(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    new = FakeEncoder(LATER)
    move = catalog.collections.move

    def add_first(name: str, standing: Any, *, reason: str = "") -> Any:
        if standing.closing:
            add(catalog, FakeEncoder(OLD), "last minute")
        return move(name, standing, reason=reason)

    monkeypatch.setattr(catalog.collections, "move", add_first)
    migrate(catalog, "c", new)  # type: ignore[arg-type]
    assert "last minute" in documents(catalog)


def test_a_migration_that_died_closed_is_finished_or_given_up(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    old, new = FakeEncoder(OLD), FakeEncoder(LATER)
    move = catalog.collections.move

    def die(name: str, standing: Any, *, reason: str = "") -> Any:
        moved = move(name, standing, reason=reason)
        if standing.closing:
            raise KeyboardInterrupt
        return moved

    monkeypatch.setattr(catalog.collections, "move", die)
    with pytest.raises(Interrupted):
        migrate(catalog, "c", new)  # type: ignore[arg-type]
    monkeypatch.setattr(catalog.collections, "move", move)
    with pytest.raises(SpaceError):
        add(catalog, old, "refused")
    assert search(catalog, "c", "text 7", old).passages  # type: ignore[arg-type]
    migrate(catalog, "c", old)  # type: ignore[arg-type]
    add(catalog, old, "welcome")
    migrate(catalog, "c", new)  # type: ignore[arg-type]
    assert "welcome" in documents(catalog)


def test_of_two_migrations_one_is_told(catalog: Catalog) -> None:
    first, second = FakeEncoder(LATER), FakeEncoder("third")
    second.before_embedding = lambda: migrate(catalog, "c", first)  # type: ignore[arg-type]
    with pytest.raises(ConflictError):
        migrate(catalog, "c", second)  # type: ignore[arg-type]
    assert catalog.collections.get("c").space.encoder == LATER
    assert len(documents(catalog)) == 30


def test_an_encoder_that_reads_less_than_a_chunk_is_refused(catalog: Catalog) -> None:
    with pytest.raises(SpaceError, match="reads only 50"):
        migrate(catalog, "c", FakeEncoder("short", max_tokens=50))  # type: ignore[arg-type]
