"""The two keys that sign: made once, private, shown nowhere."""

from __future__ import annotations

import contextlib
import errno
import os
import pickle
import stat
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from jupyter_llmops.audit.session import new_session_name
from jupyter_llmops.errors import AuditError
from jupyter_llmops.keys import signing
from jupyter_llmops.keys.signing import (
    COSIGNATURE,
    LogKeys,
    key_mark,
    log_mark,
    public_half,
    public_keys,
    said_keys,
    verifier_key,
    witness_name,
)


def test_made_once_and_private(tmp_path: Path) -> None:
    folder = tmp_path / "home" / "keys"
    keys = LogKeys.load(folder)
    assert sorted(path.name for path in folder.iterdir()) == ["log.id", "log.key", "witness.key"]
    assert {stat.S_IMODE(path.stat().st_mode) for path in folder.iterdir()} == {0o600}
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    again = LogKeys.load(folder)
    assert (again.log_public, again.witness_public) == (keys.log_public, keys.witness_public)
    assert keys.log_public != keys.witness_public
    assert b"BEGIN PRIVATE KEY" in (folder / "log.key").read_bytes()


def test_the_keys_show_nowhere(tmp_path: Path) -> None:
    keys = LogKeys.load(tmp_path)
    for shown in (repr(keys), str(keys), f"{keys}"):
        assert "Ed25519" not in shown
        assert keys.log.private_bytes_raw().hex() not in shown
    with pytest.raises(TypeError):
        pickle.dumps(keys)


def test_many_kernels_make_one_key_and_all_their_sessions_are_named_by_it(
    tmp_path: Path, repository: Path
) -> None:
    program = (
        "import sys, pathlib; from jupyter_llmops.audit.session import new_session_name;"
        "import jupyter_llmops.keys.signing, cryptography.hazmat.primitives.asymmetric.ed25519;"
        "print(flush=True); input(); print(new_session_name(pathlib.Path(sys.argv[1])).split('-')[2])"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "audit")],
            env={**os.environ, "PYTHONPATH": str(repository / "src"), "LLMOPS_HOME": str(tmp_path)},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "\n"
    for process in processes:  # all are ready
        assert process.stdin is not None
        process.stdin.write("\n")
        process.stdin.flush()
    marks = {process.communicate(timeout=60)[0].strip() for process in processes}
    assert marks == {key_mark(LogKeys.load(tmp_path / "keys").log_public)}


def test_one_key_is_made_where_files_can_t_be_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    both, exists, replace = threading.Barrier(2), Path.exists, Path.replace
    turns = iter((0.0, 0.3))

    def refuse(*_: object) -> None:
        raise PermissionError(errno.EPERM, os.strerror(errno.EPERM))

    def slow(path: Path) -> bool:
        """Let both look before one of them acts, where nothing keeps them apart."""
        found = exists(path)
        if path.name == "log.key":
            with contextlib.suppress(threading.BrokenBarrierError):
                both.wait(0.3)
        return found

    def in_turns(path: Path, target: Path) -> None:
        """Let the first take its key for the one that counts before the second acts."""
        time.sleep(next(turns) if target.name == "log.key" else 0.0)
        replace(path, target)

    monkeypatch.setattr(os, "link", refuse)
    monkeypatch.setattr(Path, "exists", slow)
    monkeypatch.setattr(Path, "replace", in_turns)
    with ThreadPoolExecutor(2) as pool:
        marks = set(pool.map(log_mark, [tmp_path / "keys"] * 2))
    assert marks == {key_mark(LogKeys.load(tmp_path / "keys").log_public)}


