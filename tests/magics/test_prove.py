"""A run of a notebook proven to somebody else: the file, who witnessed it, and what stops it."""

from __future__ import annotations

import shlex
import shutil
import subprocess
import sys
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from jupyter_llmops.audit import check_proof
from jupyter_llmops.audit.tlog.cosignature import cosign
from jupyter_llmops.audit.tlog.proof import parse_proof
from jupyter_llmops.errors import AuditError, CatalogError, UsageError
from jupyter_llmops.keys.signing import LogKeys, witness_name
from jupyter_llmops.records.trail import Cosignature, Head, Signer

if TYPE_CHECKING:
    from magic_shell import Notebook


@pytest.fixture(autouse=True)
def _here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")


def test_a_cell_is_proven_from_one_file_and_one_key(notebook: Notebook) -> None:
    notebook.run("x = 6 * 7")
    proof = notebook.workspace.prove("In[2]")
    run = notebook.workspace.run("In[2]")
    assert (proof.run_id, proof.path) == (run.id, f"{run.id}.tlog-proof")
    data = Path(proof.path).read_bytes()
    found = check_proof.check(data, proof.vkey)
    assert found["leaf"] == run.leaf
    assert found["size"] == proof.tree_size
    assert proof.size_bytes < 1024 < len(data)
    assert proof.vkey.startswith(f"jupyter-llmops/{run.session}+")
    assert proof.witnesses == ()


def test_the_checker_goes_with_a_proof(notebook: Notebook, tmp_path: Path) -> None:
    notebook.run("x = 1")
    plain = notebook.run("%audit prove In[2]")
    assert (plain.checker, Path("check_proof.py").exists()) == ("", False)
    assert f"%audit prove {plain.run_id} --checker writes check_proof.py" in notebook.shown(plain)
    folder = tmp_path / "for the auditor"
    folder.mkdir()
    proof = notebook.run(f"%audit prove In[2] --checker -o '{folder}'")
    assert Path(proof.checker) == folder / "check_proof.py"
    shown = notebook.shown(proof)
    assert f"{proof.checker}; it needs Python and its package cryptography" in shown
    assert all(part in notebook.shown(proof, "text/html") for part in (proof.vkey, proof.checker))
    command = shown.partition("to check it")[2].strip().splitlines()[0]
    words = [sys.executable, "-I", *shlex.split(command)[1:]]
    done = subprocess.run(words, capture_output=True, text=True, check=False)
    assert (done.returncode, "a cell of " in done.stdout) == (0, True), done.stdout + done.stderr
    notebook.run(f"%audit prove In[1] --checker -o '{folder}'")  # the same checker again
    (folder / "check_proof.py").write_text("print('mine')")
    with pytest.raises(UsageError, match="is no checker of proofs, and was left as it is"):
        notebook.run(f"%audit prove In[1] --checker -o '{folder}'")


@pytest.mark.parametrize("wrong", [3, b"x", ["x"]])
def test_what_is_no_name_of_a_file_is_said(notebook: Notebook, wrong: Any) -> None:
    notebook.run("x = 1")
    with pytest.raises(UsageError, match="is not the name of a file"):
        notebook.workspace.prove(-1, wrong)
    with pytest.raises(UsageError, match="is not the name of a file"):
        notebook.workspace.export_runs(wrong)


def test_where_a_proof_goes(notebook: Notebook, tmp_path: Path) -> None:
    notebook.run("x = 1")
    (tmp_path / "folder").mkdir()
    assert Path(notebook.workspace.prove("In[2]", tmp_path / "folder").path).parent == tmp_path / "folder"
    named = tmp_path / "named"
    notebook.workspace.prove("In[2]", named)
    notebook.run("y = 2")
    notebook.workspace.prove("In[2]", str(named))  # a newer proof takes the place of the older one
    assert parse_proof(named.read_bytes()).index == notebook.workspace.run("In[2]").seq
    other = tmp_path / "notes.txt"
    other.write_text("mine")
    with pytest.raises(UsageError, match="is no proof"):
        notebook.workspace.prove("In[2]", other)
    assert other.read_text() == "mine"
    with pytest.raises(UsageError, match="can't be written"):
        notebook.workspace.prove("In[2]", tmp_path / "nowhere" / "file")
    assert sorted(path.name for path in tmp_path.glob(".*")) == []


