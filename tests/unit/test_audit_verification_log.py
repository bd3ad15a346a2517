"""Checkpoints that were kept, content and sessions that went with a word, logs of another home."""

from __future__ import annotations

import shutil
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jupyter_llmops.audit import retention
from jupyter_llmops.audit.files import content_path, head_path, journal_path
from jupyter_llmops.audit.head_links import HANDED_FILE, keep_links, note_handed_out
from jupyter_llmops.audit.journal import Journal
from jupyter_llmops.audit.proving import prove
from jupyter_llmops.audit.reading import list_journals, read_runs
from jupyter_llmops.audit.sealing import log_folder, seal
from jupyter_llmops.audit.tlog.merkle import consistency_proof
from jupyter_llmops.audit.tlog.tiles import TileStore
from jupyter_llmops.audit.verification import KeptCheckpoint, TrustedKeys, read_kept, trail, verify
from jupyter_llmops.audit.verification.heads import said_root
from jupyter_llmops.errors import AuditError
from jupyter_llmops.keys.signing import LogKeys
from jupyter_llmops.records.run import Verification
from jupyter_llmops.records.trail import Head, Signer

NOW = datetime(2026, 11, 3, tzinfo=UTC)


@pytest.fixture
def keys() -> LogKeys:
    return LogKeys(Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate())


@pytest.fixture
def trusted(keys: LogKeys) -> TrustedKeys:
    return TrustedKeys("ada", "here", (keys.log_public, keys.witness_public))


@pytest.fixture
def folder(tmp_path: Path, keys: LogKeys) -> Path:
    """An old session of six records, sealed."""
    folder = tmp_path / "audit"
    stamp(folder, keys, "old", 5)
    return folder


def stamp(folder: Path, keys: LogKeys, session: str, cells: int, **word: object) -> Head:
    """Stamp a session and, where asked, a record that says what was deleted; return its head."""
    journal = Journal(folder, session=session, context={"user": "ada", "host": "here"})
    for number in range(cells):
        journal.stamp("cell", fields={"execution_count": number + 1}, content={"source": f"x = {number}"})
    for kind, fields in word.items():
        journal.stamp(kind, fields=fields)  # type: ignore[arg-type]
    journal.close()
    return head_of(folder, keys, session)


def head_of(folder: Path, keys: LogKeys, session: str) -> Head:
    signed = seal(folder, session, keys)
    assert signed is not None
    note = (log_folder(folder, session) / "checkpoint").read_text("utf-8")
    return Head(session, signed.size, said_root(signed.root), note, "ada", "here", NOW)


def prune(folder: Path, session: str) -> None:
    keep_links(folder, session, ())
    for path in (journal_path(folder, session), head_path(folder, session)):
        path.unlink()
    shutil.rmtree(content_path(folder, session, 0).parent)
    shutil.rmtree(log_folder(folder, session) / "tile")


def said(found: Verification) -> str:
    return "\n".join(problem.message for problem in found.problems)


def test_a_kept_checkpoint_or_proof_is_held_against_the_log(
    folder: Path, keys: LogKeys, trusted: TrustedKeys, tmp_path: Path
) -> None:
    checkpoint = log_folder(folder, "old") / "checkpoint"
    run = list(read_runs(journal_path(folder, "old")))[2]
    proof = tmp_path / "run.tlog-proof"
    proof.write_bytes(prove(folder, run, (keys.session_vkey("old"),)))
    kept = tmp_path / "kept"
    kept.write_bytes(checkpoint.read_bytes())
    for file in (kept, proof):
        found = verify(folder, trusted=trusted, against=(read_kept(file),))
        assert found.ok, found.problems
        assert any(f"held against {file.name}: session old, 6 records" in note for note in found.notes)
    # The session is stamped anew under its name, by its owner.
    shutil.rmtree(folder)
    stamp(folder, keys, "old", 5)
    assert verify(folder, trusted=trusted).ok
    for file in (kept, proof):
        found = verify(folder, trusted=trusted, against=(read_kept(file),))
        assert f"rewritten: of records 0 to 5, one is not what the kept checkpoint {file.name}" in said(found)
    # Another log with the name of nobody here.
    shutil.rmtree(folder)
    stamp(folder, keys, "new", 1)
    found = verify(folder, trusted=trusted, against=(read_kept(kept),))
    assert "the journal of session old is missing: the checkpoint that was kept is of it" in said(found)


