"""What a leaf of a prompt says of the tokenizer: which files turned the chat into tokens."""

from __future__ import annotations

from pathlib import Path

import pytest

from jupyter_llmops.inference.manifest import digest_of_files, tokenizer_digest
from jupyter_llmops.inference.sources import digest_of
from jupyter_llmops.records.model import Model, ModelFile


def manifest(**changed: str) -> tuple[ModelFile, ...]:
    named = {
        "config.json": "a", "model.safetensors": "b", "tokenizer.json": "c", "chat_template.jinja": "d",
        "original/tokenizer.model": "e", **changed,
    }  # fmt: skip
    return tuple(ModelFile(path, 1, digit * 64) for path, digit in sorted(named.items()))


@pytest.mark.parametrize("path", ["tokenizer.json", "chat_template.jinja"])
def test_the_tokenizers_files_decide_its_digest(path: str) -> None:
    assert tokenizer_digest(manifest(**{path: "f"})) != tokenizer_digest(manifest())


@pytest.mark.parametrize("path", ["config.json", "model.safetensors", "original/tokenizer.model"])
def test_other_files_do_not(path: str) -> None:
    assert tokenizer_digest(manifest(**{path: "f"})) == tokenizer_digest(manifest())


def test_a_gguf_file_is_weights_and_tokenizer_in_one_and_an_endpoint_says_nothing() -> None:
    file = (ModelFile("model.gguf", 1, "a" * 64),)
    assert tokenizer_digest(file) == digest_of_files(file)
    assert tokenizer_digest(()) == ""


def test_a_model_whose_files_were_read_has_them_in_its_record(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    for name in ("config.json", "model.safetensors", "tokenizer.json"):
        (folder / name).write_text("{}")
    model = digest_of(Model(name="m", kind="llm", source=f"folder:{folder}", digest=""), tmp_path / "models")
    assert [file.path for file in model.files] == ["config.json", "model.safetensors", "tokenizer.json"]
    assert model.digest == digest_of_files(model.files)
    (folder / "tokenizer.json").write_text('{"other": 1}')
    other = digest_of(Model(name="m", kind="llm", source=f"folder:{folder}", digest=""), tmp_path / "models")
    assert tokenizer_digest(other.files) != tokenizer_digest(model.files) != ""
