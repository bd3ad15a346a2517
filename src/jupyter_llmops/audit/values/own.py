"""Records of this package."""

from __future__ import annotations

from typing import Any

from jupyter_llmops.audit.values.writer import ValueWriter, learn


def learn_types() -> None:
    """Say how a completion and a prompt are written."""
    from jupyter_llmops.records.completion import Completion
    from jupyter_llmops.records.prompt import Prompt

    learn({Completion: _completion, Prompt: _prompt})


def _completion(writer: ValueWriter, value: Any) -> None:
    # What was answered; how long it took and where it came from is no part of it.
    writer.head("Completion")
    for said in (value.text, value.model, value.quantization, value.engine, value.finish_reason):
        writer.text(str(said))
    writer.value(value.data)


def _prompt(writer: ValueWriter, value: Any) -> None:
    writer.head("Prompt")
    for said in (value.name, str(value.version), value.digest):
        writer.text(said)
