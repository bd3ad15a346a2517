"""A notebook whose team's catalog lies in a bucket, and goes on where the bucket refuses."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from jupyter_llmops.errors import CatalogError
from jupyter_llmops.workspace.parts import CatalogWarning
from s3_server import READ_ONLY, REFUSED, SECRET, S3Bucket

if TYPE_CHECKING:
    from magic_shell import Notebook


@pytest.fixture
def home(home: Path, s3_bucket: S3Bucket, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Name the bucket as the team's catalog, in the folders of a user."""
    monkeypatch.setenv("LLMOPS_CATALOG", str(s3_bucket.location))
    monkeypatch.setenv("LLMOPS_HOME", str(home / "llmops_home"))
    return home


def parts(notebook: Notebook) -> dict[str, tuple[str, str]]:
    return {c.part: (c.status, f"{c.message} {c.fix}") for c in notebook.run("%llmops doctor").checks}


def test_the_bucket_is_the_teams_and_the_cache_this_users(
    notebook: Notebook, home: Path, s3_bucket: S3Bucket
) -> None:
    place = str(s3_bucket.location)
    state = notebook.run("%llmops")
    assert state.catalog == place
    assert place in notebook.shown(state)

    notebook.run("%%prompt -s greeting\nHello")
    workspace = notebook.workspace
    assert [prompt.name for prompt in workspace.catalog.prompts.list()] == ["greeting"]
    assert workspace.own is not workspace.catalog
    assert workspace.own.folder == (home / "llmops_home" / "catalog").resolve()
    # An answer of the cache is a file of this user; nothing of it is in the bucket.
    (cache,) = (home / "llmops_home" / "cache").iterdir()
    assert workspace.cache_folder == cache
    assert any(cache.rglob("*.item"))
    assert list(workspace.catalog.objects.names("cache/")) == []
    with pytest.raises(CatalogError, match="lies in a bucket"):
        _ = workspace.folder

    said = parts(notebook)
    assert said["catalog"][0] == "ok"
    assert f"{place} (a bucket) can be read and written" in said["catalog"][1]
    assert "newest commit came" in said["catalog"][1]
    assert "is seen within" in said["catalog"][1]
    assert "yours only" in said["cache"][1]
    assert said["private catalog"][0] == "ok"
    assert str(workspace.own.location) in said["private catalog"][1]
    # The doctor's own writing left nothing behind.
    assert list(workspace.catalog.objects.names("probes/")) == []


def test_where_the_bucket_refuses_prompts_are_answered_all_the_same(
    notebook: Notebook, s3_bucket: S3Bucket
) -> None:
    s3_bucket.as_user(REFUSED)
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # a cell that needs nothing of the catalog is told nothing of it
        assert notebook.run("%%prompt\nHello").text
    error = notebook.fail("%%prompt -s greeting\nHello again")
    assert isinstance(error, CatalogError)
    status, said = parts(notebook)["catalog"]
    assert status == "fail"
    for text in (str(error), said):
        assert "does not let you read" in text
        assert "the owner of the bucket" in text
        assert SECRET not in text
        assert REFUSED not in text
    # A model that is found without the catalog answers, too; that the catalog wasn't asked is said.
    with pytest.warns(CatalogWarning, match="not looked at: The storage does not let you read"):
        assert notebook.workspace.catalog_models() == []
    # What is private needs no bucket.
    notebook.run("%%prompt -s greeting --private\nHello again")
    assert notebook.engine.asked == 2


def test_where_the_bucket_can_only_be_read_publishing_fails_and_nothing_else(
    notebook: Notebook, s3_bucket: S3Bucket
) -> None:
    notebook.run("%%prompt -s greeting\nHello")
    s3_bucket.as_user(READ_ONLY)
    again = type(notebook.workspace)(notebook.workspace.settings, s3_bucket.location)
    with pytest.raises(CatalogError, match="does not let you write to"):
        again.catalog.prompts.publish("greeting", "Goodbye")
    assert again.catalog.prompts.get("greeting").template == "Hello"
