"""A training: what went in, how, and what came out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any

from jupyter_llmops.records.run import RunStatus

if TYPE_CHECKING:
    from pandas import DataFrame


@dataclass(frozen=True, slots=True)
class Training:
    """One training, or one process's part of a distributed one, as the trail keeps it.

    Parameters
    ----------
    run_id : str
        Its leaf; empty while the audit trail is off.
    group : str
        The run id of rank 0's leaf, which the leaves of all ranks name; empty where one process trained.
    name : str
        What its user calls it.
    status : {"ok", "error", "interrupted"}
        How it ended.
    started_at : datetime
        UTC.
    seconds : float
        What it took.
    data : mapping of name to str
        ``sha256:…``, salted with the leaf's own salt, or ``skipped: REASON``, of each set of data as it was at
        the start.
    weights : mapping of name to str
        ``sha256:…`` of each result, not salted, so that the same weights are known again anywhere; of a file it
        is the file's SHA-256.
    hyperparameters : mapping
        Redacted.
    seed : int or None
        What the generators were seeded with.
    random_states : mapping of name to str
        Digests of the generators' states at the start.
    losses : tuple of (step, value)
        As they were told, thinned to 1,000 at most.
    rank, world_size : int
        Which process of how many.
    backend : str
        torch.distributed's, e.g. "gloo" or "nccl"; empty without it.
    notes : tuple of str
        What could not be said, in one sentence each.
    """

    run_id: str
    name: str
    status: RunStatus
    started_at: datetime
    seconds: float
    data: Mapping[str, str]
    weights: Mapping[str, str]
    hyperparameters: Mapping[str, Any]
    seed: int | None = None
    random_states: Mapping[str, str] | None = None
    losses: tuple[tuple[int, float], ...] = ()
    rank: int = 0
    world_size: int = 1
    backend: str = ""
    group: str = ""
    notes: tuple[str, ...] = ()

    @property
    def df(self) -> DataFrame:
        """The losses as a pandas data frame, with the columns step and loss."""
        import pandas as pd

        return pd.DataFrame(list(self.losses), columns=["step", "loss"])
