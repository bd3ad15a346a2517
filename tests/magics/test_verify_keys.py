"""%audit verify where this user's key can't be read or was replaced, or the clock is wrong: nobody is accused of it."""

from __future__ import annotations

import errno
import os
import shutil
import time
from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest

from jupyter_llmops.agent.heads import HeadKeeper
from jupyter_llmops.audit.sealing import log_folder, origin_of
from jupyter_llmops.audit.tlog.checkpoint import Checkpoint, parse_checkpoint
from jupyter_llmops.audit.tlog.note import format_note, parse_note, sign_note
from jupyter_llmops.audit.verification import TrustedKeys, verify
from jupyter_llmops.display.verification import verification_text
from jupyter_llmops.keys import signing
from jupyter_llmops.keys.signing import LogKeys, key_mark, keys_folder, said_keys
from jupyter_llmops.records.trail import Signer

if TYPE_CHECKING:
    from pathlib import Path

    from jupyter_llmops.workspace import Workspace
    from magic_shell import Notebook


@pytest.fixture
def workspace(notebook: Notebook) -> Workspace:
    """A home with a sealed session, to which only cells add records."""
    notebook.run("x = 1")
    notebook.run("y = 2")
    stamper = notebook.workspace.stamper
    assert stamper is not None
    assert stamper.environment is not None
    stamper.environment.stop()  # whose thread would add a record at a moment of its own
    found = notebook.workspace.verify()
    assert found.ok, found.problems
    assert notebook.workspace.journal.session.endswith(key_mark(LogKeys.load(keys_folder()).log_public))
    return notebook.workspace


def sign_as_another(workspace: Workspace, tmp_path: Path) -> None:
    """Replace the signature of this session's log by one of a key of somebody else."""
    path = log_folder(workspace.audit_folder, workspace.journal.session) / "checkpoint"
    checkpoint = parse_checkpoint(parse_note(path.read_bytes()).text)
    other = LogKeys.load(tmp_path / "eve").log
    origin = origin_of(workspace.journal.session)
    path.write_bytes(format_note(sign_note(checkpoint.text, origin, other)))


@pytest.mark.parametrize("known", ["written down", "in the catalog"])
def test_signatures_are_checked_by_what_is_known_of_a_key_that_can_t_be_read(
    workspace: Workspace, tmp_path: Path, known: str
) -> None:
    if known == "in the catalog":
        keeper = HeadKeeper(workspace.audit_folder, workspace.catalog)
        keeper.seal(closing=True)
        assert keeper.publish() == 1
        (keys_folder() / "log.id").unlink()
    (keys_folder() / "log.key").write_text("nonsense")
    found = workspace.verify()
    assert found.ok, found.problems
    (note,) = [note for note in found.notes if "log.key" in note]
    assert "holds no Ed25519 key" in note
    assert "Move" in note
    sign_as_another(workspace, tmp_path)
    (problem,) = workspace.verify().problems
    assert "not signed by the key of this log" in problem.message


@pytest.mark.parametrize("published", [False, True])
def test_what_can_t_be_judged_is_neither_accused_nor_verified(
    workspace: Workspace, tmp_path: Path, *, published: bool
) -> None:
    session = workspace.journal.session
    if published:  # and the catalog has lost whose key that is
        keeper = HeadKeeper(workspace.audit_folder, workspace.catalog)
        keeper.seal(closing=True)
        keeper.publish()
        workspace.catalog._connection.writing("signers", lambda handle: handle.delete("true"))
    (keys_folder() / "log.id").unlink()
    (keys_folder() / "log.key").write_text("nonsense")
    for strange in (False, True):
        if strange:  # so nobody can tell
            sign_as_another(workspace, tmp_path)
        found = workspace.verify()
        (problem,) = found.problems
        assert (problem.session, problem.seq) == ("", None)
        assert problem.message == f"1 log could not be judged, as the key that signs can't be read: {session}"
        assert "verified" not in verification_text(found)
    # What needs no signature is found all the same.
    path = workspace.journal.path
    path.write_bytes(path.read_bytes().replace(b'"status":"ok"', b'"status":"OK"', 1))
    assert any(one.session == session for one in workspace.verify().problems)
    # So is a log that is gone although others know it.
    if published:
        workspace.journal.close()
        for place in (path, path.with_suffix(".head"), workspace.audit_folder / "agent"):
            shutil.rmtree(place) if place.is_dir() else place.unlink()
        shutil.rmtree(log_folder(workspace.audit_folder, session))
        shutil.rmtree(workspace.audit_folder / "content" / session, ignore_errors=True)
        found = workspace.verify()
        assert session in found.problems[-1].message
        assert not found.ok


