"""Schemas: their canonical form, answers that follow them by construction, and what is refused."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pydantic import BaseModel, ConfigDict, Field

from jupyter_llmops.errors import LLMOpsError, OutputSchemaError, UsageError
from jupyter_llmops.inference.constrained import ANY_OBJECT, Constraint, canonical_schema, parse
from jupyter_llmops.inference.sources import resolve
from jupyter_llmops.inference.transformers_engine import TransformersEngine
from jupyter_llmops.records.model import Model
from jupyter_llmops.records.request import InferenceRequest
from model_fixtures import make_request


class City(BaseModel):
    name: str = Field(max_length=12)
    size: Literal["small", "large"]
    founded: int = Field(ge=0, le=2030)


@dataclass
class Point:
    x: int
    y: int


def test_one_schema_has_one_text_whatever_its_keywords_order() -> None:
    one = {"type": "object", "properties": {"b": {"type": "string"}, "a": {}}, "required": ["b"]}
    other = {"required": ["b"], "properties": {"b": {"type": "string"}, "a": {}}, "type": "object"}
    assert canonical_schema(one) == canonical_schema(other) == canonical_schema(json.dumps(other, indent=2))
    turned = {**one, "properties": {"a": {}, "b": {"type": "string"}}}
    assert canonical_schema(turned) != canonical_schema(one)  # an answer writes a before b
    assert canonical_schema({"type": "object"}) == ANY_OBJECT


def test_a_property_may_be_called_like_a_keyword() -> None:
    schema = {"type": "object", "properties": {"properties": {"type": "string"}, "enum": {"type": "integer"}}}
    assert json.loads(canonical_schema(schema)) == schema


def test_classes_types_and_texts_become_schemas() -> None:
    city = json.loads(canonical_schema(City))
    assert list(city["properties"]) == ["name", "size", "founded"]
    assert city["additionalProperties"] is False  # else a small model adds keys to its limit
    assert json.loads(canonical_schema(Point))["required"] == ["x", "y"]
    assert json.loads(canonical_schema(list[int])) == {"items": {"type": "integer"}, "type": "array"}


def test_a_class_that_takes_other_keys_keeps_them() -> None:
    class Open(BaseModel):
        model_config = ConfigDict(extra="allow")
        name: str

    assert json.loads(canonical_schema(Open))["additionalProperties"] is True


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (3, "no schema in a int"),
        (int, "no schema in the class int"),
        ("{", "not JSON"),
        ("[1]", "not list"),
        ({"type": "objekt"}, "no JSON Schema at type"),
        ({"type": "object", "properties": 3}, "no JSON Schema at properties"),
        ({"const": object()}, "not JSON"),
        ({"const": float("nan")}, "not JSON"),
        ({"const": "\ud800"}, "not JSON"),
        (set[int], "uniqueItems"),
        ({"type": "string", "pattern": "(?=a)b"}, "regex"),
        ({"$ref": "https://127.0.0.1:9/schema.json"}, "can't be followed"),
        ({"x-guidance": {"lenient": True}, "type": "array", "uniqueItems": True}, "uniqueItems"),
        ({"enum": []}, "can't be followed"),
    ],
)
def test_what_can_not_be_followed_is_one_sentence(value: Any, said: str) -> None:
    with pytest.raises(OutputSchemaError) as caught:
        canonical_schema(value)
    assert said in caught.value.message
    assert "\n" not in str(caught.value)
    assert caught.value.hint


def test_a_schema_that_is_its_own_part_ends() -> None:
    schema: dict[str, Any] = {"type": "object"}
    schema["properties"] = {"again": schema}
    with pytest.raises(OutputSchemaError):
        canonical_schema(schema)


def test_answers_are_plain_values() -> None:
    schema = canonical_schema(City)
    data = parse(schema, '{"name": "Oslo", "size": "large", "founded": 1040}')
    assert data == {"name": "Oslo", "size": "large", "founded": 1040}
    assert City.model_validate(data).founded == 1040


@pytest.mark.parametrize("text", ["", "<html>", "NaN", '{"name": "Oslo"}', "[" * 100_000])
def test_what_does_not_follow_is_said(text: str) -> None:
    with pytest.raises(OutputSchemaError) as caught:
        parse(canonical_schema(City), text)
    assert "\n" not in str(caught.value)


def test_a_cut_answer_says_what_to_type() -> None:
    with pytest.raises(OutputSchemaError) as caught:
        parse(ANY_OBJECT, '{"name": "Os', finish_reason="length", max_new_tokens=8)
    assert "cut at 8 tokens" in caught.value.message
    assert "-n 16" in caught.value.hint
    with pytest.raises(OutputSchemaError, match="stopped"):
        parse(ANY_OBJECT, '{"name": "Os', finish_reason="interrupted")


@settings(max_examples=100, deadline=None)
@given(
    st.recursive(
        st.sampled_from(
            [{"type": "integer"}, {"type": "string"}, {"type": "boolean"}, {"enum": ["a", 1, None]}]
        ),
        lambda inner: st.one_of(
            st.dictionaries(st.text(max_size=5), inner, max_size=3).map(
                lambda p: {"type": "object", "properties": p, "required": sorted(p)}
            ),
            inner.map(lambda item: {"type": "array", "items": item, "maxItems": 2}),
            st.lists(inner, min_size=1, max_size=2).map(lambda any_of: {"anyOf": any_of}),
        ),
        max_leaves=6,
    )
)
def test_canonical_form_is_stable_and_means_the_same(schema: dict[str, Any]) -> None:
    try:
        text = canonical_schema(schema)
    except OutputSchemaError:
        return
    assert json.loads(text) == schema
    assert canonical_schema(text) == canonical_schema(json.loads(text)) == text


@pytest.fixture(scope="module")
def tiny(tiny_folder: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[TransformersEngine, Model]:
    engine = TransformersEngine(tmp_path_factory.mktemp("models"), offline=True)
    return engine, engine.with_digest(resolve(str(tiny_folder)))


def _ask(
    tiny: tuple[TransformersEngine, Model], text: str, schema: object, **options: Any
) -> InferenceRequest:
    engine, model = tiny
    options = {"max_new_tokens": 90, **options}
    return replace(
        make_request(engine, model, text, "fp32", **options), output_schema=canonical_schema(schema)
    )


SHORT = {
    "type": "object",
    "properties": {"a": {"enum": ["x", "yy"]}, "b": {"type": "boolean"}},
    "required": ["a", "b"],
    "additionalProperties": False,
}


@pytest.mark.parametrize("options", [{}, {"temperature": 1.5, "seed": 1}, {"temperature": 100.0, "seed": 2}])
def test_random_weights_follow_a_schema(
    tiny: tuple[TransformersEngine, Model], options: dict[str, Any]
) -> None:
    engine, model = tiny
    request = _ask(tiny, "x", SHORT, **options)
    pieces: list[str] = []
    alone = engine.generate(request, model, pieces.append)
    assert alone.finish_reason == "stop"
    assert parse(request.output_schema, alone.text)["a"] in ("x", "yy")
    assert "".join(pieces) == alone.text


def test_each_row_of_a_batch_follows_its_own_schema(tiny: tuple[TransformersEngine, Model]) -> None:
    engine, model = tiny
    schemas = [SHORT, {"enum": ["only"]}, {"type": "array", "items": {"type": "boolean"}, "maxItems": 2}]
    requests = [_ask(tiny, "x" * n, schema) for n, schema in enumerate(schemas, 1)]
    requests.append(replace(requests[0], output_schema=""))
    answers: dict[int, Any] = {}
    engine.generate_many(requests, model, answers.__setitem__)
    assert parse(requests[1].output_schema, answers[1].text) == "only"
    for request, (_, answer) in zip(requests[:3], sorted(answers.items())[:3], strict=True):
        parse(request.output_schema, answer.text)
        assert answer.token_ids == engine.generate(request, model).token_ids
    with pytest.raises(OutputSchemaError):  # the free row is free
        parse(ANY_OBJECT, answers[3].text)


def test_only_the_limit_can_cut_an_answer(tiny: tuple[TransformersEngine, Model]) -> None:
    engine, model = tiny
    request = _ask(tiny, "x", SHORT, max_new_tokens=3)
    answer = engine.generate(request, model)
    assert answer.finish_reason == "length"
    with pytest.raises(OutputSchemaError, match="cut at 3 tokens"):
        parse(request.output_schema, answer.text, finish_reason=answer.finish_reason, max_new_tokens=3)


def test_beams_and_schemas_do_not_go_together(tiny: tuple[TransformersEngine, Model]) -> None:
    engine, model = tiny
    request = _ask(tiny, "x", SHORT, extra=(("num_beams", 2),))
    with pytest.raises(UsageError, match="num_beams"):
        engine.generate(request, model)
    answers: dict[int, Any] = {}
    engine.generate_many([request], model, answers.__setitem__)
    assert isinstance(answers[0], LLMOpsError)


def test_a_token_that_breaks_the_schema_is_not_taken(tiny: tuple[TransformersEngine, Model]) -> None:
    from jupyter_llmops.inference.constrained import guidance_tokenizer

    engine, model = tiny
    weights = engine._load(model, "fp32", None)
    constraint = Constraint(canonical_schema(SHORT), guidance_tokenizer(weights.chat, weights.stop_ids))
    allowed = constraint.allowed(1000)
    assert len(allowed) == 1000
    assert allowed.sum() == 1  # only {
    with pytest.raises(OutputSchemaError):
        constraint.accept(int((~allowed).argmax()))