@pytest.mark.parametrize("data", [b"", b"\xff", b"hello\n", b"c2sp.org/tlog-proof@v1\n", b"a\n1\nx\n\n"])
def test_what_is_no_checkpoint_is_said_in_a_sentence(tmp_path: Path, data: bytes) -> None:
    file = tmp_path / "kept"
    file.write_bytes(data)
    with pytest.raises(AuditError, match="neither a checkpoint nor a proof"):
        read_kept(file)
    with pytest.raises(AuditError, match="can't be read"):
        read_kept(tmp_path / "nothing")


def test_forgotten_content_is_told_from_deleted_content(
    folder: Path, keys: LogKeys, trusted: TrustedKeys
) -> None:
    run = list(read_runs(journal_path(folder, "old")))[2]
    place = {"of": run.id, "of_session": "old", "of_seq": 2}
    stamp(folder, keys, "new", 1, forget={"runs": [place], "deleted": ["content"]})
    content_path(folder, "old", 2).unlink()
    found = verify(folder, trusted=trusted)
    assert found.ok, found.problems
    assert any("the content of 1 record (seq 2) was forgotten by ada on" in note for note in found.notes)
    content_path(folder, "old", 3).unlink()
    (problem,) = verify(folder, trusted=trusted).problems
    assert problem.seq == 3
    assert "deleted without a word" in problem.message


def test_a_scrub_that_an_older_version_carried_on_beside_its_retention_is_believed_and_noted(
    folder: Path, keys: LogKeys, trusted: TrustedKeys
) -> None:
    place = {"of": "f" * 16, "of_session": "old", "of_seq": 2, "kinds": ["token"]}
    went = {"session": "went", "size": 1, "root": "x"}
    content_path(folder, "old", 2).unlink()
    rules = {
        "carried": ({"said_at": "2026-01-02T03:04:05Z"}, [went]),
        "said-here": ({}, [went]),
        "newer": ({"said_at": "2026-01-02T03:04:05Z"}, [went | {"links": True}]),
        "alone": ({"said_at": "2026-01-02T03:04:05Z"}, []),
    }
    for session, (more, pruned) in rules.items():
        words = {"scrub": {"runs": [place]} | more, "retention": {"age": "1y", "sessions": pruned}}
        stamp(folder, keys, session, 1, **words)
        found = verify(folder, trusted=trusted)
        false = [problem for problem in found.problems if "which only the agent does" in problem.message]
        if session == "carried":
            assert not false
            assert "content was deleted" not in said(found)
            assert any("as older versions carried it on" in note for note in found.notes)
        else:
            assert {problem.session for problem in false} == {session}
            assert "its content was deleted without" in said(found)
        shutil.rmtree(content_path(folder, session, 0).parent)
        shutil.rmtree(log_folder(folder, session))
        journal_path(folder, session).unlink()
        head_path(folder, session).unlink()


@pytest.mark.parametrize("kind", ["forget", "scrub"])
@pytest.mark.parametrize("session", ["an-agent", "zzz-begun-meanwhile"])
def test_a_word_that_is_said_while_verify_reads_is_heard(
    folder: Path, trusted: TrustedKeys, monkeypatch: pytest.MonkeyPatch, kind: str, session: str
) -> None:
    agent = Journal(folder, session="an-agent", role="agent")
    agent.stamp("observation", fields={})
    agent.flush()
    journals = [agent]
    run = trail.JournalCheck.run

    def meanwhile(check: trail.JournalCheck, rows: dict[int, str]) -> None:
        if check.session == "old":  # the agent's was read before
            journal = agent if session == "an-agent" else Journal(folder, session=session, role="agent")
            journals.append(journal)
            place = {"of": "f" * 16, "of_session": "old", "of_seq": 2, "kinds": ["token"]}
            journal.stamp(kind, fields={"runs": [place]})
            journal.flush()
            content_path(folder, "old", 2).unlink()
        run(check, rows)

    monkeypatch.setattr(trail.JournalCheck, "run", meanwhile)
    found = verify(folder, trusted=trusted)
    assert found.ok, found.problems
    assert any("(seq 2) was" in note for note in found.notes)
    for journal in journals:
        journal.close()


