"""Many answers at once are the answers one by one: whatever memory, length, sampler and architecture do."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from jupyter_llmops.errors import InferenceError, LLMOpsError, ModelMemoryError, UsageError
from jupyter_llmops.inference import attention_cache, batching, memory, sources
from jupyter_llmops.inference.rows import new_row
from jupyter_llmops.inference.transformers_engine import TransformersEngine
from jupyter_llmops.records.completion import Generation
from jupyter_llmops.records.model import Model
from jupyter_llmops.records.request import InferenceRequest
from model_fixtures import make_request

pytestmark = pytest.mark.model

TEXTS = [
    "abab ba",
    "a",
    "The quick brown fox jumps over the lazy dog.",
    "ab" * 20,
    "b c d",
    "zz top",
    "?!",
    "ba",
]
SAMPLED: dict[str, Any] = {"temperature": 0.9, "seed": 11}


@pytest.fixture(scope="module")
def tiny(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TransformersEngine, Model]:
    """Return the tiny model in float32, loaded."""
    engine = TransformersEngine(tmp_path_factory.mktemp("models"), offline=True)
    model = engine.with_digest(sources.resolve(str(tiny_folder)))
    engine.load(model, "fp32")
    return engine, model


@pytest.fixture(autouse=True)
def small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let four rows at most be together, so that rows have to wait for others to leave."""
    monkeypatch.setitem(batching.MOST_ROWS, "cpu", 4)


def requests_of(tiny: tuple[TransformersEngine, Model], **parameters: Any) -> list[InferenceRequest]:
    """Return a request for each text, each with another limit."""
    engine, model = tiny
    return [
        make_request(engine, model, text, "fp32", **{"max_new_tokens": 3 + 5 * (index % 4), **parameters})
        for index, text in enumerate(TEXTS)
    ]


def many(
    tiny: tuple[TransformersEngine, Model], requests: list[InferenceRequest]
) -> list[Generation | LLMOpsError]:
    """Return what `generate_many` hands over, in the order asked; each exactly once, in this thread."""
    engine, model = tiny
    done: dict[int, Generation | LLMOpsError] = {}
    thread = threading.get_ident()

    def on_done(position: int, answer: Generation | LLMOpsError) -> None:
        assert position not in done
        assert threading.get_ident() == thread
        done[position] = answer

    engine.generate_many(requests, model, on_done)
    assert sorted(done) == list(range(len(requests)))
    return [done[position] for position in range(len(requests))]


def same_as_alone(
    tiny: tuple[TransformersEngine, Model], requests: list[InferenceRequest]
) -> list[Generation]:
    """Hold that each answer is the one that the request gets alone, and return them."""
    engine, model = tiny
    together = []
    for request, answer in zip(requests, many(tiny, requests), strict=True):
        assert isinstance(answer, Generation), answer
        alone = engine.generate(request, model)
        assert (answer.token_ids, answer.text) == (alone.token_ids, alone.text)
        assert (answer.finish_reason, answer.tokens_in) == (alone.finish_reason, alone.tokens_in)
        together.append(answer)
    return together


@contextmanager
def forward(net: Any, around: Any) -> Iterator[None]:
    """Let `around(inner, **values)` stand for the model's forward pass."""
    inner = net.forward
    net.forward = replaced = lambda **values: around(inner, **values)
    replaced.__signature__ = __import__("inspect").signature(inner)
    try:
        yield
    finally:
        del net.forward


def net_of(tiny: tuple[TransformersEngine, Model]) -> Any:
    """Return the module that computes."""
    (weights,) = tiny[0]._weights.values()
    return weights.net


@pytest.mark.parametrize(
    "parameters",
    [
        {},
        {"extra": (("repetition_penalty", 1.7),)},
        {"extra": (("no_repeat_ngram_size", 2),)},
        {"max_new_tokens": 20, "extra": (("min_new_tokens", 18),)},
        SAMPLED,
        {**SAMPLED, "extra": (("min_p", 0.02), ("top_k", 40), ("top_p", 0.8))},
        {**SAMPLED, "temperature": 1.0, "extra": (("renormalize_logits", True), ("typical_p", 0.7))},
    ],
    ids=lambda parameters: ",".join(name for name, _ in parameters.get("extra", ())) or str(len(parameters)),
)
def test_an_answer_is_the_same_alone(
    tiny: tuple[TransformersEngine, Model], parameters: dict[str, Any]
) -> None:
    answers = same_as_alone(tiny, requests_of(tiny, **parameters))
    assert max(answer.batch_size for answer in answers) == 4
    assert len({answer.token_ids for answer in answers}) > 3


