"""PEFT adapters over one base in memory, with the real PEFT and a small real model."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from jupyter_llmops.errors import InferenceError, ReproduceError, UnsafeModelError
from jupyter_llmops.inference import sources
from jupyter_llmops.inference.adapters import WEIGHTS_FILE, with_base
from jupyter_llmops.inference.transformers_engine import TransformersEngine
from jupyter_llmops.records.model import Model
from jupyter_llmops.records.request import InferenceRequest
from jupyter_llmops.reproduce.worker import infer
from model_fixtures import make_request

Make = Callable[..., Model]


@pytest.fixture(scope="module")
def small(tiny_folder: Path, models_folder: Path) -> tuple[TransformersEngine, Model]:
    """Return an engine and the tiny model."""
    engine = TransformersEngine(models_folder, offline=True)  # where it is quantized once for all tests
    return engine, engine.with_digest(sources.resolve(str(tiny_folder)))


@pytest.fixture
def make_adapter(tiny_folder: Path, tmp_path: Path, small: tuple[TransformersEngine, Model]) -> Make:
    """Return what saves a LoRA with random weights as PEFT does."""

    def make(name: str, seed: int = 0, **changed: object) -> Model:
        import torch
        from peft import LoraConfig, get_peft_model
        from transformers import AutoModelForCausalLM

        net = AutoModelForCausalLM.from_pretrained(tiny_folder)
        torch.manual_seed(seed)
        settings = LoraConfig(r=4, target_modules=["q_proj", "v_proj", "down_proj"], init_lora_weights=False)
        get_peft_model(net, settings).save_pretrained(tmp_path / name)
        if changed:
            path = tmp_path / name / "adapter_config.json"
            path.write_text(json.dumps({**json.loads(path.read_text()), **changed}))
        engine, base = small
        found = engine.with_digest(sources.resolve(str(tmp_path / name)))
        return replace(found, name=name, base=base.name, base_digest=base.digest)

    return make


def ask(
    engine: TransformersEngine, model: Model, quantization: str, *, exact: bool = False
) -> InferenceRequest:
    adapter = model.adapter
    request = make_request(engine, model, "abc", quantization, max_new_tokens=12)
    return replace(
        request,
        exact=exact,
        adapter=adapter.name if adapter else "",
        adapter_digest=adapter.digest if adapter else "",
    )


@pytest.mark.slow
@pytest.mark.parametrize(
    ("quantization", "exact"), [("fp32", False), ("nf4", False), ("nf4", True), ("int8", False)]
)
def test_adapters_over_one_base_answer_each_for_itself(
    small: tuple[TransformersEngine, Model], make_adapter: Make, quantization: str, *, exact: bool
) -> None:
    engine, base = small
    one, two = (replace(base, adapter=make_adapter(name, seed)) for name, seed in (("one", 1), ("two", 2)))
    models = (base, one, two, base, two, one)
    answers = [engine.generate(ask(engine, m, quantization, exact=exact), m).token_ids for m in models]
    assert answers[0] == answers[3]
    assert answers[1] == answers[5]
    assert answers[2] == answers[4]
    assert len(set(answers)) == 3
    assert {entry.name for entry in engine.loaded()} == {base.name, "one", "two"}
    engine.unload("one")
    assert {entry.name for entry in engine.loaded()} == {base.name, "two"}
    assert engine.generate(ask(engine, base, quantization, exact=exact), base).token_ids == answers[0]
    engine.unload(base.name)


def test_a_loaded_adapter_answers_as_peft_alone(
    small: tuple[TransformersEngine, Model], make_adapter: Make, tiny_folder: Path
) -> None:
    import torch
    from peft import PeftModel
    from transformers import AutoModelForCausalLM

    engine, base = small
    model = replace(base, adapter=make_adapter("lora", 5))
    request = ask(engine, model, "fp32")
    ours = engine.generate(request, model)
    assert model.adapter is not None
    net = AutoModelForCausalLM.from_pretrained(tiny_folder, dtype=torch.float32)
    alone = PeftModel.from_pretrained(net, model.adapter.source.removeprefix("folder:"))
    prompt = engine.weights(model, "fp32").chat.encode(request.messages)
    with torch.inference_mode():
        answer = alone.generate(
            input_ids=torch.tensor([prompt]),
            max_new_tokens=12,
            do_sample=False,
            eos_token_id=2,
            pad_token_id=2,
        )
    assert tuple(answer[0, len(prompt) :].tolist()) == ours.token_ids
    engine.unload(base.name)


def test_an_adapters_answer_is_inferred_again_from_its_record(
    small: tuple[TransformersEngine, Model], make_adapter: Make, tmp_path: Path
) -> None:
    engine, base = small
    adapter = make_adapter("again", seed=5)
    model = replace(base, adapter=adapter)
    request = ask(engine, model, "fp32")
    order = {
        "request": request.canonical(),
        "model_source": base.source,
        "adapter_source": adapter.source,
        "models_folder": str(tmp_path / "models"),
        "offline": True,
    }
    engine.load(model, "fp32")
    assert infer(order)["token_ids"] == list(engine.generate(request, model).token_ids)
    other = make_adapter("other", seed=6)
    with pytest.raises(ReproduceError, match="files of again have changed since"):
        infer(order | {"adapter_source": other.source})


def test_a_request_for_another_adapter_is_refused(
    small: tuple[TransformersEngine, Model], make_adapter: Make
) -> None:
    engine, base = small
    model = replace(base, adapter=make_adapter("mine"))
    with pytest.raises(InferenceError, match="no adapter, but one is switched on"):
        engine.generate(ask(engine, base, "fp32"), model)
    with pytest.raises(InferenceError, match="other files of the adapter 'mine'"):
        engine.generate(ask(engine, model, "fp32"), base)


def test_a_pickle_is_not_loaded(
    small: tuple[TransformersEngine, Model], make_adapter: Make, tmp_path: Path
) -> None:
    engine, base = small
    adapter = make_adapter("bad", 9)
    folder = Path(adapter.source.removeprefix("folder:"))

    class Evil:
        def __reduce__(self) -> tuple[object, ...]:
            return (Path.touch, (tmp_path / "ran",))

    (folder / "adapter_model.bin").write_bytes(pickle.dumps(Evil()))
    (folder / WEIGHTS_FILE).unlink()
    with pytest.raises((UnsafeModelError, InferenceError)):
        engine.generate(ask(engine, replace(base, adapter=adapter), "fp32"), replace(base, adapter=adapter))
    assert not (tmp_path / "ran").exists()


@pytest.mark.parametrize(
    ("changed", "said"),
    [
        ({"r": 8}, "does not fit"),
        ({"target_modules": ["nothing_here"]}, "does not fit"),
        ({"peft_type": "PREFIX_TUNING"}, "PREFIX_TUNING, which is not supported"),
        ({"r": "many"}, "does not fit|can't be read"),
    ],
)
def test_one_that_does_not_fit_leaves_the_base_as_it_was(
    small: tuple[TransformersEngine, Model], make_adapter: Make, changed: dict[str, object], said: str
) -> None:
    engine, base = small
    before = engine.generate(ask(engine, base, "fp32"), base).token_ids
    odd = replace(base, adapter=make_adapter("odd", **changed))
    with pytest.raises(InferenceError, match=said):
        engine.generate(ask(engine, odd, "fp32"), odd)
    assert engine.generate(ask(engine, base, "fp32"), base).token_ids == before
    fits = replace(base, adapter=make_adapter("fits", 3))
    assert engine.generate(ask(engine, fits, "fp32"), fits).token_ids != before


def test_an_adapter_that_asks_to_import_or_to_rewrite_the_base_does_neither(
    small: tuple[TransformersEngine, Model], make_adapter: Make
) -> None:
    engine, base = small
    before = engine.generate(ask(engine, base, "fp32"), base).token_ids
    plain = replace(base, adapter=make_adapter("plain", 4))
    wanted = engine.generate(ask(engine, plain, "fp32"), plain).token_ids
    tricky = make_adapter(
        "tricky",
        4,
        init_lora_weights="pissa",
        auto_mapping={"base_model_class": "x", "parent_library": "antigravity"},
    )
    model = replace(base, adapter=tricky)
    assert engine.generate(ask(engine, model, "fp32"), model).token_ids == wanted
    assert engine.generate(ask(engine, base, "fp32"), base).token_ids == before


BASE = Model("base", "llm", "folder:/b", "sha256:" + "1" * 64)
ADAPTER = Model("lora", "adapter", "folder:/a", "sha256:" + "2" * 64, base="base", base_digest=BASE.digest)


def test_a_base_is_found_by_its_digest_under_any_name() -> None:
    renamed = replace(BASE, name="renamed")
    found = with_base(ADAPTER, {"renamed": renamed}.__getitem__, lambda: [renamed])
    assert (found.name, found.adapter) == ("renamed", ADAPTER)
    assert with_base(BASE, lambda _name: BASE, list) is BASE


def test_another_base_of_that_name_is_refused() -> None:
    other = replace(BASE, digest="sha256:" + "3" * 64)
    with pytest.raises(InferenceError, match="trained on other files of 'base'"):
        with_base(ADAPTER, lambda _name: other, lambda: [other])


def test_an_adapter_of_an_adapter_and_one_without_a_base_are_refused() -> None:
    with pytest.raises(InferenceError):
        with_base(replace(ADAPTER, base_digest=""), lambda _name: ADAPTER, list)
    with pytest.raises(InferenceError, match="does not say which model"):
        with_base(replace(ADAPTER, base="", base_digest=""), lambda _name: BASE, list)
