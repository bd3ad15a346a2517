"""The real MiniLM: what its space is, that its vectors are its authors', and that it disturbs nothing."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from jupyter_llmops.errors import InferenceError
from jupyter_llmops.inference import sources
from jupyter_llmops.inference.encoder import Encoder, open_encoder, space_digest
from jupyter_llmops.records.model import Model

TEXTS = ["A cat sat on the mat.", "dogs", "x" * 3000, "Straße 漢字 🎉", "word " * 2000, "one two"]


@pytest.fixture(scope="module")
def model() -> Model:
    return sources.resolve(sources.DEFAULT_ENCODER)


@pytest.fixture(scope="module")
def encoder(model: Model, models_folder: Path) -> Encoder:
    return open_encoder(model, models_folder, offline=True)


def test_its_space_is_read_from_its_modules(encoder: Encoder) -> None:
    space = encoder.space
    assert (space.encoder, space.pooling, space.normalized, space.dimension, space.max_tokens) == (
        "all-minilm-l6-v2", "mean", True, 384, 254,
    )  # fmt: skip
    assert space.encoder_digest == encoder.model.digest != ""
    digest = space_digest(space)
    assert space_digest(replace(space, encoder="called otherwise")) == digest
    for change in (
        {"pooling": "cls"},
        {"normalized": False},
        {"max_tokens": 512},
        {"encoder_digest": "sha256:0"},
    ):
        assert space_digest(replace(space, **change)) != digest  # type: ignore[arg-type]


def test_its_vectors_are_those_of_sentence_transformers_in_order(encoder: Encoder) -> None:
    from sentence_transformers import SentenceTransformer

    told: list[float | None] = []
    vectors = encoder.embed(TEXTS, lambda _, fraction: told.append(fraction))
    assert vectors.dtype == np.float32
    assert told == [1.0]
    plain = SentenceTransformer(str(sources.locate(encoder.model).path), device="cpu", local_files_only=True)
    assert np.allclose(vectors, plain.encode(TEXTS), atol=1e-5)
    assert np.allclose(encoder.embed_query(TEXTS[0]), vectors[0], atol=1e-5)
    assert np.allclose(np.linalg.norm(vectors, axis=1), 1, atol=1e-5)
    assert encoder.embed([]).shape == (0, 384)


def test_tokens_are_told_as_characters_also_of_a_long_text(encoder: Encoder) -> None:
    text = "Tokens of unusuality, 漢字!"
    assert [text[start:end] for start, end in encoder.token_spans(text)][:3] == ["Token", "##s"[2:], "of"]
    assert encoder.count_tokens(text) == len(encoder.token_spans(text))
    long = "some words of text\n" * 12_000  # longer than what is read at once
    spans = encoder.token_spans(long)
    assert len(spans) == 48_000
    assert [long[start:end] for start, end in spans[-4:]] == ["some", "words", "of", "text"]
    assert encoder.token_spans("") == []


def test_it_is_loaded_once_and_changes_nothing_of_torch(
    model: Model, encoder: Encoder, models_folder: Path
) -> None:
    import torch

    before = (torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled())
    assert open_encoder(model, models_folder, offline=True) is encoder
    Encoder(encoder.model, sources.locate(encoder.model))
    encoder.embed(["one"])
    assert (torch.get_num_threads(), torch.get_default_dtype(), torch.is_grad_enabled()) == before


def test_a_model_that_would_run_code_is_refused(model: Model, tmp_path: Path, models_folder: Path) -> None:
    folder = tmp_path / "evil"
    shutil.copytree(sources.locate(model).path, folder)
    modules = json.loads((folder / "modules.json").read_text("utf-8"))
    modules.append({"idx": 3, "name": "3", "path": "", "type": "evil.Module"})
    (folder / "modules.json").write_text(json.dumps(modules), "utf-8")
    (folder / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')", "utf-8")
    with pytest.raises(InferenceError, match=r"code of its own \(evil.Module\)"):
        open_encoder(sources.resolve(str(folder)), models_folder, offline=True)
    assert not (tmp_path / "ran").exists()


def test_a_language_model_without_a_tokenizer_is_no_encoder(tiny_gguf: Path, models_folder: Path) -> None:
    with pytest.raises(InferenceError, match="GGUF file, which can't embed"):
        open_encoder(sources.resolve(str(tiny_gguf)), models_folder, offline=True)


def test_vectors_that_are_no_numbers_are_refused(encoder: Encoder, monkeypatch: pytest.MonkeyPatch) -> None:
    broken = np.full((1, 384), np.nan, dtype=np.float32)
    monkeypatch.setattr(encoder._inner, "encode_document", lambda *_, **__: broken)
    with pytest.raises(InferenceError, match="no numbers"):
        encoder.embed(["one"])
