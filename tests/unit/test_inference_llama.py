"""GGUF files through llama.cpp: the same tokens in, the same tokens out however they are asked."""

from __future__ import annotations

import _thread
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

pytest.importorskip("llama_cpp", reason="the extra gguf is not installed")

from jupyter_llmops.errors import (
    ContextError,
    InferenceError,
    LLMOpsError,
    MissingDependencyError,
    UnknownNameError,
    UsageError,
)
from jupyter_llmops.inference import engines as engines_module
from jupyter_llmops.inference import sources
from jupyter_llmops.inference.constrained import canonical_schema, parse
from jupyter_llmops.inference.engines import Engines
from jupyter_llmops.inference.llama import library
from jupyter_llmops.inference.llama.chat import LlamaChat
from jupyter_llmops.inference.llama.decoding import shared_beginning
from jupyter_llmops.inference.llama_engine import LlamaEngine
from jupyter_llmops.inference.transformers_engine import TransformersEngine
from jupyter_llmops.records.completion import Generation
from jupyter_llmops.records.model import Model
from jupyter_llmops.records.request import InferenceRequest, Message
from model_fixtures import make_request, write_tiny_gguf

Answers = dict[int, Generation | LLMOpsError]


@pytest.fixture(scope="module")
def llama(tmp_path_factory: pytest.TempPathFactory) -> LlamaEngine:
    return LlamaEngine(tmp_path_factory.mktemp("models"), offline=True)


@pytest.fixture(scope="module")
def tiny(tiny_gguf: Path, llama: LlamaEngine) -> Model:
    return sources.digest_of(sources.resolve(str(tiny_gguf)), llama.folder, offline=True)


def _ask(llama: LlamaEngine, model: Model, text: str, **parameters: Any) -> InferenceRequest:
    return make_request(llama, model, text, "gguf", **{"max_new_tokens": 12, **parameters})


def _all(llama: LlamaEngine, model: Model, requests: list[InferenceRequest]) -> Answers:
    answers: Answers = {}

    def on_done(position: int, answer: Generation | LLMOpsError) -> None:
        assert position not in answers
        answers[position] = answer

    llama.generate_many(requests, model, on_done)
    assert sorted(answers) == list(range(len(requests)))
    return answers


def test_says_who_would_answer(llama: LlamaEngine, tiny: Model) -> None:
    identity = llama.identify(tiny, "auto")
    assert (identity.engine, identity.quantization, identity.device) == ("llama.cpp", "F32", "cpu")
    assert identity.engine_version.startswith("llama-cpp-python ")
    assert dict(identity.options)["flash_attention"] is False
    assert llama.identify(tiny, "F32").options == llama.identify(tiny, "gguf").options
    with pytest.raises(UsageError, match="can't use it as Q4_1"):
        llama.identify(tiny, "Q4_1")


