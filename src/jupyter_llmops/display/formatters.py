"""Registers every view on a shell, so that records show themselves."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from jupyter_llmops.display import cache as cache_views
from jupyter_llmops.display import cascade as cascade_views
from jupyter_llmops.display import completion as completion_views
from jupyter_llmops.display import device as device_views
from jupyter_llmops.display import registry as registry_views
from jupyter_llmops.display import status as status_views
from jupyter_llmops.display import verification as verification_views
from jupyter_llmops.records.cache import CacheStats
from jupyter_llmops.records.cascade import Cascade, CascadeAnswer, CascadeReport
from jupyter_llmops.records.completion import Completion
from jupyter_llmops.records.gpu import DeviceInventory
from jupyter_llmops.records.listing import Listing
from jupyter_llmops.records.model import Model
from jupyter_llmops.records.prompt import Prompt
from jupyter_llmops.records.prompting import DryRun
from jupyter_llmops.records.reproduction import Reproduction
from jupyter_llmops.records.run import Run, Verification
from jupyter_llmops.records.status import Checkup, WorkspaceStatus

View = Callable[[Any], str]

VIEWS: dict[type, tuple[View, View]] = {
    CacheStats: (cache_views.cache_text, cache_views.cache_html),
    Cascade: (cascade_views.cascade_text, cascade_views.cascade_html),
    CascadeAnswer: (cascade_views.cascade_answer_text, cascade_views.cascade_answer_html),
    CascadeReport: (cascade_views.cascade_report_text, cascade_views.cascade_report_html),
    Checkup: (status_views.checkup_text, status_views.checkup_html),
    Completion: (completion_views.completion_text, completion_views.completion_html),
    DeviceInventory: (device_views.device_text, device_views.device_html),
    DryRun: (completion_views.dry_run_text, completion_views.dry_run_html),
    Listing: (registry_views.listing_text, registry_views.listing_html),
    Model: (registry_views.model_text, registry_views.model_html),
    Prompt: (registry_views.prompt_text, registry_views.prompt_html),
    Reproduction: (status_views.reproduction_text, status_views.reproduction_html),
    Run: (registry_views.run_text, registry_views.run_html),
    Verification: (verification_views.verification_text, verification_views.verification_html),
    WorkspaceStatus: (status_views.workspace_text, status_views.workspace_html),
}


def register_formatters(shell: Any) -> None:
    """Register a text and an HTML view of every record on a shell.

    Parameters
    ----------
    shell : InteractiveShell
        Whose display formatter learns them.
    """
    formatters = shell.display_formatter.formatters
    for record, (text, html) in VIEWS.items():
        formatters["text/plain"].for_type(record, _printer(text))
        formatters["text/html"].for_type(record, html)


def _printer(view: View) -> Callable[[Any, Any, bool], None]:
    def show(record: Any, printer: Any, cycle: bool) -> None:
        printer.text(repr(type(record)) if cycle else view(record))

    return show
