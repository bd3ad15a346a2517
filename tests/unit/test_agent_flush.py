from __future__ import annotations

import json
import shutil
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest
import rfc8785

from jupyter_llmops.agent.carried import CarriedMemory
from jupyter_llmops.agent.flush import Flusher, flush_journals
from jupyter_llmops.agent.loop import AgentLoop
from jupyter_llmops.agent.row_checks import RowCheck
from jupyter_llmops.audit.journal import Journal
from jupyter_llmops.audit.reading import read_runs
from jupyter_llmops.catalog import Catalog
from jupyter_llmops.errors import CatalogError
from jupyter_llmops.keys.signing import LogKeys
from jupyter_llmops.records.run import Run


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "catalog", site="lab", user="ada")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    return tmp_path / "home" / "audit"


def journal_of(folder: Path, catalog: Catalog | str, session: str | None = None) -> Journal:
    named = catalog if isinstance(catalog, str) else str(catalog.folder)
    return Journal(folder, session=session, context={"user": "ada", "host": "lab", "catalog": named})


def stamp(journal: Journal, count: int = 1) -> None:
    for number in range(count):
        journal.stamp(
            "cell",
            started_at=datetime.now(UTC),
            seconds=0.1,
            fields={"execution_count": number},
            content={"source": f"x = {number}"},
        )
    journal.flush()


def test_every_line_arrives_once_and_as_it_is(folder: Path, catalog: Catalog) -> None:
    journal = journal_of(folder, catalog)
    stamp(journal, 5)
    expected = list(read_runs(journal.path))
    assert flush_journals(folder, catalog) == len(expected) == 6  # the session's own leaf is the first
    assert flush_journals(folder, catalog) == 0
    found = [*catalog.runs.list(kind="session"), *catalog.runs.list()]
    assert sorted(found, key=lambda run: run.seq) == expected
    stamp(journal, 2)
    assert flush_journals(folder, catalog) == 2
    assert catalog.runs.last_seq(journal.session) == 7


def test_only_journals_that_name_this_catalog_are_carried(
    folder: Path, catalog: Catalog, tmp_path: Path
) -> None:
    ours, other, nameless = (
        journal_of(folder, catalog),
        journal_of(folder, str(tmp_path / "other")),
        Journal(folder, context={"user": "ada"}),
    )
    for journal in (ours, other, nameless):
        stamp(journal)
    assert flush_journals(folder, catalog) == 2
    assert set(catalog.runs.heads()) == {ours.session}


def test_nothing_is_created_for_the_journals_of_others(
    folder: Path, catalog: Catalog, tmp_path: Path
) -> None:
    assert flush_journals(folder, catalog) == 0
    stamp(journal_of(folder, str(tmp_path / "other")))
    assert flush_journals(folder, catalog) == 0
    assert not catalog.folder.exists()


def test_a_catalog_named_through_a_link_is_the_same(folder: Path, catalog: Catalog, tmp_path: Path) -> None:
    catalog.migrate()
    (tmp_path / "link").symlink_to(catalog.folder)
    stamp(journal_of(folder, str(tmp_path / "link")))
    assert flush_journals(folder, catalog) == 2


def test_a_torn_last_line_is_left_for_later(folder: Path, catalog: Catalog) -> None:
    journal = journal_of(folder, catalog)
    stamp(journal, 2)
    whole = journal.path.read_bytes()
    journal.path.write_bytes(whole[:-20])
    flusher = Flusher(folder, catalog)
    assert flusher.flush() == 2
    assert not flusher.changed()
    journal.path.write_bytes(whole)
    assert flusher.changed()
    assert flusher.flush() == 1
    assert catalog.runs.digests(journal.session) == {
        run.seq: run.leaf_digest for run in read_runs(journal.path)
    }


