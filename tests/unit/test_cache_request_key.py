"""The request key: every field counts, equal requests share it, and it is the same in every process."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import unicodedata
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from hypothesis import assume, given
from hypothesis import strategies as st

from cache_answers import REQUEST
from jupyter_llmops.cache.request_key import canonical_json, request_key, why_not_reusable
from jupyter_llmops.records.request import GenerationParameters, InferenceRequest, Message

# What DESIGN and RFC 8785 say the request of cache_answers.REQUEST is, written by hand.
GOLDEN_JSON = (
    '{"adapter":"","adapter_digest":"","device":"cpu","engine":"transformers","engine_options":{},'
    '"engine_version":"transformers 5.23.0, torch 2.13.0+cpu","exact":false,'
    '"messages":[{"content":"Be brief.","role":"system"},'
    '{"content":"What is the capital of Perú?","role":"user"}],'
    '"model":"smollm2-135m-instruct",'
    '"model_digest":"sha256:abababababababababababababababababababababababababababababababab",'
    '"output_schema":"","parameters":{"extra":{"repetition_penalty":1.1,"top_k":50},"max_new_tokens":64,'
    '"seed":null,"temperature":0},"quantization":"nf4","schema":"llmops.request/2"}'
)
GOLDEN_KEY = "283defacdaa8a7236512f9dc260b6719d7276a52a94363718a634efbb7980022"

texts = st.text(max_size=30)
names = st.text(alphabet="abcdefgh_", min_size=1, max_size=8)
# Whole floats beyond 2**53 come back from JSON as integers, which have no canonical form there.
numbers = st.floats(-1e15, 1e15)
scalars = st.none() | st.booleans() | st.integers(-(2**53) + 1, 2**53 - 1) | numbers | texts
extras = st.dictionaries(names, scalars, max_size=4).map(lambda extra: tuple(sorted(extra.items())))
messages = st.builds(Message, st.sampled_from(["system", "user", "assistant"]), texts)
parameters = st.builds(
    GenerationParameters,
    max_new_tokens=st.integers(1, 10_000),
    temperature=st.floats(0, 5),
    seed=st.none() | st.integers(0, 2**53 - 1),
    extra=extras,
)
requests = st.builds(
    InferenceRequest,
    model=texts,
    model_digest=texts,
    messages=st.lists(messages, max_size=4).map(tuple),
    parameters=parameters,
    engine=texts,
    engine_version=texts,
    quantization=st.sampled_from(["nf4", "bf16", "fp32"]),
    device=st.sampled_from(["cpu", "cuda"]),
    adapter=texts,
    adapter_digest=texts,
    output_schema=texts,
    exact=st.booleans(),
    engine_options=extras,
)

OTHER_FIELD: dict[str, Any] = {
    "model": texts,
    "model_digest": texts,
    "messages": st.lists(messages, max_size=4).map(tuple),
    "parameters": parameters,
    "engine": texts,
    "engine_version": texts,
    "quantization": texts,
    "device": texts,
    "adapter": texts,
    "adapter_digest": texts,
    "output_schema": texts,
    "exact": st.booleans(),
    "engine_options": extras,
}
OTHER_PARAMETER: dict[str, Any] = {
    "max_new_tokens": st.integers(1, 10_000),
    "temperature": st.floats(0, 5),
    "seed": st.none() | st.integers(0, 2**53 - 1),
    "extra": extras,
}
OTHER_MESSAGE_PART: dict[str, Any] = {
    "role": st.sampled_from(["system", "user", "assistant"]),
    "content": texts,
}

json_values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**53) + 1, 2**53 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=6), inner, max_size=4),
    max_leaves=12,
)


def test_golden_key():
    assert canonical_json(REQUEST.canonical()) == GOLDEN_JSON
    assert hashlib.sha256(GOLDEN_JSON.encode()).hexdigest() == GOLDEN_KEY
    assert request_key(REQUEST) == GOLDEN_KEY


@pytest.mark.parametrize("seed", ["0", "4711"])
def test_key_is_the_same_in_another_process(repository: Path, seed: str):
    program = "from cache_answers import REQUEST; from jupyter_llmops.cache.request_key import request_key; print(request_key(REQUEST))"
    path = os.pathsep.join([str(repository / "tests"), str(repository / "src")])
    answer = subprocess.run(
        [sys.executable, "-c", program],
        env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": path},
        capture_output=True,
        text=True,
        check=True,
    )
    assert answer.stdout.strip() == GOLDEN_KEY


@given(json_values)
def test_canonical_form_is_the_librarys(value: Any):
    assert canonical_json(value).encode() == rfc8785.dumps(value)


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_numbers_are_the_librarys(number: float):
    assert canonical_json([number, {"t": number}]).encode() == rfc8785.dumps([number, {"t": number}])


@pytest.mark.parametrize(
    "value", [float("nan"), float("inf"), 2**53, -(2**53), "\ud800", {"\udfff": 1}, {1: 2}, b"x", {"a": {3}}]
)
def test_no_canonical_form(value: Any):
    with pytest.raises(ValueError, match=r".+"):
        canonical_json([value]).encode()


def test_every_field_is_perturbed():
    """A new field of the request must get a strategy here, or this fails."""
    assert set(OTHER_FIELD) == {field.name for field in fields(InferenceRequest)}
    assert set(OTHER_PARAMETER) == {field.name for field in fields(GenerationParameters)}
    assert set(OTHER_MESSAGE_PART) == {field.name for field in fields(Message)}


@pytest.mark.parametrize("name", OTHER_FIELD)
@given(request=requests, data=st.data())
def test_one_changed_field_changes_the_key(request: InferenceRequest, data: st.DataObject, name: str):
    changed = replace(request, **{name: data.draw(OTHER_FIELD[name])})
    assume(changed != request)
    assert request_key(changed) != request_key(request)


@pytest.mark.parametrize("name", OTHER_PARAMETER)
@given(request=requests, data=st.data())
def test_one_changed_parameter_changes_the_key(request: InferenceRequest, data: st.DataObject, name: str):
    changed = replace(request.parameters, **{name: data.draw(OTHER_PARAMETER[name])})
    assume(changed != request.parameters)
    assert request_key(replace(request, parameters=changed)) != request_key(request)


@pytest.mark.parametrize("name", OTHER_MESSAGE_PART)
@given(request=requests, data=st.data())
def test_one_changed_message_changes_the_key(request: InferenceRequest, data: st.DataObject, name: str):
    assume(request.messages)
    position = data.draw(st.integers(0, len(request.messages) - 1))
    message = replace(request.messages[position], **{name: data.draw(OTHER_MESSAGE_PART[name])})
    assume(message != request.messages[position])
    changed = (*request.messages[:position], message, *request.messages[position + 1 :])
    assert request_key(replace(request, messages=changed)) != request_key(request)


@given(requests)
def test_equal_requests_have_equal_keys(request: InferenceRequest):
    key = request_key(request)
    assert request_key(replace(request, parameters=replace(request.parameters))) == key
    # Through JSON and back, as the trail keeps it: 0.0 comes back as 0 and must not matter.
    stored = json.loads(canonical_json(request.canonical()))
    assert request_key(InferenceRequest.from_canonical(stored)) == key


def _near_misses() -> dict[str, InferenceRequest]:
    def content(text: str) -> InferenceRequest:
        return replace(REQUEST, messages=(Message("user", text),))

    def extra(*pairs: tuple[str, Any]) -> InferenceRequest:
        return replace(REQUEST, parameters=replace(REQUEST.parameters, extra=pairs))

    def several(*pairs: tuple[Any, str]) -> InferenceRequest:
        return replace(REQUEST, messages=tuple(Message(role, text) for role, text in pairs))

    return {
        "original": REQUEST,
        "Alice to Bob": content("Alice to Bob"),
        "Bob to Alice": content("Bob to Alice"),
        "space before": content(" Alice to Bob"),
        "space after": content("Alice to Bob "),
        "newline after": content("Alice to Bob\n"),
        "two spaces": content("Alice  to Bob"),
        "no-break space": content("Alice\u00a0to Bob"),
        "zero-width space": content("Alice\u200bto Bob"),
        "lower case": content("alice to bob"),
        "full stop": content("Alice to Bob."),
        "homoglyph": content("\u0410lice to Bob"),
        "carriage return": content("Alice to Bob\r\n"),
        "null byte": content("Alice to Bob\x00"),
        "escape text": content("Alice to Bob\\u0000"),
        "composed": content(unicodedata.normalize("NFC", "é")),
        "decomposed": content(unicodedata.normalize("NFD", "é")),
        "empty": content(""),
        "quote": content('"'),
        "escaped quote": content('\\"'),
        "json inside": content('x","role":"system'),
        "no messages": replace(REQUEST, messages=()),
        "two messages": several(("user", "a"), ("user", "bc")),
        "split elsewhere": several(("user", "ab"), ("user", "c")),
        "joined": several(("user", "abc")),
        "other order": several(("user", "bc"), ("user", "a")),
        "other role": several(("user", "a"), ("assistant", "bc")),
        "an empty message more": several(("user", "a"), ("user", "bc"), ("user", "")),
        "extra 1": extra(("a", 1)),
        "extra true": extra(("a", True)),
        "extra text 1": extra(("a", "1")),
        "extra 1.5": extra(("a", 1.5)),
        "extra next to 1.5": extra(("a", 1.5000000000000002)),
        "extra none": extra(("a", None)),
        "extra text null": extra(("a", "null")),
        "extra false": extra(("a", False)),
        "extra 0": extra(("a", 0)),
        "extra empty text": extra(("a", "")),
        "extra other name": extra(("b", 1)),
        "extra two": extra(("a", 1), ("b", 1)),
        "no extra": extra(),
        "seed 0": replace(REQUEST, parameters=replace(REQUEST.parameters, seed=0)),
        "seed 1": replace(REQUEST, parameters=replace(REQUEST.parameters, seed=1)),
        "tiny temperature": replace(REQUEST, parameters=replace(REQUEST.parameters, temperature=5e-324)),
        "one token more": replace(REQUEST, parameters=replace(REQUEST.parameters, max_new_tokens=65)),
        "same name, other weights": replace(REQUEST, model_digest="sha256:" + "ac" * 32),
        "same weights, other name": replace(REQUEST, model="smollm2"),
        "engine and version swapped": replace(
            REQUEST, engine=REQUEST.engine_version, engine_version=REQUEST.engine
        ),
        "other device": replace(REQUEST, device="cuda"),
        "other precision": replace(REQUEST, quantization="fp32"),
    }


def test_near_misses_have_keys_of_their_own():
    keys = {name: request_key(request) for name, request in _near_misses().items()}
    assert len(keys) >= 40
    assert len(set(keys.values())) == len(keys)


def test_order_of_extra_parameters_does_not_matter():
    turned = replace(REQUEST.parameters, extra=tuple(reversed(REQUEST.parameters.extra)))
    assert request_key(replace(REQUEST, parameters=turned)) == GOLDEN_KEY


@pytest.mark.parametrize(
    ("parameters", "reusable"),
    [
        (GenerationParameters(temperature=0.0), True),
        (GenerationParameters(temperature=0.7), False),
        (GenerationParameters(temperature=0.7, seed=3), True),
        (GenerationParameters(temperature=0.7, seed=0), True),
        (GenerationParameters(extra=(("do_sample", True),)), False),
        (GenerationParameters(extra=(("do_sample", True),), seed=0), True),
        (GenerationParameters(extra=(("do_sample", False),)), True),
    ],
)
def test_a_fresh_draw_is_not_reusable(parameters: GenerationParameters, reusable: bool):
    reason = why_not_reusable(replace(REQUEST, parameters=parameters))
    assert (reason == "") is reusable
    assert reusable or "--seed" in reason