def test_a_pruned_session_is_held_to_its_head(folder: Path, keys: LogKeys, trusted: TrustedKeys) -> None:
    old = head_of(folder, keys, "old")
    runs = {run.seq: run.leaf_digest for run in read_runs(journal_path(folder, "old"))}
    word = {"session": "old", "size": 6, "root": old.root, "head": runs[5].removeprefix("sha256:")}
    stamp(folder, keys, "new", 1, retention={"age": "1y", "sessions": [word]})
    prune(folder, "old")
    rows = {"published": {"old": runs}, "trusted": trusted, "heads": [old]}
    found = verify(folder, **rows)  # type: ignore[arg-type]
    assert found.ok, found.problems
    assert any("pruned, only their heads are left: old (6 records, by ada" in note for note in found.notes)
    more = {**runs, 6: "sha256:" + "0" * 64}
    found = verify(folder, published={"old": more}, trusted=trusted, heads=[old])
    assert [(problem.session, problem.seq) for problem in found.problems] == [("old", 6)]
    checkpoint = log_folder(folder, "old") / "checkpoint"
    data = checkpoint.read_bytes()
    checkpoint.write_bytes(data.replace(b"\n6\n", b"\n5\n"))
    assert "its retention left was changed" in said(verify(folder, **rows))  # type: ignore[arg-type]
    checkpoint.unlink()
    assert "its retention left is missing" in said(verify(folder, **rows))  # type: ignore[arg-type]


def heads_on_the_way(folder: Path, keys: LogKeys, sizes: tuple[int, ...]) -> dict[int, Head]:
    """Stamp a session "way" and return the heads that it has at some sizes, each continuing the one before."""
    journal = Journal(folder, session="way", context={"user": "ada", "host": "here"})
    found: dict[int, Head] = {}
    before = 0
    for size in sizes:
        while journal.stamped < size:
            journal.stamp("cell")
        journal.flush()
        head = head_of(folder, keys, "way")
        proof = consistency_proof(before, size, TileStore(log_folder(folder, "way")).hash_at)
        found[size] = replace(head, previous_size=before, consistency=tuple(map(said_root, proof)))
        before = size
    journal.close()
    return found


@pytest.mark.parametrize("left", [True, False])
def test_smaller_heads_of_a_pruned_session(
    folder: Path, keys: LogKeys, trusted: TrustedKeys, *, left: bool
) -> None:
    """A head that was given away is linked as a published one is; older versions left no links at all."""
    heads = heads_on_the_way(folder, keys, (2, 4, 6))
    other = replace(heads_on_the_way(folder.parent / "other", keys, (3,))[3], previous_size=0)
    if left:
        note_handed_out(folder, "way", 4)
        note_handed_out(folder, "way", 4)
        assert (log_folder(folder, "way") / HANDED_FILE).read_text() == "4\n"
        assert verify(folder, trusted=trusted).ok
        keep_links(folder, "way", (2, 6))
    last = sha256(journal_path(folder, "way").read_bytes().splitlines()[-1]).hexdigest()
    word = {"session": "way", "size": 6, "root": heads[6].root, "head": last} | (
        {"links": True} if left else {}
    )
    stamp(folder, keys, "new", 1, retention={"age": "1y", "sessions": [word]})
    retention.prune(folder, ["way"])
    note_handed_out(folder, "way", 5)  # nothing is added to what is left
    assert {path.name for path in log_folder(folder, "way").iterdir()} == {"checkpoint"} | (
        {"heads"} if left else set()
    )
    rows = list(heads.values())
    found = verify(folder, trusted=trusted, heads=rows)
    assert found.ok, found.problems
    # A head that was never published, as a kept one.
    kept = KeptCheckpoint("way", heads[4].checkpoint.encode(), "kept")
    forged = KeptCheckpoint("way", other.checkpoint.encode(), "forged")
    published = [heads[2], replace(heads[6], previous_size=0, consistency=())]
    found = verify(folder, trusted=trusted, heads=published[1:], against=(kept,))
    assert found.ok, found.problems
    assert any("can't be checked any more" in note for note in found.notes) is not left
    found = verify(folder, trusted=trusted, heads=published[1:], against=(forged,))
    assert any("can't be checked any more" in note for note in found.notes), "of 3 records no head is left"
    # What was published and nothing leads to may have been left out on purpose.
    assert verify(folder, trusted=trusted, heads=published).ok is left
    assert "3 records can't be checked" in said(verify(folder, trusted=trusted, heads=[*rows, other]))
    if left:
        (log_folder(folder, "way") / "heads").unlink()
        assert "the list of heads that its retention left is missing" in said(
            verify(folder, trusted=trusted, heads=rows)
        )


