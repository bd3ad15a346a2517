"""What is asked of a model: the whole of it, and nothing else."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

Role = Literal["system", "user", "assistant"]
Scalar = str | int | float | bool | None

REQUEST_SCHEMA = "llmops.request/1"


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
    quantization : {"nf4", "bf16", "fp32"}
        Precision of the weights.
    device : str
        "cpu" or "cuda".
    """

    model: str
    model_digest: str
    messages: tuple[Message, ...]
    parameters: GenerationParameters
    engine: str
    engine_version: str
    quantization: str
    device: str

    def canonical(self) -> dict[str, Any]:
        """Return the request as plain JSON values, versioned; every field counts."""
        return {
            "schema": REQUEST_SCHEMA,
            "model": self.model,
            "model_digest": self.model_digest,
            "messages": [{"role": m.role, "content": m.content} for m in self.messages],
            "parameters": {
                "max_new_tokens": self.parameters.max_new_tokens,
                "temperature": self.parameters.temperature,
                "seed": self.parameters.seed,
                "extra": dict(self.parameters.extra),
            },
            "engine": self.engine,
            "engine_version": self.engine_version,
            "quantization": self.quantization,
            "device": self.device,
        }

    @classmethod
    def from_canonical(cls, values: dict[str, Any]) -> InferenceRequest:
        """Rebuild a request from `canonical`; raises KeyError or TypeError on a foreign shape."""
        if values["schema"] != REQUEST_SCHEMA:
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
        )
