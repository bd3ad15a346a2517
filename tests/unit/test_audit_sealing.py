"""Sealing: what a journal holds becomes a signed log, once, and nothing that contradicts it is signed."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

import pytest

from jupyter_llmops.audit.files import head_path
from jupyter_llmops.audit.journal import Journal
from jupyter_llmops.audit.leaf import canonical
from jupyter_llmops.audit.sealing import SessionLog, log_folder, origin_of, seal
from jupyter_llmops.audit.tlog.merkle import leaf_hash
from jupyter_llmops.audit.tlog.note import parse_note, verify_note
from jupyter_llmops.errors import AuditError
from jupyter_llmops.keys.signing import LogKeys


@pytest.fixture
def keys(tmp_path: Path) -> LogKeys:
    return LogKeys.load(tmp_path / "keys")


@pytest.fixture
def journal(tmp_path: Path) -> Journal:
    return Journal(tmp_path / "audit", context={"user": "ada", "host": "lab"})


def stamp(journal: Journal, count: int) -> None:
    for number in range(count):
        journal.stamp("cell", fields={"execution_count": number})
    journal.flush()


def root_of(lines: list[bytes]) -> bytes:
    """Return the RFC 6962 root by its definition, which shares nothing with the code."""
    if len(lines) == 1:
        return sha256(b"\0" + lines[0]).digest()
    split = 1
    while split * 2 < len(lines):
        split *= 2
    return sha256(b"\1" + root_of(lines[:split]) + root_of(lines[split:])).digest()


def test_the_head_is_the_root_over_the_lines_and_is_signed(journal: Journal, keys: LogKeys) -> None:
    for count in (1, 4, 300):
        stamp(journal, count)
        head = seal(journal.folder, journal.session, keys)
        lines = journal.path.read_bytes().splitlines()
        assert head is not None
        assert (head.origin, head.size, head.root) == (origin_of(journal.session), len(lines), root_of(lines))
        note = parse_note((log_folder(journal.folder, journal.session) / "checkpoint").read_bytes())
        assert verify_note(note, [keys.session_vkey(journal.session)]) == (head.origin,)
        assert note.text == head.text
    store = SessionLog(journal.folder, journal.session, keys).tiles
    assert list(store.entries(0, len(lines))) == lines
    assert list(store.leaf_hashes(0, len(lines))) == [leaf_hash(line) for line in lines]


def test_repeating_it_changes_nothing(journal: Journal, keys: LogKeys) -> None:
    stamp(journal, 5)
    log = SessionLog(journal.folder, journal.session, keys)
    first = log.seal()
    before = {path: path.read_bytes() for path in log.tiles.folder.rglob("*") if path.is_file()}
    assert log.seal() == first == seal(journal.folder, journal.session, keys)
    assert {path: path.read_bytes() for path in log.tiles.folder.rglob("*") if path.is_file()} == before


def test_nothing_to_seal(tmp_path: Path, keys: LogKeys) -> None:
    assert seal(tmp_path / "audit", "s", keys) is None
    assert not (tmp_path / "audit").exists()


def test_two_that_seal_in_turns_agree(journal: Journal, keys: LogKeys) -> None:
    one, two = (SessionLog(journal.folder, journal.session, keys) for _ in range(2))
    for count in (3, 1, 260, 2):
        stamp(journal, count)
        assert one.seal() == two.seal()
        stamp(journal, 1)
        assert two.seal() == one.seal()


def test_only_what_is_new_is_read(journal: Journal, keys: LogKeys, monkeypatch: pytest.MonkeyPatch) -> None:
    stamp(journal, 50)
    log = SessionLog(journal.folder, journal.session, keys)
    log.seal()
    seen: list[int] = []
    check = SessionLog._what_is_wrong

    def count(self: SessionLog, line: bytes, mark, *rest) -> str:  # type: ignore[no-untyped-def]
        seen.append(mark.seq)
        return check(self, line, mark, *rest)

    monkeypatch.setattr(SessionLog, "_what_is_wrong", count)
    log.seal()
    stamp(journal, 2)
    log.seal()
    assert seen == [51, 52]


@pytest.mark.parametrize("fault", ["no checkpoint", "older checkpoint", "torn line", "unfinished head"])
def test_what_a_kill_leaves_is_repaired(journal: Journal, keys: LogKeys, fault: str) -> None:
    stamp(journal, 3)
    seal(journal.folder, journal.session, keys)
    checkpoint = log_folder(journal.folder, journal.session) / "checkpoint"
    old = checkpoint.read_bytes()
    stamp(journal, 4)
    match fault:
        case "no checkpoint":
            shutil.rmtree(checkpoint.parent)
            seal(journal.folder, journal.session, keys)
            checkpoint.unlink()
        case "older checkpoint":
            seal(journal.folder, journal.session, keys)
            checkpoint.write_bytes(old)
        case "torn line":
            with journal.path.open("ab") as file:
                file.write(b'{"act')
        case "unfinished head":  # the line was written, its head not yet
            path = head_path(journal.folder, journal.session)
            wanted, _ = path.read_bytes().splitlines(keepends=True)
            line = journal.path.read_bytes().splitlines()[-2]
            stored = f"stored {6:>20d} {sha256(line).hexdigest()}".ljust(103) + "\n"
            path.write_bytes(wanted + stored.encode())
    head = seal(journal.folder, journal.session, keys)
    assert head is not None
    assert head.size == 8
    assert head.root == root_of(journal.path.read_bytes().splitlines()[:8])


def edit(lines: list[bytes]) -> list[bytes]:
    leaf = json.loads(lines[2])
    return [*lines[:2], canonical(leaf | {"execution_count": 99}), *lines[3:]]


ATTACKS: dict[str, Callable[[list[bytes]], list[bytes]]] = {
    "edit": edit,
    "delete": lambda lines: lines[:2] + lines[3:],
    "reorder": lambda lines: [lines[0], lines[2], lines[1], *lines[3:]],
    "insert": lambda lines: [*lines[:3], lines[1], *lines[3:]],
    "truncate": lambda lines: lines[:3],
    "append": lambda lines: [*lines, lines[-1]],
    "garbage": lambda lines: [*lines, b"garbage"],
}


@pytest.mark.parametrize("sealed", [0, 3, 6])
@pytest.mark.parametrize("attack", ATTACKS)
def test_a_changed_journal_is_not_signed(journal: Journal, keys: LogKeys, attack: str, sealed: int) -> None:
    if sealed:
        stamp(journal, sealed - 1)
        assert seal(journal.folder, journal.session, keys) is not None
    stamp(journal, 8 - sealed)
    true = journal.path.read_bytes().splitlines()
    journal.path.write_bytes(b"".join(line + b"\n" for line in ATTACKS[attack](true)))
    with pytest.raises(AuditError, match="can't be sealed"):
        seal(journal.folder, journal.session, keys)
    if attack not in ("append", "garbage"):  # then all that the head knows of is sealed
        with pytest.raises(AuditError, match="can't be sealed"):
            seal(journal.folder, journal.session, keys)
    # What is signed is true all the same.
    head = SessionLog(journal.folder, journal.session, keys).signed()
    if head is not None:
        assert head.root == root_of(true[: head.size])


@pytest.mark.parametrize("warm", [False, True])
def test_a_chain_that_was_made_anew_is_not_signed(journal: Journal, keys: LogKeys, warm: bool) -> None:
    stamp(journal, 4)
    log = SessionLog(journal.folder, journal.session, keys)
    signed = log.seal()
    stamp(journal, 1)
    made: list[bytes] = []
    for line in journal.path.read_bytes().splitlines():
        leaf = json.loads(line) | {"prev": sha256(made[-1]).hexdigest() if made else "0" * 64}
        if leaf["seq"] == 2:
            leaf["execution_count"] = 77
        made.append(canonical(leaf))
    journal.path.write_bytes(b"".join(line + b"\n" for line in made))
    mark = f"{len(made) - 1:>20d} {sha256(made[-1]).hexdigest()}"
    lines = [f"{word} {mark}".ljust(103) + "\n" for word in ("wanted", "stored")]
    head_path(journal.folder, journal.session).write_text("".join(lines))
    with pytest.raises(AuditError, match="can't be sealed" if warm else "record 2 of its journal"):
        (log if warm else SessionLog(journal.folder, journal.session, keys)).seal()
    assert log.signed() == signed
    head_path(journal.folder, journal.session).unlink()
    with pytest.raises(AuditError, match="head of its journal"):
        log.seal()


def test_a_log_that_was_changed_or_rolled_back_is_not_signed(journal: Journal, keys: LogKeys) -> None:
    stamp(journal, 3)
    seal(journal.folder, journal.session, keys)
    folder = log_folder(journal.folder, journal.session)
    shutil.copytree(folder, folder.with_name("old"))
    stamp(journal, 3)
    log = SessionLog(journal.folder, journal.session, keys)
    known = log.seal()
    assert known is not None
    shutil.rmtree(folder)
    shutil.copytree(folder.with_name("old"), folder)
    other = replace(known, root=bytes(32))
    with pytest.raises(AuditError, match="not those that were signed"):
        SessionLog(journal.folder, journal.session, keys).seal(other)
    assert log.signed() != known
    with pytest.raises(AuditError, match="9 were signed before"):
        SessionLog(journal.folder, journal.session, keys).seal(replace(known, size=9))
    # The journal makes the very same again.
    assert log.seal(known) == known
    shutil.rmtree(folder)
    assert log.seal(known) == known
    shutil.rmtree(folder)
    shutil.copytree(folder.with_name("old"), folder)
    tile = next((folder / "tile" / "0").rglob("4"))
    tile.write_bytes(os.urandom(len(tile.read_bytes())))
    with pytest.raises(AuditError, match="not those that were signed"):
        seal(journal.folder, journal.session, keys)


def test_another_s_checkpoint_is_not_continued(keys: LogKeys, tmp_path: Path) -> None:
    # A name that an older version gave says nothing of its key.
    journal = Journal(tmp_path / "audit", session="20261103T101502Z-5f0c2a9e")
    stamp(journal, 3)
    seal(journal.folder, journal.session, LogKeys.load(tmp_path / "eve"))
    stamp(journal, 1)
    with pytest.raises(AuditError, match="not signed with this user's key"):
        seal(journal.folder, journal.session, keys)
    (log_folder(journal.folder, journal.session) / "checkpoint").write_text("nonsense")
    with pytest.raises(AuditError, match="can't be read"):
        seal(journal.folder, journal.session, keys)


def test_a_session_of_which_only_the_head_is_left_stays_as_it_is(journal: Journal, keys: LogKeys) -> None:
    stamp(journal, 3)
    journal.close()
    head = seal(journal.folder, journal.session, keys)
    journal.path.unlink()
    head_path(journal.folder, journal.session).unlink()
    shutil.rmtree(log_folder(journal.folder, journal.session) / "tile")
    assert seal(journal.folder, journal.session, keys) == head
