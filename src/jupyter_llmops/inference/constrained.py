"""Answers that follow a JSON Schema by construction: a token that would break it is never chosen.

llguidance computes which tokens may come next from an Earley parser over the schema's grammar and a
lexer of regular-expression derivatives (Moskal et al. 2025, https://github.com/guidance-ai/llguidance),
about 50 µs a token. An answer is one line: ``{"name": "Ada", "age": 36}``; free white space would let
a small model write spaces to the end of its limit.
"""

from __future__ import annotations

import dataclasses
import inspect
import json
import typing
import weakref
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from jupyter_llmops.errors import InferenceError, LLMOpsError, OutputSchemaError, UsageError
from jupyter_llmops.records.completion import FinishReason
from jupyter_llmops.records.request import InferenceRequest

if TYPE_CHECKING:
    from jupyter_llmops.inference.chat import ChatTokenizer

ANY_OBJECT = '{"type":"object"}'
# What of the grammar is ours to decide, whatever a schema's own "x-guidance" says.
_WRITING = {
    "whitespace_flexible": False,
    "whitespace_pattern": None,
    "item_separator": ", ",
    "key_separator": ": ",
    "lenient": False,
}
_DATA = {"const", "enum", "default", "examples"}  # values, not schemas: their keys keep their order
_ORDERED = {"properties"}  # the order in which an answer writes its keys
_VALID = "Valid are a pydantic model, a JSON Schema as a dictionary or as JSON text."
_tokenizers: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()


def canonical_schema(value: object) -> str:
    """Return a JSON Schema as the one text that stands for it in requests, keys and records.

    Parameters
    ----------
    value : pydantic model, type, dict or str
        A pydantic class; a dataclass, TypedDict or annotation such as ``list[int]`` where pydantic is
        installed; a JSON Schema as a dictionary or as JSON text.

    Returns
    -------
    str
        JSON without white space; keys are sorted, but for the properties of an object: an answer
        writes them in the order in which the schema names them.

    Raises
    ------
    OutputSchemaError
        It is no JSON Schema, or uses something that can't be followed by construction.
    """
    schema = _as_dictionary(value)
    try:
        text = json.dumps(_sorted(schema), separators=(",", ":"), ensure_ascii=False, allow_nan=False)
        text.encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise OutputSchemaError(f"The schema is not JSON: {_first_line(error)}.", _VALID) from error
    _check(schema, text)
    return text


def parse(
    schema: str, text: str, *, finish_reason: FinishReason = "stop", max_new_tokens: int | None = None
) -> Any:
    """Return an answer as plain Python values.

    Plain values and not an instance of the class that the schema came from: a cached answer and one that
    was computed now are the same thing. ``YourModel.model_validate(completion.data)`` makes an instance.

    Parameters
    ----------
    schema : str
        From `canonical_schema`.
    text : str
        The answer.
    finish_reason : {"stop", "length", "interrupted"}
        Why it ended.
    max_new_tokens : int, optional
        Most tokens that it was allowed, for the message.

    Raises
    ------
    OutputSchemaError
        The answer was cut before its end, or does not follow the schema (an endpoint's may not).
    """
    from jsonschema import Draft202012Validator
    from jsonschema.exceptions import best_match
    from referencing import Registry

    try:
        data = json.loads(text, parse_constant=_refuse_constant)
    except (ValueError, RecursionError) as error:
        if finish_reason != "stop":
            raise _cut(finish_reason, max_new_tokens) from error
        raise OutputSchemaError(
            f"The answer is not JSON: {_first_line(error)}.",
            "Its text is in the record; ask again, or a model that follows schemas.",
        ) from error
    # An empty registry: a $ref never makes it ask the network.
    wrong = best_match(Draft202012Validator(json.loads(schema), registry=Registry()).iter_errors(data))
    if wrong is not None:
        raise OutputSchemaError(
            f"The answer does not follow the schema at {wrong.json_path}: {_first_line(wrong.message)}.",
            "Its text is in the record; ask again, or a model that follows schemas.",
        )
    return data