def publish(notebook: Notebook, witness: LogKeys, user: str = "grace") -> Head:
    """Publish the head that is signed now, cosigned by somebody whose key the team has named."""
    workspace = notebook.workspace
    run = workspace.run("In[2]")
    checkpoint = parse_proof(Path(workspace.prove("In[2]").path).read_bytes()).checkpoint.decode()
    text = checkpoint.partition("\n\n")[0] + "\n"
    _, size, root, _ = text.split("\n")
    moment = datetime.now(UTC)
    head = Head(run.session, int(size), root, checkpoint, run.user, run.host, moment)
    name = witness_name(user, "lab")
    signer = Signer("witness", name, witness.witness_vkey(user, "lab"), user, "lab", moment)
    line = cosign(text, name, witness.witness, 1_790_000_000).line
    workspace.catalog.heads.publish([head])
    workspace.catalog.cosignatures.publish([Cosignature(run.session, int(size), root, name, line, moment)])
    workspace.catalog.signers.name([signer])
    return head


def test_a_proof_carries_the_witness_of_the_team(notebook: Notebook, tmp_path: Path) -> None:
    witness = LogKeys.load(tmp_path / "grace")
    notebook.run("x = 1")
    head = publish(notebook, witness)
    notebook.run("y = 2")
    proof = notebook.workspace.prove("In[2]")
    assert (proof.tree_size, proof.witnesses) == (head.size, ("jupyter-llmops/grace@lab",))
    vkey = witness.witness_vkey("grace", "lab")
    found = check_proof.check(Path(proof.path).read_bytes(), proof.vkey, (vkey,))
    assert found["witnesses"] == {"jupyter-llmops/grace@lab": 1_790_000_000}
    assert proof.size_bytes <= 1024
    # What ran later is under a head that she has not seen.
    assert notebook.workspace.prove("In[3]").witnesses == ()


def test_nobody_witnesses_the_own_log(notebook: Notebook) -> None:
    from jupyter_llmops.keys.signing import keys_folder

    notebook.run("x = 1")
    publish(notebook, LogKeys.load(keys_folder()))
    assert notebook.workspace.prove("In[2]").witnesses == ()


def test_without_the_catalog_a_run_is_proven_by_its_own_log(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    def gone(*_: object) -> None:
        raise CatalogError("The catalog is gone.")

    notebook.run("x = 1")
    notebook.workspace.run("In[2]")
    monkeypatch.setattr(type(notebook.workspace.catalog.heads), "of", gone)
    proof = notebook.workspace.prove("In[2]")
    assert check_proof.check(Path(proof.path).read_bytes(), proof.vkey)["witnesses"] == {}


def test_a_run_of_another_machine_is_proven_there(notebook: Notebook) -> None:
    notebook.run("x = 1")
    run = notebook.workspace.run("In[2]")
    for session in ("20260101T000000Z-0123abcd", "../../etc", ""):
        with pytest.raises(AuditError, match="Only grace can prove it, on elsewhere"):
            notebook.workspace.prove(replace(run, session=session, user="grace", host="elsewhere"))


def test_a_log_that_contradicts_what_was_signed_proves_nothing(notebook: Notebook) -> None:
    notebook.run("x = 1")
    notebook.workspace.prove("In[2]")
    run = notebook.workspace.run("In[2]")
    shutil.rmtree(notebook.workspace.audit_folder / "log" / run.session / "tile")
    with pytest.raises(AuditError, match="were signed before"):
        notebook.workspace.prove("In[2]")


def test_a_session_without_its_journal_is_proven_by_its_log_and_a_pruned_one_is_not(
    notebook: Notebook,
) -> None:
    notebook.run("x = 1")
    run = notebook.workspace.run("In[2]")
    notebook.workspace.prove(run)
    notebook.workspace.close()
    notebook.workspace.audit_folder.joinpath("journal", f"{run.session}.jsonl").unlink()
    proof = notebook.workspace.prove(run)
    assert check_proof.check(Path(proof.path).read_bytes(), proof.vkey)["leaf"] == run.leaf
    shutil.rmtree(notebook.workspace.audit_folder / "log" / run.session / "tile")
    with pytest.raises(AuditError, match="was pruned: only its signed head is left"):
        notebook.workspace.prove(run)
