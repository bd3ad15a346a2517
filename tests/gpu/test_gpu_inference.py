"""The default model on a GPU: quantized there, answering the same twice, and given back."""

from __future__ import annotations

import pytest

from jupyter_llmops.errors import LLMOpsError
from jupyter_llmops.inference.transformers_engine import TransformersEngine
from jupyter_llmops.records.completion import Generation
from jupyter_llmops.records.model import Model
from model_fixtures import make_request

pytestmark = [pytest.mark.gpu, pytest.mark.model]


@pytest.fixture(autouse=True)
def cuda() -> None:
    """Skip where PyTorch was installed without CUDA."""
    import torch

    if not torch.cuda.is_available():
        pytest.skip("needs a PyTorch that can use the GPU (this one is for CPUs)")


@pytest.mark.parametrize("quantization", ["nf4", "bf16", "fp32"])
def test_greedy_is_the_same_over_two_loads(
    engine: TransformersEngine, default_model: Model, quantization: str
) -> None:
    request = make_request(engine, default_model, "Capital of France?", quantization, max_new_tokens=16)
    assert request.device == "cuda"
    first = engine.generate(request, default_model)
    engine.unload(default_model.name)
    assert engine.generate(request, default_model).token_ids == first.token_ids
    engine.unload(default_model.name)


def test_the_nf4_copy_of_the_gpu_is_its_own(engine: TransformersEngine, default_model: Model) -> None:
    engine.load(default_model, "nf4")
    assert list((engine.folder / "nf4").glob("*-cuda-bitsandbytes-*"))


def test_a_seed_reproduces_and_leaves_the_random_state(
    engine: TransformersEngine, default_model: Model
) -> None:
    import torch

    torch.cuda.manual_seed(5)
    expected = torch.rand(3, device="cuda")
    torch.cuda.manual_seed(5)
    request = make_request(
        engine, default_model, "Tell me a story.", max_new_tokens=12, temperature=1.0, seed=4
    )
    first = engine.generate(request, default_model)
    assert torch.equal(torch.rand(3, device="cuda"), expected)
    assert engine.generate(request, default_model).token_ids == first.token_ids


def test_unloading_gives_the_memory_back(engine: TransformersEngine, default_model: Model) -> None:
    import torch

    engine.load(default_model, "fp32")
    before = torch.cuda.memory_allocated()
    engine.unload(default_model.name)
    assert torch.cuda.memory_allocated() < before - (200 << 20)


@pytest.mark.parametrize("quantization", ["nf4", "fp32"])
def test_a_batch_repeats_itself(engine: TransformersEngine, default_model: Model, quantization: str) -> None:
    """Each once, greedy and sampled side by side, and the same again in a batch of the same company."""
    requests = [
        make_request(
            engine, default_model, text, quantization, max_new_tokens=12, temperature=t, seed=3 if t else None
        )
        for text in ("Capital of France?", "Write one line about rain.", "Name a colour.")
        for t in (0, 0.8)
    ]

    def ask() -> dict[int, Generation]:
        done: dict[int, Generation] = {}

        def on_done(position: int, answer: Generation | LLMOpsError) -> None:
            assert position not in done
            assert isinstance(answer, Generation), answer
            done[position] = answer

        engine.generate_many(requests, default_model, on_done)
        return done

    first, second = ask(), ask()
    assert sorted(first) == list(range(len(requests)))
    assert [first[n].token_ids for n in range(6)] == [second[n].token_ids for n in range(6)]
    assert {answer.batch_size for answer in first.values()} == {6}
    engine.unload(default_model.name)