class Constraint:
    """Says for one answer which tokens may come next.

    Parameters
    ----------
    schema : str
        From `canonical_schema`.
    tokenizer : llguidance.LLTokenizer
        The model's vocabulary; see `guidance_tokenizer`.

    Raises
    ------
    OutputSchemaError
        The schema can't be followed with this vocabulary.
    """

    def __init__(self, schema: str, tokenizer: Any) -> None:
        from llguidance import LLMatcher

        self._matcher: Any = LLMatcher(tokenizer, _grammar(schema), log_level=0)
        self._check()

    def allowed(self, vocabulary: int) -> Any:
        """Return which tokens may come next.

        Parameters
        ----------
        vocabulary : int
            Number of scores that the model gives; those beyond its tokenizer's are never allowed.

        Returns
        -------
        numpy.ndarray of bool, (vocabulary,)
            Where the schema allows the end, that of the tokens which end an answer too.

        Raises
        ------
        OutputSchemaError
            The parser gave up; nothing can come next.
        """
        import numpy as np

        bits = np.frombuffer(self._matcher.compute_bitmask(), dtype=np.uint8)
        self._check()
        mask = np.unpackbits(bits, bitorder="little")[:vocabulary].astype(bool)
        return mask if len(mask) == vocabulary else np.pad(mask, (0, vocabulary - len(mask)))

    def accept(self, token: int) -> None:
        """Take the token that was chosen.

        Raises
        ------
        OutputSchemaError
            It is not one of those allowed.
        """
        self._matcher.consume_token(token)
        self._check()

    def _check(self) -> None:
        if self._matcher.is_error():
            raise OutputSchemaError(
                f"The schema can't be followed: {_first_line(self._matcher.get_error())}.",
                "Make it simpler: fewer alternatives, shorter patterns.",
            )


class SchemaProcessor:
    """A `Constraint` as one of transformers' logits processors, for one row without beams.

    Parameters
    ----------
    constraint : Constraint
        Of this answer.
    tokens_in : int
        Number of the prompt's tokens.
    """

    def __init__(self, constraint: Constraint, tokens_in: int) -> None:
        self._constraint = constraint
        self._seen = tokens_in

    def __call__(self, input_ids: Any, scores: Any) -> Any:
        """Return the scores with minus infinity for what would break the schema.

        Parameters
        ----------
        input_ids : tensor, (1, tokens)
            The prompt and the answer so far.
        scores : tensor, (1, vocabulary)
            Of the next token.
        """
        import torch

        if input_ids.shape[0] != 1:
            raise InferenceError("A schema is followed by one row at a time.", "Leave num_beams out.")
        for token in input_ids[0, self._seen :].tolist():
            self._constraint.accept(token)
        self._seen = input_ids.shape[1]
        allowed = torch.from_numpy(self._constraint.allowed(scores.shape[-1])).to(scores.device)
        return scores.masked_fill(~allowed, float("-inf"))


def logits_processors(
    request: InferenceRequest, chat: ChatTokenizer, stop_ids: Sequence[int], tokens_in: int
) -> list[SchemaProcessor]:
    """Return what makes transformers follow the request's schema; empty for free text.

    Parameters
    ----------
    request : InferenceRequest
        With its `output_schema`.
    chat : ChatTokenizer
        The model's tokenizer.
    stop_ids : sequence of int
        Tokens that end an answer.
    tokens_in : int
        Number of the prompt's tokens.

    Raises
    ------
    OutputSchemaError
        The schema can't be followed, or the tokenizer is one that can't be constrained.
    UsageError
        The request asks for beams too.
    """
    if not request.output_schema:
        return []
    check_schema_parameters(request)
    return [SchemaProcessor(Constraint(request.output_schema, guidance_tokenizer(chat, stop_ids)), tokens_in)]


def check_schema_parameters(request: InferenceRequest) -> None:
    """Refuse a schema together with what would work against it, before anything is computed.

    Raises
    ------
    UsageError
        It asks for beams, or for a least number of tokens.
    """
    extra = dict(request.parameters.extra)
    for name in ("num_beams", "min_new_tokens", "no_repeat_ngram_size"):
        if request.output_schema and extra.get(name) not in (None, 0, 1):
            raise UsageError(
                f"{name} can't be used together with a schema.", f"Leave {name} or the schema out."
            )


def guidance_tokenizer(chat: ChatTokenizer, stop_ids: Sequence[int]) -> Any:
    """Return llguidance's form of a tokenizer of transformers, made once for each."""
    if chat not in _tokenizers:
        from llguidance.hf import from_tokenizer

        try:
            _tokenizers[chat] = from_tokenizer(chat.inner, eos_token=list(stop_ids))
        except ValueError as error:
            raise OutputSchemaError(
                f"The model's tokenizer can't follow a schema: {_first_line(error)}.",
                "Choose another model with -m, or leave the schema out.",
            ) from error
    return _tokenizers[chat]


