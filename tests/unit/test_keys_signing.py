"""The two keys that sign: made once, private, shown nowhere."""

from __future__ import annotations

import os
import pickle
import stat
import subprocess
import sys
from pathlib import Path

import pytest

from jupyter_llmops.errors import AuditError
from jupyter_llmops.keys.signing import COSIGNATURE, LogKeys, public_half, verifier_key, witness_name


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


def test_many_processes_make_one_key(tmp_path: Path, repository: Path) -> None:
    program = (
        "import sys, pathlib; from jupyter_llmops.keys.signing import LogKeys; input();"
        "print(LogKeys.load(pathlib.Path(sys.argv[1])).log_public.hex())"
    )
    processes = [
        subprocess.Popen(
            [sys.executable, "-c", program, str(tmp_path / "keys")],
            env={**os.environ, "PYTHONPATH": str(repository / "src")},
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        for _ in range(4)
    ]
    assert len({process.communicate("\n", timeout=60)[0] for process in processes}) == 1


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
