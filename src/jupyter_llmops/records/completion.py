"""A model's answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from jupyter_llmops.records.collection import Passage

FinishReason = Literal["stop", "length", "interrupted"]
Source = Literal["model", "cache"]


@dataclass(frozen=True, slots=True)
class Generation:
    """What an engine computed for one request.

    Parameters
    ----------
    text : str
        The answer without special tokens.
    token_ids : tuple of int
        The answer's tokens, as the engine produced them.
    tokens_in : int
        Number of prompt tokens.
    seconds : float
        Time the engine took, without loading the model.
    finish_reason : {"stop", "length", "interrupted"}
        Why it ended.
    """

    text: str
    token_ids: tuple[int, ...]
    tokens_in: int
    seconds: float
    finish_reason: FinishReason


@dataclass(frozen=True, slots=True)
class Completion:
    """An answer, where it came from, and the run that recorded it.

    Parameters
    ----------
    text : str
        The answer.
    tokens_in, tokens_out : int
        Number of prompt and answer tokens.
    seconds : float
        What this call took; for a hit, the time of the look-up.
    source : {"model", "cache"}
        Whether the model computed it now or the cache had it.
    model : str
        The model's name.
    run_id : str
        Id of the run in the trail; empty when it could not be stamped.
    finish_reason : {"stop", "length", "interrupted"}
        Why the answer ended.
    computed_seconds : float
        What computing the answer took when it was computed.
    quantization : str
        Precision of the weights.
    passages : tuple of Passage
        What the model was shown of collections, in the order of their numbers.
    note : str
        What it was not shown, one sentence; empty when nothing was left out.
    """

    text: str
    tokens_in: int
    tokens_out: int
    seconds: float
    source: Source
    model: str
    run_id: str
    finish_reason: FinishReason = "stop"
    computed_seconds: float = 0.0
    quantization: str = ""
    passages: tuple[Passage, ...] = ()
    note: str = ""

    @property
    def tokens_per_second(self) -> float | None:
        """Answer tokens per second of computing; None when nothing was generated."""
        if not self.tokens_out or self.computed_seconds <= 0:
            return None
        return self.tokens_out / self.computed_seconds

    @property
    def seconds_saved(self) -> float:
        """Seconds that the cache saved; 0 for an answer of the model."""
        return max(0.0, self.computed_seconds - self.seconds) if self.source == "cache" else 0.0

    def __str__(self) -> str:
        return self.text
