"""The team's key: made once, private, whole or not at all, handed over in a file and shown nowhere."""

from __future__ import annotations

import os
import pickle
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from jupyter_llmops.errors import TeamKeyError
from jupyter_llmops.keys.team import TeamKey, invite, join, key_path, read_key, readable_by_others, team_key


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LLMOPS_HOME", str(tmp_path / "home"))
    return tmp_path / "home"


def test_made_once_and_private(home: Path):
    key = team_key("s3://bucket/team")
    assert len(key.secret) == 32
    assert key.path is not None
    assert key.path.parent == home / "keys"
    assert stat.S_IMODE(key.path.stat().st_mode) == 0o600
    assert stat.S_IMODE(key.path.parent.stat().st_mode) == 0o700
    assert team_key("s3://bucket/team") == key
    assert team_key("s3://bucket/other").secret != key.secret
    assert [path.name for path in key.path.parent.iterdir() if path.name.startswith(".")] == []


def test_a_folder_has_one_key_whatever_link_leads_to_it(tmp_path: Path):
    (tmp_path / "catalog").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "catalog")
    assert team_key(str(tmp_path / "link")).id == team_key(str(tmp_path / "catalog")).id


def test_the_secret_shows_nowhere():
    key = team_key("c")
    for shown in (repr(key), str(key), f"{key}", key.id):
        assert key.secret.hex() not in shown
        assert repr(key.secret) not in shown
    with pytest.raises(TypeError):
        pickle.dumps(key)


def test_many_processes_make_one_key(home: Path, repository: Path):
    program = "from jupyter_llmops.keys.team import team_key; input(); print(team_key('c').id)"
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program],
            env={**os.environ, "PYTHONPATH": str(repository / "src")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    assert len({process.communicate()[0] for process in processes}) == 1
    assert len(list((home / "keys").iterdir())) == 1


def test_invited_and_joined(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    mine = invite("c", tmp_path / "invitation")
    assert stat.S_IMODE((tmp_path / "invitation").stat().st_mode) == 0o600
    monkeypatch.setenv("LLMOPS_HOME", str(tmp_path / "colleague"))
    theirs = team_key("c")
    key, former = join("c", tmp_path / "invitation")
    assert key.id == mine.id == team_key("c").id
    assert former is not None
    assert read_key(former).id == theirs.id
    assert stat.S_IMODE(former.stat().st_mode) == 0o600
    assert join("c", tmp_path / "invitation") == (key, None), "twice changes nothing"
    assert join("c", former)[0].id == theirs.id, "and back"


def test_a_readable_invitation_can_be_joined_with_and_becomes_private(tmp_path: Path):
    """It may come by a way that changed its mode."""
    invite("c", tmp_path / "invitation")
    (tmp_path / "invitation").chmod(0o666)
    key, _ = join("d", tmp_path / "invitation")
    assert key.path is not None
    assert stat.S_IMODE(key.path.stat().st_mode) == 0o600


@pytest.mark.parametrize(
    "content",
    [b"", b"llmops-team-key/1", b"llmops-team-key/1 AAAA", b"llmops-team-key/2 " + b"A" * 44, b"\xff" * 9000],
)
def test_no_key_is_one_sentence_and_nothing_is_lost(tmp_path: Path, content: bytes):
    before = team_key("c")
    (tmp_path / "bad").write_bytes(content)
    with pytest.raises(TeamKeyError, match="holds no key"):
        join("c", tmp_path / "bad")
    assert team_key("c") == before
    assert before.path is not None
    before.path.write_bytes(content)
    with pytest.raises(TeamKeyError, match=r"Move .* away"):
        team_key("c")
    assert before.path.read_bytes() == content


def test_what_others_may_write_is_refused():
    path = team_key("c").path
    assert path is not None
    path.chmod(0o620)
    with pytest.raises(TeamKeyError, match="chmod 600"):
        team_key("c")
    path.chmod(0o640)
    assert team_key("c")
    assert readable_by_others(path)
    path.chmod(0o600)
    assert not readable_by_others(path)


def test_a_pipe_is_no_key(tmp_path: Path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(TeamKeyError, match="no file that holds a key"):
        join("c", tmp_path / "pipe")


def test_the_environment_names_a_key(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    key = invite("c", tmp_path / "given")
    monkeypatch.setenv("LLMOPS_TEAM_KEY_FILE", str(tmp_path / "given"))
    assert team_key("any").id == key.id
    assert key_path("any") == tmp_path / "given"
    with pytest.raises(TeamKeyError, match="LLMOPS_TEAM_KEY_FILE"):
        join("any", tmp_path / "given")
    monkeypatch.setenv("LLMOPS_TEAM_KEY_FILE", str(tmp_path / "gone"))
    with pytest.raises(TeamKeyError, match="there is no such file"):
        team_key("any")
    assert not (tmp_path / "gone").exists()


def test_ids_tell_keys_apart():
    keys = [TeamKey(bytes([number]) * 32) for number in range(100)]
    assert len({key.id for key in keys}) == 100
