"""What a verification collects: problems, each naming its record, and notes."""

from __future__ import annotations

from jupyter_llmops.records.run import Problem


class Findings:
    """Problems and notes, in the order in which they were found."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.notes: list[str] = []

    def problem(self, session: str, seq: int | None, run_id: str, message: str) -> None:
        """Add a problem; the record's place is put before the message."""
        where = f"session {session}" + (f", record {seq}" if seq is not None else "")
        where += f" (run {run_id})" if run_id else ""
        self.problems.append(Problem(session, seq, run_id, f"{where}: {message}"))
