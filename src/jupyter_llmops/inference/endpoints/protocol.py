"""OpenAI's chat completions: a request as its JSON body, an answer from its JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from jupyter_llmops.records.completion import FinishReason
from jupyter_llmops.records.request import InferenceRequest

# What this program sends for a request; a change of it that changes answers gets a new number.
PROTOCOL = "chat completions 1"
# More than any answer has; whoever says more does not count.
_MOST_TOKENS = 10**12
_FINISH: dict[Any, FinishReason] = {"length": "length", "max_tokens": "length"}


@dataclass(slots=True)
class Answer:
    """What an endpoint answered, as far as it came.

    Parameters
    ----------
    text : str
        The answer.
    finish : str
        The endpoint's own word for why it ended; empty while it has not.
    tokens_in, tokens_out : int
        As the endpoint counts; 0 where it does not say.
    version : str
        The model and the fingerprint that the endpoint names.
    refusal : str
        Why the model declined, in its words.
    half : str
        The first half of a character (a UTF-16 surrogate) whose other half comes with the next piece.
    """

    pieces: list[str] = field(default_factory=list)
    finish: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    version: str = ""
    refusal: str = ""
    half: str = ""

    @property
    def text(self) -> str:
        """What came so far."""
        return "".join(self.pieces)

    @property
    def finish_reason(self) -> FinishReason:
        """Why it ended, in our words."""
        return _FINISH.get(self.finish, "stop")


def body_of(request: InferenceRequest, served: str) -> dict[str, Any]:
    """Return the JSON body that asks an endpoint for a request.

    Parameters
    ----------
    request : InferenceRequest
        All that decides the answer.
    served : str
        The name by which the endpoint knows the model.
    """
    parameters = request.parameters
    body: dict[str, Any] = {
        "model": served,
        "messages": [{"role": m.role, "content": m.content} for m in request.messages],
        "max_tokens": parameters.max_new_tokens,
        "temperature": parameters.temperature,
    }
    if parameters.seed is not None:
        body["seed"] = parameters.seed
    body |= {name: value for name, value in parameters.extra if value is not None}
    if request.output_schema:
        body["response_format"] = _response_format(json.loads(request.output_schema))
    return body


def read_whole(answer: Answer, value: Mapping[str, Any]) -> None:
    """Put a whole answer's JSON into `answer`.

    Raises
    ------
    LookupError, TypeError, AttributeError
        It is no chat completion.
    """
    choice = value["choices"][0]
    message = choice["message"]
    _read_facts(answer, value)
    answer.pieces.append(_mended(_text(message.get("content"))))
    answer.refusal = _mended(_text(message.get("refusal")))
    answer.finish = str(choice.get("finish_reason") or "stop")


def read_chunk(answer: Answer, value: Mapping[str, Any]) -> str:
    """Put one event of a stream into `answer` and return the piece of text that it brings.

    Raises
    ------
    LookupError, TypeError, AttributeError
        It is no chunk of a chat completion.
    """
    _read_facts(answer, value)
    choices = value["choices"]
    if not choices:  # the last one, which only counts tokens
        return ""
    choice = choices[0]
    delta = choice.get("delta") or {}
    piece = answer.half + _text(delta.get("content"))
    whole = len(piece) - ("\ud800" <= piece[-1:] <= "\udbff")
    piece, answer.half = _mended(piece[:whole]), piece[whole:]
    if piece:
        answer.pieces.append(piece)
    answer.refusal += _mended(_text(delta.get("refusal")))
    answer.finish = str(choice.get("finish_reason") or answer.finish)
    return piece


def _read_facts(answer: Answer, value: Mapping[str, Any]) -> None:
    usage = value.get("usage") or {}
    answer.tokens_in = _count(usage.get("prompt_tokens")) or answer.tokens_in
    answer.tokens_out = _count(usage.get("completion_tokens")) or answer.tokens_out
    said = [_word(value.get("model")), _word(value.get("system_fingerprint"))]
    answer.version = " ".join(filter(None, said)) or answer.version


def _response_format(schema: dict[str, Any]) -> dict[str, Any]:
    # What our --format json asks for without a schema.
    if schema == {"type": "object"}:
        return {"type": "json_object"}
    named = {"name": "answer", "schema": schema, "strict": _is_strict(schema)}
    return {"type": "json_schema", "json_schema": named}


def _is_strict(schema: Any) -> bool:
    """Return whether a schema keeps to the subset that OpenAI enforces by construction."""
    if isinstance(schema, list):
        return all(map(_is_strict, schema))
    if not isinstance(schema, dict):
        return True
    properties = schema.get("properties")
    if schema.get("type") == "object" or isinstance(properties, dict):
        required = set(schema.get("required") or ())
        if schema.get("additionalProperties") is not False or required != set(properties or ()):
            return False
    return all(map(_is_strict, schema.values()))


def _text(content: Any) -> str:
    if isinstance(content, list):  # parts, as some endpoints write them
        content = "".join(_part(part.get("text")) for part in content if isinstance(part, dict))
    return _part(content)


def _part(content: Any) -> str:
    return content if isinstance(content, str) else ""


def _mended(text: str) -> str:
    """Return a text that can be stored: JSON's escapes also write halves of characters, which nothing else can."""
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace")
    return text


def _count(value: Any) -> int:
    return value if type(value) is int and 0 < value <= _MOST_TOKENS else 0


def _word(value: Any) -> str:
    return value[:200] if isinstance(value, str) and value.isprintable() else ""
