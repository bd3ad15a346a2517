"""What a model needs, and what auto makes of it."""

from __future__ import annotations

from pathlib import Path

import pytest

from jupyter_llmops.errors import UsageError
from jupyter_llmops.inference import sources
from jupyter_llmops.inference.footprint import Footprint, footprint_of
from jupyter_llmops.inference.quantization import choose_quantization
from jupyter_llmops.inference.transformers_engine import TransformersEngine
from jupyter_llmops.records.model import Model

GIB = 2**30
# An 8B model of 32 layers with 8 of 32 heads for keys: 128 KiB a token in bfloat16.
EIGHT = Footprint(8_000_000_000, 1_050_000_000, 2 * 32 * 8 * 128, 8192)


def test_a_gpu_gets_the_weights_as_they_are_while_they_fit() -> None:
    assert choose_quantization("auto", "cuda", EIGHT, 80 * GIB)[0] == "bf16"
    chosen, why = choose_quantization("auto", "cuda", EIGHT, 12 * GIB)
    assert chosen == "nf4"
    assert "8,192 tokens" in why
    assert "12.0 GiB free" in why
    assert "bf16 would need" in why


def test_a_longer_context_changes_the_choice() -> None:
    free = EIGHT.needed("bf16", "cuda")
    longer = Footprint(EIGHT.parameters, EIGHT.unpacked, EIGHT.cache_values, 32768)
    assert choose_quantization("auto", "cuda", EIGHT, free)[0] == "bf16"
    assert choose_quantization("auto", "cuda", longer, free)[0] == "nf4"


def test_a_cpu_gets_nf4_and_what_fits_nowhere_is_said() -> None:
    assert choose_quantization("auto", "cpu", EIGHT, 64 * GIB)[0] == "nf4"
    chosen, why = choose_quantization("auto", "cpu", EIGHT, GIB)
    assert chosen == "nf4"
    assert "1.0 GiB free" in why
    assert "needs the least, but" in why


@pytest.mark.parametrize("wanted", ["nf4", "int8", "bf16", "fp32"])
def test_what_was_asked_for_is_not_second_guessed(wanted: str) -> None:
    assert choose_quantization(wanted, "cpu", EIGHT, 1)[0] == wanted


def test_an_unknown_one_names_all() -> None:
    with pytest.raises(UsageError, match=r"Did you mean int8\?.*auto, nf4, int8, bf16, fp32"):
        choose_quantization("int9")


def test_the_estimate_is_near_what_the_real_model_takes(
    engine: TransformersEngine, default_model: Model
) -> None:
    engine.load(default_model, "nf4")
    taken = next(entry.memory_bytes for entry in engine.loaded() if entry.quantization == "nf4")
    files = sources.locate(default_model)
    for converted in (None, next((engine.folder / "weights").glob(f"{default_model.digest[7:27]}-v*[0-9]"))):
        footprint = footprint_of(files, converted)
        assert footprint is not None
        assert footprint.parameters == pytest.approx(134_515_008, rel=0.02)
        if converted is not None:
            assert footprint.weights("nf4", "cpu") == pytest.approx(taken, rel=0.1)
            assert footprint.cache_values == 2 * 30 * 3 * 64


@pytest.mark.parametrize("config", ["not JSON", "{}", '{"hidden_size": 0}', "[]"])
def test_a_configuration_that_says_nothing_gives_none(tmp_path: Path, config: str) -> None:
    (tmp_path / "config.json").write_text(config)
    (tmp_path / "model.safetensors").write_bytes(b"")
    assert footprint_of(sources.ModelFiles("folder", tmp_path, ())) is None


def test_auto_stays_what_it_was_until_the_model_is_unloaded(
    tiny_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = TransformersEngine(tmp_path, offline=True)
    model = engine.with_digest(sources.resolve(str(tiny_folder)))
    module = "jupyter_llmops.inference.transformers_engine.free_bytes"
    monkeypatch.setattr(module, lambda _device: 8 * GIB)
    first = engine.identify(model, "auto").reason
    monkeypatch.setattr(module, lambda _device: 1 * GIB)
    assert engine.identify(model, "auto").reason == first
    engine.load(model, "fp32")
    engine.unload(model.name)
    assert "1.0 GiB free" in engine.identify(model, "auto").reason
