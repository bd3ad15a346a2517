"""Rows of the catalog that somebody changed with plain LanceDB: %audit verify finds each."""

from __future__ import annotations

import random
from dataclasses import replace
from datetime import UTC, datetime
from hashlib import sha256
from typing import TYPE_CHECKING

import lancedb
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jupyter_llmops.agent.heads import HeadKeeper
from jupyter_llmops.audit.journal import Journal
from jupyter_llmops.audit.tlog.cosignature import cosign
from jupyter_llmops.audit.tlog.note import parse_note
from jupyter_llmops.keys.signing import LogKeys, witness_name
from jupyter_llmops.records.trail import Cosignature, Head, Signer

if TYPE_CHECKING:
    from jupyter_llmops.workspace import Workspace
    from magic_shell import Notebook

GONE = "is not in the catalog any more"
ATTACKS = {
    "heads": (
        ("update", "size = FIRST", {"size": 1}, GONE),
        ("update", "size = FIRST", {"root": "A" * 43 + "="}, GONE),
        ("update", "size = FIRST", {"checkpoint": "planted"}, GONE),
        ("update", "size = LAST", {"checkpoint": "planted"}, GONE),
        ("update", "size = LAST", {"previous_size": 0}, "does not continue"),
        ("update", "size = LAST", {"consistency": "[]"}, "does not continue"),
        ("delete", "size = FIRST", {}, GONE),
        ("delete", "size = LAST", {}, GONE),
    ),
    # Whoever signs nothing accuses nobody: what was changed here counts for nothing, and that is noted.
    "cosignatures": (
        (
            "update",
            "size = FIRST",
            {"root": "A" * 43 + "="},
            "1 row of cosignatures in the catalog that no key",
        ),
        ("update", "size = FIRST", {"size": 1000}, "1 row of cosignatures in the catalog that no key"),
    ),
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
    note = parse_note(head.checkpoint)
    line = cosign(note.text, witness_name("bob", "there"), bob.witness, 1).line
    workspace.catalog.signers.name(
        [Signer("witness", witness_name("bob", "there"), vkey, "bob", "there", now)]
    )
    row = Cosignature(
        head.session,
        head.size,
        head.root,
        witness_name("bob", "there"),
        f"{note.signatures[0].line}\n{line}",
        now,
    )
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
            said = found.notes if name == "cosignatures" else [one.message for one in found.problems]
            assert any(words in one for one in said), (name, where, values, found)
            if name == "cosignatures":
                assert found.ok
                assert not found.witnessed
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
    said = "\n".join(problem.message for problem in verification.problems)
    for columns in ("id, seq", "id, session"):
        assert f"its row in the catalog was changed ({columns}); it was put right" in said
    assert notebook.run("%audit verify").ok


def test_changed_columns_and_deleted_rows_of_runs_are_named_and_put_right(workspace: Workspace) -> None:
    (session,) = {head.session for head in workspace.catalog.heads.list()}
    table = lancedb.connect(str(workspace.location)).open_table("runs")
    before = table.search().select(["id", "seq", "leaf"]).to_arrow().to_pylist()
    ids = {row["seq"]: row["id"] for row in before}
    table.update(where="seq = 0", values={"user": "eve", "started_at": datetime(2020, 1, 1, tzinfo=UTC)})
    table.update(where="seq = 1", values={"status": "error", "notebook": "other.ipynb"})
    table.update(where="seq = 2", values={"cost_millionths": 7, "leaf_digest": "sha256:" + "0" * 64})
    table.update(where="seq = 3", values={"session": "elsewhere"})
    table.delete("seq = 4")
    found = workspace.verify()
    said = "\n".join(problem.message for problem in found.problems)
    for seq, columns in enumerate(
        ("started_at, user", "status, notebook", "leaf_digest, cost_millionths", "session")
    ):
        assert (
            f"session {session}, record {seq}: its row in the catalog was changed ({columns}); it was put"
            in said
        )
    assert f"record {4}: 1 record is not in the catalog any more: seq 4; carried again" in said
    assert workspace.catalog.runs.get(ids[1]).status == "ok"
    assert workspace.verify().ok
    # What may be evidence of another record stays as it is.
    leaf = next(row["leaf"] for row in before if row["seq"] == 2).replace('"kind":"cell"', '"kind":"call"')
    digest = "sha256:" + sha256(leaf.encode()).hexdigest()
    table.checkout_latest()
    table.update(where="seq = 2", values={"leaf": leaf, "kind": "call", "leaf_digest": digest})
    for _ in range(2):
        found = workspace.verify()
        assert ["not the one that the catalog holds" in one.message for one in found.problems] == [True]
    table.checkout_latest()
    table.update(where="seq = 2", values={"status": "error"})
    for _ in range(2):
        said = "\n".join(problem.message for problem in workspace.verify().problems)
        assert "its row in the catalog was changed (status); it was left as it is" in said


def test_a_line_that_is_withheld_without_a_reason_is_shown_again(workspace: Workspace) -> None:
    table = lancedb.connect(str(workspace.location)).open_table("runs")
    table.update(where="seq = 2", values={"leaf": '{"withheld":"Not shared: it is late."}', "notebook": ""})
    found = workspace.verify()
    assert ["was changed (leaf); it was put right" in one.message for one in found.problems] == [True]
    assert workspace.verify().ok


def test_a_head_that_is_published_while_verify_reads_is_not_missed(
    workspace: Workspace, monkeypatch: pytest.MonkeyPatch
) -> None:
    workspace.journal.stamp("cell")
    workspace.flush()
    keeper, true = HeadKeeper(workspace.audit_folder, workspace.catalog), workspace.catalog.heads.list

    def read() -> list[Head]:
        heads = true()
        keeper.seal(closing=True)
        assert keeper.publish() == 1
        return heads

    monkeypatch.setattr(workspace.catalog.heads, "list", read)
    found = workspace.verify()
    assert found.ok, found.problems


def test_a_line_that_is_withheld_for_a_reason_verifies(workspace: Workspace) -> None:
    secret = "".join(random.Random(7).choices("0123456789abcdef", k=64))
    journal = Journal(
        workspace.audit_folder,
        context={
            "user": workspace.user,
            "host": workspace.settings.site,
            "catalog": str(workspace.location),
        },
    )
    journal.stamp("cell", fields={"notebook": f"cloudant_password = '{secret}'"})
    journal.close()
    for _ in range(2):
        found = workspace.verify()
        assert found.ok, found.problems
    table = lancedb.connect(str(workspace.location)).open_table("runs")
    where = f"session = '{journal.session}' AND seq = 1"
    assert "withheld" in table.search().where(where).to_arrow()["leaf"].to_pylist()[0]
    table.update(where=where, values={"status": "error"})
    assert (
        "its row in the catalog was changed (status); it was put right"
        in workspace.verify().problems[0].message
    )
    assert workspace.verify().ok
