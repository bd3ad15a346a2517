"""Which of a model's places this machine uses."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from jupyter_llmops.errors import InferenceError, ModelNotAvailableError
from jupyter_llmops.inference import at_hand as module
from jupyter_llmops.inference.at_hand import at_hand, pulled_folder, pulled_source
from jupyter_llmops.inference.manifest import model_files
from jupyter_llmops.inference.sources import digest_of, files_in
from jupyter_llmops.records.model import Model, Place


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    folder = tmp_path / "here" / "tiny"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text('{"model_type": "llama"}')
    (folder / "model.safetensors").write_bytes(b"\0" * 64)
    return folder


@pytest.fixture
def model(folder: Path, tmp_path: Path) -> Model:
    known = digest_of(Model("tiny", "llm", f"folder:{folder}"), tmp_path / "models")
    files = model_files(folder, files_in(folder).files)
    place = Place("gpu-1", "folder:/elsewhere/tiny")
    return replace(known, source=place.source, site="gpu-1", places=(place,), files=files)


def test_the_first_source_of_this_site_is_used(model: Model, folder: Path, tmp_path: Path) -> None:
    registered = replace(model, source=f"folder:{folder}", site="lab")
    assert at_hand(registered, tmp_path / "models", site="lab").source == f"folder:{folder}"


def test_another_place_of_this_site_is_used(model: Model, folder: Path, tmp_path: Path) -> None:
    here = replace(model, places=(*model.places, Place("lab", f"folder:{folder}")))
    found = at_hand(here, tmp_path / "models", site="lab")
    assert (found.source, found.digest) == (f"folder:{folder}", model.digest)


def test_what_was_pulled_is_used(model: Model, folder: Path, tmp_path: Path) -> None:
    pulled = pulled_folder(model, tmp_path / "models")
    shutil.copytree(folder, pulled)
    assert at_hand(model, tmp_path / "models", site="lab").source == f"folder:{pulled}"


def test_a_pulled_file_is_named_itself(model: Model, tmp_path: Path) -> None:
    alone = replace(model, files=(replace(model.files[0], path="tiny.gguf"),))
    assert pulled_source(alone, tmp_path).endswith("/tiny.gguf")
    assert pulled_source(model, tmp_path) == f"folder:{pulled_folder(model, tmp_path)}"


def test_a_folder_that_all_sites_mount_is_used(model: Model, folder: Path, tmp_path: Path) -> None:
    mounted = replace(model, source=f"folder:{folder}", places=(Place("gpu-1", f"folder:{folder}"),))
    assert at_hand(mounted, tmp_path / "models", site="lab").source == f"folder:{folder}"


def test_files_that_are_elsewhere_say_where_and_what_to_type(model: Model, tmp_path: Path) -> None:
    with pytest.raises(
        ModelNotAvailableError, match=r"not on this machine, but on: gpu-1.*%models push tiny"
    ):
        at_hand(model, tmp_path / "models", site="lab")
    stored = replace(model, places=(*model.places, Place("storage", f"storage:{model.digest}")))
    with pytest.raises(ModelNotAvailableError, match=r"but on: gpu-1, storage\. Type %models pull tiny"):
        at_hand(stored, tmp_path / "models", site="lab")


def test_a_place_with_other_files_is_passed_over(model: Model, folder: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(folder, other)
    (other / "model.safetensors").write_bytes(b"\1" * 64)
    places = (Place("lab", f"folder:{other}"), Place("lab", f"folder:{folder}"))
    assert (
        at_hand(replace(model, places=places), tmp_path / "models", site="lab").source == f"folder:{folder}"
    )
    with pytest.raises(InferenceError, match="changed since its digest was recorded"):
        at_hand(replace(model, places=places[:1]), tmp_path / "models", site="lab")


def test_the_hub_is_asked_after_all_that_is_here(
    model: Model, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []

    def digest(model: Model, *_: object, **__: object) -> Model:
        asked.append(model.source)
        raise ModelNotAvailableError("not here")

    monkeypatch.setattr(module, "digest_of", digest)
    hub = replace(model, source="hub:o/n", places=(Place("lab", "hub:o/n"), Place("lab", f"folder:{folder}")))
    with pytest.raises(ModelNotAvailableError):
        at_hand(hub, tmp_path / "models", site="lab")
    assert asked == [f"folder:{folder}", "hub:o/n"]


def test_a_folder_of_somebody_else_is_no_traceback(
    model: Model, folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object, **__: object) -> Model:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(module, "digest_of", refuse)
    with pytest.raises(ModelNotAvailableError, match="not on this machine"):
        at_hand(model, tmp_path / "models", site="lab")


def test_an_endpoint_needs_no_files_and_a_registry_says_that_it_does_not_answer(tmp_path: Path) -> None:
    endpoint = Model("gpt", "llm", "endpoint:https://host/v1#gpt")
    assert at_hand(endpoint, tmp_path, site="lab") is endpoint
    with pytest.raises(InferenceError, match=r"'gpt' is a model of an MLflow registry; this version answers"):
        at_hand(Model("gpt", "llm", "mlflow:sqlite:///x#models:/m/3"), tmp_path, site="lab")


@pytest.mark.parametrize(
    "digest", ["sha256:../../../elsewhere", "/elsewhere", "sha256:/elsewhere", "sha256:aa"]
)
def test_a_digest_is_never_a_path(model: Model, tmp_path: Path, digest: str) -> None:
    with pytest.raises(InferenceError, match="damaged"):
        pulled_folder(replace(model, digest=digest), tmp_path / "models")
