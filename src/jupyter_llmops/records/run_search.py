"""What runs are looked for, and how they are shown: filters, a run whole, two runs side by side."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from jupyter_llmops.records.run import Run

Rating = Literal["good", "bad"]
RATINGS: tuple[Rating, ...] = ("good", "bad")
ALL_KINDS = "all"
"""As a filter's kind: also what logs say of machines, of kernels and of other runs."""
NOT_RUN = ("session", "environment", "observation", "rating", "forget", "scrub", "retention")
"""Kinds of leaves that nobody ran: they stand in a log by themselves, or speak of other runs."""
STATUSES = ("ok", "error", "interrupted")


@dataclass(frozen=True, slots=True)
class RunFilter:
    """Which runs are meant; what is empty or None means all.

    Parameters
    ----------
    user, model, session, parent : str
        As they are in the record.
    kind : str
        As it is in the record; empty means all that people ran, "all" also `NOT_RUN`.
    notebook : str
        Its path, or the last part of it.
    status : str
        "ok", "error", "interrupted", or the name of an error's type.
    since, until : datetime or None
        When they began: from `since` on, before `until`.
    least_cost, most_cost : int or None
        Millionths of the currency; a run without a cost fits neither.
    rating : {"", "good", "bad"}
        What somebody said of them last.
    """

    user: str = ""
    notebook: str = ""
    model: str = ""
    kind: str = ""
    status: str = ""
    session: str = ""
    parent: str = ""
    since: datetime | None = None
    until: datetime | None = None
    least_cost: int | None = None
    most_cost: int | None = None
    rating: str = ""

    def fits(self, run: Run) -> bool:
        """Return whether a run fits in all but its rating, which no record of its own holds."""
        if self.kind != ALL_KINDS and (run.kind != self.kind if self.kind else run.kind in NOT_RUN):
            return False
        if any(
            getattr(run, name) != value
            for name in ("user", "model", "session", "parent")
            if (value := getattr(self, name))
        ):
            return False
        if self.notebook and run.notebook != self.notebook and not run.notebook.endswith(f"/{self.notebook}"):
            return False
        if self.status and self.status != (run.status if self.status in STATUSES else run.error_type):
            return False
        if self.since is not None and run.started_at < self.since:
            return False
        if self.until is not None and run.started_at >= self.until:
            return False
        if self.least_cost is None and self.most_cost is None:
            return True
        cost = (run.leaf or {}).get("cost_millionths")
        return type(cost) is int and (self.least_cost or 0) <= cost <= (
            cost if self.most_cost is None else self.most_cost
        )


@dataclass(frozen=True, slots=True)
class RunView:
    """A run with everything that is known of it.

    Parameters
    ----------
    run : Run
        The run.
    content : mapping of str to str, optional
        Its redacted texts by name; None where they were deleted, or are another user's.
    children : tuple of Run
        What ran within it, oldest first.
    environment : Run, optional
        The leaf that says what it ran on.
    opening : Run, optional
        The first leaf of its session, which says in which kernel and notebook.
    rating, why, rated_by : str
        What somebody said of it last; empty when nobody did.
    proof : str
        What heads and witnesses say of it, one sentence; empty where nothing is known.
    note : str
        Which run it is, where that is not what the reference says first; empty else.
    """

    run: Run
    content: Mapping[str, str] | None = None
    children: tuple[Run, ...] = ()
    environment: Run | None = None
    opening: Run | None = None
    rating: str = ""
    why: str = ""
    rated_by: str = ""
    proof: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Difference:
    """A field in which two runs differ; a side that has no such field is empty."""

    part: str
    name: str
    left: str
    right: str


@dataclass(frozen=True, slots=True)
class RunDiff:
    """Two runs field by field.

    Parameters
    ----------
    left, right : Run
        The runs.
    differences : tuple of Difference
        What differs, in the order of `PARTS`.
    texts : tuple of Difference
        Texts that differ, whole, for showing them side by side.
    reasons : tuple of str
        Why the second can differ from the first, a sentence each, the weightiest first.
    equal : tuple of str
        What came out the same of runs that are not the same, a sentence each.
    not_compared : tuple of str
        What could not be, and why.
    """

    left: Run
    right: Run
    differences: tuple[Difference, ...] = ()
    texts: tuple[Difference, ...] = ()
    reasons: tuple[str, ...] = field(default=())
    equal: tuple[str, ...] = ()
    not_compared: tuple[str, ...] = ()

    @property
    def same(self) -> bool:
        """Whether nothing that was compared differs."""
        return not self.differences and not self.texts


@dataclass(frozen=True, slots=True)
class RunExport:
    """What was exported, and where to; usable as a path where it is a file.

    Parameters
    ----------
    target : str
        A file, or the address of a collector.
    format : {"csv", "otel"}
        As what.
    runs, sessions : int
        How many.
    """

    target: str
    format: str
    runs: int
    sessions: int

    def __fspath__(self) -> str:
        return self.target