def test_a_first_line_that_is_unfinished_decides_nothing(folder: Path, catalog: Catalog) -> None:
    journal = journal_of(folder, catalog)
    stamp(journal)
    whole = journal.path.read_bytes()
    journal.path.write_bytes(whole[:30])
    flusher = Flusher(folder, catalog)
    assert flusher.flush() == 0
    journal.path.write_bytes(whole)
    assert flusher.flush() == 2


def test_many_lines_come_in_few_commits(folder: Path, catalog: Catalog) -> None:
    for _ in range(3):
        stamp(journal_of(folder, catalog), 400)
    catalog.migrate()
    before = catalog.revisions()["runs"]
    assert flush_journals(folder, catalog) == 3 * 401
    assert catalog.revisions()["runs"] - before == 2


def test_an_unchanged_journal_is_not_looked_into(folder: Path, catalog: Catalog) -> None:
    journal = journal_of(folder, catalog)
    stamp(journal)
    flusher = Flusher(folder, catalog)
    assert flusher.changed()
    flusher.flush()
    assert not flusher.changed()
    before = catalog.revisions()
    assert flusher.flush() == 0
    assert catalog.revisions() == before
    stamp(journal)
    assert flusher.changed()


def test_what_the_catalog_refused_is_carried_later(folder: Path, catalog: Catalog) -> None:
    journal = journal_of(folder, catalog)
    stamp(journal)
    catalog.folder.write_text("in the way")
    flusher = Flusher(folder, catalog)
    for _ in range(2):
        with pytest.raises(CatalogError, match="a file where a folder should be"):
            flusher.flush()
        assert flusher.changed()
    catalog.folder.unlink()
    assert flusher.flush() == 2


def test_a_catalog_that_was_begun_anew_gets_everything_again(folder: Path, catalog: Catalog) -> None:
    old, new = journal_of(folder, catalog), journal_of(folder, catalog)
    stamp(old, 3)
    stamp(new, 3)
    flusher = Flusher(folder, catalog)
    assert flusher.flush() == 8
    shutil.rmtree(catalog.folder)
    catalog.prompts.publish("greeting", "begun on purpose")
    stamp(new)
    assert flusher.flush() == 9


def test_a_catalog_that_is_away_is_not_begun_anew_and_nothing_is_missed_in_it(
    folder: Path, catalog: Catalog, tmp_path: Path
) -> None:
    """Its folder is not mounted: no row is lost, and none may be put where it would be hidden later."""
    journal = journal_of(folder, catalog)
    stamp(journal, 3)
    loop = AgentLoop(folder, catalog, keys=lambda: LogKeys.load(tmp_path / "keys"))
    flusher = Flusher(folder, catalog)
    assert flusher.flush() == 4
    carried = {journal.session: 3}
    catalog.folder.rename(tmp_path / "away")
    stamp(journal)
    loop.step(closing=True)  # nor by what else an agent writes there
    for look in (
        flusher.flush,
        Flusher(folder, catalog).flush,
        lambda: RowCheck(folder, catalog).read(carried),
    ):
        with pytest.raises(CatalogError, match="is not there any more"):
            look()
    assert not catalog.folder.exists()
    (tmp_path / "away").rename(catalog.folder)
    rows = RowCheck(folder, catalog)
    rows.read(carried)
    assert flusher.flush() == 1
    assert not flusher.lost
    assert rows.mend() == ()


def test_a_strange_line_does_not_stop_the_others(folder: Path, catalog: Catalog) -> None:
    journal = journal_of(folder, catalog)
    stamp(journal)
    leaf = json.loads(journal.path.read_bytes().splitlines()[-1])
    strange = [
        b"not json",
        json.dumps(leaf | {"id": "f" * 16, "tokens_in": 2**70, "user": "\ud800", "x": float("nan")}).encode(),
        json.dumps(leaf | {"id": ""}).encode(),
        json.dumps(leaf | {"id": "e" * 16, "schema": "llmops.leaf/9", "kind": ["?"]}).encode(),
        rfc8785.dumps(leaf | {"id": "d" * 16}),
    ]
    with journal.path.open("ab") as file:
        file.write(b"\n".join(strange) + b"\n")
    assert flush_journals(folder, catalog) == 5
    assert catalog.runs.get("f" * 16).tokens_in is None
    assert catalog.runs.get("e" * 16).read_only
    assert catalog.runs.get("d" * 16).seq == 6
    assert flush_journals(folder, catalog) == 0


