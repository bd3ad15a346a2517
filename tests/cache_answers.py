"""Requests, answers and a counting engine for the cache's tests."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

from hypothesis import settings

from jupyter_llmops.cache.item_folder import SUFFIX
from jupyter_llmops.cache.request_key import request_key
from jupyter_llmops.keys.team import team_key
from jupyter_llmops.records.completion import Generation
from jupyter_llmops.records.request import GenerationParameters, InferenceRequest, Message

# A busy machine is no failure.
settings.register_profile("patient", deadline=None)
settings.load_profile("patient")

REQUEST = InferenceRequest(
    model="smollm2-135m-instruct",
    model_digest="sha256:" + "ab" * 32,
    messages=(Message("system", "Be brief."), Message("user", "What is the capital of Perú?")),
    parameters=GenerationParameters(64, 0.0, None, (("repetition_penalty", 1.1), ("top_k", 50))),
    engine="transformers",
    engine_version="transformers 5.23.0, torch 2.13.0+cpu",
    quantization="nf4",
    device="cpu",
)
GENERATION = Generation("Lima. ¡Sí!", (17, 4, 2), 21, 2.5, "stop")


def asking(text: str, **parameters: Any) -> InferenceRequest:
    """Return a request with this user message and these generation parameters."""
    return replace(
        REQUEST,
        messages=(Message("user", text),),
        parameters=replace(REQUEST.parameters, **parameters),
    )


def item_path(folder: Path, request: InferenceRequest = REQUEST) -> Path:
    """Return where this user's cache keeps the answer to a request."""
    key = request_key(request)
    return folder / f"v2-{team_key(str(folder)).id[:8]}" / key[:2] / f"{key}{SUFFIX}"


class Engine:
    """Answers with one generation and counts how often it was asked."""

    def __init__(self, generation: Generation = GENERATION) -> None:
        self.generation = generation
        self.asked = 0

    def __call__(self) -> Generation:
        self.asked += 1
        return self.generation
