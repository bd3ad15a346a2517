"""When logs are sealed, and that heads reach the catalog: once, in a chain of proofs, and none is lost."""

from __future__ import annotations

import base64
import shutil
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import pytest

from jupyter_llmops.agent import heads as heads_module
from jupyter_llmops.agent import pruned_heads
from jupyter_llmops.agent.election import agent_file
from jupyter_llmops.agent.head_checks import encoded, signed_by
from jupyter_llmops.agent.pruned_heads import expect_heads
from jupyter_llmops.agent.published_heads import PublishedHeads
from jupyter_llmops.audit.files import head_path
from jupyter_llmops.audit.head_links import note_handed_out
from jupyter_llmops.audit.journal import Journal
from jupyter_llmops.audit.retention import prune, sessions_before, with_links
from jupyter_llmops.audit.sealing import log_folder, origin_of, seal
from jupyter_llmops.audit.tlog.checkpoint import Checkpoint
from jupyter_llmops.audit.tlog.merkle import verify_consistency
from jupyter_llmops.audit.tlog.note import format_note, sign_note
from jupyter_llmops.catalog.schemas import HEADS, SIGNERS
from jupyter_llmops.errors import CatalogError
from jupyter_llmops.records.trail import Head
from trail_home import TrailHome, rewrite, stamp

if TYPE_CHECKING:
    from lancedb.table import Table


