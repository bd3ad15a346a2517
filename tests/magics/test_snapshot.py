"""%llmops snapshot, %llmops snapshots, and a workspace on one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import pytest

import jupyter_llmops
from jupyter_llmops.errors import CatalogError, UnknownNameError, UsageError
from jupyter_llmops.magics.completer import candidates
from jupyter_llmops.settings import LLMOps
from jupyter_llmops.workspace import facade
from jupyter_llmops.workspace.doctor import examine

if TYPE_CHECKING:
    from fast_engine import FastEngine
    from magic_shell import Notebook


def opened(engine: FastEngine, snapshot: str | None = None) -> facade.Workspace:
    """Return a workspace on the same catalog, as another kernel has it."""
    facade._open.clear()
    workspace = jupyter_llmops.open_workspace(snapshot=snapshot, settings=LLMOps(agent="off", audit=False))
    workspace.__dict__["engine"] = engine
    return workspace


def test_a_release_is_named_listed_and_opened_again(
    notebook: Notebook, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    listing = notebook.run("%llmops snapshots")
    assert "No snapshots yet. Make one with %llmops snapshot NAME." in notebook.shown(listing, "text/plain")
    notebook.run("%%prompt -s greeting\nHello, first")
    made = notebook.run('%llmops snapshot 2026-11 --description "what <b>we</b> shipped"')
    assert (made.name, made.description) == ("2026-11", "what <b>we</b> shipped")
    assert "open_workspace(snapshot='2026-11')" in notebook.shown(made, "text/plain")
    page = notebook.shown(made, "text/html")
    assert "&lt;b&gt;we" in page
    assert "<b>we" not in page
    notebook.run("%%prompt -s greeting\nHello, second")

    listing = notebook.run("%llmops snapshots")
    assert listing.df["name"].tolist() == ["2026-11"]
    assert "2026-11" in notebook.shown(listing, "text/html")

    then = opened(notebook.engine, "2026-11")
    assert then.status().catalog.endswith("catalog (snapshot 2026-11)")
    parts = {check.part: check for check in examine(then).checks}
    assert parts["catalog"].status == "ok"
    assert "as it was in the snapshot '2026-11'" in parts["catalog"].message
    assert [(p.name, p.version, p.template) for p in then.prompts()] == [("greeting", 1, "Hello, first")]
    assert then.prompt("Hello, first").text == "Hello, first"
    with pytest.raises(CatalogError, match=r"^'2026-11' is a snapshot: read only"):
        then.prompt("Hello, third", save_as="greeting")
    folder = tmp_path / "files"
    folder.mkdir()
    for name in ("a", "b"):
        (folder / f"{name}.md").write_text(f"---\nname: {name}\n---\nHi")
    with pytest.raises(CatalogError, match=r"^'2026-11' is a snapshot: read only"):  # once, not a file each
        then.import_prompts(folder)
    assert "This is the snapshot '2026-11'" in then.snapshots().hint
    # The environment says it to a whole kernel; an empty name is the catalog itself.
    monkeypatch.setenv("LLMOPS_SNAPSHOT", "2026-11")
    assert [p.version for p in opened(notebook.engine).prompts()] == [1]
    assert [p.version for p in opened(notebook.engine, "").prompts()] == [2]
    monkeypatch.setenv("LLMOPS_SNAPSHOT", "2026-12")
    with pytest.raises(UnknownNameError, match="Did you mean 2026-11"):
        opened(notebook.engine).prompts()


def test_what_is_typed_wrongly_is_said(notebook: Notebook) -> None:
    for line, said in {
        "%llmops snapshot": "name is missing",
        "%llmops snapshot a b": "one name too many",
        "%llmops snapshot a@b": "can't hold",
        "%llmops snapshots all": "takes no 'all'",
        "%llmops doctor -d x": "Only a snapshot is described",
        "%llmops snapsot x": "snapshot",
    }.items():
        with pytest.raises(UsageError, match=said):
            notebook.run(line)
    assert len(notebook.run("%llmops snapshots")) == 0


def test_tab_offers_the_sub_commands(notebook: Notebook) -> None:
    offered = list(candidates(notebook.workspace, notebook.shell, "llmops", "%llmops s"))
    assert {"snapshot", "snapshots", "doctor", "--description"} <= set(offered)
