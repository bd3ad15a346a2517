"""From what a user types to a run: ``In[7]``, ``-1``, the beginning of an id, a Completion."""

from __future__ import annotations

import re
from collections.abc import Sequence

from jupyter_llmops.errors import AmbiguousNameError, UnknownNameError, UsageError
from jupyter_llmops.records.completion import Completion
from jupyter_llmops.records.run import Run
from jupyter_llmops.records.run_search import NOT_RUN

_CELL = re.compile(r"In\s*\[\s*(\d+)\s*\]$|In(\d+)$")
_COUNT_BACK = re.compile(r"-\d+$")
_ID = re.compile(r"[0-9a-f]{1,64}$", re.IGNORECASE)
_WHOLE, _SHORTEST = 16, 3
VALID = "A run is In[7], -1, the beginning of an id from %runs, or a Completion."


def resolve_reference(reference: object, runs: Sequence[Run], *, kind: str | None = None) -> Run | None:
    """Return the run of this session that a reference means; None for an id of another session.

    Parameters
    ----------
    reference : str, int or Completion
        Empty means -1.
    runs : sequence of Run
        This session's runs, oldest first.
    kind : str, optional
        Only runs of this kind count for ``-1`` and ``In[7]``.

    Raises
    ------
    UsageError
        The reference has no form that is known.
    UnknownNameError
        This session has no such cell or not as many runs.
    AmbiguousNameError
        More than one run begins with these digits.
    """
    if isinstance(reference, Run):
        return reference
    if isinstance(reference, Completion):
        reference = reference.run_id
    if reference is None or isinstance(reference, bool | float | bytes):
        raise UsageError(f"{reference!r} is not the name of a run.", VALID)
    text = str(reference).strip() or "-1"
    counted = [run for run in runs if (run.kind == kind if kind else run.kind not in NOT_RUN)]
    if _COUNT_BACK.match(text):
        return _count_back(text, counted, kind or "run")
    if cell := _CELL.match(text):
        return _in_cell(int(cell[1] or cell[2]), runs, counted, kind)
    if not _ID.match(text):
        raise UsageError(f"{text[:60]!r} is not the name of a run.", f"{VALID} {_range(runs)}".strip())
    if len(text) < _SHORTEST:
        raise UsageError(
            f"{text!r} begins the ids of too many runs.", f"Type at least {_SHORTEST} digits of it."
        )
    found = [run for run in runs if run.id.startswith(text.lower())]
    if len(found) > 1:
        raise AmbiguousNameError(
            f"{len(found)} runs begin with {text!r}.",
            f"Type more of it: {', '.join(run.id for run in found[:5])}.",
        )
    return found[0] if found else None


def cell_number(reference: object) -> int | None:
    """Return the number of the cell that ``In[7]`` names, None for any other reference."""
    cell = _CELL.match(str(reference).strip())
    return int(cell[1] or cell[2]) if cell else None


def is_prefix(reference: object) -> bool:
    """Return whether a reference is the beginning of an id, which may begin another session's, too."""
    return (
        isinstance(reference, str) and bool(_ID.match(reference.strip())) and len(reference.strip()) < _WHOLE
    )


def is_counted(reference: object) -> bool:
    """Return whether a reference counts cells or runs (``In[7]``, ``-1``, empty) and names none by its id."""
    text = str(reference).strip()
    return not text or bool(_COUNT_BACK.match(text) or _CELL.match(text))


def _count_back(text: str, counted: Sequence[Run], noun: str) -> Run:
    if -int(text) > len(counted) or text == "-0":
        raise UnknownNameError(
            noun, text, hint=f"This session has {len(counted)} so far; %runs lists those of every session."
        )
    return counted[int(text)]


def _range(runs: Sequence[Run]) -> str:
    counts = [run.execution_count for run in runs if run.kind == "cell" and run.execution_count]
    if not counts:
        return ""
    first, last = f"In[{min(counts)}]", f"In[{max(counts)}]"
    return f"This session has {first}." if first == last else f"This session has {first} to {last}."


def _in_cell(number: int, runs: Sequence[Run], counted: Sequence[Run], kind: str | None) -> Run:
    cells = [run for run in runs if run.kind == "cell" and run.execution_count == number]
    if not cells:
        listed = "%runs lists those of every session."
        raise UnknownNameError("cell", f"In[{number}]", hint=f"{_range(runs)} {listed}".strip())
    if kind is None:
        return cells[-1]
    ids = {run.id for run in cells}
    ids |= {run.id for run in runs if run.kind == "map" and run.parent in ids}  # its rows are the cell's too
    within = [run for run in counted if run.parent in ids]
    if not within:
        raise UnknownNameError(
            kind, f"In[{number}]", hint=f"That cell ran no {kind}; %runs lists what was stamped."
        )
    return within[-1]
