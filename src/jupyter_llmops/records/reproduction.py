"""What came of inferring a run again."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Difference:
    """The first place where two answers part.

    Parameters
    ----------
    character, token : int
        Offset in the text, and in the tokens, from 0.
    recorded, inferred : str
        Some text of either answer from there on.
    before : str
        The common text just before it.
    """

    character: int
    token: int
    recorded: str
    inferred: str
    before: str


@dataclass(frozen=True, slots=True)
class Reproduction:
    """A run that was inferred again, in another process, from its record alone.

    Parameters
    ----------
    run_id : str
        The run that was repeated.
    identical : bool
        Whether every token is the same.
    difference : Difference or None
        Where the answers part.
    reasons : tuple of str
        What differs between then and now, in plain words; empty when nothing is known.
    record_was_hit : bool
        Whether the recorded answer came from the cache; it was inferred again all the same.
    tokens : int
        Number of tokens compared.
    seconds : float
        What inferring took, without loading.
    pid : int
        Process that inferred it.
    reproduction_id : str
        Id of this reproduction in the trail.
    """

    run_id: str
    identical: bool
    tokens: int
    seconds: float
    pid: int
    model: str
    difference: Difference | None = None
    reasons: tuple[str, ...] = ()
    record_was_hit: bool = False
    reproduction_id: str = ""