def test_the_first_session_is_named_by_the_key_and_later_ones_load_nothing_for_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert new_session_name(tmp_path / "audit").count("-") == 1, "no folder is a home by its looks"
    monkeypatch.setenv("LLMOPS_HOME", str(tmp_path))
    first = new_session_name(tmp_path / "audit")
    keys = LogKeys.load(tmp_path / "keys")
    assert first.endswith("-" + key_mark(keys.log_public))
    with monkeypatch.context() as patch:
        patch.setattr(signing, "log_mark", lambda _: pytest.fail("the key was loaded"))
        assert new_session_name(tmp_path / "audit")[-17:] == first[-17:]
    # An older version has not written down the key itself, and none wrote anything where the disk was full.
    for said in (b" ".join((tmp_path / "keys" / "log.id").read_bytes().split()[:2]), b"", None):
        (tmp_path / "keys" / "log.id").unlink() if said is None else (
            tmp_path / "keys" / "log.id"
        ).write_bytes(said)
        assert new_session_name(tmp_path / "audit")[-17:] == first[-17:]


@pytest.mark.parametrize("fault", ["read only", "a file", "full", "damaged", "unreadable"])
def test_a_home_that_takes_no_key_names_sessions_without_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    home, access = tmp_path / "home", os.access
    home.mkdir()
    monkeypatch.setenv("LLMOPS_HOME", str(home))
    match fault:
        case "read only":  # as said to the tests' user, who may be root
            monkeypatch.setattr(os, "access", lambda _, mode: not mode & os.W_OK)
            monkeypatch.setattr(signing, "log_mark", lambda _: pytest.fail("it was tried"))
        case "a file":
            (home / "keys").write_text("")
        case "full":

            def refuse(_: int) -> None:
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

            monkeypatch.setattr(os, "fsync", refuse)
        case "damaged":
            LogKeys.load(home / "keys")
            (home / "keys" / "log.key").write_text("nonsense")
        case "unreadable":
            LogKeys.load(home / "keys")
            (home / "keys" / "log.id").unlink()
            monkeypatch.setattr(os, "access", lambda path, mode: mode != os.R_OK and access(path, mode))
    assert new_session_name(home / "audit").count("-") == 1
    if fault == "full":
        assert list((home / "keys").iterdir()) == []  # no half a key


def test_the_former_keys_are_written_down(tmp_path: Path) -> None:
    keys = tmp_path / "keys"
    first = LogKeys.load(keys).log_public
    (keys / "log.key").unlink()
    second = LogKeys.load(keys).log_public
    assert said_keys(keys) == (second, first)
    assert new_session_name(tmp_path / "audit").endswith(key_mark(second))
    (keys / "log.id").write_text(f"{key_mark(first)} 1 {second.hex()}\nk é\n{key_mark(first)} 1\n")
    assert said_keys(keys) == ()


@pytest.mark.parametrize("fault", ["others may write it", "a link", "a folder"])
def test_a_list_of_keys_that_somebody_else_may_have_written_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    monkeypatch.setenv("LLMOPS_HOME", str(tmp_path))
    keys, eve = LogKeys.load(tmp_path / "keys"), LogKeys.load(tmp_path / "eve")
    path, mark = tmp_path / "keys" / "log.id", key_mark(keys.log_public)
    path.chmod(0o644)  # what it says is public
    assert said_keys(tmp_path / "keys") == (keys.log_public,)
    # A line of Eve's, with the time of this home's key: kernels would name their sessions by her key.
    moment = (tmp_path / "keys" / "log.key").stat().st_mtime_ns
    hers = f"{key_mark(eve.log_public)} {moment} {eve.log_public.hex()}\n".encode()
    match fault:
        case "others may write it":
            path.write_bytes(hers + path.read_bytes())
            path.chmod(0o620)
        case "a link":
            (tmp_path / "hers").write_bytes(hers + path.read_bytes())
            path.unlink()
            path.symlink_to(tmp_path / "hers")
        case "a folder":
            path.unlink()
            path.mkdir()
    for _ in range(2):  # the first load keeps nothing of it
        with pytest.raises(AuditError, match=r"log\.id") as refused:
            said_keys(tmp_path / "keys")
        assert refused.value.hint
        assert new_session_name(tmp_path / "audit").endswith(mark)
        assert LogKeys.load(tmp_path / "keys").log_public == keys.log_public
        assert public_keys(tmp_path / "keys")[0] == keys.log_public
    (tmp_path / "keys" / "log.key").write_text("nonsense")
    assert public_keys(tmp_path / "keys")[0] == b""
    assert path.is_dir() == (fault == "a folder")


