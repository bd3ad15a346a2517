"""Heads, cosignatures and signers in the catalog: once, whole, and not to be kept out by what others plant."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from jupyter_llmops.catalog import Catalog
from jupyter_llmops.catalog.heads import _head_row
from jupyter_llmops.catalog.schemas import COSIGNATURES, HEADS, SIGNERS
from jupyter_llmops.keys.signing import LogKeys
from jupyter_llmops.keys.team import invite, join
from jupyter_llmops.records.trail import Cosignature, Head, Signer, SignerKind

NOW = datetime(2026, 11, 3, 10, 15, 2, 123456, tzinfo=UTC)


@pytest.fixture
def catalog(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Catalog:
    monkeypatch.setenv("LLMOPS_HOME", str(tmp_path / "home"))
    return Catalog(tmp_path / "catalog", site="lab", user="ada")


def head(session: str = "s", size: int = 3, previous: int = 0) -> Head:
    return Head(
        session, size, "cm9vdA==", f"{session}\n{size}\n", "ada", "lab", NOW, previous, ("YQ==", "Yg==")
    )


def signer(folder: Path, kind: SignerKind = "log", user: str = "ada") -> Signer:
    keys = LogKeys.load(folder)
    vkey = keys.log_vkey(user, "lab") if kind == "log" else keys.witness_vkey(user, "lab")
    return Signer(kind, vkey.split("+")[0], vkey, user, "lab", NOW)


def test_heads_come_back_as_they_are_and_once(catalog: Catalog) -> None:
    heads = [head(size=3), head(size=7, previous=3), head("t", 1)]
    assert catalog.heads.publish(heads) == 3
    assert catalog.heads.publish(heads) == 0
    assert catalog.heads.list() == heads
    assert catalog.heads.of(["s"]) == heads[:2]
    assert catalog.heads.of([]) == []
    assert catalog.heads.sizes() == {"s": {3, 7}, "t": {1}}
    before = catalog.heads.fingerprints()
    assert before.keys() == {"s", "t"}
    catalog._connection.writing(HEADS, lambda handle: handle.delete("size = 7"))
    catalog.heads.publish([replace(heads[1], root="b3RoZXI=", checkpoint="another")])
    assert catalog.heads.fingerprints()["s"] != before["s"]
    assert catalog.heads.fingerprints()["t"] == before["t"]
    catalog._connection.writing(HEADS, lambda handle: handle.delete("size = 7"))
    catalog.heads.publish(heads)
    assert catalog.heads.by_key(catalog.heads.keys("s")) == heads[:2]


def test_an_empty_place_has_none_and_is_not_created(catalog: Catalog) -> None:
    assert not [*catalog.heads.list(), *catalog.cosignatures.list(), *catalog.signers.list()]
    assert not catalog.heads.sizes()
    assert not catalog.heads.fingerprints()
    assert catalog.heads.keys("s") == set()
    assert catalog.heads.publish([]) == catalog.cosignatures.publish([]) == 0
    assert not catalog.folder.exists()


def test_a_planted_head_keeps_no_true_one_out(catalog: Catalog) -> None:
    true = head()
    planted = replace(true, root="bGll", checkpoint="another")
    catalog.heads.publish([planted])
    assert catalog.heads.publish([true]) == 1
    assert set(catalog.heads.of(["s"])) == {planted, true}


def test_strange_rows_hide_no_others(catalog: Catalog) -> None:
    catalog.heads.publish([head()])
    strange: list[dict[str, Any]] = [
        {"key": "1", "session": "s", "size": None, "root": None, "checkpoint": None},
        {"key": "2", "session": None, "size": -4, "root": "x", "checkpoint": "y"},
        _head_row(head(size=9), "lab") | {"consistency": "no json", "user": None, "created_at": None},
        _head_row(head(size=8), "lab") | {"consistency": "[1]"},
    ]
    catalog._connection.insert_absent(HEADS, strange)
    assert [found.size for found in catalog.heads.list()] == [3, 9]
    assert catalog.heads.sizes()["s"] == {3, 8, 9}
    catalog._connection.insert_absent(COSIGNATURES, [{"key": "1", "session": "s"}])
    assert catalog.cosignatures.of(["s"]) == []


def test_cosignatures_come_back_as_they_are_and_once(catalog: Catalog) -> None:
    one = Cosignature("s", 3, "cm9vdA==", "jupyter-llmops/bob@lab", "— jupyter-llmops/bob@lab abc=", NOW)
    two = replace(one, witness="jupyter-llmops/eve@lab", line="— jupyter-llmops/eve@lab abc=")
    assert catalog.cosignatures.publish([one, two]) == 2
    assert catalog.cosignatures.publish([one, two]) == 0
    assert set(catalog.cosignatures.list()) == set(catalog.cosignatures.of(["s"])) == {one, two}
    assert catalog.cosignatures.of(["t"]) == []


def test_only_who_has_the_team_s_key_can_name_a_signer(catalog: Catalog, tmp_path: Path) -> None:
    ada = [signer(tmp_path / "ada"), signer(tmp_path / "ada", "witness")]
    assert catalog.signers.name(ada) == 2
    assert catalog.signers.name(ada) == 0
    assert [replace(found, seal="") for found in catalog.signers.list()] == sorted(ada, key=lambda s: s.vkey)
    row = {"user": "eve", "host": "lab", "kind": "log", "name": "x", "created_at": NOW, "site": "lab"}
    eve = signer(tmp_path / "eve", user="eve").vkey
    stolen = catalog.signers.list()[0].seal
    forged = [
        row | {"key": "1", "vkey": eve, "seal": stolen},
        row | {"key": "2", "vkey": eve, "seal": ""},
        row | {"key": "3", "vkey": eve, "seal": "é"},
        row | {"key": "4", "vkey": None, "seal": None, "kind": None},
    ]
    catalog._connection.insert_absent(SIGNERS, forged)
    assert len(catalog.signers.list()) == 2


def test_a_changed_row_is_no_signer_and_the_true_one_comes_again(catalog: Catalog, tmp_path: Path) -> None:
    ada = replace(signer(tmp_path / "ada"), created_at=datetime.now(UTC))
    catalog.signers.name([ada])
    catalog._connection.update(SIGNERS, "kind = 'log'", {"user": "eve"})
    assert catalog.signers.list() == []
    later = replace(ada, created_at=ada.created_at + timedelta(seconds=1))
    assert catalog.signers.name([later]) == 1
    assert [found.user for found in catalog.signers.list()] == ["ada"]


def test_who_joins_with_another_key_sees_the_team_s_signers(
    catalog: Catalog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog.signers.name([signer(tmp_path / "ada")])
    invite(str(catalog.location), tmp_path / "invitation")
    monkeypatch.setenv("LLMOPS_HOME", str(tmp_path / "bob"))
    assert catalog.signers.list() == []
    catalog.signers.name([signer(tmp_path / "bob", user="bob")])
    join(str(catalog.location), tmp_path / "invitation")
    assert [found.user for found in catalog.signers.list()] == ["ada"]
    assert catalog.signers.name([signer(tmp_path / "bob", user="bob")]) == 1
    assert {found.user for found in catalog.signers.list()} == {"ada", "bob"}


def test_a_snapshot_holds_them(catalog: Catalog, tmp_path: Path) -> None:
    catalog.heads.publish([head()])
    catalog.signers.name([signer(tmp_path / "ada")])
    catalog.snapshots.create("release")
    catalog.heads.publish([head(size=9)])
    then = Catalog(catalog.folder, site="lab", user="bob", snapshot="release")
    assert [found.size for found in then.heads.list()] == [3]
    assert len(then.signers.list()) == 1