def test_rows_of_all_sorts_share_a_batch(tiny: tuple[TransformersEngine, Model]) -> None:
    """Greedy, two seeds, a penalty and beams, side by side; the same seed twice draws the same."""
    plain = requests_of(tiny)
    requests = [
        plain[0],
        *(
            replace(plain[1], parameters=replace(plain[1].parameters, temperature=1.0, seed=s))
            for s in (1, 2, 1)
        ),
        replace(plain[2], parameters=replace(plain[2].parameters, extra=(("repetition_penalty", 2.0),))),
        replace(plain[3], parameters=replace(plain[3].parameters, extra=(("num_beams", 2),))),
    ]
    answers = same_as_alone(tiny, requests)
    assert answers[1].token_ids == answers[3].token_ids != answers[2].token_ids
    assert answers[5].batch_size == 1


def test_without_a_seed_each_row_draws_its_own(tiny: tuple[TransformersEngine, Model]) -> None:
    request = replace(requests_of(tiny, temperature=1.0)[3], model=tiny[1].name)
    answers = many(tiny, [request] * 4)
    assert len({answer.token_ids for answer in answers if isinstance(answer, Generation)}) == 4


def test_the_notebooks_random_state_stays(tiny: tuple[TransformersEngine, Model]) -> None:
    import torch

    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    many(tiny, requests_of(tiny, **SAMPLED))
    assert torch.equal(torch.rand(3), expected)


def test_what_all_begin_with_is_computed_once(tiny: tuple[TransformersEngine, Model]) -> None:
    engine, model = tiny
    opening = "Answer in one word. "
    requests = [make_request(engine, model, opening + text, "fp32", max_new_tokens=1) for text in "abcd"]
    passed: list[int] = []

    def counted(inner: Any, **values: Any) -> Any:
        passed.append(values["input_ids"].numel())
        return inner(**values)

    with forward(net_of(tiny), counted):
        answers = many(tiny, requests)
    lengths = [answer.tokens_in for answer in answers if isinstance(answer, Generation)]
    assert sum(passed) < min(lengths) + 4 * (max(lengths) - len(opening))
    same_as_alone(tiny, requests)


def test_failures_are_values_and_the_others_go_on(tiny: tuple[TransformersEngine, Model]) -> None:
    engine, model = tiny
    good = requests_of(tiny)
    requests = [
        good[0],
        make_request(engine, model, "word " * 60, "fp32", max_new_tokens=4),
        replace(good[1], model_digest="sha256:" + "0" * 64),
        good[2],
        replace(good[3], parameters=replace(good[3].parameters, extra=(("no_such", 1),))),
    ]
    first, long, foreign, third, unknown = many(tiny, requests)
    assert isinstance(first, Generation)
    assert isinstance(third, Generation)
    assert "tokens, more than the model's context of 128" in str(long)
    assert isinstance(foreign, InferenceError)
    assert isinstance(unknown, UsageError)
    assert many(tiny, []) == []


def test_a_pass_that_fails_concerns_its_rows_only(tiny: tuple[TransformersEngine, Model]) -> None:
    """The batch in which it happens says why; the rows that waited are answered."""
    requests = [
        replace(request, parameters=replace(request.parameters, max_new_tokens=6))
        for request in requests_of(tiny)
    ]
    passes: list[int] = []

    def broken(inner: Any, **values: Any) -> Any:
        passes.append(len(values["input_ids"]))
        if len(passes) == 4:
            raise ValueError("no such kernel")
        return inner(**values)

    with forward(net_of(tiny), broken):
        answers = many(tiny, requests)
    failed = [answer for answer in answers if isinstance(answer, LLMOpsError)]
    assert len(failed) == 4
    assert "no such kernel" in str(failed[0])
    assert sum(isinstance(answer, Generation) for answer in answers) == 4


@pytest.mark.parametrize("parameters", [{}, SAMPLED], ids=["greedy", "sampled"])
def test_out_of_memory_halves_the_batch(
    tiny: tuple[TransformersEngine, Model], parameters: dict[str, Any]
) -> None:
    """In the middle of the answers too: they go on where they were, with the tokens they would have had."""
    requests = requests_of(tiny, **parameters)
    engine, model = tiny
    alone = [engine.generate(request, model).token_ids for request in requests]
    sizes: list[int] = []

    def small(inner: Any, **values: Any) -> Any:
        rows = len(values["input_ids"])
        if rows > 2 and len(sizes) > 6:
            raise RuntimeError("DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes")
        sizes.append(rows)
        return inner(**values)

    with forward(net_of(tiny), small):
        answers = many(tiny, requests)
    assert [answer.token_ids for answer in answers if isinstance(answer, Generation)] == alone
    assert max(sizes) == 4
    assert max(sizes[7:]) == 2


