"""Rows of the catalog that somebody changed with plain LanceDB: %audit verify finds each."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import lancedb
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jupyter_llmops.agent.heads import HeadKeeper
from jupyter_llmops.audit.tlog.cosignature import cosign
from jupyter_llmops.audit.tlog.note import parse_note
from jupyter_llmops.keys.signing import LogKeys, witness_name
from jupyter_llmops.records.trail import Cosignature, Signer

if TYPE_CHECKING:
    from jupyter_llmops.workspace import Workspace
    from magic_shell import Notebook

ATTACKS = {
    "heads": (
        ("update", "size = FIRST", {"size": 1}, "its row says something else"),
        ("update", "size = FIRST", {"root": "A" * 43 + "="}, "its row says something else"),
        ("update", "size = FIRST", {"checkpoint": "planted"}, "was changed"),
        ("update", "size = LAST", {"previous_size": 0}, "does not continue"),
        ("update", "size = LAST", {"consistency": "[]"}, "does not continue"),
        ("delete", "size = FIRST", {}, "is not in the catalog any more"),
    ),
    "cosignatures": (
        ("update", "size = FIRST", {"root": "A" * 43 + "="}, "its signature is false"),
        ("update", "size = FIRST", {"size": 1000}, "its signature is false"),
    ),
    "runs": (("update", "seq = 2", {"leaf_digest": "sha256:" + "0" * 64}, "not the one that the catalog"),),
}


def seal_and_publish(workspace: Workspace, keeper: HeadKeeper) -> None:
    workspace.flush()
    keeper.seal(closing=True)
    keeper.publish()


@pytest.fixture
def workspace(notebook: Notebook) -> Workspace:
    """A session with two heads, the first of them witnessed by bob."""
    workspace = notebook.workspace
    keeper = HeadKeeper(workspace.audit_folder, workspace.catalog)
    bob = LogKeys(Ed25519PrivateKey.generate(), Ed25519PrivateKey.generate())
    vkey, now = bob.witness_vkey("bob", "there"), datetime.now(UTC)
    for source in ("a = 1", "b = 2", "c = 3", "d = 4"):
        notebook.run(source)
        if source[0] in "bd":
            settle(workspace, 3 if source[0] == "b" else 5)
            seal_and_publish(workspace, keeper)
    head = min(workspace.catalog.heads.list(), key=lambda one: one.size)
    line = cosign(parse_note(head.checkpoint).text, witness_name("bob", "there"), bob.witness, 1).line
    workspace.catalog.signers.name(
        [Signer("witness", witness_name("bob", "there"), vkey, "bob", "there", now)]
    )
    row = Cosignature(head.session, head.size, head.root, witness_name("bob", "there"), line, now)
    workspace.catalog.cosignatures.publish([row])
    return workspace


def settle(workspace: Workspace, size: int) -> None:
    """See that the session has as many records as the attacks count on: what it ran on may be stamped, too."""
    while workspace.journal.stamped < size:
        workspace.journal.stamp("cell")


def test_changed_rows_are_found(workspace: Workspace) -> None:
    found = workspace.verify()
    assert found.ok, found.problems
    sizes = sorted(head.size for head in workspace.catalog.heads.list())
    assert found.witnessed == sizes[0]
    assert found.witnesses == ("bob@there",)
    database = lancedb.connect(str(workspace.location))
    for name, attacks in ATTACKS.items():
        table = database.open_table(name)
        for what, place, values, words in attacks:
            where = place.replace("FIRST", str(sizes[0])).replace("LAST", str(sizes[-1]))
            before = table.version
            if what == "update":
                table.update(where=where, values=values)
            else:
                table.delete(where)
            assert table.version > before
            found = workspace.verify()
            assert any(words in problem.message for problem in found.problems), (name, where, values, found)
            table.checkout(before)
            table.restore()
    assert workspace.verify().ok


def test_rows_that_lack_everything_stop_nobody(notebook: Notebook) -> None:
    notebook.run("x = 1")
    notebook.run("%runs")
    run = notebook.workspace.run("In[2]")
    catalog = notebook.workspace.catalog
    for number, changes in enumerate(({"seq": None}, {"session": None}, {"session": "a b+c"})):
        catalog.runs.append([replace(run, id=f"{number:x}" * 16, **changes)])
    verification = notebook.run("%audit verify")
    assert {problem.session for problem in verification.problems} <= {"a b+c"}