def planted(journal: Journal, seq: int, run_id: str) -> Run:
    """Return a row that says to be of a session and is of somebody else."""
    return replace(
        next(iter(read_runs(journal.path))), id=run_id, seq=seq, leaf_digest="sha256:" + "0" * 64, leaf={}
    )


@pytest.mark.parametrize("before", [True, False])
@pytest.mark.parametrize("remembered", [True, False])
def test_a_planted_row_stops_nothing(folder: Path, catalog: Catalog, before: bool, remembered: bool) -> None:
    journal = journal_of(folder, catalog)
    stamp(journal, 2)
    if not before:
        flush_journals(folder, catalog)
    catalog.runs.append([planted(journal, 10**9, "e" * 16)])
    if not remembered:
        shutil.rmtree(folder / "agent", ignore_errors=True)
    stamp(journal, 3)
    assert flush_journals(folder, catalog) == (6 if before else 3)
    held = catalog.runs.held([journal.session])[journal.session]
    assert {(run.seq, run.leaf_digest) for run in read_runs(journal.path)} <= held
    assert flush_journals(folder, catalog) == 0


def test_a_row_in_the_place_of_a_true_one_is_said(folder: Path, catalog: Catalog) -> None:
    journal = journal_of(folder, catalog)
    stamp(journal, 2)
    last = list(read_runs(journal.path))[-1]
    catalog.runs.append([planted(journal, 1, last.id)])
    flusher = Flusher(folder, catalog)
    assert flusher.flush() == 2
    assert list(flusher.conflicts) == [last.id]


def test_what_a_kernel_carried_meanwhile_is_not_said_to_be_lost(folder: Path, catalog: Catalog) -> None:
    journal, flusher = journal_of(folder, catalog), Flusher(folder, catalog)
    stamp(journal)
    flusher.flush()
    stamp(journal)
    flush_journals(folder, catalog)  # as %runs does
    stamp(journal_of(folder, catalog))  # a session that is new makes the agent ask what was acknowledged
    assert flusher.flush() == 2
    assert not flusher.lost


def test_rows_that_the_catalog_lost_come_again(folder: Path, catalog: Catalog) -> None:
    journal = journal_of(folder, catalog)
    stamp(journal, 5)
    flush_journals(folder, catalog)
    catalog._connection.writing("runs", lambda handle: handle.delete("seq = 2"))
    stamp(journal, 1)
    flusher = Flusher(folder, catalog)
    assert flusher.flush() == 2
    assert catalog.runs.digests(journal.session).keys() == set(range(7))
    said = f"1 record of session {journal.session} had gone from the catalog and came again."
    assert list(flusher.lost.values()) == [said]
    (path,) = (folder / "agent").glob("*.carried")
    assert [one.partition(": ")[2] for one in CarriedMemory(path).mended()] == [said]
    assert flush_journals(folder, catalog) == 0


def test_what_was_acknowledged_is_not_read_again(
    folder: Path, catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = journal_of(folder, catalog)
    stamp(journal, 5)
    flush_journals(folder, catalog)
    asked: list[list[str]] = []
    held = catalog.runs.held

    def noted(sessions: Iterable[str]) -> dict[str, set[tuple[int, str]]]:
        asked.append(list(sessions))
        return held(asked[-1])

    monkeypatch.setattr(catalog.runs, "held", noted)
    assert flush_journals(folder, catalog) == 0
    assert asked == [[]]
    (path,) = (folder / "agent").glob("*.carried")
    path.write_text("nonsense")
    assert flush_journals(folder, catalog) == 0
    assert asked[1:] == [[journal.session]]