def test_a_row_that_never_fits_says_so_and_the_others_go_on(tiny: tuple[TransformersEngine, Model]) -> None:
    requests = requests_of(tiny)
    engine, model = tiny
    longest = max(engine.count_tokens(model, request.messages) for request in requests)

    def small(inner: Any, **values: Any) -> Any:
        if values["attention_mask"].shape[1] >= longest:
            raise MemoryError
        return inner(**values)

    with forward(net_of(tiny), small):
        answers = many(tiny, requests)
    failed = [answer for answer in answers if isinstance(answer, ModelMemoryError)]
    assert 1 <= len(failed) < 4
    assert sum(isinstance(answer, Generation) for answer in answers) == len(requests) - len(failed)


def test_a_batch_is_as_large_as_memory(
    tiny: tuple[TransformersEngine, Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, model = tiny
    request = make_request(engine, model, TEXTS[2], "fp32", max_new_tokens=6)
    (weights,) = engine._weights.values()
    tokens = engine.count_tokens(model, request.messages) + 6
    a_row = 2 * weights.cache_bytes(tokens) + 3 * 4 * 260

    def first_batch(rows_in_memory: float) -> int:
        left = iter([int(rows_in_memory * a_row)])
        monkeypatch.setattr(batching, "free_bytes", lambda _device: next(left, 0))
        answers = many(tiny, [request] * 6)
        return max(answer.batch_size for answer in answers if isinstance(answer, Generation))

    assert first_batch(100) == 4
    assert first_batch(3.5 / 0.6) == 3
    assert first_batch(2.5 / 0.6) == 2
    assert first_batch(0) == 1  # one at a time is always tried
    monkeypatch.setattr(memory, "free_bytes", lambda _device: 100)
    monkeypatch.setattr(batching, "free_bytes", lambda _device: 100)
    assert all(isinstance(answer, ModelMemoryError) for answer in many(tiny, [request] * 3))


def test_room_is_kept_for_what_is_still_to_come(
    tiny: tuple[TransformersEngine, Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    """What rows in the batch may yet grow by is not given to others, though it is free still."""
    engine, model = tiny
    request = make_request(engine, model, "a", "fp32", max_new_tokens=90)
    (weights,) = engine._weights.values()
    prompt = weights.chat.encode(request.messages)
    a_row = 2 * weights.cache_bytes(len(prompt) + 90) + 3 * 4 * 260
    monkeypatch.setattr(batching, "free_bytes", lambda _device: int(2.5 * a_row / 0.6))
    waiting = [new_row(weights, position, request, prompt) for position in range(6)]
    batches = batching.Batches(weights, model, waiting, lambda *_: None)
    batches._admit()
    assert len(batches._rows) == 2
    assert batches._places() == 0


def test_each_has_its_share_of_the_time(tiny: tuple[TransformersEngine, Model]) -> None:
    import time

    begun = time.perf_counter()
    answers = many(tiny, requests_of(tiny))
    wall = time.perf_counter() - begun
    shares = [answer.seconds for answer in answers if isinstance(answer, Generation)]
    assert min(shares) > 0
    assert sum(shares) <= wall


@pytest.mark.skipif(sys.platform == "win32", reason="sends SIGINT")
def test_ctrl_c_keeps_what_is_done(tiny: tuple[TransformersEngine, Model]) -> None:
    engine, model = tiny
    requests = requests_of(tiny) * 8
    done: dict[int, Generation | LLMOpsError] = {}
    passes: list[int] = []

    def interrupted(inner: Any, **values: Any) -> Any:
        passes.append(1)
        if len(done) > 3 and len(passes) % 2:
            os.kill(os.getpid(), signal.SIGINT)
        return inner(**values)

    with forward(net_of(tiny), interrupted), pytest.raises(KeyboardInterrupt):
        engine.generate_many(requests, model, done.__setitem__)
    assert 3 < len(done) < len(requests)
    for position, answer in done.items():
        assert isinstance(answer, Generation)
        assert answer.token_ids == engine.generate(requests[position], model).token_ids


def test_an_exception_of_the_listener_is_its_own(tiny: tuple[TransformersEngine, Model]) -> None:
    engine, model = tiny

    def broken(_position: int, _answer: Generation | LLMOpsError) -> None:
        raise ZeroDivisionError("mine")

    with pytest.raises(ZeroDivisionError, match="mine"):
        engine.generate_many(requests_of(tiny), model, broken)


def architecture(kind: str) -> Any:
    """Return a small model with random weights, its vocabulary the tiny tokenizer's."""
    import torch
    import transformers as library

    torch.manual_seed(3)
    sizes: dict[str, Any] = {"vocab_size": 260, "hidden_size": 32, "num_hidden_layers": 2, "eos_token_id": 2}
    heads = {"num_attention_heads": 4, "intermediate_size": 48, "max_position_embeddings": 128}
    if kind == "gpt2":
        config: Any = library.GPT2Config(
            vocab_size=260, n_embd=32, n_layer=2, n_head=4, n_positions=128, eos_token_id=2, bos_token_id=1
        )
    elif kind == "mistral":
        config = library.MistralConfig(**sizes, **heads, num_key_value_heads=2, sliding_window=8)
    elif kind == "gemma3":
        config = library.Gemma3TextConfig(
            **sizes, **heads, num_key_value_heads=2, head_dim=8, sliding_window=8,
            layer_types=["sliding_attention", "full_attention"],
        )  # fmt: skip
    else:
        config = library.MambaConfig(**sizes, state_size=4)
    with torch.random.fork_rng():
        net = library.AutoModelForCausalLM.from_config(config)
        for parameter in net.parameters():
            torch.nn.init.normal_(parameter, std=0.3)
    return net


@pytest.mark.parametrize(
    ("kind", "batches"),
    [("gpt2", "joins"), ("mistral", "shrinks"), ("gemma3", "shrinks"), ("mamba", "alone")],
)
def test_other_architectures(kind: str, batches: str, tiny_folder: Path, tmp_path: Path) -> None:
    """Learned positions, sliding windows shorter than the prompts, recurrent states."""
    folder = tmp_path / kind
    net = architecture(kind)
    assert attention_cache.kind_of(net) == batches
    net.save_pretrained(folder)
    for path in tiny_folder.glob("*token*"):
        shutil.copy(path, folder)
    for path in tiny_folder.glob("*.jinja"):
        shutil.copy(path, folder)
    engine = TransformersEngine(tmp_path / "models", offline=True)
    model = engine.with_digest(sources.resolve(str(folder)))
    engine.load(model, "fp32")
    answers = same_as_alone((engine, model), requests_of((engine, model)))
    assert max(answer.batch_size for answer in answers) == (1 if batches == "alone" else 4)
    assert len({answer.token_ids for answer in answers}) > 2


def test_the_real_model_in_float32(engine: TransformersEngine, default_model: Model) -> None:
    questions = ["What is the capital of France?", "Write one line about rain and sea."]
    requests = [
        make_request(
            engine, default_model, text, "fp32", max_new_tokens=7, temperature=t, seed=7 if t else None
        )
        for text in questions
        for t in (0, 0.8)
    ]
    answers = same_as_alone((engine, default_model), requests)
    assert max(answer.batch_size for answer in answers) == 4
    engine.unload(default_model.name)


WITHOUT_MEMORY = """
    import resource, sys
    from pathlib import Path
    from jupyter_llmops.inference import sources
    from jupyter_llmops.inference.transformers_engine import TransformersEngine
    from model_fixtures import make_request

    engine = TransformersEngine(Path(sys.argv[1]), offline=True)
    model = engine.with_digest(sources.resolve("smollm2-135m-instruct"))
    requests = [make_request(engine, model, f"{n} " * 30, "nf4", max_new_tokens=2) for n in range(12)]
    done = {}
    engine.generate_many(requests[:2], model, lambda position, answer: None)
    used = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    resource.setrlimit(resource.RLIMIT_AS, (used + (32 << 20), -1))
    engine.generate_many(requests, model, done.__setitem__)
    assert len(done) == 12
    print([getattr(done[n], "batch_size", done[n]) for n in range(12)])
"""


@pytest.mark.skipif(sys.platform != "linux", reason="limits its own memory")
def test_memory_that_really_runs_out(default_model: Model, models_folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(WITHOUT_MEMORY), str(models_folder)],
        capture_output=True,
        text=True,
        check=False,
        cwd=Path(__file__).resolve().parent.parent,
        timeout=280,
    )
    assert done.returncode == 0, done.stderr
    sizes = __import__("json").loads(done.stdout.splitlines()[-1])
    assert all(1 <= size < 12 for size in sizes), sizes
