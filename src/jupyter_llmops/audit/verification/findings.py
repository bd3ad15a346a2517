"""What a verification collects: problems, each naming its record, and notes."""

from __future__ import annotations

from jupyter_llmops.records.run import Problem

SHOWN = 5
"""So many names a note has."""


class Findings:
    """Problems and notes, in the order in which they were found."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self.notes: list[str] = []
        self._known: set[Problem] = set()

    def problem(self, session: str, seq: int | None, run_id: str, message: str) -> None:
        """Add a problem, once; the record's place is put before the message."""
        where = f"session {session}" + (f", record {seq}" if seq is not None else "")
        where += f" (run {run_id})" if run_id else ""
        found = Problem(session, seq, run_id, f"{where}: {message}")
        if found not in self._known:  # each unfinished tile of a log says the same of a record
            self._known.add(found)
            self.problems.append(found)


def some(names: list[str]) -> str:
    """Return the first of some names."""
    return ", ".join(names[:SHOWN]) + (", …" if len(names) > SHOWN else "")
