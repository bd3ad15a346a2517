"""Models whose files could run code: refused, unless this user allowed that one; and then it is recorded."""

from __future__ import annotations

import json
import pickle
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from jupyter_llmops.errors import InferenceError, UnsafeModelError
from jupyter_llmops.inference import sources, unsafe
from jupyter_llmops.inference.transformers_engine import TransformersEngine
from model_fixtures import make_request

CODE = """
from pathlib import Path
from transformers.models.llama.modeling_llama import LlamaForCausalLM
Path({ran!r}).touch()
class Own(LlamaForCausalLM):
    pass
"""


@pytest.fixture(autouse=True)
def _nothing_allowed() -> Iterator[None]:
    unsafe.allow()
    yield
    unsafe.allow()


@pytest.fixture
def ran(tmp_path: Path) -> Path:
    """Return the file that appears when a model's code runs."""
    return tmp_path / "ran"


@pytest.fixture
def pickled(tiny_folder: Path, tmp_path: Path) -> Path:
    """Return the tiny model with its weights as a pickle."""
    import torch
    from safetensors.torch import load_file

    folder = tmp_path / "pickled"
    shutil.copytree(tiny_folder, folder)
    (weights,) = folder.glob("*.safetensors")
    torch.save(load_file(weights), folder / "pytorch_model.bin")
    weights.unlink()
    return folder


@pytest.fixture
def with_code(tiny_folder: Path, tmp_path: Path, ran: Path) -> Path:
    """Return the tiny model with Python of its own."""
    folder = tmp_path / "with_code"
    shutil.copytree(tiny_folder, folder)
    (folder / "modeling_own.py").write_text(CODE.format(ran=str(ran)))
    config = json.loads((folder / "config.json").read_text())
    config["auto_map"] = {"AutoModelForCausalLM": "modeling_own.Own"}
    (folder / "config.json").write_text(json.dumps(config))
    return folder


def test_a_pickle_is_refused_and_one_that_was_allowed_is_recorded(
    pickled: Path, tiny_folder: Path, tmp_path: Path
) -> None:
    with pytest.raises(UnsafeModelError, match=r"only there as a pickle.*allow_unsafe_models"):
        sources.resolve(str(pickled))
    unsafe.allow([str(pickled)])
    engine = TransformersEngine(tmp_path / "models", offline=True)
    model = engine.with_digest(sources.resolve(str(pickled)))
    assert engine.identify(model, "fp32").options == (("unsafe_files", "pickle"),)
    safe = engine.with_digest(sources.resolve(str(tiny_folder)))
    assert engine.identify(safe, "fp32").options == ()
    answers = [
        engine.generate(make_request(engine, one, "ab", "fp32", max_new_tokens=8), one)
        for one in (model, safe)
    ]
    assert answers[0].token_ids == answers[1].token_ids
    unsafe.allow()
    with pytest.raises(UnsafeModelError):
        engine.identify(model, "fp32")


def test_a_pickle_with_code_runs_nothing_even_where_it_was_allowed(
    pickled: Path, tmp_path: Path, ran: Path
) -> None:
    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (ran,))

    (pickled / "pytorch_model.bin").write_bytes(pickle.dumps({"a": Evil()}))
    with pytest.raises(UnsafeModelError):
        sources.resolve(str(pickled))
    unsafe.allow([str(pickled)])
    engine = TransformersEngine(tmp_path / "models", offline=True)
    model = engine.with_digest(sources.resolve(str(pickled)))
    with pytest.raises(InferenceError):
        engine.load(model, "fp32")
    assert not ran.exists()


@pytest.mark.parametrize("quantization", ["fp32", "nf4"])
def test_code_of_the_model_runs_only_where_it_was_allowed(
    with_code: Path, tmp_path: Path, ran: Path, quantization: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HF_MODULES_CACHE", str(tmp_path / "modules"))
    engine = TransformersEngine(tmp_path / "models", offline=True)
    model = replace(engine.with_digest(sources.resolve(str(with_code))), name="trusted")
    with pytest.raises(UnsafeModelError, match=r"'trusted' is refused.*Python code of its own"):
        engine.load(model, quantization)
    with pytest.raises(UnsafeModelError):
        engine.count_tokens(model, ())
    assert not ran.exists()
    unsafe.allow(["trusted"])
    # With its code among the files that decide, it is another model than without.
    model = engine.with_digest(replace(model, digest=""))
    assert "modeling_own.py" in {path.name for path in sources.locate(model).files}
    engine.load(model, quantization)
    assert ran.exists()
    assert engine.identify(model, quantization).options == (("unsafe_files", "remote code"),)


@pytest.mark.parametrize("text", ["", "[]", '{"auto_map": null}', '{"a": "\\"auto_map\\""}', "{"])
def test_what_names_no_code_is_not_refused(tiny_folder: Path, tmp_path: Path, text: str) -> None:
    folder = tmp_path / "plain"
    shutil.copytree(tiny_folder, folder)
    (folder / "processor_config.json").write_text(text)
    assert unsafe.unsafe_parts(folder) == ()
