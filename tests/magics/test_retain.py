"""%audit retain: old sessions go down to their signed heads, and verify accepts exactly those."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jupyter_llmops.agent.loop import AgentLoop
from jupyter_llmops.agent.retaining import Retention
from jupyter_llmops.agent.sharing import ContentSharing
from jupyter_llmops.audit.forgetting import said_deletions
from jupyter_llmops.audit.journal import Journal
from jupyter_llmops.audit.retention import parse_retention
from jupyter_llmops.errors import CatalogError, UsageError

if TYPE_CHECKING:
    from jupyter_llmops.workspace import Workspace
    from magic_shell import Notebook


def old_session(workspace: Workspace, days: float, cells: int = 3, *, forgets: str = "") -> str:
    """Stamp a session of long ago, as its kernel would have."""
    context = {"user": workspace.user, "host": workspace.settings.site, "catalog": str(workspace.location)}
    journal = Journal(workspace.audit_folder, context=context)
    began = datetime.now(UTC) - timedelta(days=days)
    journal._opened_at = began
    for number in range(cells):
        journal.stamp(
            "cell", started_at=began, seconds=1.0, content={"source": f"x = {number}"},
            fields={"execution_count": number + 1},
        )  # fmt: skip
    if forgets:
        place = {"of": "f" * 16, "of_session": forgets, "of_seq": 1}
        journal.stamp("forget", started_at=began, fields={"runs": [place]})
    journal.close()
    return journal.session


def left_of(workspace: Workspace, session: str) -> set[str]:
    return {
        str(path.relative_to(workspace.audit_folder))
        for path in workspace.audit_folder.rglob("*")
        if session in str(path) and path.is_file()
    }


def test_ages() -> None:
    assert parse_retention("1y") == timedelta(days=365)
    assert parse_retention(" 12 hours ") == timedelta(hours=12)
    for wrong in ("", "0d", "-1d", "1", "1m", "forever", "1e9y", "999999y"):
        with pytest.raises(UsageError, match="is not an age"):
            parse_retention(wrong)


def test_old_sessions_go_down_to_their_heads(notebook: Notebook) -> None:
    workspace = notebook.workspace
    notebook.run("x = 1")
    old, young = old_session(workspace, 400), old_session(workspace, 10)
    workspace.flush()
    ContentSharing(workspace.audit_folder, workspace.catalog).share()
    before = left_of(workspace, young)

    shown = workspace.retain("1y")
    assert [(one.session, one.size) for one in shown.sessions] == [(old, 4)]
    assert not shown.done
    assert "--yes" in notebook.shown(shown)
    assert f"journal/{old}.jsonl" in left_of(workspace, old), "nothing went yet"

    done = workspace.retain("1y", yes=True)
    assert done.done
    assert done.rows == 4 + 3
    assert shown.sessions[0].root in notebook.shown(done)
    assert notebook.shown(done, "text/html")
    assert left_of(workspace, old) == {f"log/{old}/checkpoint"}
    assert before <= left_of(workspace, young)
    assert {run.session for run in workspace.runs(100)} == {young, workspace.journal.session}
    found = workspace.verify()
    assert found.ok, found.problems
    assert any(old in note for note in found.notes)
    again = workspace.retain("1y", yes=True)
    assert again.sessions == ()
    assert "No session" in notebook.shown(again)


def test_verify_accepts_only_what_was_said(notebook: Notebook) -> None:
    workspace = notebook.workspace
    notebook.run("x = 1")
    old, other = old_session(workspace, 400), old_session(workspace, 500)
    workspace.retain("1y", yes=True)
    assert workspace.verify().ok
    (workspace.audit_folder / "log" / old / "checkpoint").unlink()
    assert {problem.session for problem in workspace.verify().problems} == {old}
    assert other not in str(workspace.verify().problems)


def test_words_of_pruned_sessions_are_carried_on(notebook: Notebook) -> None:
    workspace = notebook.workspace
    notebook.run("x = 1")
    kept = old_session(workspace, 1)
    old_session(workspace, 800, forgets=kept)
    first = old_session(workspace, 700)
    workspace.retain("690d", yes=True)
    said = said_deletions(workspace.audit_folder)
    assert (kept, 1) in said.forgotten
    assert said.forgotten[kept, 1].moment < f"{datetime.now(UTC) - timedelta(days=700):%Y-%m-%d}"
    assert first in said.pruned


def test_a_session_that_was_changed_stays(notebook: Notebook) -> None:
    workspace = notebook.workspace
    notebook.run("x = 1")
    old = old_session(workspace, 400)
    journal = workspace.audit_folder / "journal" / f"{old}.jsonl"
    journal.write_bytes(journal.read_bytes().replace(b'"execution_count":2', b'"execution_count":7'))
    done = workspace.retain("1y", yes=True)
    assert done.sessions == ()
    assert "does not verify" in done.notes[0]
    assert journal.exists()


def test_a_running_session_stays(notebook: Notebook) -> None:
    """Its process lives, it only has had nothing to do for long."""
    workspace = notebook.workspace
    notebook.run("x = 1")
    began = datetime.now(UTC) - timedelta(days=2)
    journal = Journal(workspace.audit_folder, context={"user": workspace.user, "host": "lab"})
    journal.stamp("cell", started_at=began)
    # This process is younger than that; a session's leaf can't be.
    import psutil

    created = psutil.Process().create_time()
    moment = datetime.fromtimestamp(created, UTC) + timedelta(seconds=1)
    journal.stamp("cell", started_at=moment)
    from jupyter_llmops.audit.retention import _is_alive

    path = journal.path
    journal.flush()
    assert _is_alive(workspace.audit_folder, path, journal.session, moment)
    assert not _is_alive(workspace.audit_folder, path, journal.session, began)
    journal.close()
    assert not _is_alive(workspace.audit_folder, path, journal.session, moment)


def test_a_catalog_that_refuses_is_pruned_by_the_next(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace = notebook.workspace
    notebook.run("x = 1")
    old_session(workspace, 400)
    workspace.flush()

    def refuse(*_: object) -> int:
        raise CatalogError("The catalog can't be written.", "Ask for access.")

    with monkeypatch.context() as broken:
        broken.setattr(workspace.catalog.pruning, "prune", refuse)
        with pytest.raises(CatalogError, match="not yet in the catalog"):
            workspace.retain("1y", yes=True)
    assert workspace.retain("1y", yes=True).rows == 4
    assert workspace.verify().ok


def test_the_agent_prunes_only_by_a_setting(notebook: Notebook, tmp_path: Path) -> None:
    workspace = notebook.workspace
    notebook.run("x = 1")
    old = old_session(workspace, 400)
    workspace.flush()
    assert Retention(workspace.audit_folder, workspace.catalog, "", workspace._stamp_word).look() is None
    assert len(left_of(workspace, old)) > 1
    retention = Retention(workspace.audit_folder, workspace.catalog, "1y", workspace._stamp_word)
    found = retention.look(workspace.journal.session)
    assert found is not None
    assert [one.session for one in found.sessions] == [old]
    assert retention.look(workspace.journal.session) is None, "not again for hours"
    assert workspace.runs(10, kind="retention"), "never without a word"


def test_the_agent_does_it_in_its_loop_and_outlives_a_wrong_setting(notebook: Notebook) -> None:
    workspace = notebook.workspace
    notebook.run("x = 1")
    old = old_session(workspace, 400)
    workspace.flush()
    said: list[str] = []
    AgentLoop(workspace.audit_folder, workspace.catalog, retain="soon", on_problem=said.append).step()
    assert any("'soon' is not an age" in sentence for sentence in said)
    assert len(left_of(workspace, old)) > 1
    loop = AgentLoop(workspace.audit_folder, workspace.catalog, retain="1y", on_problem=said.append)
    loop.step(closing=True)
    loop.step()
    assert left_of(workspace, old) == {f"log/{old}/checkpoint"}
    assert any("1 sessions" in sentence for sentence in said)
    assert old in said_deletions(workspace.audit_folder).pruned
    loop._own.close()
    found = workspace.verify()
    assert found.ok, found.problems
