"""A model's answer."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal

from jupyter_llmops.records.collection import Passage
from jupyter_llmops.records.cost import UNKNOWN_COST, Cost
from jupyter_llmops.records.determinism import Grade

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
        Time the engine took, without loading the model; of a batch its share, so that shares add up.
    finish_reason : {"stop", "length", "interrupted"}
        Why it ended.
    tokens_out : int
        Number of answer tokens; counted from `token_ids` where an engine gives those.
    cost : Cost
        What computing it cost; unknown until the pipeline prices it.
    batch_size : int
        How many answers were computed together with it, itself included.
    served_by : str
        Where it was computed: a host, or an endpoint's address without credentials; empty for this process.
    determinism : {"bitwise", "same tokens", "none", ""}
        The measured grade of what computed it; the pipeline adds it.
    served_version : str
        What an endpoint said that it is: the model and the fingerprint of its system.
    """

    text: str
    token_ids: tuple[int, ...]
    tokens_in: int
    seconds: float
    finish_reason: FinishReason
    tokens_out: int = 0
    cost: Cost = UNKNOWN_COST
    batch_size: int = 1
    served_by: str = ""
    determinism: Grade = ""
    served_version: str = ""

    def __post_init__(self) -> None:
        if self.token_ids and not self.tokens_out:
            object.__setattr__(self, "tokens_out", len(self.token_ids))


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
    engine : str
        The program that computed it.
    cost : Cost
        What this call cost; 0 for a hit.
    saved : Cost
        What computing it cost whoever computed it; for a hit, so much was saved.
    determinism : {"bitwise", "same tokens", "none", ""}
        The measured grade of what computed it; empty where nobody measured it.
    provenance : str
        For a hit: who computed it, when and on what, one sentence.
    data : object
        With an output schema: the answer as plain Python values.
    served_by : str
        Where it was computed, if not in this process.
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
    engine: str = ""
    cost: Cost = UNKNOWN_COST
    saved: Cost = UNKNOWN_COST
    determinism: Grade = ""
    provenance: str = ""
    data: Any = None
    served_by: str = ""

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
