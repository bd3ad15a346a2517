"""What a user types for ``--backend``."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

from jupyter_llmops.errors import UsageError, nearest

BACKENDS: Final = ("kernel", "loky", "dask", "ray")
_FORMS: Final = "Valid are kernel, loky, loky:4, dask, dask:tcp://host:8786, ray and ray:host:6379."


@dataclass(frozen=True, slots=True)
class BackendSpecification:
    """A backend by kind and place.

    Parameters
    ----------
    kind : {"kernel", "loky", "dask", "ray"}
        What computes.
    address : str
        Of the cluster's scheduler; empty for one on this machine.
    workers : int or None
        How many processes; None where nobody chose.
    """

    kind: str
    address: str = ""
    workers: int | None = None


def is_backend(text: str) -> bool:
    """Return whether a text looks like one of this room's backends, valid or not."""
    return text.strip().partition(":")[0].lower() in BACKENDS


def parse_backend(text: str, workers: int | None = None) -> BackendSpecification:
    """Return what a text such as ``loky:4`` or ``dask:tcp://host:8786`` means.

    Parameters
    ----------
    text : str
        As the user typed it.
    workers : int, optional
        How many processes a backend on this machine starts, where the text does not say.

    Raises
    ------
    UsageError
        There is no such backend; the hint lists the valid forms.
    """
    kind, colon, rest = text.strip().partition(":")
    kind, rest = kind.strip().lower(), rest.strip()
    if kind not in BACKENDS:
        near = nearest(kind, BACKENDS)
        meant = f"Did you mean {near[0]}? " if near else ""
        raise UsageError(f"There is no backend named {text!r}.", meant + _FORMS)
    if colon and not rest:
        raise UsageError(f"After the colon of {text!r} something is missing.", _FORMS)
    if workers is not None and workers < 1:
        raise UsageError(f"A backend needs at least one worker, not {workers}.", _FORMS)
    if kind == "kernel":
        if rest:
            raise UsageError(f"The kernel is one process, so {text!r} says too much.", _FORMS)
        return BackendSpecification(kind)
    if kind == "loky":
        return BackendSpecification(kind, workers=_count(text, rest) if rest else workers)
    if rest.isdecimal():
        # "dask:4" reads like "loky:4": so many workers on this machine.
        return BackendSpecification(kind, workers=_count(text, rest))
    return BackendSpecification(kind, rest, workers)


def _count(text: str, number: str) -> int:
    if not number.isdecimal() or not 1 <= int(number) <= 1024:
        raise UsageError(f"The number of workers in {text!r} is not a number from 1 to 1024.", _FORMS)
    return int(number)