def _as_dictionary(value: object) -> dict[str, Any]:
    if isinstance(value, str | bytes):
        try:
            value = json.loads(value)
        except (ValueError, RecursionError) as error:
            raise OutputSchemaError(f"The schema is not JSON: {_first_line(error)}.", _VALID) from error
    elif not isinstance(value, Mapping):
        value = _of_type(value)
    if not isinstance(value, Mapping):
        raise OutputSchemaError(f"A schema is a JSON object, not {type(value).__name__}.", _VALID)
    return dict(value)


def _of_type(value: object) -> object:
    try:
        if isinstance(value, type) and hasattr(value, "model_json_schema"):
            return _closed(value.model_json_schema())
        if (
            inspect.isclass(value) and (dataclasses.is_dataclass(value) or typing.is_typeddict(value))
        ) or typing.get_origin(value) is not None:
            from pydantic import TypeAdapter

            described: Any = value
            return _closed(TypeAdapter(described).json_schema())
    except LLMOpsError:
        raise
    except Exception as error:  # a model's own code, or pydantic, raises what it likes
        raise OutputSchemaError(f"The schema can't be made: {_first_line(error)}.", _VALID) from error
    kind = f"the class {value.__name__}" if isinstance(value, type) else f"a {type(value).__name__}"
    raise OutputSchemaError(f"There is no schema in {kind}.", _VALID)


def _closed(schema: Any) -> Any:
    """Return pydantic's schema with objects that have no keys but their own, as a class has no others.

    Left open a small model adds keys until its limit. A class that takes others says so itself.
    """
    if isinstance(schema, Mapping):
        inner = {key: schema[key] if key in _DATA else _closed(schema[key]) for key in schema}
        if schema.get("type") == "object" and isinstance(schema.get("properties"), Mapping):
            inner.setdefault("additionalProperties", False)
        return inner
    return [_closed(item) for item in schema] if isinstance(schema, list) else schema


def _sorted(schema: Any, *, names: bool = False) -> Any:
    """Return a schema with sorted keywords; `names` where the keys are names of properties."""
    if isinstance(schema, Mapping):
        keys = list(schema) if names else sorted(schema, key=str)
        return {
            key: schema[key]
            if key in _DATA and not names
            else _sorted(schema[key], names=key in _ORDERED and not names)
            for key in keys
        }
    if isinstance(schema, list | tuple):
        return [_sorted(item) for item in schema]
    return schema


def _check(schema: dict[str, Any], text: str) -> None:
    from jsonschema import Draft202012Validator, SchemaError
    from llguidance import LLMatcher

    try:
        Draft202012Validator.check_schema(schema)
    except SchemaError as error:
        place = "/".join(map(str, error.absolute_path)) or "its beginning"
        raise OutputSchemaError(
            f"The schema is no JSON Schema at {place}: {_first_line(error.message)}.",
            "See https://json-schema.org/understanding-json-schema.",
        ) from error
    wrong = LLMatcher.validate_grammar(_grammar(text))
    if wrong:
        raise OutputSchemaError(
            f"The schema can't be followed: {_first_line(wrong)}.",
            "Leave that out, or say it in the prompt (a list instead of a set, for example).",
        )


def _grammar(schema: str) -> str:
    from llguidance import LLMatcher

    overrides: Any = _WRITING
    return str(LLMatcher.grammar_from_json_schema(schema, overrides=overrides))


def _cut(finish_reason: FinishReason, limit: int | None) -> OutputSchemaError:
    if finish_reason == "interrupted":
        return OutputSchemaError(
            "The answer was stopped before its JSON was complete.", "Run the cell again for the whole answer."
        )
    told = f" at {limit:,} tokens" if limit else ""
    return OutputSchemaError(
        f"The answer was cut{told} before its JSON was complete.",
        f"Type -n {2 * limit if limit else 1024} or more, or a schema that needs fewer tokens.",
    )


def _refuse_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number of JSON")


def _first_line(said: object) -> str:
    line = str(said).strip().partition("\n")[0].rstrip(".:")
    return line if len(line) <= 200 else line[:199] + "…"
