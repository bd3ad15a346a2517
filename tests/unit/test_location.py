from __future__ import annotations

from pathlib import Path

import pytest

from jupyter_llmops.errors import SettingsError
from jupyter_llmops.location import Location
from jupyter_llmops.settings import LLMOps, find_catalog, private_catalog


@pytest.mark.parametrize(
    ("typed", "uri"),
    [
        ("s3://team", "s3://team"),
        ("s3://team/", "s3://team"),
        (" s3://team/a//b/ ", "s3://team/a/b"),
        ("S3://team/a", "s3://team/a"),
        ("/srv/team", "/srv/team"),
        ("file:///srv/team", "/srv/team"),
        ("/srv/x/../team/", "/srv/team"),
        ("/srv/ends with a blank ", "/srv/ends with a blank "),
    ],
)
def test_a_place_has_one_name(typed: str, uri: str) -> None:
    location = Location.parse(typed)
    assert str(location) == location.uri == uri
    assert Location.parse(location) is location
    assert Location.parse(uri) == location
    assert location.is_local == (location.folder is not None) == uri.startswith("/")
    assert str(location / "x") == f"{uri}/x"


@pytest.mark.parametrize(
    ("typed", "said"),
    [
        ("ftp://team/a", "can't lie in ftp://"),
        ("s3://key:secret@team/a", "holds credentials"),
        ("s3://", "not the URI of a bucket"),
        ("s3://Team", "not the URI of a bucket"),
        ("s3://team/../other", "not the URI of a bucket"),
        ("s3://team/./other", "not the URI of a bucket"),
        ("s3:/team/other", "not the URI of a bucket"),
        ("s3://team/a\x00b", "not the URI of a bucket"),
        ("s3://team/a?b=c", "not the URI of a bucket"),
        ("/a\x00b", "can't be used"),
    ],
)
def test_what_is_no_place_is_refused(typed: str, said: str) -> None:
    with pytest.raises(SettingsError, match=said) as caught:
        Location.parse(typed)
    assert "secret" not in str(caught.value)


def test_a_relative_path_and_the_home_are_made_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert Location.parse("team").folder == tmp_path / "team"
    assert Location.parse(Path("team")).folder == tmp_path / "team"
    assert Location.parse("~/team").folder == tmp_path / "home" / "team"


def test_the_environment_wins_over_the_settings_and_they_over_the_search(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("LLMOPS_HOME", str(tmp_path / "user"))
    monkeypatch.delenv("LLMOPS_CATALOG", raising=False)
    settings = LLMOps()
    # A .llmops folder above the temporary one would be found.
    (tmp_path / "project" / ".llmops").mkdir(parents=True)
    (tmp_path / "project" / "notebooks").mkdir()
    found = find_catalog(settings, tmp_path / "project" / "notebooks")
    assert found.folder == tmp_path / "project" / ".llmops"
    settings.catalog = "s3://configured/team"
    assert find_catalog(settings) == Location("s3://configured/team")
    monkeypatch.setenv("LLMOPS_CATALOG", "s3://named/team")
    assert find_catalog(settings) == Location("s3://named/team")
    assert private_catalog().folder == (tmp_path / "user" / "catalog").resolve()
    monkeypatch.setenv("LLMOPS_CATALOG", "gs://team")
    with pytest.raises(SettingsError, match="gs://"):
        find_catalog(settings)