def test_a_retention_that_names_another_head_hides_nothing(
    folder: Path, keys: LogKeys, trusted: TrustedKeys
) -> None:
    old = head_of(folder, keys, "old")
    word = {"session": "old", "size": 3, "root": old.root}
    stamp(folder, keys, "new", 1, retention={"age": "1y", "sessions": [word]})
    prune(folder, "old")
    found = verify(folder, trusted=trusted, heads=[old])
    assert "pruned as if it had 3 records, and a published head has 6" in said(found)
    assert "not the one that the retention's record names" in said(found)


def test_a_session_without_a_word_is_missing_and_one_of_another_home_is_elsewhere(
    folder: Path, keys: LogKeys, trusted: TrustedKeys, tmp_path: Path
) -> None:
    old = head_of(folder, keys, "old")
    other = LogKeys(Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate())
    away = stamp(tmp_path / "away", other, "away", 2)
    shutil.rmtree(folder)
    stamp(folder, keys, "new", 1)
    named = (Signer("log", "x", other.log_vkey("ada", "here"), "ada", "here", NOW),)
    both = TrustedKeys("ada", "here", trusted.own, named)
    found = verify(folder, trusted=both, heads=[old, away])
    assert [problem.session for problem in found.problems] == ["old"]
    assert "its published heads are in the catalog" in said(found)
    assert any("lies elsewhere" in note and "away" in note for note in found.notes)
    # What is kept of it can't be held against anything here, so it is no passed verification.
    away_kept = KeptCheckpoint("away", away.checkpoint.encode(), "kept")
    found = verify(folder, trusted=both, heads=[away], against=(away_kept,))
    assert "the kept checkpoint kept can't be checked here" in said(found)
    # A second key of the owner signs another head in the name of the session that went.
    forged = stamp(tmp_path / "forged", other, "old", 1)
    old_kept = KeptCheckpoint("old", old.checkpoint.encode(), "kept")
    assert verify(folder, trusted=both, heads=[forged]).ok
    for evidence in (
        {"against": (old_kept,)},
        {"heads": [forged, old]},
        {"carried": ("old",)},
        {"published_heads": {"old": {6}}},
    ):
        found = verify(folder, **{"trusted": both, "heads": [forged], **evidence})  # type: ignore[arg-type]
        assert "the journal of session old is missing" in said(found), evidence
    # Nobody of the team has named that key: then the row is nobody's, and accuses nobody.
    found = verify(folder, trusted=trusted, heads=[away])
    assert found.ok, found.problems
    assert any("no key that is known here signed it" in note and "away" in note for note in found.notes)


def test_the_rows_of_a_home_with_another_team_key_are_noted_and_those_of_this_one_are_missed(
    folder: Path, keys: LogKeys, trusted: TrustedKeys
) -> None:
    """It has no invite, or the heads can't be read: nothing here can tell its rows from planted ones."""
    old = head_of(folder, keys, "old")
    rows = {"old": {run.seq: run.leaf_digest for run in read_runs(journal_path(folder, "old"))}}
    shutil.rmtree(folder)
    stamp(folder, keys, "new", 1)
    for known in (trusted, TrustedKeys("ada", "here")):
        found = verify(folder, trusted=known, published=rows)
        assert "old" not in said(found)
        assert any("of another home (LLMOPS_HOME) without the team's key" in note for note in found.notes)
        assert "the journal of session old is missing" in said(
            verify(folder, trusted=known, published=rows, carried=("old",))
        )
    assert "the journal of session old is missing" in said(
        verify(folder, trusted=trusted, published=rows, heads=[old])
    )


