"""%audit forget: what a run said is gone everywhere, and the log still verifies."""

from __future__ import annotations

import os
import subprocess
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pytest

from jupyter_llmops.agent.sharing import ContentSharing
from jupyter_llmops.audit.forgetting import said_deletions
from jupyter_llmops.catalog.contents import RunText
from jupyter_llmops.errors import CatalogError, UnknownNameError, UsageError

if TYPE_CHECKING:
    from magic_shell import Notebook

WORD = "quuxwordforgotten"


def holders(place: Path, word: str = WORD) -> list[str]:
    """Return the files that hold a word in plain text."""
    found = subprocess.run(["grep", "-rlia", word, str(place)], capture_output=True, text=True, check=False)
    return found.stdout.split()


def texts(notebook: Notebook) -> list[str]:
    """Return the texts of everybody's runs that are in the catalog."""
    found = notebook.workspace.catalog._connection.read("contents", ["text"])
    return [] if found is None else list(found["text"].to_pylist())


def share(notebook: Notebook) -> int:
    workspace = notebook.workspace
    workspace.flush()
    return ContentSharing(workspace.audit_folder, workspace.catalog).share()


def test_a_prompt_its_cell_and_its_stored_answer_are_gone(notebook: Notebook, tmp_path: Path) -> None:
    completion = notebook.run(f"%%prompt\nSay {WORD}")
    notebook.run("y = 2")
    notebook.workspace.rate("In[2]", "bad", why=f"It says {WORD}.")
    rating = notebook.workspace.runs(1, kind="rating")[0].id
    share(notebook)
    assert len(holders(tmp_path)) >= 3, "sidecars and the cache's item"
    cell = notebook.workspace.run("In[2]")

    shown = notebook.workspace.forget("In[2]")
    assert not shown.done
    assert shown.runs == (cell.id, completion.run_id, rating)
    assert (shown.contents, shown.rows, shown.cache_items) == (3, 3, 1)
    assert "--yes" in notebook.shown(shown)
    assert len(holders(tmp_path)) >= 3, "nothing went yet"

    done = notebook.workspace.forget("In[2]", yes=True)
    assert done.done
    assert (done.contents, done.rows, done.cache_items) == (3, 3, 1)
    assert notebook.workspace.show_run(completion).rating == "bad", "what it was rated stays, and not why"
    assert "3 rows" in notebook.shown(done, "text/html")
    assert holders(tmp_path) == []
    assert notebook.workspace.content(cell) is None
    assert notebook.workspace.catalog.contents.get(cell.id) is None
    assert not any(WORD in item for item in texts(notebook))
    said = said_deletions(notebook.workspace.audit_folder).forgotten
    assert {(cell.session, cell.seq), (cell.session, cell.seq - 1)} < set(said)
    assert next(iter(said.values())).user == notebook.workspace.user
    assert share(notebook) == 0 or notebook.workspace.catalog.contents.get(cell.id) is None
    assert notebook.workspace.verify().ok


def test_doing_it_again_is_harmless_and_says_so_once(notebook: Notebook) -> None:
    notebook.run(f"x = '{WORD}'")
    notebook.workspace.forget("In[2]", yes=True)
    count = len(notebook.workspace.runs(50, kind="forget"))
    again = notebook.workspace.forget("In[2]", yes=True)
    assert (again.contents, again.rows, again.cache_items) == (0, 0, 0)
    assert len(notebook.workspace.runs(50, kind="forget")) == count == 1
    assert "nothing of its content is left" in notebook.shown(notebook.workspace.forget("In[2]"))


def test_a_prompt_alone_names_the_cell_that_still_holds_it(notebook: Notebook, tmp_path: Path) -> None:
    completion = notebook.run(f"%%prompt\nSay {WORD}")
    done = notebook.workspace.forget(completion, yes=True)
    assert done.runs == (completion.run_id,)
    assert "In[2]" in done.notes[0]
    assert len(holders(tmp_path)) == 1, "the cell's own source"


def test_a_reused_answer_is_gone_too(notebook: Notebook, tmp_path: Path) -> None:
    notebook.run(f"%%prompt\nSay {WORD}")
    hit = notebook.run(f"%%prompt\nSay {WORD}")
    assert hit.source == "cache"
    assert notebook.workspace.forget(hit, yes=True).cache_items == 1
    assert not any("cache" in name for name in holders(tmp_path))


def test_what_a_cell_kept_and_what_it_was_given_is_gone_too(notebook: Notebook, tmp_path: Path) -> None:
    notebook.run(f"%%cache\ntext = '{WORD}' * 2")
    notebook.run(f"%%cache\ntext = '{WORD}' * 2")  # given
    notebook.run("z = 1")
    share(notebook)
    items = set(notebook.workspace.cache_folder.rglob("*.*"))
    assert any("cache" in name for name in holders(tmp_path))
    assert not any("kept_items" in text for text in texts(notebook))
    assert notebook.workspace.forget("In[3]").cache_items == 1
    assert notebook.workspace.forget("In[3]", yes=True).cache_items == 1
    assert items - set(notebook.workspace.cache_folder.rglob("*.*"))
    notebook.workspace.forget("In[2]", yes=True)
    assert holders(tmp_path) == []
    assert notebook.workspace.verify().ok


def test_children_can_stay(notebook: Notebook) -> None:
    completion = notebook.run(f"%%prompt\nSay {WORD}")
    assert notebook.workspace.forget("In[2]", yes=True, children=False).contents == 1
    assert notebook.workspace.content(notebook.workspace.run(completion.run_id)) is not None


