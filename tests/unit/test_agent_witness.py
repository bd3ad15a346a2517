"""Witnessing between two users of one catalog: true heads are countersigned, rewritten logs are not."""

from __future__ import annotations

import base64
import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from jupyter_llmops.agent import witness as witness_module
from jupyter_llmops.agent.head_checks import encoded, name_signers, signed_by
from jupyter_llmops.audit import witnessed as witnessed_module
from jupyter_llmops.audit.journal import Journal
from jupyter_llmops.audit.leaf import canonical
from jupyter_llmops.audit.sealing import origin_of
from jupyter_llmops.audit.tlog.checkpoint import Checkpoint
from jupyter_llmops.audit.tlog.cosignature import verify_cosignature
from jupyter_llmops.audit.tlog.note import format_note, parse_note, sign_note, verify_note
from jupyter_llmops.audit.verification import TrustedKeys
from jupyter_llmops.audit.witnessed import (
    ADDED,
    FILE,
    WitnessedLog,
    read_witnessed,
    refusals,
    remember,
)
from jupyter_llmops.catalog.schemas import COSIGNATURES, HEADS, RUNS
from jupyter_llmops.errors import AuditError, CatalogError
from jupyter_llmops.keys.signing import key_mark
from jupyter_llmops.records.trail import Head
from trail_home import TrailHome, rewrite, stamp


