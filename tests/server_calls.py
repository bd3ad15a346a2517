"""What the server tests do to a journal."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from jupyter_llmops.audit.journal import Journal


def stamp(journal: Journal, source: str = "x = 1", **fields: Any) -> str:
    """Append a cell to the journal and return its run's id."""
    run_id = journal.stamp(
        "cell", started_at=datetime.now(UTC), seconds=0.5, fields=fields, content={"source": source}
    )
    journal.flush()
    return run_id