def test_what_can_not_be_forgotten_is_said(notebook: Notebook) -> None:
    notebook.run("x = 1")
    with pytest.raises(UnknownNameError):
        notebook.workspace.forget("ffffffffffff", yes=True)
    run = notebook.workspace.run("In[2]")
    theirs = replace(run, id="e" * 16, session="theirs", user="grace", host="elsewhere")
    notebook.workspace.catalog.runs.append([theirs])
    with pytest.raises(UsageError, match="grace's"):
        notebook.workspace.forget("e" * 16, yes=True)
    notebook.workspace.settings.audit = False
    with pytest.raises(UsageError, match="audit trail is off"):
        notebook.workspace.forget(run.id, yes=True)


def test_a_snapshot_that_holds_why_it_was_rated_is_named(notebook: Notebook) -> None:
    notebook.run("x = 1")
    notebook.workspace.rate("In[2]", "good", why=WORD)
    run_id = notebook.workspace.run("In[2]").id
    notebook.workspace.catalog.meanings.add("run", "space", [((run_id, "text"), np.ones(2, np.float32))])
    notebook.workspace.catalog.snapshots.create("release")
    done = notebook.workspace.forget("In[2]", yes=True)
    assert any("Snapshot release" in note and "vectors and why it was rated" in note for note in done.notes)
    assert holders(Path(notebook.workspace.catalog.folder)), "the snapshot's"
    notebook.run("y = 1")
    assert notebook.workspace.forget("In[3]", yes=True).notes == (), "it says nothing of later runs"


def test_a_text_that_contradicts_its_run_is_doubtful(notebook: Notebook) -> None:
    notebook.run("x = 1")
    run = notebook.workspace.run("In[2]")
    catalog = notebook.workspace.catalog
    theirs = replace(run, id="e" * 16, session="theirs", user="grace", host="elsewhere")
    row = RunText(theirs.id, "theirs", run.seq, "grace", "cell", WORD, WORD)
    catalog.contents.append([replace(row, session="planted", text="planted")])
    assert "planted" in str(notebook.workspace.texts_of(theirs))
    assert "names another run's place" in str(notebook.workspace.texts_of(theirs))
    planted = catalog._connection.read("contents", None, f"id = '{theirs.id}'")
    catalog.contents.delete([theirs.id])
    catalog.contents.append([row])
    catalog._connection.writing("contents", lambda handle: handle.add(planted))
    assert notebook.workspace.texts_of(theirs) == {"text": WORD}, "the one that fits"


def test_of_a_run_on_another_host_the_copy_in_the_catalog_goes(notebook: Notebook) -> None:
    notebook.run("x = 1")
    run = notebook.workspace.run("In[2]")
    catalog = notebook.workspace.catalog
    away = replace(run, id="e" * 16, session="away", host="elsewhere")
    child = replace(away, id="d" * 16, seq=2, parent=away.id)
    catalog.runs.append([away, child])
    for one in (away, child):
        catalog.contents.append([RunText(one.id, "away", one.seq, one.user, "cell", WORD, WORD)])
    done = notebook.workspace.forget(away.id, yes=True)
    assert done.runs == (away.id, child.id)
    assert done.rows == 2
    assert "elsewhere" in done.notes[0]
    assert texts(notebook) == []


def test_a_catalog_that_refuses_leaves_the_rest_done(
    notebook: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    notebook.run(f"x = '{WORD}'")
    share(notebook)
    run = notebook.workspace.run("In[2]")

    def refuse(_: object) -> int:
        raise CatalogError("The catalog can't be written.", "Ask for access.")

    with monkeypatch.context() as broken:
        broken.setattr(notebook.workspace.catalog.contents, "delete", refuse)
        with pytest.raises(CatalogError, match="not yet in the catalog"):
            notebook.workspace.forget(run.id, yes=True)
    assert not any("content" in name and "catalog" not in name for name in holders(tmp_path))
    assert notebook.workspace.forget(run.id, yes=True).rows == 1
    assert len(notebook.workspace.runs(50, kind="forget")) == 1


def test_nothing_is_shared_where_the_setting_says_so(notebook: Notebook) -> None:
    notebook.run("a = 'shared'")
    notebook.run("%config LLMOps.share_content = False")
    notebook.run("b = 'private'")
    notebook.run("%config LLMOps.share_content = True")
    notebook.run("c = 'shared again'")
    share(notebook)
    found = texts(notebook)
    assert "a = 'shared'" in found
    assert "c = 'shared again'" in found
    assert "b = 'private'" not in found


def test_a_session_that_begins_unshared_shares_nothing(notebook: Notebook) -> None:
    notebook.workspace.settings.share_content = False
    notebook.workspace.close()
    notebook.run("d = 'never shared'")
    assert share(notebook) == 0 or not any("never shared" in text for text in texts(notebook))
    session = notebook.workspace.journal.session
    noted = notebook.workspace.audit_folder / "sharing" / session
    assert noted.read_text() == "0 off\n"
    assert not any("never shared" in text for text in texts(notebook))


def test_a_planted_row_leads_to_no_file_and_to_no_other_run(notebook: Notebook, tmp_path: Path) -> None:
    notebook.run("x = 1")
    victim = notebook.workspace.run("In[2]")
    notebook.run("%runs")
    outside = tmp_path / "victim" / "7.json"
    outside.parent.mkdir()
    outside.write_text("mine")
    away = os.path.relpath(outside.parent, notebook.workspace.audit_folder / "content")
    leading = replace(victim, id="e" * 16, session=away, seq=7)
    pointing = replace(victim, id="d" * 16)
    notebook.workspace.catalog.runs.append([leading, pointing])
    for run in (leading, pointing):
        notebook.workspace.forget(run, yes=True)
    assert outside.exists()
    assert notebook.workspace.content(victim)
    assert (victim.session, victim.seq) not in said_deletions(notebook.workspace.audit_folder).forgotten
    assert notebook.workspace.content(leading) is None