def test_what_others_may_read_or_is_no_key_is_refused(tmp_path: Path) -> None:
    LogKeys.load(tmp_path)
    (tmp_path / "log.key").chmod(0o640)
    with pytest.raises(AuditError, match="Others may read"):
        LogKeys.load(tmp_path)
    (tmp_path / "log.key").chmod(0o600)
    (tmp_path / "log.key").write_text("nonsense")
    with pytest.raises(AuditError, match="holds no Ed25519 key"):
        LogKeys.load(tmp_path)
    (tmp_path / "log.key").unlink()
    (tmp_path / "log.key").mkdir()
    with pytest.raises(AuditError, match="no file that holds a key"):
        LogKeys.load(tmp_path)


def test_public_keys_are_known_without_the_private_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert public_keys(tmp_path) == (b"", b"")
    assert list(tmp_path.iterdir()) == []
    keys = LogKeys.load(tmp_path)
    both = (keys.log_public, keys.witness_public)
    assert public_keys(tmp_path) == both
    opened = os.open

    def refuse(path: Path, *rest: int) -> int:
        if Path(path).name == "log.key":
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        return opened(path, *rest)

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refuse)
        assert public_keys(tmp_path) == both
        with pytest.raises(AuditError, match="Type !chmod 600"):
            LogKeys.load(tmp_path)
    (tmp_path / "witness.key").write_text("nonsense")
    assert public_keys(tmp_path) == (keys.log_public, b"")
    (tmp_path / "log.key").write_text("nonsense")
    (tmp_path / "log.id").unlink()
    assert public_keys(tmp_path) == (b"", b"")


def test_a_folder_that_can_t_be_written_is_said(tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="can't be kept"):
        LogKeys.load(Path("/sys/llmops/keys"))
    (tmp_path / "file").write_text("")
    with pytest.raises(AuditError, match=r"can't be (read|kept)"):
        LogKeys.load(tmp_path / "file")


def test_names_have_neither_spaces_nor_plus_signs(tmp_path: Path) -> None:
    assert witness_name("Ada L+1/x", "höst") == "jupyter-llmops/Ada%20L%2B1%2Fx@h%C3%B6st"
    keys = LogKeys.load(tmp_path)
    for vkey in (keys.log_vkey("a b", "h"), keys.session_vkey("s-1"), keys.witness_vkey("a+b", "h")):
        assert len(vkey.split("+")[0].split()) == 1
    assert keys.session_vkey("s-1").startswith("jupyter-llmops/s-1+")


def test_the_specification_s_verifier_key() -> None:
    # The example of c2sp.org/signed-note.
    vkey = "example.com/foo+530d903a+AekyeRrm56hApGFkyQR4ZCbV54Id2LKaANYcrnKv3U2k"
    assert verifier_key("example.com/foo", public_half(vkey)) == vkey


def test_a_key_under_two_names_is_one_key(tmp_path: Path) -> None:
    keys = LogKeys.load(tmp_path)
    assert public_half(keys.log_vkey("ada", "lab")) == public_half(keys.session_vkey("s")) == keys.log_public
    assert public_half(keys.witness_vkey("ada", "lab")) == keys.witness_public
    damaged = keys.session_vkey("s").replace("jupyter-llmops/s", "jupyter-llmops/t")
    for nonsense in ("", "a", "a+b+c", "a+00000000+AAAA", damaged, "é+\ud800+x"):
        assert public_half(nonsense) == b""
    assert verifier_key("a", b"\0" * 32, COSIGNATURE) != verifier_key("a", b"\0" * 32)
