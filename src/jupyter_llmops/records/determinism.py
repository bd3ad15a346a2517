"""How repeatable an engine's answers were found to be; measured, never assumed."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Literal

# From strong to weak. "" is: nobody measured it on this machine.
Grade = Literal["bitwise", "same tokens", "none", ""]


@dataclass(frozen=True, slots=True)
class Variation:
    """One way in which the same request was asked, against asking it alone.

    Parameters
    ----------
    name : str
        What was varied: "batch 4", "padding", "1 thread", "no KV cache", "restart".
    same_tokens, asked : int
        How many of the answers had the same tokens, of how many.
    same_logits : bool
        Whether every logit was bitwise the same.
    """

    name: str
    same_tokens: int
    asked: int
    same_logits: bool


@dataclass(frozen=True, slots=True)
class Determinism:
    """The measured grade of one engine, quantization and machine.

    Parameters
    ----------
    grade : {"bitwise", "same tokens", "none"}
        "bitwise": the same logits in every variation; "same tokens": the same answers.
    engine, engine_version, model_digest, adapter_digest, quantization, device : str
        What was measured, as in a request.
    exact : bool
        Whether it was the exact mode.
    machine : str
        Processor or GPU with what of it decides (flags, driver).
    variations : tuple of Variation
        What was tried.
    measured_at : datetime or None
        UTC.
    """

    grade: Grade
    engine: str
    engine_version: str
    model_digest: str
    quantization: str
    device: str
    machine: str
    adapter_digest: str = ""
    exact: bool = False
    variations: tuple[Variation, ...] = ()
    measured_at: datetime | None = None
