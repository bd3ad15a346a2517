"""%audit retain: old sessions go down to their signed heads, and verify accepts exactly those."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jupyter_llmops.agent.election import agent_file
from jupyter_llmops.agent.heads import HeadKeeper
from jupyter_llmops.agent.loop import AgentLoop
from jupyter_llmops.agent.retaining import Retention
from jupyter_llmops.agent.sharing import ContentSharing
from jupyter_llmops.audit.files import Head as FileHead
from jupyter_llmops.audit.files import Mark, head_path
from jupyter_llmops.audit.forgetting import said_deletions
from jupyter_llmops.audit.journal import Journal
from jupyter_llmops.audit.retention import parse_retention
from jupyter_llmops.audit.sealing import origin_of
from jupyter_llmops.audit.tlog.checkpoint import Checkpoint
from jupyter_llmops.audit.tlog.note import format_note, sign_note
from jupyter_llmops.errors import CatalogError, UsageError
from jupyter_llmops.keys.signing import LogKeys, keys_folder

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
    assert left_of(workspace, old) == {f"log/{old}/checkpoint", f"log/{old}/heads"}
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
    began = datetime.now(UTC) - timedelta(days=750)
    context = {"user": workspace.user, "host": workspace.settings.site, "catalog": str(workspace.location)}
    agent = Journal(workspace.audit_folder, role="agent", context=context)
    agent._opened_at = began
    place = {"of": "e" * 16, "of_session": kept, "of_seq": 2, "kinds": ["token"]}
    agent.stamp("scrub", started_at=began, fields={"runs": [place]})
    agent.close()
    workspace.retain("690d", yes=True)
    said = said_deletions(workspace.audit_folder)
    assert (kept, 1) in said.forgotten
    assert said.forgotten[kept, 1].moment < f"{datetime.now(UTC) - timedelta(days=700):%Y-%m-%d}"
    assert first in said.pruned
    # It stays the agent's word, who alone can say that.
    assert agent.session in said.pruned
    assert said.scrubbed[kept, 2].kinds == ("token",)
    found = workspace.verify()
    assert found.ok, found.problems


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


def test_a_session_whose_log_is_damaged_stays_and_the_others_go(notebook: Notebook) -> None:
    workspace = notebook.workspace
    notebook.run("x = 1")
    damaged, old = old_session(workspace, 400, cells=260), old_session(workspace, 400)
    workspace.verify()  # seals
    tile = workspace.audit_folder / "log" / damaged / "tile" / "0" / "000"
    tile.write_bytes(tile.read_bytes()[:-32])
    place = agent_file(workspace.audit_folder, workspace.location, "heads")
    place.parent.mkdir(exist_ok=True)
    place.write_text(f"{damaged} 3 0\n")
    done = workspace.retain("1y", yes=True)
    assert [one.session for one in done.sessions] == [old]
    assert damaged in done.notes[0]
    assert "does not verify" in done.notes[0]
    assert {problem.session for problem in workspace.verify().problems} == {damaged}


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

    def alive(ended_at: datetime, host: str = "lab", before: datetime = moment) -> bool:
        return _is_alive(workspace.audit_folder, path, journal.session, ended_at, host=host, before=before)

    assert alive(moment)
    assert not alive(began)
    # Of another machine that has the same home the number of the process says nothing.
    assert alive(began, host="desk", before=began + timedelta(days=29))
    assert not alive(began, host="desk", before=began + timedelta(days=31))
    journal.close()
    assert not alive(moment)
    assert not alive(began, host="desk", before=began)


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
    assert left_of(workspace, old) == {f"log/{old}/checkpoint", f"log/{old}/heads"}
    assert any("1 sessions" in sentence for sentence in said)
    assert old in said_deletions(workspace.audit_folder).pruned
    loop._own.close()
    found = workspace.verify()
    assert found.ok, found.problems


def test_a_fork_that_was_pruned_is_found_by_a_smaller_kept_head(notebook: Notebook, tmp_path: Path) -> None:
    workspace = notebook.workspace
    notebook.run("x = 1")
    own = workspace.runs(1)[0]
    handed = workspace.audit_folder / "log" / own.session / "handed"
    workspace.verify()  # each signs what is new, and somebody may keep that
    first = handed.read_text().split()
    assert len(first) == 1
    notebook.run("x = 2")
    proof = workspace.prove(workspace.runs(1)[0].id, tmp_path / "proof")
    assert handed.read_text().split() == [*first, str(proof.tree_size)]
    old = old_session(workspace, 400, cells=7)
    log = workspace.audit_folder / "log" / old
    keeper = HeadKeeper(workspace.audit_folder, workspace.catalog)
    journal = workspace.audit_folder / "journal" / f"{old}.jsonl"
    whole, kept, unpublished = journal.read_bytes(), tmp_path / "kept", tmp_path / "unpublished"
    head = head_path(workspace.audit_folder, old)
    ended = head.read_bytes()
    lines = whole.splitlines(keepends=True)
    for size, copy in ((3, kept), (5, unpublished), (8, tmp_path / "last")):
        journal.write_bytes(b"".join(lines[:size]))
        mark = Mark(size - 1, sha256(lines[size - 1][:-1]).hexdigest())
        head.write_bytes(FileHead(mark, mark, closed=True).to_bytes())
        keeper.seal(closing=True)
        copy.write_bytes((log / "checkpoint").read_bytes())
        if size != 5:
            keeper.publish()
    assert head.read_bytes() == ended
    other = LogKeys.load(keys_folder())
    forged = tmp_path / "forged"
    fork = Checkpoint(origin_of(old), 3, bytes(32))
    forged.write_bytes(format_note(sign_note(fork.text, fork.origin, other.log)))
    workspace.retain("1y", yes=True)
    assert workspace.verify().ok, workspace.verify().problems
    assert workspace.verify(kept).ok
    found = workspace.verify(unpublished)
    assert found.ok, found.problems
    assert any("can't be checked any more" in note for note in found.notes)
    (problem,) = workspace.verify(forged).problems
    assert "were rewritten before" in problem.message
    (left,) = (one for one in workspace.catalog.heads.of([old]) if one.size == 3)
    text = (log / "heads").read_text()
    for planted in (text.replace(left.root, "A" * 43 + "="), text.partition("\n")[2], "", "x\n" + text):
        (log / "heads").write_text(planted)
        assert not workspace.verify().ok
    (log / "heads").unlink()
    assert "is missing" in str(workspace.verify().problems)
