"""Workers whose engine answers without a model, so that a campaign can kill many of them.

Its real counterpart is the tiny model in tests/unit/test_inference_backends_dask.py. Given to a worker by
``dask worker --preload`` or as a loky pool's initializer.
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Sequence
from pathlib import Path

from jupyter_llmops.errors import ContextError, LLMOpsError, ModelNotAvailableError
from jupyter_llmops.inference.backends import worker
from jupyter_llmops.inference.backends.ray_cluster import _Actor
from jupyter_llmops.inference.engine import EngineIdentity, OnDone
from jupyter_llmops.records.completion import Generation
from jupyter_llmops.records.model import Model
from jupyter_llmops.records.request import GenerationParameters, InferenceRequest, Message

MODEL = Model("echo", "llm", "package:nowhere", digest="sha256:" + "0" * 64)
SECONDS = 0.02


def asking(text: str, max_new_tokens: int = 8) -> InferenceRequest:
    """Return a request that the echo engine answers with its text in capitals."""
    return InferenceRequest(
        model=MODEL.name,
        model_digest=MODEL.digest,
        messages=(Message("user", text),),
        parameters=GenerationParameters(max_new_tokens=max_new_tokens),
        engine="echo",
        engine_version="echo 1",
        quantization="fp32",
        device="cpu",
    )


class EchoEngine:
    """Answers in capitals after 20 ms; some words make it fail, die or hang."""

    name = "echo"

    def identify(self, model: Model, quantization: str, *, exact: bool = False) -> EngineIdentity:
        return EngineIdentity("echo", "echo 1", quantization, "cpu", "it is there")

    def load(self, model: Model, quantization: str, progress: object = None, *, exact: bool = False) -> None:
        if model.source == "folder:/not/there" or os.environ.get("ECHO_WITHOUT_MODEL"):
            raise ModelNotAvailableError("The folder of the model is not on this machine.", "Copy it there.")

    def generate_many(self, requests: Sequence[InferenceRequest], model: Model, on_done: OnDone) -> None:
        for position, request in enumerate(requests):
            on_done(position, answer(request.messages[-1].content))


def answer(text: str) -> Generation | LLMOpsError:
    """Return what the echo engine says to a text."""
    if text == "die":
        os.kill(os.getpid(), signal.SIGKILL)
    if text == "too long":
        return ContextError("The prompt has 9 tokens, more than the model's context of 8.", "Shorten it.")
    if text.startswith("note "):  # who computes it, and then a long time
        Path(text.removeprefix("note ")).write_text(str(os.getpid()))
        time.sleep(60)
    if text.startswith("touch "):  # that it was computed, and half a second
        Path(text.removeprefix("touch ")).touch()
        time.sleep(0.5)
    time.sleep(SECONDS)
    return Generation(text.upper(), (1, 2), 3, SECONDS, "stop")


class EchoEngines:
    """Stands where a worker makes its engines."""

    def __init__(self, folder: Path, offline: bool = False) -> None:
        self.folder = folder

    def engine_of(self, request: InferenceRequest) -> EchoEngine:
        return EchoEngine()

    def generate_many(self, requests: Sequence[InferenceRequest], model: Model, on_done: OnDone) -> None:
        EchoEngine().generate_many(requests, model, on_done)


def install(*_: object) -> None:
    """Make this process's worker answer with the echo engine."""
    worker.ignore_interrupts()
    worker.Engines = EchoEngines  # type: ignore[misc, assignment]


def dask_setup(_: object) -> None:
    """Called by Dask in each worker."""
    install()


class EchoActor(_Actor):
    """Ray's worker with the echo engine."""

    def __init__(self, name: str, threads: int) -> None:
        super().__init__(name, threads)
        install()
