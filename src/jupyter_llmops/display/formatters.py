"""Registers every view on a shell, so that records show themselves.

Types are registered by name: neither records nor views are imported before one is shown.
"""

from __future__ import annotations

from collections.abc import Callable
from importlib import import_module
from typing import Any

# Record → the file of its views and how they begin: `completion.completion_text`, `…_html`.
VIEWS: dict[tuple[str, str], tuple[str, str]] = {
    ("cache", "CacheStats"): ("cache", "cache"),
    ("budget", "BudgetStatus"): ("budget", "budget"),
    ("cascade", "Cascade"): ("cascade", "cascade"),
    ("cascade", "CascadeAnswer"): ("cascade", "cascade_answer"),
    ("cascade", "CascadeReport"): ("cascade", "cascade_report"),
    ("collection", "AddReport"): ("collection", "added"),
    ("collection", "Collection"): ("collection", "collection"),
    ("collection", "SearchResult"): ("collection", "search"),
    ("completion", "Completion"): ("completion", "completion"),
    ("determinism", "Determinism"): ("determinism", "determinism"),
    ("gpu", "DeviceInventory"): ("device", "device"),
    ("listing", "Listing"): ("registry", "listing"),
    ("deletion", "Forgotten"): ("deletion", "forgotten"),
    ("deletion", "Retained"): ("deletion", "retained"),
    ("map", "MapResult"): ("map", "map"),
    ("model", "Model"): ("model", "model"),
    ("prompt", "Prompt"): ("prompt", "prompt"),
    ("prompt", "PromptDiff"): ("prompt_diff", "prompt_diff"),
    ("prompt", "PromptFiles"): ("prompt", "prompt_files"),
    ("prompt", "PromptHistory"): ("prompt", "prompt_history"),
    ("prompting", "DryRun"): ("completion", "dry_run"),
    ("reproduction", "Reproduction"): ("status", "reproduction"),
    ("run", "Run"): ("registry", "run"),
    ("run", "Verification"): ("verification", "verification"),
    ("run_search", "RunDiff"): ("run_diff", "run_diff"),
    ("run_search", "RunExport"): ("run", "run_export"),
    ("run_search", "RunView"): ("run", "run_view"),
    ("scan", "ModelScan"): ("model", "model_scan"),
    ("snapshot", "Snapshot"): ("snapshot", "snapshot"),
    ("status", "Checkup"): ("status", "checkup"),
    ("status", "WorkspaceStatus"): ("status", "workspace"),
    ("trail", "Proof"): ("proof", "proof"),
    ("training", "Training"): ("training", "training"),
}


def register_formatters(shell: Any) -> None:
    """Register a text and an HTML view of every record on a shell.

    Parameters
    ----------
    shell : InteractiveShell
        Whose display formatter learns them.
    """
    formatters = shell.display_formatter.formatters
    for (module, record), (views, prefix) in VIEWS.items():
        place = f"jupyter_llmops.records.{module}"
        formatters["text/plain"].for_type_by_name(place, record, _printer(views, prefix))
        formatters["text/html"].for_type_by_name(place, record, _writer(views, prefix))


def view(views: str, name: str) -> Callable[[Any], str]:
    """Return a view by the file that it is in and its name."""
    found: Callable[[Any], str] = getattr(import_module(f"jupyter_llmops.display.{views}"), name)
    return found


def _printer(views: str, prefix: str) -> Callable[[Any, Any, bool], None]:
    def show(record: Any, printer: Any, cycle: bool) -> None:
        printer.text(repr(type(record)) if cycle else view(views, f"{prefix}_text")(record))

    return show


def _writer(views: str, prefix: str) -> Callable[[Any], str]:
    def write(record: Any) -> str:
        return view(views, f"{prefix}_html")(record)

    return write