def test_logs_of_a_key_that_was_moved_away_verify(workspace: Workspace) -> None:
    """That is what the error of a damaged key says to do."""
    (keys_folder() / "log.key").rename(keys_folder() / "log.key.away")
    found = workspace.verify()
    assert found.ok, found.problems
    assert not workspace.journal.session.endswith(key_mark(LogKeys.load(keys_folder()).log_public))


def test_a_session_that_is_gone_is_missed_although_its_key_was_moved_away(workspace: Workspace) -> None:
    keeper = HeadKeeper(workspace.audit_folder, workspace.catalog)
    keeper.seal(closing=True)
    keeper.publish()
    session, path = workspace.journal.session, workspace.journal.path
    heads = workspace.catalog.heads.list()
    before = LogKeys.load(keys_folder())
    workspace.journal.close()
    for place in (path, path.with_suffix(".head")):
        place.unlink()
    shutil.rmtree(log_folder(workspace.audit_folder, session))
    shutil.rmtree(workspace.audit_folder / "content" / session, ignore_errors=True)
    (keys_folder() / "log.key").rename(keys_folder() / "log.key.away")
    keys = LogKeys.load(keys_folder())
    assert keys.log_public != before.log_public
    own = (keys.log_public, keys.witness_public)
    user, site = workspace.user, workspace.settings.site
    trusted = TrustedKeys(user, site, own=own, former=said_keys(keys_folder()))
    found = verify(workspace.audit_folder, trusted=trusted, heads=heads)
    assert session in [problem.session for problem in found.problems]
    # Of a key that this home never had nobody can say here what became of its logs.
    found = verify(workspace.audit_folder, trusted=replace(trusted, former=()), heads=heads)
    assert found.ok


@pytest.mark.parametrize("name", ["log.key", "witness.key"])
def test_records_that_no_key_signs_any_more_are_a_problem(
    notebook: Notebook, workspace: Workspace, name: str
) -> None:
    (keys_folder() / name).chmod(0o644)
    assert workspace.verify().ok, "all is signed"
    notebook.run("z = 3")
    found = workspace.verify()
    (problem,) = found.problems
    assert (problem.session, problem.seq) == ("", None)
    assert problem.message.startswith("1 record is under no signed head")
    assert f"Type !chmod 600 {keys_folder() / name}" in problem.message
    assert "verified" not in verification_text(found)
    (keys_folder() / name).chmod(0o600)
    assert workspace.verify().ok


def test_a_home_that_can_t_be_written_and_has_no_key_is_told_so_in_a_note(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(errno.EROFS, os.strerror(errno.EROFS))

    notebook.run("x = 1")
    shutil.rmtree(keys_folder())
    monkeypatch.setattr(signing, "put_key", refuse)
    found = notebook.workspace.verify()
    assert found.ok, found.problems
    assert any("can't be kept" in note for note in found.notes)


def test_a_list_of_keys_that_others_may_write_is_said(workspace: Workspace) -> None:
    (keys_folder() / "log.id").chmod(0o666)
    found = workspace.verify()
    assert found.ok, found.problems
    (note,) = [note for note in found.notes if "log.id" in note]
    assert "Type !chmod 600" in note


def test_a_log_that_was_signed_while_the_clock_was_ahead_is_signed_further(
    notebook: Notebook, workspace: Workspace
) -> None:
    checkpoint = log_folder(workspace.audit_folder, workspace.journal.session) / "checkpoint"
    before = parse_checkpoint(parse_note(checkpoint.read_bytes()).text).size
    later = time.time() + 3600
    os.utime(checkpoint, (later, later))
    notebook.run("z = 3")
    assert workspace.verify().ok
    signed = parse_checkpoint(parse_note(checkpoint.read_bytes()).text)
    assert signed.size > before


def test_a_key_that_somebody_names_judges_no_log_of_which_nobody_knows_the_key(tmp_path: Path) -> None:
    ada, eve = LogKeys.load(tmp_path / "ada"), LogKeys.load(tmp_path / "eve")
    named = Signer("log", "", eve.log_vkey("ada", "lab"), "ada", "lab", datetime.now(UTC))
    trusted = TrustedKeys("ada", "lab", signers=(named,), unreadable=True)
    old = "20261103T101502Z-5f0c2a9e"  # of an older version

    def note(session: str, keys: LogKeys) -> bytes:
        text = Checkpoint(origin_of(session), 3, bytes(32)).text
        return format_note(sign_note(text, origin_of(session), keys.log))

    assert not trusted.judges(old, [note(old, ada), b"nonsense"])
    assert trusted.judges(old, [note(old, eve)])
    hers, his = (f"{old}-{key_mark(keys.log_public)}" for keys in (eve, ada))
    assert trusted.judges(hers, [note(hers, ada)])
    assert not trusted.judges(his, [note(his, ada)])
    assert replace(trusted, unreadable=False).judges(his, [])
