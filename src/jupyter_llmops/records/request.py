"""What is asked of a model: the whole of it, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any, Final, Literal

Role = Literal["system", "user", "assistant"]
Scalar = str | int | float | bool | None

REQUEST_SCHEMA = "llmops.request/2"
_READABLE: Final = {"llmops.request/1", REQUEST_SCHEMA}


@dataclass(frozen=True, slots=True)
class Message:
    """One message of a chat, rendered."""

    role: Role
    content: str


@dataclass(frozen=True, slots=True)
class GenerationParameters:
    """How to decode.

    Parameters
    ----------
    max_new_tokens : int
        Most tokens of the answer.
    temperature : float
        0 is greedy decoding; above it, sampling.
    seed : int or None
        Seed of the sampler; None draws a fresh one, so the run can't be repeated.
    extra : tuple of (name, value), sorted by name
        Any further field of transformers' ``GenerationConfig``.
    """

    max_new_tokens: int = 256
    temperature: float = 0.0
    seed: int | None = None
    extra: tuple[tuple[str, Scalar], ...] = ()

    @property
    def sampled(self) -> bool:
        """Whether tokens are drawn at random."""
        return self.temperature > 0


@dataclass(frozen=True, slots=True)
class InferenceRequest:
    """Everything that decides an answer; its canonical form is the cache key.

    Parameters
    ----------
    model : str
        Name of the model, for people; the digest is what counts.
    model_digest : str
        ``sha256:…`` of the model's files (weights, tokenizer, chat template).
    messages : tuple of Message
        The rendered chat.
    parameters : GenerationParameters
        How to decode.
    engine, engine_version : str
        Which program computes, e.g. "transformers" and "transformers 5.23.0, torch 2.13.0+cpu".
    quantization : str
        Precision of the weights: "nf4", "int8", "bf16", "fp32", a GGUF's own such as "Q4_1", or
        empty where an endpoint does not say.
    device : str
        "cpu" or "cuda"; empty for an endpoint.
    adapter, adapter_digest : str
        The PEFT adapter on top of the weights, by name and digest; empty without one.
    output_schema : str
        JSON Schema, in canonical form, that the answer follows by construction; empty for free text.
    exact : bool
        Computed in a mode in which batches, padding and threads don't change a token.
    engine_options : tuple of (name, value), sorted by name
        Whatever else of the engine decides an answer, e.g. an endpoint's address and served name.
    """

    model: str
    model_digest: str
    messages: tuple[Message, ...]
    parameters: GenerationParameters
    engine: str
    engine_version: str
    quantization: str
    device: str
    adapter: str = ""
    adapter_digest: str = ""
    output_schema: str = ""
    exact: bool = False
    engine_options: tuple[tuple[str, Scalar], ...] = ()

    def canonical(self) -> dict[str, Any]:
        """Return the request as plain JSON values, versioned.

        Every field counts, one that is added later too, unless `IRRELEVANT` names it.
        """
        values: dict[str, Any] = {name: getattr(self, name) for name in _COUNTING}
        values["schema"] = REQUEST_SCHEMA
        values["messages"] = self.canonical_messages()
        values["engine_options"] = dict(self.engine_options)
        values["parameters"] = {
            "max_new_tokens": self.parameters.max_new_tokens,
            "temperature": self.parameters.temperature,
            "seed": self.parameters.seed,
            "extra": dict(self.parameters.extra),
        }
        return values

    def canonical_messages(self) -> list[dict[str, str]]:
        """Return the messages as they stand in `canonical`."""
        return [{"role": m.role, "content": m.content} for m in self.messages]

    @classmethod
    def from_canonical(cls, values: dict[str, Any]) -> InferenceRequest:
        """Rebuild a request from `canonical`; raises KeyError or TypeError on a foreign shape."""
        if values["schema"] not in _READABLE:
            raise KeyError(values["schema"])
        parameters = values["parameters"]
        return cls(
            model=values["model"],
            model_digest=values["model_digest"],
            messages=tuple(Message(m["role"], m["content"]) for m in values["messages"]),
            parameters=GenerationParameters(
                max_new_tokens=parameters["max_new_tokens"],
                temperature=parameters["temperature"],
                seed=parameters["seed"],
                extra=tuple(sorted(parameters["extra"].items())),
            ),
            engine=values["engine"],
            engine_version=values["engine_version"],
            quantization=values["quantization"],
            device=values["device"],
            # Not in version 1, where they had no effect.
            adapter=values.get("adapter", ""),
            adapter_digest=values.get("adapter_digest", ""),
            output_schema=values.get("output_schema", ""),
            exact=values.get("exact", False),
            engine_options=tuple(sorted(values.get("engine_options", {}).items())),
        )


# Fields that are proven not to change an answer; the key leaves them out. None is, so far.
IRRELEVANT: Final[frozenset[str]] = frozenset()
_COUNTING: Final = tuple(f.name for f in fields(InferenceRequest) if f.name not in IRRELEVANT)
