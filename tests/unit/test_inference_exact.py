"""The exact mode: the same tokens in any company; and grades that are measured, kept and found."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from jupyter_llmops.errors import LLMOpsError
from jupyter_llmops.inference import exact, probing, sources
from jupyter_llmops.inference.determinism import grade_from, in_fresh_process, measure
from jupyter_llmops.inference.grades import Grades, machine
from jupyter_llmops.inference.transformers_engine import TransformersEngine
from jupyter_llmops.records.completion import Generation
from jupyter_llmops.records.determinism import Determinism, Variation
from jupyter_llmops.records.model import Model
from jupyter_llmops.records.request import InferenceRequest
from model_fixtures import make_request

QUESTIONS = probing.QUESTIONS[:5]


def ask(
    engine: TransformersEngine, model: Model, text: str, quantization: str, **parameters: object
) -> InferenceRequest:
    request = make_request(engine, model, text, quantization, **{"max_new_tokens": 8, **parameters})
    return replace(request, exact=True)


@pytest.fixture(scope="module")
def small(tiny_folder: Path, models_folder: Path) -> tuple[TransformersEngine, Model]:
    """Return an engine and the tiny model, whose random weights show the smallest difference."""
    engine = TransformersEngine(models_folder, offline=True)  # where it is quantized once for all tests
    return engine, engine.with_digest(sources.resolve(str(tiny_folder)))


@pytest.mark.parametrize("quantization", ["nf4", "int8", "bf16", "fp32"])
@pytest.mark.parametrize("sampled", [{}, {"temperature": 1.0, "seed": 3, "parameters": None}])
def test_the_tokens_are_the_same_alone_and_together(
    small: tuple[TransformersEngine, Model], quantization: str, sampled: dict[str, object]
) -> None:
    engine, model = small
    options = {name: value for name, value in sampled.items() if name != "parameters"}
    texts = ["a", "abab", "what is it that you want of me", "0123456789", "ab " * 20]
    requests = [ask(engine, model, text, quantization, **options) for text in texts]
    alone = [engine.generate(request, model) for request in requests]
    together: dict[int, Generation | LLMOpsError] = {}
    engine.generate_many(requests[::-1], model, together.__setitem__)
    for index, generation in enumerate(alone[::-1]):
        answer = together[index]
        assert isinstance(answer, Generation)
        assert answer.token_ids == generation.token_ids
        assert answer.text == generation.text
        assert answer.batch_size == len(texts)


def test_an_exact_answer_is_streamed_and_recorded_as_one(small: tuple[TransformersEngine, Model]) -> None:
    engine, model = small
    pieces: list[str] = []
    answer = engine.generate(ask(engine, model, "ab", "fp32"), model, pieces.append)
    assert "".join(pieces) == answer.text
    assert answer.batch_size == 1
    assert answer.tokens_in == engine.count_tokens(model, ask(engine, model, "ab", "fp32").messages)


def test_exact_float32_answers_as_transformers_does(small: tuple[TransformersEngine, Model]) -> None:
    engine, model = small
    request = ask(engine, model, "what is it that you want of me", "fp32", max_new_tokens=16)
    assert (
        engine.generate(request, model).token_ids
        == engine.generate(replace(request, exact=False), model).token_ids
    )


def test_out_of_memory_halves_the_batch_and_starts_those_rows_again(
    small: tuple[TransformersEngine, Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, model = small
    requests = [
        ask(engine, model, text, "fp32", temperature=1.0, seed=1) for text in ("a", "b", "c", "d", "e")
    ]
    alone = [engine.generate(request, model).token_ids for request in requests]
    read = exact._read
    sizes: list[int] = []

    def scarce(weights: object, active: list[object]) -> object:
        sizes.append(len(active))
        if len(active) > 2 and len(sizes) > 3:
            raise MemoryError
        return read(weights, active)  # type: ignore[arg-type]

    monkeypatch.setattr(exact, "_read", scarce)
    together: dict[int, Generation | LLMOpsError] = {}
    engine.generate_many(requests, model, together.__setitem__)
    assert [together[index].token_ids for index in range(5)] == alone  # type: ignore[union-attr]
    assert max(sizes) == 5
    assert sizes[-1] <= 2


def test_ctrl_c_keeps_what_had_come(
    small: tuple[TransformersEngine, Model], monkeypatch: pytest.MonkeyPatch
) -> None:
    engine, model = small
    whole = engine.generate(ask(engine, model, "ab", "fp32"), model)
    read, calls = exact._read, []

    def stopped(*given: object) -> object:
        calls.append(1)
        if len(calls) == 4:
            raise KeyboardInterrupt
        return read(*given)  # type: ignore[arg-type]

    monkeypatch.setattr(exact, "_read", stopped)
    answer = engine.generate(ask(engine, model, "ab", "fp32"), model)
    assert answer.finish_reason == "interrupted"
    assert answer.token_ids == whole.token_ids[: len(answer.token_ids)]
    monkeypatch.undo()
    assert engine.generate(ask(engine, model, "ab", "fp32"), model).token_ids == whole.token_ids


def test_the_real_model_is_bitwise_the_same_in_a_batch_and_with_one_thread(
    engine: TransformersEngine, default_model: Model
) -> None:
    import torch

    if exact.needs_float32("nf4", "cpu"):
        pytest.skip("bitwise only where bitsandbytes has its AVX512-BF16 kernel")
    requests = [ask(engine, default_model, text, "nf4", max_new_tokens=4) for text in QUESTIONS[:3]]
    probe = probing.LogitProbe(engine, default_model)
    alone = probe.alone(requests)
    assert all(len(trace.logits) == len(trace.tokens) for trace in alone.values())
    assert probe._batch(requests) == alone
    assert probe._uncached(requests[0]) == alone[0]
    threads = torch.get_num_threads()
    assert probe._with_threads(requests[:1], 2 if threads == 1 else 1) == {0: alone[0]}
    assert torch.get_num_threads() == threads


@pytest.mark.slow
def test_a_grade_is_measured_kept_and_found_for_the_very_request(
    small: tuple[TransformersEngine, Model], tiny_folder: Path, tmp_path: Path
) -> None:
    engine = small[0]
    roomy = tmp_path / "roomy"
    shutil.copytree(tiny_folder, roomy)
    config = json.loads((roomy / "config.json").read_text())
    (roomy / "config.json").write_text(json.dumps({**config, "max_position_embeddings": 2048}))
    model = engine.with_digest(sources.resolve(str(roomy)))
    said: list[float] = []
    fresh = in_fresh_process(engine.folder, model, offline=True)
    measured = measure(
        engine,
        model,
        "fp32",
        exact=True,
        restart=fresh,
        progress=lambda _doing, part: said.append(part or 0.0),
    )
    names = [variation.name for variation in measured.variations]
    assert names[:5] == ["batch 2", "batch 4", "batch 8", "batch 16", "padding"]
    assert names[-2:] == ["no KV cache", "restart"]
    assert any("thread" in name for name in names)
    assert measured.grade in ("same tokens", "bitwise")
    assert measured.variations[-1].same_logits, "a fresh process computes the same"
    assert said == sorted(said)
    Grades(tmp_path).keep(measured)
    grades, request = Grades(tmp_path), ask(engine, model, "any", "fp32")
    assert grades.grade_of(request) == measured.grade
    for changed in (
        {"exact": False},
        {"quantization": "nf4"},
        {"engine_version": "x"},
        {"adapter_digest": "x"},
    ):
        assert grades.grade_of(replace(request, **changed)) == ""


def test_the_weakest_variation_decides() -> None:
    same, last_bits, other = (
        Variation("a", 4, 4, True),
        Variation("b", 4, 4, False),
        Variation("c", 3, 4, False),
    )
    assert grade_from([same, same]) == "bitwise"
    assert grade_from([same, last_bits]) == "same tokens"
    assert grade_from([same, last_bits, other]) == "none"
    assert grade_from([]) == ""


def test_grades_of_damaged_or_foreign_files_are_as_if_nobody_had_measured(tmp_path: Path) -> None:
    kept = Determinism(
        "bitwise",
        "transformers",
        "v",
        "sha256:1",
        "nf4",
        "cpu",
        machine("cpu"),
        measured_at=datetime.now(UTC),
    )
    grades = Grades(tmp_path)
    assert grades.all() == []
    grades.keep(kept)
    assert grades.all() == [kept]
    (path,) = (tmp_path / "determinism").glob("*.json")
    values = json.loads(path.read_text())
    for index, bad in enumerate(
        ["", "[]", "{", json.dumps({**values, "grade": "perfect"}), json.dumps({**values, "schema": "2"})]
    ):
        (path.parent / f"bad{index}.json").write_text(bad)
    path.unlink()
    assert Grades(tmp_path).all() == []