def test_auto_is_llama_for_a_gguf_file_without_a_gpu(
    tmp_path: Path, tiny: Model, tiny_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engines = Engines(tmp_path, offline=True)
    assert engines.engine_for(tiny, "auto") is engines.llama
    assert engines.engine_for(tiny, "gguf") is engines.llama
    assert engines.engine_for(tiny, "F32") is engines.llama
    assert engines.engine_for(tiny, "fp32") is engines.transformers
    folder = sources.resolve(str(tiny_folder))
    assert engines.engine_for(folder, "auto") is engines.transformers
    with pytest.raises(UsageError, match="is no GGUF file"):
        engines.identify(folder, "gguf")
    with monkeypatch.context() as patch:
        patch.setattr(engines_module, "choose_device", lambda: "cuda")
        assert engines.engine_for(tiny, "auto") is engines.transformers
    monkeypatch.setattr("jupyter_llmops.inference.llama_engine.is_installed", lambda: False)
    assert engines.engine_for(tiny, "auto") is engines.transformers


def test_without_the_extra_the_line_to_type_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(library, "is_installed", lambda: False)
    with pytest.raises(MissingDependencyError, match=r"jupyter-llmops\[gguf\]"):
        library.library.__wrapped__()


def test_one_after_another_and_side_by_side_have_the_same_tokens(llama: LlamaEngine, tiny: Model) -> None:
    requests = [
        _ask(
            llama,
            tiny,
            "a common beginning of all " + "word " * (n % 7),
            max_new_tokens=1 + n % 13,
            **({"temperature": 1.3, "seed": n} if n % 2 else {}),
        )
        for n in range(24)
    ]
    answers = _all(llama, tiny, requests)
    for position, request in enumerate(requests):
        answer = answers[position]
        assert isinstance(answer, Generation)
        alone = llama.generate(request, tiny)
        assert (answer.token_ids, answer.text) == (alone.token_ids, alone.text)
        assert 1 <= len(answer.token_ids) <= request.parameters.max_new_tokens
    assert max(answer.batch_size for answer in answers.values() if isinstance(answer, Generation)) == 16


def test_exact_is_one_by_one(llama: LlamaEngine, tiny: Model) -> None:
    requests = [replace(_ask(llama, tiny, "x" * n), exact=True) for n in range(1, 4)]
    assert {answer.batch_size for answer in _all(llama, tiny, requests).values()} == {1}  # type: ignore[union-attr]


def test_threads_and_the_size_of_the_context_change_nothing(
    llama: LlamaEngine, tiny: Model, monkeypatch: pytest.MonkeyPatch
) -> None:
    request = _ask(llama, tiny, "y" * 60, max_new_tokens=20)
    found = []
    for threads in (1, 2, 3):
        monkeypatch.setattr(library, "threads", lambda threads=threads: threads)
        found.append(llama.generate(request, tiny).token_ids)
    llama._weights[tiny.digest].context = library.NativeContext(llama._weights[tiny.digest].native, 1, 4096)
    found.append(llama.generate(request, tiny).token_ids)
    assert len(set(found)) == 1


def test_a_seed_repeats_and_another_one_differs(llama: LlamaEngine, tiny: Model) -> None:
    def answer(seed: int | None) -> tuple[int, ...]:
        return llama.generate(_ask(llama, tiny, "x", temperature=1.0, seed=seed), tiny).token_ids

    large = 2**32 + 5  # llama.cpp's own seeds have 32 bits
    assert answer(5) == answer(5) != answer(6)
    assert answer(large) == answer(large) != answer(5)
    assert len({answer(None) for _ in range(4)}) > 1


def test_decoding_parameters_do_what_they_say(llama: LlamaEngine, tiny: Model) -> None:
    greedy = llama.generate(_ask(llama, tiny, "x", max_new_tokens=24), tiny).token_ids
    one = llama.generate(
        _ask(llama, tiny, "x", max_new_tokens=24, temperature=2.0, extra=(("top_k", 1),)), tiny
    ).token_ids
    assert one == greedy
    narrow = _ask(llama, tiny, "x", max_new_tokens=24, temperature=2.0, extra=(("top_p", 0.0001),))
    assert llama.generate(narrow, tiny).token_ids == greedy
    penalized = _ask(llama, tiny, "x", max_new_tokens=24, extra=(("repetition_penalty", 50.0),))
    assert len(set(llama.generate(penalized, tiny).token_ids)) > len(set(greedy))


def test_a_least_number_of_tokens_holds_the_end_back(llama: LlamaEngine, tiny: Model) -> None:
    schema = canonical_schema({"enum": ["a"]})
    with pytest.raises(UsageError, match="min_new_tokens"):
        llama.generate(
            replace(_ask(llama, tiny, "x", extra=(("min_new_tokens", 5),)), output_schema=schema), tiny
        )
    for seed in range(5):
        request = _ask(
            llama, tiny, "x", max_new_tokens=60, temperature=100.0, seed=seed, extra=(("min_new_tokens", 60),)
        )
        assert llama.generate(request, tiny).finish_reason == "length"


@pytest.mark.parametrize("extra", [("num_beams", 2), ("no_repeat_ngram_size", 3)])
def test_what_only_transformers_has_is_said(llama: LlamaEngine, tiny: Model, extra: tuple[str, int]) -> None:
    with pytest.raises(UsageError, match=rf"no {extra[0]}.*--quant nf4"):
        llama.generate(_ask(llama, tiny, "x", extra=(extra,)), tiny)


def test_streams_pieces_that_join_to_the_answer(llama: LlamaEngine, tiny: Model) -> None:
    pieces: list[str] = []
    answer = llama.generate(
        _ask(llama, tiny, "x", temperature=3.0, seed=1, max_new_tokens=50), tiny, pieces.append
    )
    assert "".join(pieces) == answer.text
    assert answer.tokens_in == llama.count_tokens(tiny, [Message("user", "x")])


def test_ctrl_c_keeps_what_came(llama: LlamaEngine, tiny: Model) -> None:
    pieces: list[str] = []

    def on_text(piece: str) -> None:
        pieces.append(piece)
        if len(pieces) == 3:
            _thread.interrupt_main()

    answer = llama.generate(_ask(llama, tiny, "x", max_new_tokens=100), tiny, on_text)
    assert answer.finish_reason == "interrupted"
    assert answer.text == "".join(pieces)
    assert 0 < answer.tokens_out < 100
    assert llama.generate(_ask(llama, tiny, "x"), tiny).finish_reason != "interrupted"


def test_ctrl_c_passes_through_a_map(llama: LlamaEngine, tiny: Model) -> None:
    done: list[int] = []

    def on_done(position: int, answer: object) -> None:
        done.append(position)
        _thread.interrupt_main()

    with pytest.raises(KeyboardInterrupt):
        llama.generate_many([_ask(llama, tiny, "x", max_new_tokens=2 + n) for n in range(40)], tiny, on_done)
    assert 0 < len(done) < 40


def test_a_callbacks_own_error_comes_out_as_it_is(llama: LlamaEngine, tiny: Model) -> None:
    def failing(*_: object) -> None:
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        llama.generate(_ask(llama, tiny, "x"), tiny, failing)
    with pytest.raises(ZeroDivisionError):
        llama.generate_many([_ask(llama, tiny, "x")], tiny, failing)


def test_a_row_that_can_not_be_answered_is_a_value(llama: LlamaEngine, tiny: Model) -> None:
    schema = canonical_schema({"enum": ["only"]})
    requests = [
        _ask(llama, tiny, "x" * 200),
        replace(_ask(llama, tiny, "x"), output_schema=schema),
        _ask(llama, tiny, "x", extra=(("num_beams", 4),)),
        replace(_ask(llama, tiny, "x"), model_digest="sha256:other"),
        _ask(llama, tiny, "x"),
    ]
    answers = _all(llama, tiny, requests)
    assert isinstance(answers[0], ContextError)
    assert "200" not in answers[0].message or "context of 128" in answers[0].message
    assert parse(schema, answers[1].text) == "only"  # type: ignore[union-attr]
    assert isinstance(answers[2], UsageError)
    assert isinstance(answers[3], InferenceError)
    assert isinstance(answers[4], Generation)


def test_settings_of_another_version_are_refused(llama: LlamaEngine, tiny: Model) -> None:
    with pytest.raises(InferenceError, match="settings of llama"):
        llama.generate(replace(_ask(llama, tiny, "x"), engine_options=(("flash_attention", True),)), tiny)


def test_loads_once_and_unloads(llama: LlamaEngine, tiny: Model) -> None:
    llama.load(tiny, "gguf")
    llama.load(tiny, "F32")
    assert [entry.name for entry in llama.loaded()] == [tiny.name]
    assert llama.loaded()[0].memory_bytes > 0
    llama.unload(tiny.name)
    assert llama.loaded() == []
    with pytest.raises(UnknownNameError):
        llama.unload(tiny.name)
    assert llama.generate(_ask(llama, tiny, "x"), tiny).tokens_out


def test_a_damaged_file_is_one_sentence(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    path = write_tiny_gguf(tmp_path / "damaged.gguf")
    path.write_bytes(path.read_bytes()[:-10_000])
    engine = LlamaEngine(tmp_path / "models", offline=True)
    with pytest.raises(InferenceError, match="can't read the file"):
        engine.load(sources.resolve(str(path)), "gguf")
    assert capfd.readouterr() == ("", "")


def test_answers_without_pytorch(tiny_gguf: Path, tmp_path: Path) -> None:
    program = f"""
import sys
from pathlib import Path
from jupyter_llmops.inference import sources
from jupyter_llmops.inference.llama_engine import LlamaEngine
from jupyter_llmops.records.request import Message
engine = LlamaEngine(Path({str(tmp_path)!r}), offline=True)
model = sources.resolve({str(tiny_gguf)!r})
engine.load(model, "gguf")
assert engine.count_tokens(model, [Message("user", "x")]) > 3
assert not {{"torch", "transformers"}} & set(sys.modules), "heavy"
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_what_all_prompts_begin_with_is_whole_steps() -> None:
    step = library.STEP
    words = list(range(3 * step))
    assert shared_beginning([words, [*words, 1], [*words, 2]]) == words[: 2 * step]
    assert shared_beginning([[*words, 9], [*words, 1], [*words, 2]]) == words
    assert shared_beginning([words[: step - 1], words]) == []
    assert shared_beginning([words]) == shared_beginning([]) == []


@pytest.fixture(scope="module")
def both(models_folder: Path) -> tuple[LlamaEngine, TransformersEngine, Model]:
    model = sources.digest_of(sources.resolve(sources.DEFAULT_LLM), models_folder, offline=True)
    return LlamaEngine(models_folder, offline=True), TransformersEngine(models_folder, offline=True), model


@pytest.mark.model
@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.tuples(st.sampled_from(["system", "user", "assistant"]), st.text(max_size=60)),
        min_size=1,
        max_size=3,
    )
)
@example([("user", "\U00041a1e\U0004b000")])  # no token has the byte with which both begin
@example([("user", "!\x04!")])
@example([("user", "\ue000 \u0378 \U0010ffff \U0001f408")])
def test_a_chat_has_the_tokens_that_transformers_gives_it(
    both: tuple[LlamaEngine, TransformersEngine, Model], chat: list[tuple[Any, str]]
) -> None:
    ours, theirs, model = both
    messages = [Message(role, text) for role, text in chat]
    assert ours.rendered(model, messages) == theirs.rendered(model, messages)
    vocabulary = ours._chat(model)
    tokens, expected = vocabulary.encode(messages), theirs._chat(model, None).encode(messages)
    if all(_is_readable(vocabulary, character) for _, text in chat for character in text):
        assert tokens == expected
    # Where bytes are lost, the rest of them is the same; only how they are joined may differ.
    assert vocabulary.decode(tokens) == theirs._chat(model, None).decode(expected)


def _is_readable(vocabulary: LlamaChat, character: str) -> bool:
    return vocabulary.decode(vocabulary._tokens(character, add_special=False)) == character


@pytest.mark.model
def test_the_real_model_answers_and_follows_a_schema(
    both: tuple[LlamaEngine, TransformersEngine, Model],
) -> None:
    engine, _, model = both
    assert engine.identify(model, "auto").quantization == "Q4_1"
    answer = engine.generate(_ask(engine, model, "Name the capital of Italy."), model)
    assert "Rome" in answer.text
    schema = canonical_schema(
        {
            "type": "object",
            "properties": {"capital": {"type": "string", "maxLength": 20}},
            "required": ["capital"],
            "additionalProperties": False,
        }
    )
    asked = replace(
        _ask(engine, model, "The capital of Italy as JSON.", max_new_tokens=40), output_schema=schema
    )
    answers = _all(engine, model, [asked, _ask(engine, model, "Name the capital of Italy.")])
    assert set(json.loads(answers[0].text)) == {"capital"}  # type: ignore[union-attr]
    assert answers[1].token_ids == answer.token_ids  # type: ignore[union-attr]


@pytest.mark.model
def test_the_real_model_answers_side_by_side_as_alone(
    both: tuple[LlamaEngine, TransformersEngine, Model],
) -> None:
    engine, _, model = both
    requests = [
        _ask(engine, model, "Tell me of " + "the sea and " * n, temperature=1.0, seed=n) for n in (1, 4, 6, 9)
    ]
    answers = _all(engine, model, requests)
    alone = [engine.generate(request, model).token_ids for request in requests]
    assert [answers[n].token_ids for n in range(4)] == alone  # type: ignore[union-attr]
