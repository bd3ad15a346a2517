"""A run of a cell, a prompt or a cascade, as the trail keeps it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from jupyter_llmops.records.trail import Gap

RunKind = Literal[
    "session", "environment", "cell", "prompt", "map", "cascade", "training", "reproduction", "cache",
    "rating", "forget", "scrub", "retention", "observation",
]  # fmt: skip
RunStatus = Literal["ok", "error", "interrupted"]

LEAF_SCHEMA = "llmops.leaf/2"
LEAF_SCHEMAS = frozenset({"llmops.leaf/1", LEAF_SCHEMA})
"""The versions that this package understands; a leaf of any other is shown as it is."""


@dataclass(frozen=True, slots=True)
class Run:
    """One leaf of the trail.

    Parameters
    ----------
    id : str
        Random, 16 hexadecimal digits.
    session : str
        The journal that holds it.
    seq : int
        Its line in that journal, from 0.
    kind : {"session", "environment", "cell", "prompt", "map", "cascade", "training", "reproduction", \
"cache", "rating", "forget", "scrub", "retention", "observation"}
        What ran; a journal's first leaf is the "session" itself, and "environment" is what it ran on.
        A "map" is the parent of its rows' prompts; "cache" is somebody's word on a stored answer (marked
        as wrong), "rating" on a run. "forget", "scrub" and "retention" say what was deleted and why;
        "observation" is what the server saw kernels run.
    status : {"ok", "error", "interrupted"}
        How it ended.
    started_at : datetime
        UTC.
    seconds : float
        How long it took.
    parent : str
        Id of the cell that a prompt ran in, else empty.
    leaf : dict
        The whole leaf.
    leaf_digest : str
        ``sha256:…`` of the journal line.
    read_only : bool
        Written by a newer version of this package: `leaf` is kept as it is, the other values
        are what could be read of it.
    """

    id: str
    session: str
    seq: int
    kind: RunKind
    status: RunStatus
    started_at: datetime
    seconds: float
    user: str
    host: str
    notebook: str = ""
    execution_count: int | None = None
    parent: str = ""
    model: str = ""
    source: str = ""
    tokens_in: int | None = None
    tokens_out: int | None = None
    error_type: str = ""
    leaf_digest: str = ""
    leaf: dict[str, Any] | None = None
    read_only: bool = False


@dataclass(frozen=True, slots=True)
class Problem:
    """One thing that does not verify; `run_id` and `seq` name the record where known."""

    session: str
    seq: int | None
    run_id: str
    message: str


@dataclass(frozen=True, slots=True)
class Verification:
    """What `%audit verify` found.

    Parameters
    ----------
    sessions, records : int
        How many journals and leaves were checked.
    problems : tuple of Problem
        Empty when everything verifies.
    notes : tuple of str
        What can't be said: content that was deleted, leaves that no second key has witnessed.
    not_covered : tuple of Gap
        Cells that ran and are in no log; no problem of the log, but nothing is proven of them.
    witnessed : int
        How many of the records are under a head that a second key has signed.
    witnesses : tuple of str
        Names of those keys.
    """

    sessions: int
    records: int
    problems: tuple[Problem, ...] = ()
    notes: tuple[str, ...] = ()
    not_covered: tuple[Gap, ...] = ()
    witnessed: int = 0
    witnesses: tuple[str, ...] = ()

    @property
    def ok(self) -> bool:
        """Whether nothing was found."""
        return not self.problems