@pytest.fixture
def ada(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TrailHome:
    monkeypatch.setenv("LLMOPS_HOME", str(tmp_path / "ada"))
    return TrailHome(tmp_path / "ada", tmp_path / "catalog", "ada")


class Clock:
    """Stands in for the monotonic clock of the keeper."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


@pytest.fixture
def clock(monkeypatch: pytest.MonkeyPatch) -> Clock:
    clock = Clock()
    monkeypatch.setattr(heads_module, "time", clock)
    monkeypatch.setattr(pruned_heads, "time", clock)
    return clock


def check_chain(heads: list[Head], public: bytes) -> None:
    """Assert that heads are signed and each is proven to continue the one before."""
    before: Head | None = None
    for head in heads:
        assert signed_by(head, [public]) is not None
        assert head.previous_size == (before.size if before else 0)
        if before is not None:
            old, new = (base64.b64decode(one.root) for one in (before, head))
            proof = [base64.b64decode(one) for one in head.consistency]
            assert verify_consistency(before.size, head.size, old, new, proof)
        before = head


def test_heads_are_published_in_a_chain_of_proofs(ada: TrailHome) -> None:
    journal = ada.journal()
    for count in (1, 3, 200, 300):
        stamp(journal, count)
        assert ada.publish() == 1
        assert ada.publish() == 0
    heads = ada.catalog.heads.list()
    assert [head.size for head in heads] == [2, 5, 205, 505]
    assert {(head.user, head.host, head.session) for head in heads} == {("ada", "lab", journal.session)}
    check_chain(heads, ada.keys().log_public)
    assert {(one.kind, one.user) for one in ada.catalog.signers.list()} == {
        ("log", "ada"),
        ("witness", "ada"),
    }


def test_an_agent_that_is_started_again_goes_on(ada: TrailHome) -> None:
    journal = ada.journal()
    stamp(journal)
    ada.publish()
    ada.start()
    assert ada.publish() == 0
    stamp(journal)
    ada.start()
    assert ada.publish() == 1
    check_chain(ada.catalog.heads.list(), ada.keys().log_public)


def test_it_is_time_every_ten_seconds_every_hundred_runs_and_at_the_end(ada: TrailHome, clock: Clock) -> None:
    journal = ada.journal()
    stamp(journal)
    assert ada.keeper.seal() == 1  # what was left behind is sealed at its start
    stamp(journal)
    assert ada.keeper.seal() == 0
    clock.now += 10
    assert ada.keeper.seal() == 1
    assert ada.keeper.seal() == 0
    stamp(journal, 99)
    assert ada.keeper.seal() == 0
    stamp(journal)
    assert ada.keeper.seal() == 1
    stamp(journal)
    journal.close()
    assert ada.keeper.seal() == 1
    assert ada.keeper.seal(closing=True) == 0


@pytest.mark.parametrize("role", ["agent", "server"])
def test_what_agents_and_servers_say_is_sealed_seldomer(
    ada: TrailHome, clock: Clock, role: Literal["agent", "server"]
) -> None:
    context = {"user": "ada", "host": "lab", "catalog": str(ada.place)}
    journal = Journal(ada.audit, role=role, context=context)
    sealed = []
    for second in range(0, 400, 10):
        stamp(journal, 20)
        if ada.keeper.seal():
            sealed.append(second)
        clock.now += 10
    assert sealed == [0, 120, 240, 360]
    journal.close()
    assert ada.keeper.seal() == 1


def test_what_a_killed_kernel_left_is_sealed(ada: TrailHome, clock: Clock) -> None:
    journal = ada.journal()
    stamp(journal, 3)
    ada.keeper.seal()
    stamp(journal, 2)
    with journal.path.open("ab") as file:
        file.write(b'{"torn')
    assert ada.keeper.seal() == 0
    clock.now += 10
    assert ada.keeper.seal() == 1
    clock.now += 10
    assert ada.keeper.seal() == 0
    ada.keeper.publish()
    assert [head.size for head in ada.catalog.heads.list()] == [6]


def test_heads_that_vanish_from_the_catalog_are_published_again(ada: TrailHome, clock: Clock) -> None:
    journal = ada.journal()
    for count in (1, 3, 4, 5):
        stamp(journal, count)
        ada.publish()
    there = {(head.size, head.checkpoint, head.consistency) for head in ada.catalog.heads.list()}
    for where, restart in (("size IN (5, 14)", True), ("size IN (2, 9, 14)", False), ("true", False)):
        ada.catalog._connection.writing(HEADS, partial(_delete, where))
        left = len(ada.catalog.heads.list())
        if restart:
            ada.start()
        clock.now += 1000
        assert ada.publish() == 4 - left
        heads = ada.catalog.heads.list()
        check_chain(heads, ada.keys().log_public)
        assert {(head.size, head.checkpoint, head.consistency) for head in heads} == there
        assert len(ada.catalog.signers.list()) == 2
        assert ada.publish() == 0
        ada.catalog._connection.writing(SIGNERS, partial(_delete, "true"))  # the next loss is of them, too
    assert len(ada.told) == 3
    assert "somebody deleted them there" in ada.told[0]


def _delete(where: str, handle: Table) -> None:
    handle.delete(where)


def test_heads_wait_for_a_catalog_that_is_gone(ada: TrailHome) -> None:
    journal = ada.journal()
    stamp(journal)
    ada.publish()
    aside = ada.place.rename(ada.place.with_name("aside"))
    ada.place.write_text("in the way")
    for _ in range(3):
        stamp(journal)
        assert ada.keeper.seal(closing=True) == 1  # sealing goes on
        with pytest.raises(CatalogError):
            ada.keeper.publish()
        assert ada.keeper.waiting
    ada.place.unlink()
    aside.rename(ada.place)
    assert ada.publish() == 1
    assert not ada.keeper.waiting
    check_chain(ada.catalog.heads.list(), ada.keys().log_public)
    assert [head.size for head in ada.catalog.heads.list()] == [2, 5]


def test_a_full_disk_stops_sealing_only_and_is_said_once(
    ada: TrailHome, monkeypatch: pytest.MonkeyPatch
) -> None:
    journal = ada.journal()
    stamp(journal)
    monkeypatch.setattr("jupyter_llmops.audit.tlog.tiles.TileStore.append", _no_space)
    for _ in range(3):
        assert ada.keeper.seal(closing=True) == 0
        stamp(journal)
        ada.flusher.flush()
    assert len(ada.told) == 1
    assert "Free space there" in ada.told[0]
    assert ada.catalog.runs.last_seq(journal.session) == 4
    monkeypatch.undo()
    monkeypatch.setenv("LLMOPS_HOME", str(ada.folder))
    assert ada.publish() == 1
    assert ada.catalog.heads.list()[-1].size == 5


def _no_space(*_: object) -> None:
    raise OSError(28, "No space left on device")


def test_a_log_that_can_t_be_sealed_is_said_once_and_the_others_go_on(ada: TrailHome) -> None:
    bad, good = ada.journal(), ada.journal()
    stamp(bad, 4)
    stamp(good, 4)
    lines = bad.path.read_bytes().splitlines(keepends=True)
    bad.path.write_bytes(b"".join([*lines[:2], lines[3], *lines[2:]]))
    for _ in range(3):
        ada.publish()
    assert len(ada.told) == 1
    assert bad.session in ada.told[0]
    assert {head.session: head.size for head in ada.catalog.heads.list()} == {bad.session: 1, good.session: 5}


def test_a_home_that_was_rolled_back_publishes_no_fork(ada: TrailHome) -> None:
    journal = ada.journal()
    stamp(journal, 2)
    ada.publish()
    shutil.copytree(ada.folder, ada.folder.with_name("backup"))
    stamp(journal, 5)
    ada.publish()
    journal.close()
    shutil.rmtree(ada.folder)
    shutil.copytree(ada.folder.with_name("backup"), ada.folder)
    ada.start()
    again = ada.journal()
    stamp(again)
    ada.publish()
    assert {head.session: head.size for head in ada.catalog.heads.list()} == {
        journal.session: 8,
        again.session: 2,
    }
    assert len(ada.told) == 1
    assert "brought back from a backup" in ada.told[0]


@pytest.mark.parametrize("restart", [False, True])
def test_a_log_that_its_owner_made_anew_is_not_published(ada: TrailHome, restart: bool) -> None:
    journal = ada.journal()
    stamp(journal, 5)
    ada.publish()
    rewrite(ada, journal, 3, 9)
    if restart:
        ada.start()
    for _ in range(2):
        assert ada.publish() == 0
    assert [head.size for head in ada.catalog.heads.list()] == [6]
    assert len(ada.told) == 1
    assert ("does not continue" if restart else "not those that were signed before") in ada.told[0]


def test_journals_of_other_catalogs_are_not_looked_after(ada: TrailHome, tmp_path: Path) -> None:
    other = TrailHome(ada.folder, tmp_path / "other", "ada")
    stamp(other.journal())
    assert ada.publish() == 0
    assert not (ada.audit / "log").exists()
    assert not ada.place.exists()


def test_what_was_sealed_on_demand_is_published_too(ada: TrailHome) -> None:
    journal = ada.journal()
    stamp(journal)
    ada.publish()
    stamp(journal)
    seal(ada.audit, journal.session, ada.keys())
    assert ada.publish() == 1
    stamp(journal)
    ada.keeper.seal(closing=True)
    stamp(journal)
    seal(ada.audit, journal.session, ada.keys())  # between sealing and publishing
    assert ada.keeper.publish() == 1
    check_chain(ada.catalog.heads.list(), ada.keys().log_public)
    assert [head.size for head in ada.catalog.heads.list()] == [2, 3, 5]


def test_without_keys_runs_are_carried_all_the_same(ada: TrailHome) -> None:
    (ada.folder / "keys").parent.mkdir(parents=True, exist_ok=True)
    (ada.folder / "keys").write_text("in the way")
    journal = ada.journal()
    stamp(journal)
    for _ in range(2):
        assert ada.publish() == 0
    assert ada.catalog.runs.last_seq(journal.session) == 1
    assert len(ada.told) == 1


def test_a_pruned_session_is_left_alone(ada: TrailHome) -> None:
    journal = ada.journal()
    stamp(journal)
    journal.close()
    ada.publish()
    journal.path.unlink()
    head_path(ada.audit, journal.session).unlink()
    shutil.rmtree(log_folder(ada.audit, journal.session) / "tile")
    ada.start()
    assert ada.publish() == 0
    assert ada.told == []


def prune_now(ada: TrailHome) -> None:
    """Prune all sessions as `retain` does."""
    later = datetime.now(UTC) + timedelta(days=1)
    sessions, notes = sessions_before(ada.audit, later, ada.keys(), host="lab")
    assert (len(sessions), notes) == (1, [])
    published = PublishedHeads(agent_file(ada.audit, ada.catalog.location, "heads")).read()
    assert with_links(ada.audit, sessions, published) == (sessions, [])
    expect_heads(ada.audit, sessions)
    prune(ada.audit, [one.session for one in sessions])


def test_heads_of_a_pruned_session_are_published_again(ada: TrailHome, clock: Clock) -> None:
    journal = ada.journal()
    for count in (1, 3, 4, 5):
        stamp(journal, count)
        ada.publish()
        seal(ada.audit, journal.session, ada.keys())
    journal.close()
    there = {(head.size, head.checkpoint, head.consistency) for head in ada.catalog.heads.list()}
    prune_now(ada)
    for where, restart in (("size IN (5, 14)", True), ("size IN (2, 9, 14)", False), ("true", False)):
        ada.catalog._connection.writing(HEADS, partial(_delete, where))
        left = len(ada.catalog.heads.list())
        if restart:
            ada.start()
        clock.now += 1000
        assert ada.publish() == 4 - left
        heads = ada.catalog.heads.list()
        check_chain(heads, ada.keys().log_public)
        assert {(head.size, head.checkpoint, head.consistency) for head in heads} == there
        clock.now += 1000
        assert ada.publish() == 0
    assert "published again" in ada.told[0]
    # What a home that was rolled back has left does not stand beside what the catalog has of its log.
    ada.told.clear()
    other = Checkpoint(origin_of(journal.session), 20, bytes(32))
    note = format_note(sign_note(other.text, other.origin, ada.keys().log)).decode()
    ada.catalog._connection.writing(HEADS, partial(_delete, "size = 5"))
    ada.catalog.heads.publish([replace(heads[0], size=20, root=encoded(other.root), checkpoint=note)])
    clock.now += 1000
    assert ada.publish() == 0
    assert "The catalog has others of this log" in ada.told[0]


@pytest.mark.parametrize("older", [False, True])
def test_heads_that_a_catalog_never_had_come_after_their_session_was_pruned(
    ada: TrailHome, clock: Clock, monkeypatch: pytest.MonkeyPatch, *, older: bool
) -> None:
    journal = ada.journal()
    stamp(journal, 4)
    journal.close()
    seal(ada.audit, journal.session, ada.keys())
    note_handed_out(ada.audit, journal.session, 3)
    prune_now(ada)
    if older:  # that left no list of the heads before
        (log_folder(ada.audit, journal.session) / "heads").unlink()
    place = PublishedHeads(agent_file(ada.audit, ada.catalog.location, "heads"))
    assert (place.read(), place.due()) == ({}, {journal.session: {5}})
    # Somebody plants a row of that size: it is nobody's.
    ada.catalog.heads.publish([Head(journal.session, 5, "", "", "eve", "lab", datetime.now(UTC))])
    sizes = [5] if older else [3, 5]  # what was given to somebody leads to the last
    assert ada.publish() == len(sizes)
    assert (place.read(), place.due()) == ({journal.session: set(sizes)}, {})
    heads = [one for one in ada.catalog.heads.list() if one.user == "ada"]
    check_chain(heads, ada.keys().log_public)
    assert [head.size for head in heads] == sizes
    assert ada.told == []
    clock.now += 1000
    assert ada.publish() == 0
    place.expect(journal.session, 5)
    assert place.due() == {}
    place.add([replace(heads[-1], size=4, previous_size=3)])  # of which nothing is left
    clock.now += 1000
    monkeypatch.setattr(ada.catalog.heads, "of", lambda _: pytest.fail("the catalog was read for nothing"))
    assert ada.publish() == 0
    assert ada.told == []


def test_a_large_memory_of_published_heads_is_made_a_line_a_session(tmp_path: Path) -> None:
    path = tmp_path / "agent" / "x.heads"
    path.parent.mkdir()
    lines = "".join(f"{name} {size} {size - 1}\n" for name in ("first", "other") for size in range(1, 10_001))
    path.write_text(f"first 77777 0\n{lines}")  # an older memory, that `first` begins anew
    known = PublishedHeads(path).read()
    assert {name: len(sizes) for name, sizes in known.items()} == {"first": 10_000, "other": 10_000}
    head = Head("", 0, "", "", "", "", datetime.now(UTC))
    memory = PublishedHeads(path)
    memory.expect("pruned", 7)
    memory.add([replace(head, session="other", size=10_001, previous_size=10_000)])
    assert path.stat().st_size < len(lines) / 2
    assert memory.read() == known | {"other": known["other"] | {10_001}}
    assert memory.due() == {"pruned": {7}}
    memory.add([replace(head, session="first", size=5, previous_size=0)])
    assert memory.read()["first"] == {5}
