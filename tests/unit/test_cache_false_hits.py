"""No false hits: more than forty ways to change a request, each through the real store, from disk and memory."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, assume, given, settings
from hypothesis import strategies as st

from cache_answers import GENERATION, REQUEST, Engine
from jupyter_llmops.cache.exact import ExactCache
from jupyter_llmops.cache.recall import Recall
from jupyter_llmops.cache.request_key import KnownKeys, request_key
from jupyter_llmops.records.request import GenerationParameters, InferenceRequest, Message

# What GenerationConfig of transformers and chat endpoints know beside temperature, seed and length.
EXTRA_NAMES = (
    "top_p", "top_k", "min_p", "typical_p", "do_sample", "num_beams", "num_beam_groups", "repetition_penalty",
    "length_penalty", "no_repeat_ngram_size", "min_new_tokens", "early_stopping", "diversity_penalty", "stop",
    "presence_penalty", "frequency_penalty", "logprobs", "reasoning_effort", "use_cache", "eos_token_id",
)  # fmt: skip
OPTION_NAMES = ("base_url", "served_name", "n_ctx", "n_batch", "api_version")

texts = st.text(max_size=20)
scalars = st.none() | st.booleans() | st.integers(-(10**6), 10**6) | st.floats(-1e6, 1e6) | texts
pairs = st.dictionaries(st.sampled_from([*EXTRA_NAMES, *OPTION_NAMES]), scalars, max_size=3).map(
    lambda values: tuple(sorted(values.items()))
)
requests = st.builds(
    lambda text, parameters, options, **rest: replace(
        REQUEST,
        messages=(Message("system", "Be brief."), Message("user", text)),
        parameters=parameters,
        engine_options=options,
        **rest,
    ),
    text=texts.map(lambda text: f"Ünïcode {text}"),
    parameters=st.builds(
        GenerationParameters, st.integers(1, 500), st.floats(0, 2), st.integers(0, 99), pairs
    ),
    options=pairs,
    adapter=texts,
    exact=st.booleans(),
)

Change = Callable[[InferenceRequest, Any], InferenceRequest]


def of_text(change: Callable[[str], str]) -> Change:
    """Change the content of the last message."""

    def changed(request: InferenceRequest, _: Any) -> InferenceRequest:
        last = request.messages[-1]
        return replace(
            request, messages=(*request.messages[:-1], replace(last, content=change(last.content)))
        )

    return changed


def of_field(name: str, strategy: Any) -> Change:
    return lambda request, draw: replace(request, **{name: draw(strategy)})


def of_parameter(name: str, strategy: Any) -> Change:
    return lambda request, draw: replace(
        request, parameters=replace(request.parameters, **{name: draw(strategy)})
    )


def of_pair(place: str, name: str) -> Change:
    """Give one further parameter or engine option a value, or another one."""

    def changed(request: InferenceRequest, draw: Any) -> InferenceRequest:
        if place == "engine_options":
            return replace(request, engine_options=_with(request.engine_options, name, draw(scalars)))
        extra = _with(request.parameters.extra, name, draw(scalars))
        return replace(request, parameters=replace(request.parameters, extra=extra))

    return changed


def _with(values: tuple[tuple[str, Any], ...], name: str, value: Any) -> tuple[tuple[str, Any], ...]:
    return tuple(sorted({**dict(values), name: value}.items()))


def _messages(change: Callable[[tuple[Message, ...]], tuple[Message, ...]]) -> Change:
    return lambda request, _: replace(request, messages=change(request.messages))


def _moved(request: InferenceRequest, _: Any) -> InferenceRequest:
    """Move a word over the border of two messages: joined, they read the same."""
    first, last = request.messages
    return replace(
        request,
        messages=(
            replace(first, content=first.content + last.content[:3]),
            replace(last, content=last.content[3:]),
        ),
    )


def _as_text(request: InferenceRequest, _: Any) -> InferenceRequest:
    """Write the values of the further parameters as texts."""
    extra = tuple((name, str(value)) for name, value in request.parameters.extra)
    return replace(request, parameters=replace(request.parameters, extra=extra))


def _as_truth(request: InferenceRequest, _: Any) -> InferenceRequest:
    """Write 0 and 1 as truth values, which are equal to them in Python."""
    extra = tuple(
        (name, bool(value) if value in (0, 1) else value) for name, value in request.parameters.extra
    )
    return replace(request, parameters=replace(request.parameters, extra=extra))


CHANGES: dict[str, Change] = {
    **{
        name: of_field(name, texts)
        for name in (
            "model", "model_digest", "engine", "engine_version", "quantization", "device", "adapter",
            "adapter_digest", "output_schema",
        )
    },
    "exact": lambda request, _: replace(request, exact=not request.exact),
    "max_new_tokens": of_parameter("max_new_tokens", st.integers(1, 500)),
    "temperature": of_parameter("temperature", st.floats(0, 2)),
    "seed": of_parameter("seed", st.integers(0, 99)),
    **{f"extra.{name}": of_pair("extra", name) for name in EXTRA_NAMES},
    **{f"engine_options.{name}": of_pair("engine_options", name) for name in OPTION_NAMES},
    "a parameter gone": lambda request, _: replace(
        request, parameters=replace(request.parameters, extra=request.parameters.extra[1:])
    ),
    "a parameter's value as text": _as_text,
    "a parameter's value as truth": _as_truth,
    "options and parameters exchanged": lambda request, _: replace(
        request,
        engine_options=request.parameters.extra,
        parameters=replace(request.parameters, extra=request.engine_options),
    ),
    "another text": lambda request, draw: of_text(lambda _: draw(texts))(request, draw),
    "space at the end": of_text(lambda text: text + " "),
    "line at the end": of_text(lambda text: text + "\n"),
    "capitals": of_text(str.swapcase),
    "decomposed": of_text(lambda text: unicodedata.normalize("NFD", text)),
    "zero width space": of_text(lambda text: text[:3] + "\u200b" + text[3:]),
    "null character": of_text(lambda text: text + "\x00"),
    "reversed": of_text(lambda text: text[::-1]),
    "role": _messages(lambda messages: (*messages[:-1], replace(messages[-1], role="assistant"))),
    "no system": _messages(lambda messages: messages[1:]),
    "order": _messages(lambda messages: messages[::-1]),
    "twice": _messages(lambda messages: (*messages, messages[-1])),
    "an empty message": _messages(lambda messages: (*messages, Message("user", ""))),
    "in one message": _messages(lambda messages: (Message("user", "".join(m.content for m in messages)),)),
    "moved": _moved,
}  # fmt: skip


@pytest.mark.parametrize("change", CHANGES.values(), ids=CHANGES)
def test_a_changed_request_never_hits(tmp_path: Path, change: Change):
    assert len(CHANGES) >= 40
    found = []

    @settings(max_examples=4, deadline=None, suppress_health_check=list(HealthCheck), database=None)
    @given(requests, st.data())
    def asked(request: InferenceRequest, data: st.DataObject) -> None:
        changed = change(request, data.draw)
        assume(repr(changed.canonical()) != repr(request.canonical()))
        number = len(found)
        for most in (0, 64):  # from disk, from memory
            cache = ExactCache(tmp_path / f"{number}-{most}", Recall(most=most))
            cache.fetch(request, Engine())
            assert cache.fetch(request, Engine()).hit
            other = Engine(replace(GENERATION, text=f"other {number}"))
            result = cache.fetch(changed, other)
            assert (result.hit, other.asked, result.generation.text) == (False, 1, f"other {number}")
            assert cache.fetch(request, other).generation == GENERATION, "and the first keeps its own"
        found.append(changed)

    asked()
    assert found


@given(requests, requests)
def test_known_keys_are_the_keys(one: InferenceRequest, other: InferenceRequest):
    known = KnownKeys(most=3)
    for request in (one, other, one, other, replace(one), replace(other)):
        assert known.key(request) == request_key(request)


@pytest.mark.parametrize("values", [(1, True), (0, False), (0, 0.0), (1, 1.0), (1.0, True), ("1", 1)])
def test_known_keys_tell_equal_values_of_other_types_apart(values: tuple[Any, Any]):
    known = KnownKeys()
    for place in ("extra", "engine_options", "exact", "seed"):
        for value in (*values, *reversed(values)):
            if place == "extra":
                request = replace(REQUEST, parameters=replace(REQUEST.parameters, extra=(("n", value),)))
            elif place == "seed":
                request = replace(REQUEST, parameters=replace(REQUEST.parameters, seed=value))
            else:
                request = replace(REQUEST, **{place: (("n", value),) if place == "engine_options" else value})
            assert known.key(request) == request_key(request), (place, value)


def test_known_keys_are_bounded():
    known = KnownKeys(most=10, characters=1000)
    for number in range(50):
        known.key(replace(REQUEST, messages=(Message("user", f"{number}" * 40),)))
    assert len(known._keys) <= 10
    assert known._held <= 1000
    large = replace(REQUEST, messages=(Message("user", "x" * 2000),))
    assert known.key(large) == request_key(large)
    assert known._held <= 1000
