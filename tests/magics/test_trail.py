"""%runs and %audit on what really was stamped."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from jupyter_llmops.errors import AuditError, CatalogError, ReproduceError, UnknownNameError, UsageError
from jupyter_llmops.workspace.parts import TrailWarning

if TYPE_CHECKING:
    from magic_shell import Notebook


def test_every_cell_is_a_run_also_the_one_that_loads(notebook: Notebook) -> None:
    notebook.run("x = 1")
    notebook.fail("1 / 0")
    runs = notebook.run("%runs --kind cell")
    assert [(run.execution_count, run.status, run.error_type) for run in runs] == [
        (3, "error", "ZeroDivisionError"),
        (2, "ok", ""),
        (1, "ok", ""),
    ]
    assert "ZeroDivisionError" in notebook.shown(runs)
    assert "✗" in notebook.shown(runs, "text/html")


def test_a_prompt_belongs_to_its_cell(notebook: Notebook) -> None:
    completion = notebook.run("%%prompt\nHi there")
    prompt = notebook.run(f"%runs show {completion.run_id[:6]}").run
    cell = notebook.run("%runs show In[2]").run
    assert (cell.kind, cell.execution_count) == ("cell", 2)
    assert prompt.parent == cell.id


def test_runs_of_another_session_are_found_by_id(notebook: Notebook) -> None:
    completion = notebook.run("%%prompt\nHi there")
    notebook.run("%runs")
    from jupyter_llmops.settings import load_settings
    from jupyter_llmops.workspace import Workspace

    other = Workspace(load_settings(notebook.shell), notebook.workspace.folder)
    assert other.run(completion.run_id[:8]).model == "smollm2-135m-instruct"


def test_runs_of_other_users_are_not_called_missing(notebook: Notebook) -> None:
    from dataclasses import replace

    notebook.run("x = 1")
    run = notebook.run("%runs --kind cell")[0]
    foreign = replace(run, id="f" * 16, session="another", user="grace", host="elsewhere")
    notebook.workspace.catalog.runs.append([foreign])
    assert notebook.run("%audit verify").ok
    own = replace(run, id="e" * 16, session="vanished")
    notebook.workspace.catalog.runs.append([own])
    verification = notebook.run("%audit verify")
    # It is a copy of a row of this session under another name. Of the session that it names this home knows nothing.
    assert {problem.session for problem in verification.problems} == {run.session}
    assert any("vanished" in note for note in verification.notes)


def test_unknown_runs_say_so(notebook: Notebook) -> None:
    assert isinstance(notebook.fail("%runs show ffffffff"), UnknownNameError)
    assert isinstance(notebook.fail("%reproduce -5"), UnknownNameError)


def test_only_a_prompt_can_be_reproduced(notebook: Notebook) -> None:
    notebook.run("x = 1")
    cell = notebook.run("%runs --kind cell")[0]
    assert isinstance(notebook.fail(f"%reproduce {cell.id}"), ReproduceError)


def test_the_trail_verifies_until_one_byte_is_changed(notebook: Notebook) -> None:
    for index in range(5):
        notebook.run(f"x = {index}")
    assert notebook.run("%audit verify").ok
    path = notebook.workspace.journal.path
    lines = path.read_bytes().splitlines(keepends=True)
    changed = bytearray(lines[3])
    where = changed.index(b'"ok"') + 1
    changed[where] ^= 1
    path.write_bytes(b"".join([*lines[:3], bytes(changed), *lines[4:]]))
    verification = notebook.run("%audit verify")
    assert not verification.ok
    assert any(problem.seq == 3 for problem in verification.problems)
    shown = notebook.shown(verification)
    assert "3" in shown


def test_stamping_that_fails_warns_once_and_loses_nothing(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook.workspace.stamper.environment.stop()  # its record would come between, and be counted
    # A line of /dev/full's kind: the file is there, every write to it is refused.
    journal = notebook.workspace.journal
    written = journal._files.append

    def refuse(*_: object) -> None:
        raise OSError(28, "No space left on device", str(journal.path))

    journal._files.append = refuse  # type: ignore[method-assign]
    notebook.run("x = 1")
    assert any("1 record waits in memory" in note for note in notebook.workspace.verify().notes)
    assert "1 record of this session waits" in notebook.workspace.runs().note
    notebook.run("x = 2")
    assert notebook.shell.user_ns["x"] == 2
    assert journal.waiting == 2
    # Their content is written, their lines wait: no tampering, and the last that is written is not the last.
    verification = notebook.workspace.verify()
    assert verification.ok
    assert any("2 records wait in memory" in note for note in verification.notes)
    with pytest.raises(AuditError, match="wait in memory"):
        notebook.workspace.forget("-1")
    for found in (
        notebook.workspace.runs(),
        notebook.workspace.find_runs(),
        notebook.workspace.find_runs("giraffe"),
    ):
        assert "2 records of this session wait in memory for the disk" in notebook.shown(found)
    with monkeypatch.context() as patch:
        patch.setattr(notebook.workspace.catalog.runs, "list", lambda **_: [])
        assert "No runs yet" not in notebook.shown(notebook.workspace.runs())
    journal._files.append = written  # type: ignore[method-assign]
    notebook.run("x = 3")
    assert journal.waiting == 0
    assert notebook.run("%audit verify").ok
    assert [run.execution_count for run in notebook.run("%runs --kind cell")][-4:] == [4, 3, 2, 1]


def test_audit_can_be_switched_off(notebook: Notebook) -> None:
    notebook.run("%config LLMOps.audit = False")
    before = notebook.workspace.journal.stamped
    notebook.run("%%prompt\nHi")
    assert notebook.workspace.journal.stamped == before
    assert not isinstance(notebook.run("%llmops"), AuditError)


def test_cells_are_stamped_after_a_reload(notebook: Notebook) -> None:
    notebook.run("x = 1")
    notebook.run("%reload_ext jupyter_llmops")
    notebook.run("x = 'after the reload'")
    completion = notebook.run("%%prompt\nHi")
    assert completion.run_id
    sources = [
        (notebook.workspace.content(run) or {}).get("source") for run in notebook.run("%runs --kind cell")
    ]
    assert "x = 'after the reload'" in sources
    assert notebook.run("%audit verify").ok


def test_an_answer_without_a_record_is_not_taken_for_another(notebook: Notebook) -> None:
    notebook.run("%%prompt\nThe recorded one")
    notebook.run("%config LLMOps.audit = False")
    completion = notebook.run("%%prompt --into unrecorded\nAnother")
    notebook.run("%config LLMOps.audit = True")
    assert completion.run_id == ""
    error = notebook.fail("%reproduce unrecorded")
    assert isinstance(error, UsageError)
    assert "no record" in str(error)


def test_a_run_without_a_token_is_not_called_identical(notebook: Notebook) -> None:
    notebook.engine.interrupt_after = 0
    notebook.fail("%%prompt\none two")
    error = notebook.fail("%reproduce")
    assert isinstance(error, ReproduceError)
    assert "first token" in str(error)


def test_a_number_of_runs_that_is_none_does_not_blame_the_catalog(notebook: Notebook) -> None:
    assert len(notebook.run("%runs -n 99999999999999999999")) >= 1
    for limit in (0, -1, "many"):
        with pytest.raises(UsageError):
            notebook.workspace.runs(limit=limit)  # type: ignore[arg-type]


def test_a_forged_content_is_not_reproduced(notebook: Notebook) -> None:
    import json

    from jupyter_llmops.audit.files import content_path

    completion = notebook.run("%%prompt\nHi there")
    run = notebook.workspace.run(completion)
    path = content_path(notebook.workspace.audit_folder, run.session, run.seq)
    values = json.loads(path.read_text())
    values["content"]["message.000.user"] = "Something else"
    path.write_text(json.dumps(values))
    error = notebook.fail("%reproduce")
    assert isinstance(error, AuditError)
    assert "was changed" in str(error)


def test_a_catalog_that_can_only_be_read_is_read(notebook: Notebook, monkeypatch: pytest.MonkeyPatch) -> None:
    notebook.run("x = 1")
    known = len(notebook.run("%runs"))

    def refuse(_: object) -> int:
        raise CatalogError("The catalog can't be written: Read-only file system.")

    monkeypatch.setattr(notebook.workspace.catalog.runs, "append", refuse)
    notebook.run("x = 2")
    with pytest.warns(TrailWarning, match="Read-only"):
        assert len(notebook.workspace.runs()) == known
    with pytest.warns(TrailWarning, match="Read-only"):
        assert notebook.workspace.verify().ok


def test_a_kept_checkpoint_is_named_by_its_file(notebook: Notebook) -> None:
    for wrong in (3, b"kept", ["kept"]):
        with pytest.raises(UsageError, match="is not the name of a file"):
            notebook.workspace.verify(against=wrong)  # type: ignore[arg-type]


def test_journals_are_checked_also_where_the_catalog_is_gone(notebook: Notebook) -> None:
    import shutil

    notebook.run("x = 1")
    folder = notebook.workspace.folder
    shutil.rmtree(folder, ignore_errors=True)
    folder.write_text("not a folder")
    notebook.workspace.__dict__.pop("catalog", None)
    with pytest.warns(TrailWarning):
        verification = notebook.workspace.verify()
    assert verification.ok
    assert verification.records > 1
    assert any("only the journals" in note for note in verification.notes)


def test_a_run_is_a_reference_to_itself(notebook: Notebook) -> None:
    notebook.run("%%prompt --into answer\nHi there")
    run = notebook.workspace.run("-1", kind="prompt")
    assert notebook.workspace.run(run) == run