def test_a_head_whose_owner_was_altered_is_known_by_the_key_also_after_that_was_replaced(
    folder: Path, keys: LogKeys, trusted: TrustedKeys
) -> None:
    altered = replace(head_of(folder, keys, "old"), user="eve", host="there")
    shutil.rmtree(folder)
    stamp(folder, LogKeys(Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate()), "new", 1)
    for known in (trusted, replace(trusted, own=(), former=trusted.own[:1])):
        found = verify(folder, trusted=known, heads=[altered])
        assert "the journal of session old is missing" in said(found)


def test_a_session_that_has_begun_is_no_missing_one(
    folder: Path, trusted: TrustedKeys, monkeypatch: pytest.MonkeyPatch
) -> None:
    # A kill in the first cell, after its content and before its line.
    for number in (0, 1):
        content_path(folder, "begun", number).parent.mkdir(exist_ok=True)
        content_path(folder, "begun", number).write_bytes(b"{}")
        for known in (trusted, None):
            found = verify(folder, trusted=known)
            assert found.ok, found.problems
            assert any("stopped in its first cell" in note and "begun" in note for note in found.notes)
    assert "missing: its other files" not in said(verify(folder, trusted=trusted))
    content_path(folder, "begun", 2).write_bytes(b"{}")
    assert "missing: its other files are still here" in said(verify(folder, trusted=trusted))
    shutil.rmtree(content_path(folder, "begun", 0).parent)

    # One that begins between the look at the journals and the look at their other files.
    def lists_and_begins(place: Path) -> list[Path]:
        found = list_journals(place)
        if place == folder and not journal_path(folder, "next").exists():
            journal = Journal(folder, session="next", context={"user": "ada", "host": "here"})
            for _ in range(3):
                journal.stamp("cell", content={"source": "x"})
            journal.close()
        return found

    monkeypatch.setattr(trail, "list_journals", lists_and_begins)
    found = verify(folder, trusted=trusted)
    assert found.ok, found.problems


def test_content_after_the_last_record_is_what_a_kill_leaves_where_the_journal_is_open(
    folder: Path, trusted: TrustedKeys
) -> None:
    journal = Journal(folder, session="stopped", context={"user": "ada", "host": "here"})
    journal.stamp("cell", content={"source": "x"})
    for number in (2, 3, 4):
        content_path(folder, "stopped", number).write_bytes(b"{}")
    found = verify(folder, trusted=trusted)
    assert found.ok, found.problems
    assert any("content of 3 records (2 to 4) that were not written" in note for note in found.notes)
    content_path(folder, "stopped", 6).write_bytes(b"{}")
    assert "record 6: 6.json is content that belongs to no record" in said(verify(folder, trusted=trusted))
    content_path(folder, "stopped", 6).unlink()
    journal.close()
    found = verify(folder, trusted=trusted)
    assert [problem.seq for problem in found.problems] == [3, 4]


def test_what_a_sealer_leaves_behind_is_no_fault(folder: Path, trusted: TrustedKeys) -> None:
    (log_folder(folder, "old") / ".checkpoint.unfinished").write_bytes(b"half")
    assert verify(folder, trusted=trusted).ok
    # Leaves that came after the last seal are in the journal only.
    journal = Journal(folder, session="next", context={"user": "ada", "host": "here"})
    journal.stamp("cell", content={"source": "x"})
    found = verify(folder, trusted=trusted)
    assert found.ok, found.problems
    journal.close()


def test_each_unfinished_tile_says_the_same_and_is_heard_once(
    folder: Path, keys: LogKeys, trusted: TrustedKeys
) -> None:
    journal = Journal(folder, session="next", context={"user": "ada", "host": "here"})
    for _ in range(3):
        journal.stamp("cell")
        journal.flush()
        seal(folder, "next", keys)
    journal.close()
    path = journal_path(folder, "next")
    path.write_bytes(path.read_bytes().replace(b'"status":"ok"', b'"status":"no"', 1))
    problems = verify(folder, trusted=trusted).problems
    assert any("is not the one that its log holds" in problem.message for problem in problems)
    assert len(problems) == len(set(problems))
