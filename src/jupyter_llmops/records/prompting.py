"""What a prompt would do, without doing it."""

from __future__ import annotations

from dataclasses import dataclass

from jupyter_llmops.records.collection import Passage
from jupyter_llmops.records.request import InferenceRequest


@dataclass(frozen=True, slots=True)
class DryRun:
    """A rendered prompt that was not sent.

    Parameters
    ----------
    request : InferenceRequest
        The whole request; its messages are what the model would read.
    variables : tuple of str
        Names that the template read.
    tokens_in : int
        Prompt tokens, with the chat template.
    would_hit : bool
        Whether the cache holds the answer.
    secrets : tuple of str
        Kinds of secrets that the messages seem to hold.
    passages : tuple of Passage
        What the model would be shown of collections.
    note : str
        What it would not be shown, one sentence; empty when nothing was left out.
    reason : str
        Why this engine and this precision of the weights, one sentence.
    """

    request: InferenceRequest
    variables: tuple[str, ...]
    tokens_in: int
    would_hit: bool
    secrets: tuple[str, ...] = ()
    passages: tuple[Passage, ...] = ()
    note: str = ""
    reason: str = ""
