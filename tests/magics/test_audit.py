"""%audit: verify against what somebody kept, prove, export, forget and retain, as they are typed."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jupyter_llmops.audit import check_proof
from jupyter_llmops.errors import AuditError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from magic_shell import Notebook

CHECKER = Path(check_proof.__file__)


def test_a_proof_is_checked_without_this_package_and_the_log_against_it(
    notebook: Notebook, tmp_path: Path
) -> None:
    notebook.run("x = 1")
    proof = notebook.run(f"%audit prove In[2] -o {tmp_path}/x.tlog-proof")
    command = [sys.executable, "-I", str(CHECKER), proof.path, proof.vkey]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, "a cell of " in done.stdout) == (0, True), done.stdout + done.stderr
    shown = notebook.shown(proof)
    assert proof.vkey in shown
    assert "check_proof.py" in shown
    keys = notebook.run("%audit keys")
    assert [signer.kind for signer in keys][:2] == ["log", "witness"]
    assert keys[0].vkey.endswith(proof.vkey.rpartition("+")[2][-20:]), "one key signs all logs"
    command[-1] = keys[0].vkey
    assert subprocess.run(command, check=False).returncode == 0, "the key under its general name, too"
    command[-1] = keys[1].vkey
    assert subprocess.run(command, check=False).returncode == 1
    assert keys[1].vkey in notebook.shown(keys, "text/html")
    assert proof.size_bytes <= 1024

    notebook.run("x = 2")
    assert notebook.run(f"%audit verify --against {proof.path}").ok
    journal = notebook.workspace.journal.path
    journal.write_bytes(journal.read_bytes().replace(b'"status":"ok"', b'"status":"no"', 1))
    found = notebook.run(f"%audit verify --against {proof.path}")
    assert not found.ok


def test_runs_are_exported_with_the_filters_of_runs(notebook: Notebook, tmp_path: Path) -> None:
    notebook.run("x = 1")
    notebook.fail("1 / 0")
    notebook.run(f"%audit export {tmp_path}/errors.csv --kind cell --status error")
    lines = (tmp_path / "errors.csv").read_text("utf-8").splitlines()
    assert len(lines) == 2
    assert "ZeroDivisionError" in lines[1]
    # Only an older export is replaced.
    notes = tmp_path / "notes.csv"
    notes.write_text("my notes")
    with pytest.raises(UsageError, match="is no export of this format, and was left as it is"):
        notebook.run(f"%audit export {notes}")
    assert notes.read_text() == "my notes"
    assert notebook.run(f"%audit export {tmp_path}/errors.csv --kind cell").runs > 1


def test_forgetting_and_pruning_show_first_what_would_go(notebook: Notebook) -> None:
    notebook.run("secret_plan = 'nobody knows'")
    run = notebook.workspace.run("In[2]")
    assert not notebook.run("%audit forget In[2]").done
    assert notebook.workspace.content(run)
    assert notebook.run("%audit forget In[2] --yes").done
    assert notebook.workspace.content(run) is None
    verification = notebook.run("%audit verify")
    assert verification.ok
    assert "forgotten" in notebook.shown(verification)
    assert "session" in notebook.shown(notebook.run("%audit retain 1y"))


@pytest.mark.parametrize(
    ("line", "error", "says"),
    [
        ("%audit verify now", UsageError, "too much"),
        ("%audit verify --yes", UsageError, "--yes means nothing to %audit verify"),
        ("%audit verify --against nowhere.note", AuditError, "nowhere.note"),
        ("%audit proof", UsageError, "prove"),
        ("%audit prove ffff", UnknownNameError, "ffff"),
        ("%audit export", UsageError, "%audit export FILE"),
        ("%audit forget", UsageError, "%audit forget RUN"),
        ("%audit retain soon", UsageError, "soon"),
        ("%audit retain", UsageError, "Type an age: %audit retain 1y"),
        ("%audit retain -1d", UsageError, "Usage: %audit [verify | prove RUN | keys"),
        ("%audit verfiy", UsageError, "Did you mean verify?"),
        ("%audit export nowhere/runs.csv", AuditError, "No such file or directory"),
        ("%audit export .", UsageError, ". is a folder. Name a file in it, e.g. runs.csv"),
        ("%audit verify --checker", UsageError, "--checker means nothing to %audit verify, only to prove"),
    ],
)
def test_what_is_typed_wrongly_is_said(
    notebook: Notebook, line: str, error: type[Exception], says: str
) -> None:
    notebook.run("x = 1")
    with pytest.raises(error, match=re.escape(says)):
        notebook.run(line)


def test_tab_knows_what_may_stand_where(
    notebook: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("kept.checkpoint").write_text("")
    notebook.run("table, losses = {}, [1.0]")
    notebook.shell.Completer.use_jedi = False
    run = notebook.workspace.run("In[2]").id
    expected = {
        "%audit ": {"verify", "prove", "keys", "export", "forget", "retain", "--against"},
        "%audit export x.csv --format ": {"csv", "otel"},
        "%audit verify --against ke": {"kept.checkpoint"},
        "%audit export k": {"kept.checkpoint"},
        "%audit retain ": {"30d", "90d", "1y", "2y"},
        "%audit prove ": {"In[2]", run},
        "%audit prove In": {"In[1]", "In[2]"},
        "%audit forget ": {"In[2]", run},
        "%runs diff In[1] ": {"In[2]", run},
        "%llmops autoload ": {"on", "off"},
        "%llmops join k": {"kept.checkpoint"},
        "%%training --l": {"--loss"},
        "%%training -d ": {"table", "losses", "kept.checkpoint"},
        "%%training t -w ta": {"table"},
        "%%training t --loss ": {"losses"},
    }
    found = {line: set(notebook.shell.complete(None, line, len(line))[1]) for line in expected}
    assert {line: words - found[line] for line, words in expected.items() if words - found[line]} == {}
    assert notebook.shell.complete(None, "%audit prove In[", 16)[1] == ["1]", "2]"]
    assert found["%%training t --loss "] == {"losses"}
    assert found["%audit export x.csv --format "] == {"csv", "otel"}
