"""From a run in the trail to everything that is needed to infer it again."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from jupyter_llmops.errors import ReproduceError
from jupyter_llmops.records.request import REQUEST_SCHEMA, InferenceRequest
from jupyter_llmops.records.run import Run


@dataclass(frozen=True, slots=True)
class RecordedPrompt:
    """A prompt run as its record tells it: the request, the answer, and where model and adapter lay."""

    run: Run
    request: InferenceRequest
    text: str
    token_ids: tuple[int, ...]
    model_source: str
    finish_reason: str
    adapter_source: str = ""


def recorded_prompt(run: Run, content: Mapping[str, Any] | None) -> RecordedPrompt:
    """Return what a run's leaf and content say of its prompt.

    Parameters
    ----------
    run : Run
        A run of kind "prompt".
    content : mapping or None
        The run's content, None when it was deleted or lies with another user.

    Raises
    ------
    ReproduceError
        The run is no prompt, or its record does not hold enough; the message says what is missing.
    """
    if run.kind != "prompt":
        raise ReproduceError(
            f"Run {run.id} is a {run.kind}, and only a prompt can be inferred again.",
            "Type %runs to see the prompts.",
        )
    if content is None:
        raise ReproduceError(
            f"The content of run {run.id} is not on this machine: it was deleted or belongs to another user.",
            "Its leaf still verifies; run the prompt again to have a record that can be reproduced.",
        )
    leaf = run.leaf or {}
    if leaf.get("redacted"):
        raise ReproduceError(
            f"The record of run {run.id} was redacted ({', '.join(leaf['redacted'])}), so the request is not whole.",
            "Take the secret out of the prompt and run it again.",
        )
    if leaf.get("engine") == "endpoint":
        raise ReproduceError(
            f"Run {run.id} was answered by an endpoint, whose model is not here to infer it again.",
            "Ask it once more with %%prompt --no-cache and compare the texts.",
        )
    if "response" not in content or run.status == "error":
        raise ReproduceError(
            f"Run {run.id} ended without an answer ({run.error_type or run.status}), so there is nothing to compare.",
            "Type %runs to see the runs with an answer.",
        )
    if run.status == "interrupted" and not content["response"] and content.get("token_ids") == "[]":
        raise ReproduceError(
            f"Run {run.id} was stopped before its first token, so there is nothing to compare.",
            "Type %runs to see the runs with an answer.",
        )
    try:
        return RecordedPrompt(
            run=run,
            request=_request(leaf, content),
            text=content["response"],
            token_ids=tuple(json.loads(content["token_ids"])),
            model_source=str(leaf.get("model_source", "")),
            finish_reason=str(leaf.get("finish_reason", "stop")),
            adapter_source=str(leaf.get("adapter_source", "")),
        )
    except (KeyError, TypeError, ValueError) as error:
        raise ReproduceError(
            f"The record of run {run.id} has a form that this version can't read ({error!r}).",
            "Update jupyter-llmops, or run the prompt again.",
        ) from None


def _request(leaf: Mapping[str, Any], content: Mapping[str, Any]) -> InferenceRequest:
    keys = sorted(key for key in content if key.startswith("message."))
    messages = [{"role": key.rpartition(".")[2], "content": content[key]} for key in keys]
    names = ("model", "model_digest", "parameters", "engine", "engine_version", "quantization", "device")
    values = {name: leaf[name] for name in names}
    # Said only where they mattered, and not at all by older versions.
    values |= {
        name: leaf[name] for name in ("adapter", "adapter_digest", "exact", "engine_options") if name in leaf
    }
    values["output_schema"] = content.get("output_schema", "")
    return InferenceRequest.from_canonical({"schema": REQUEST_SCHEMA, "messages": messages, **values})