@pytest.fixture
def pair(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[TrailHome, TrailHome]:
    """Return Ada, whose logs are witnessed, and Bob, who has the team's key as she has."""
    monkeypatch.setenv("LLMOPS_TEAM_KEY_FILE", str(tmp_path / "team.key"))
    (tmp_path / "team.key").write_text(f"llmops-team-key/1 {base64.b64encode(bytes(32)).decode()}\n")
    place = tmp_path / "catalog"
    return TrailHome(tmp_path / "ada", place, "ada"), TrailHome(tmp_path / "bob", place, "bob", "desk")


def witnessed(home: TrailHome) -> dict[str, int]:
    return {session: log.size for session, log in read_witnessed(home.audit).items()}


def publish_in_secret(ada: TrailHome, session: str, previous: int) -> Head:
    """Publish the head of a log that was made anew, as an owner does who changes the program."""
    from jupyter_llmops.audit.sealing import SessionLog
    from jupyter_llmops.audit.tlog.merkle import consistency_proof

    log = SessionLog(ada.audit, session, ada.keys())
    signed = log.seal()
    assert signed is not None
    proof = consistency_proof(previous, signed.size, log.tiles.hash_at) if previous <= signed.size else ()
    data = log.tiles.read_checkpoint()
    assert data is not None
    head = replace(
        ada.catalog.heads.of([session])[0],
        size=signed.size,
        root=encoded(signed.root),
        checkpoint=data.decode(),
        previous_size=previous,
        consistency=tuple(encoded(one) for one in proof),
    )
    assert signed_by(head, [ada.keys().log_public]) is not None
    ada.catalog.heads.publish([head])
    return head


def test_heads_of_others_are_countersigned_once(pair: tuple[TrailHome, TrailHome]) -> None:
    ada, bob = pair
    journal = ada.journal()
    for count in (3, 200):
        stamp(journal, count)
        ada.publish()
        assert bob.look() == 1
        assert bob.look() == 0
    bob.start()
    assert bob.look() == 0
    heads = {head.size: head for head in ada.catalog.heads.list()}
    found = ada.catalog.cosignatures.of([journal.session])
    assert sorted(one.size for one in found) == sorted(heads) == [4, 204]
    (vkey,) = [one.vkey for one in ada.catalog.signers.list() if (one.kind, one.user) == ("witness", "bob")]
    for one in found:
        # With its text a row is a whole note: the log has signed it, and then the witness.
        note = parse_note(heads[one.size].checkpoint)
        both = parse_note(f"{note.text}\n{one.line}\n")
        assert both.signatures[:-1] == note.signatures
        assert verify_note(both, [ada.keys().session_vkey(journal.session)])
        assert verify_cosignature(note.text, both.signatures[-1], vkey) is not None
        assert one.root == heads[one.size].root
    assert witnessed(bob) == {journal.session: 204}
    assert refusals(bob.audit) == ()


def test_nobody_witnesses_the_own_log_and_two_witness_each_other(pair: tuple[TrailHome, TrailHome]) -> None:
    ada, _ = pair
    for home in pair:
        stamp(home.journal())
        home.publish()
        assert home.look() == (0 if home is ada else 1)
    assert ada.look() == 1
    assert {one.witness for one in ada.catalog.cosignatures.list()} == {
        "jupyter-llmops/ada@lab",
        "jupyter-llmops/bob@desk",
    }


def test_who_comes_later_countersigns_the_last_head_of_each_log(pair: tuple[TrailHome, TrailHome]) -> None:
    ada, bob = pair
    journals = [ada.journal() for _ in range(3)]
    for count in (1, 5, 2):
        for journal in journals:
            stamp(journal, count)
        ada.publish()
    assert bob.look() == 3
    assert set(witnessed(bob).values()) == {9}


@pytest.mark.parametrize("restart", [False, True])
@pytest.mark.parametrize(
    ("keep", "count", "previous"),
    [(3, 6, 6), (3, 9, 6), (3, 9, 3), (3, 9, 0), (3, 4, 3), (0, 8, 0), (5, 6, 5)],
)
def test_a_rewritten_log_is_refused_and_said(
    pair: tuple[TrailHome, TrailHome], keep: int, count: int, previous: int, restart: bool
) -> None:
    ada, bob = pair
    journal = ada.journal()
    stamp(journal, 2)
    ada.publish()
    stamp(journal, 3)
    ada.publish()
    assert bob.look() == 1
    rewrite(ada, journal, max(keep, 1), count) if keep else rewrite_all(ada, journal, count)
    publish_in_secret(ada, journal.session, previous)
    if restart:
        bob.start()
    assert bob.look() == 0
    (problem,) = refusals(bob.audit)
    assert problem.session == journal.session
    assert "ada's log" in problem.message
    assert "was rewritten" in problem.message or "can't be shown to continue" in problem.message
    assert bob.told == [problem.message]
    assert witnessed(bob) == {journal.session: 6}
    # It stays so, whatever comes, and is said once.
    bob.start()
    assert bob.look() == 0
    assert refusals(bob.audit) == (problem,)
    assert len(bob.told) == 1
    assert {one.size for one in ada.catalog.cosignatures.list()} == {6}


def rewrite_all(ada: TrailHome, journal: Journal, count: int) -> None:
    """Make a whole log anew, its first record, too."""
    first = json.loads(journal.path.read_bytes().splitlines()[0]) | {"id": "a" * 16}
    journal.path.write_bytes(canonical(first) + b"\n")
    rewrite(ada, journal, 1, count)


def test_a_lost_proof_is_made_up_for_by_the_lines_in_the_catalog(pair: tuple[TrailHome, TrailHome]) -> None:
    ada, bob = pair
    journal = ada.journal()
    stamp(journal, 2)
    ada.publish()
    bob.look()
    for count in (2, 3):
        stamp(journal, count)
        ada.publish()
    bob.catalog._connection.writing(HEADS, lambda handle: handle.delete("size = 5"))
    assert bob.look() == 1
    assert witnessed(bob) == {journal.session: 8}
    assert refusals(bob.audit) == ()


def test_without_proof_and_lines_nothing_is_signed_until_they_come(pair: tuple[TrailHome, TrailHome]) -> None:
    ada, bob = pair
    bob.patience = 1000
    bob.start()
    journal = ada.journal()
    stamp(journal, 2)
    ada.publish()
    bob.look()
    stamp(journal, 2)
    ada.keeper.seal(closing=True)
    ada.keeper.publish()
    ada.catalog._connection.update(HEADS, "size = 5", {"consistency": "[]"})
    assert bob.look() == 0
    assert refusals(bob.audit) == ()  # it may only be on its way
    bob.patience = 0
    bob.start()
    assert bob.look() == 0
    assert "can't be shown to continue" in refusals(bob.audit)[0].message
    bob.start()
    ada.flusher.flush()
    assert bob.look() == 1
    assert refusals(bob.audit) == ()
    assert witnessed(bob) == {journal.session: 5}


def test_planted_rows_are_passed_over(pair: tuple[TrailHome, TrailHome]) -> None:
    ada, bob = pair
    journal = ada.journal()
    stamp(journal, 3)
    ada.publish()
    (true,) = ada.catalog.heads.list()
    other = Checkpoint(origin_of(journal.session), 9, bytes(32))
    unsealed = TrailHome(ada.folder.parent / "eve", ada.place, "eve")
    forged = format_note(sign_note(other.text, other.origin, unsealed.keys().log)).decode()
    ada.catalog.heads.publish(
        [
            replace(true, size=9, root=encoded(other.root), checkpoint=forged),
            replace(true, size=9, checkpoint=true.checkpoint.replace("\n4\n", "\n9\n")),
            replace(true, size=7),
            replace(true, size=9, checkpoint="nonsense"),
            replace(true, consistency=("?", "!!"), previous_size=2),
            replace(true, session="../../etc", checkpoint=true.checkpoint),
        ]
    )
    assert bob.look() == 1
    assert witnessed(bob) == {journal.session: 4}
    stamp(journal, 3)
    ada.publish()
    (newest,) = [head for head in ada.catalog.heads.list() if head.size == 7 and head.previous_size]
    ada.catalog.heads.publish([replace(newest, consistency=("AAAA",)), replace(newest, consistency=())])
    assert bob.look() == 1
    assert witnessed(bob) == {journal.session: 7}
    assert refusals(bob.audit) == ()


def test_a_head_that_a_colleague_signs_of_another_s_log_is_said(pair: tuple[TrailHome, TrailHome]) -> None:
    ada, bob = pair
    eve = TrailHome(ada.folder.parent / "eve", ada.place, "eve")
    stamp(eve.journal())
    eve.publish()
    journal = ada.journal()
    stamp(journal, 3)
    ada.publish()
    assert bob.look() == 2
    other = Checkpoint(origin_of(journal.session), 9, bytes(32))
    note = format_note(sign_note(other.text, other.origin, eve.keys().log)).decode()
    true = ada.catalog.heads.of([journal.session])[0]
    eve.catalog.heads.publish([replace(true, size=9, root=encoded(other.root), checkpoint=note)])
    assert bob.look() == 0
    (problem,) = refusals(bob.audit)
    assert "signed by another key, of eve on lab" in problem.message
    stamp(journal)
    ada.publish()
    assert bob.look() == 1  # it is no fault of ada's
    assert witnessed(bob)[journal.session] == 5


def test_a_log_is_of_the_key_that_its_name_is_bound_to(pair: tuple[TrailHome, TrailHome]) -> None:
    """Eve, who has the team's key, names a key of hers as Ada's and is faster and older in all that she says."""
    ada, bob = pair
    eve = TrailHome(ada.folder.parent / "eve", ada.place, "ada")
    name_signers(eve.catalog, eve.keys())
    ada.keys()
    journal = ada.journal()
    assert journal.session.endswith(key_mark(ada.keys().log_public))
    other = Checkpoint(origin_of(journal.session), 9, bytes(32))
    note = format_note(sign_note(other.text, other.origin, eve.keys().log)).decode()
    early = datetime(2020, 1, 1, tzinfo=UTC)
    planted = Head(journal.session, 9, encoded(other.root), note, "ada", "lab", early)
    eve.catalog.heads.publish([planted])
    assert bob.look() == 0
    assert refusals(bob.audit) == ()
    stamp(journal, 3)
    ada.publish()
    assert bob.look() == 1
    assert witnessed(bob) == {journal.session: 4}
    trusted = TrustedKeys("ada", "lab", (ada.keys().log_public,), tuple(ada.catalog.signers.list()))
    assert [key.public for key in trusted.of(journal.session)] == [ada.keys().log_public]
    assert len(trusted.of("20261103T101502Z-5f0c2a9e")) == 2, (
        "a name from before there was a key says nothing"
    )


def test_a_replaced_key_signs_new_sessions_only(
    pair: tuple[TrailHome, TrailHome], monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, _ = pair
    monkeypatch.setenv("LLMOPS_HOME", str(ada.folder))
    ada.keys()
    journal = ada.journal()
    stamp(journal)
    (ada.folder / "keys" / "log.key").unlink()
    new = ada.journal()
    stamp(new)
    ada.start()
    ada.publish()
    assert [head.session for head in ada.catalog.heads.list()] == [new.session]
    assert any("bound to another key" in sentence for sentence in ada.told)
    assert new.session.endswith(key_mark(ada.keys().log_public))
    assert new.session[-17:] != journal.session[-17:]


def test_a_cosignature_that_was_not_published_comes_later(
    pair: tuple[TrailHome, TrailHome], monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, bob = pair
    journal = ada.journal()
    stamp(journal)
    ada.publish()

    def refuse(*_: object) -> int:
        raise CatalogError("Nothing can be written.")

    with monkeypatch.context() as patch:
        patch.setattr(bob.catalog.cosignatures, "publish", refuse)
        with pytest.raises(CatalogError):
            bob.look()
    assert witnessed(bob) == {journal.session: 2}
    bob.start()
    bob.look()
    (found,) = ada.catalog.cosignatures.list()
    assert found.size == 2
    assert read_witnessed(bob.audit)[journal.session].line == ""


def test_a_cosignature_that_one_catalog_refused_does_not_go_to_another(
    pair: tuple[TrailHome, TrailHome], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, bob = pair
    journal = ada.journal()
    stamp(journal)
    ada.publish()
    with monkeypatch.context() as patch:
        patch.setattr(
            bob.catalog.cosignatures, "publish", lambda _: (_ for _ in ()).throw(CatalogError("No."))
        )
        with pytest.raises(CatalogError):
            bob.look()
    # Bob turns to another team's catalog, and back.
    eve = TrailHome(tmp_path / "eve", tmp_path / "other", "eve")
    hers = eve.journal()
    stamp(hers)
    eve.publish()
    there = TrailHome(bob.folder, tmp_path / "other", "bob", "desk")
    assert there.look() == 1
    assert [one.session for one in there.catalog.cosignatures.list()] == [hers.session]
    bob.start()
    bob.look()
    assert [one.session for one in bob.catalog.cosignatures.list()] == [journal.session]
    assert witnessed(bob) == {journal.session: 2, hers.session: 2}
    assert refusals(bob.audit) == ()


@pytest.mark.parametrize("true", [False, True])
@pytest.mark.parametrize("older", [False, True])
def test_what_waits_for_one_catalog_is_not_drawn_into_another_by_a_row(
    pair: tuple[TrailHome, TrailHome], tmp_path: Path, *, older: bool, true: bool
) -> None:
    """An older version has not written down which catalog it waits for: there a true head says it."""
    ada, bob = pair
    journal = ada.journal()
    stamp(journal)
    ada.publish()
    bob.look()
    bob.catalog._connection.writing("cosignatures", lambda handle: handle.delete("true"))
    (log,) = read_witnessed(bob.audit).values()
    waiting = replace(log, line="a cosignature", catalog="" if older else log.catalog)
    remember(bob.audit, {journal.session: waiting})
    eve = TrailHome(tmp_path / "eve", tmp_path / "other", "eve")
    (head,) = ada.catalog.heads.list()
    planted = Head(journal.session, log.size, log.root, "", "eve", "x", datetime.now(UTC))
    eve.catalog.heads.publish([planted, head] if true else [planted])
    there = TrailHome(bob.folder, tmp_path / "other", "bob", "desk")
    for _ in range(2):
        there.look()
        there.start()
    assert len(there.catalog.cosignatures.list()) == (older and true)
    assert refusals(bob.audit) == ()
    if older and true:
        return
    bob.start()
    bob.look()
    assert [one.session for one in bob.catalog.cosignatures.list()] == [journal.session]


@pytest.mark.parametrize("file", [FILE, ADDED])
def test_who_can_t_remember_signs_nothing(pair: tuple[TrailHome, TrailHome], file: str) -> None:
    ada, bob = pair
    stamp(ada.journal())
    ada.publish()
    bob.audit.mkdir(parents=True)
    (bob.audit / file).write_text("nonsense\n")
    with pytest.raises(AuditError, match="can't be read"):
        bob.look()
    (bob.audit / file).unlink()
    (bob.audit / file).mkdir()
    with pytest.raises(AuditError):
        bob.look()
    assert ada.catalog.cosignatures.list() == []


def test_of_many_logs_that_are_remembered_one_that_changes_costs_a_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(witnessed_module, "_MOST_ADDED_BYTES", 10_000)
    many = {f"s{number}": WitnessedLog(size=1, root="AA==") for number in range(100)}
    remember(tmp_path, many)
    before = (tmp_path / FILE).stat()
    assert not (tmp_path / ADDED).exists()
    remember(tmp_path, {"s7": replace(many["s7"], size=2)})
    assert (tmp_path / FILE).stat().st_ino == before.st_ino
    assert (tmp_path / ADDED).stat().st_size < 500
    with (tmp_path / ADDED).open("a") as file:
        file.write('{"cut off')  # by a kill: nothing that was signed after it
    assert read_witnessed(tmp_path) == many | {"s7": replace(many["s7"], size=2)}
    remember(tmp_path, {"s8": replace(many["s8"], size=3)})
    sizes = {session: log.size for session, log in read_witnessed(tmp_path).items()}
    assert (sizes["s7"], sizes["s8"], sizes["s9"], len(sizes)) == (2, 3, 1, 100)


@pytest.mark.parametrize("restart", [False, True])
def test_an_owner_who_empties_the_catalog_gets_no_signature_for_a_fork(
    pair: tuple[TrailHome, TrailHome], restart: bool
) -> None:
    ada, bob = pair
    journal = ada.journal()
    stamp(journal, 5)
    ada.publish()
    bob.look()
    rewrite(ada, journal, 3, 9)
    # The owner takes away all that the catalog has against it.
    for table in (HEADS, COSIGNATURES, RUNS):
        ada.catalog._connection.writing(table, lambda handle: handle.delete("true"))
    ada.start()
    shutil.rmtree(ada.audit / "agent", ignore_errors=True)
    ada.publish()
    if restart:  # what was signed is known from the own disk alone
        bob.start()
    assert bob.look() == 0
    assert "was rewritten" in refusals(bob.audit)[0].message


@pytest.mark.parametrize("old_row", [False, True])
def test_a_witness_that_lost_its_memory_signs_no_fork(
    pair: tuple[TrailHome, TrailHome], old_row: bool
) -> None:
    ada, bob = pair
    journal = ada.journal()
    stamp(journal, 5)
    ada.publish()
    assert bob.look() == 1
    if old_row:
        (row,) = bob.catalog.cosignatures.list()
        line = row.line.partition("\n")[2]
        bob.catalog._connection.update(COSIGNATURES, "true", {"line": line})
    (bob.audit / ADDED).unlink()
    rewrite(ada, journal, 3, 9)
    ada.catalog._connection.writing(HEADS, lambda handle: handle.delete("true"))
    ada.start()
    ada.keeper.seal(closing=True)
    ada.keeper.publish()
    bob.start()
    assert bob.look() == 0
    bob.start()
    assert bob.look() == 0
    (problem,) = refusals(bob.audit)
    assert "was rewritten" in problem.message or "can't be shown to continue" in problem.message


@pytest.mark.parametrize("restart", [False, True])
def test_heads_that_vanish_after_they_were_witnessed_are_said(
    pair: tuple[TrailHome, TrailHome], restart: bool
) -> None:
    ada, bob = pair
    journal = ada.journal()
    for count in (3, 2):
        stamp(journal, count)
        ada.publish()
    other = ada.journal()
    stamp(other, 2)
    ada.publish()
    assert bob.look() == 2
    rows = [head for head in ada.catalog.heads.list() if head.size == 6 or head.session == other.session]
    where = f"size = 6 OR session = '{other.session}'"
    ada.catalog._connection.writing(HEADS, lambda handle: handle.delete(where))
    if restart:
        bob.start()
    assert bob.look() == 0
    assert {
        one.session: "deleted heads there, or it is an older copy" in one.message
        for one in refusals(bob.audit)
    } == {
        journal.session: True,
        other.session: True,
    }
    assert sorted(bob.told) == sorted(one.message for one in refusals(bob.audit))
    bob.look()
    assert len(bob.told) == 2
    ada.catalog.heads.publish(rows)
    bob.look()
    assert refusals(bob.audit) == ()


def test_a_log_in_doubt_is_read_seldom(
    pair: tuple[TrailHome, TrailHome], monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, bob = pair
    journal = ada.journal()
    stamp(journal)
    ada.publish()
    bob.look()
    stamp(journal)
    ada.publish()
    ada.catalog._connection.update(HEADS, "size = 3", {"consistency": "[]"})
    read: list[str] = []
    monkeypatch.setattr(bob.catalog.runs, "lines", lambda session: read.append(session) or set())
    clock = Clock()
    monkeypatch.setattr(witness_module.time, "monotonic", clock.monotonic)
    bob.patience = 1000
    bob.start()
    for _ in range(400):
        bob.witness.look()
        clock.now += 5
    assert len(read) == 2, "nothing came: when it began, and when patience ended"
    marks = iter(range(10**6, 10**7))
    true = bob.catalog.mark
    monkeypatch.setattr(bob.catalog, "mark", lambda table: next(marks) if table == RUNS else true(table))
    for _ in range(400):
        bob.witness.look()
        clock.now += 5
    assert len(read) < 15
    assert len(bob.told) == 1


class Clock:
    """Stands in for the monotonic clock."""

    def __init__(self) -> None:
        self.now = 1000.0

    def monotonic(self) -> float:
        return self.now


def test_an_empty_or_quiet_catalog_costs_nothing(
    pair: tuple[TrailHome, TrailHome], monkeypatch: pytest.MonkeyPatch
) -> None:
    ada, bob = pair
    assert bob.look() == 0
    assert not ada.place.exists()
    assert not (bob.folder / "keys").exists()
    stamp(ada.journal())
    ada.publish()
    bob.look()
    bob.look()
    monkeypatch.setattr(bob.catalog.heads, "fingerprints", lambda: pytest.fail("looked"))
    assert bob.look() == 0
