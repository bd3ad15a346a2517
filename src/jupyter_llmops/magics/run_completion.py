"""Tab behind %runs, %reproduce and %audit: ids of runs, and what their filters can be."""

from __future__ import annotations

from collections.abc import Sequence
from typing import get_args

from jupyter_llmops.records.run import RunKind
from jupyter_llmops.records.run_search import ALL_KINDS, RATINGS
from jupyter_llmops.workspace import Workspace

_STATUSES = ("ok", "error", "interrupted")
_SPANS = ("30min", "2h", "1d", "7d", "30d", "today", "yesterday")
_FIXED: dict[str, Sequence[str]] = {
    "--kind": (*get_args(RunKind), ALL_KINDS),
    "--since": _SPANS,
    "--until": _SPANS,
    "--rating": RATINGS,
    "--cost": ("0.01..", "..0.01", "0.01..0.1"),
    "-n": ("20", "50", "100"),
    "--limit": ("20", "50", "100"),
}
# Columns of the runs whose values are offered.
_COLUMNS = {"--user": "user", "--notebook": "notebook", "--model": "model"}
_TAKE_RUNS = {
    "runs": {"show": 1, "diff": 2, "rate": 1},
    "audit": {"prove": 1, "forget": 1},
}
_OFFERED = 50


def run_words(workspace: Workspace, magic: str, words: Sequence[str], previous: str) -> Sequence[str]:
    """Return what may stand behind an option or a sub-command that means runs; empty for all else.

    Parameters
    ----------
    magic : str
        "runs", "reproduce" or "audit".
    words : sequence of str
        Of the line.
    previous : str
        The word before the one that is completed.
    """
    if magic not in ("runs", "reproduce", "audit"):
        return ()
    if previous in _FIXED:
        return _FIXED[previous]
    if previous == "--status":
        return [*_STATUSES, *_values(workspace, "error_type")]
    if previous in _COLUMNS:
        return _values(workspace, _COLUMNS[previous])
    if magic == "reproduce" and previous == "%reproduce":
        return _runs(workspace)
    command = words[1] if len(words) > 1 else ""
    most = _TAKE_RUNS.get(magic, {}).get(command, 0)
    if previous == command:
        return _runs(workspace) if most else ()
    before = words.index(previous) - 1 if previous in words else 0
    if command == "rate" and before == 1:
        return RATINGS
    return _runs(workspace) if 0 < before < most else ()


def _runs(workspace: Workspace) -> list[str]:
    """Return the ids of the newest runs of the catalog, and those of this session that are not there yet."""
    try:
        own = [run.id for run in workspace._own_runs() if run.kind != "session"][-_OFFERED:]
        return [*own, *workspace.catalog.run_search.recent_ids(_OFFERED)]
    except Exception:  # noqa: BLE001 - Tab must never fail
        return []


def _values(workspace: Workspace, column: str) -> list[str]:
    try:
        return workspace.catalog.run_search.values(column, 1_000)
    except Exception:  # noqa: BLE001 - Tab must never fail
        return []
