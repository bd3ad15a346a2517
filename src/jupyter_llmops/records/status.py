"""The state of a workspace, and what a check of it found."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

CheckStatus = Literal["ok", "warn", "fail"]


@dataclass(frozen=True, slots=True)
class Check:
    """One part that was checked: what was found and, unless it is well, how to mend it."""

    part: str
    status: CheckStatus
    message: str
    fix: str = ""


@dataclass(frozen=True, slots=True)
class Checkup:
    """What `%llmops doctor` found."""

    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """Whether no part failed."""
        return all(check.status != "fail" for check in self.checks)


@dataclass(frozen=True, slots=True)
class WorkspaceStatus:
    """What `%llmops` shows.

    Parameters
    ----------
    catalog : str
        Where the shared catalog lies: a folder, or the URI of a bucket.
    model, quantization : str
        Of a prompt that names none.
    session : str
        The audit session, empty when nothing is stamped.
    runs : int
        How many runs this session has stamped.
    server : str
        Address of the Jupyter server that is told of changes, empty without one.
    autoload : str
        Which IPython profiles load the extension by themselves, and since when; empty for none.
    observed : bool
        Whether the Jupyter server notes which cells this kernel runs.
    """

    version: str
    catalog: str
    model: str
    quantization: str
    session: str
    runs: int
    site: str
    user: str
    server: str
    loaded_models: tuple[str, ...]
    cache_hits: int
    cache_misses: int
    seconds_saved: float
    autoload: str = ""
    observed: bool = False
