"""The agent's own journal, begun by the first word that it has to say."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_llmops.catalog import Catalog

if TYPE_CHECKING:
    from jupyter_llmops.audit.journal import Journal


class AgentJournal:
    """Stamps leaves of role "agent".

    Parameters
    ----------
    folder : Path
        The audit folder of this user.
    catalog : Catalog
        Named in its first leaf, as in a kernel's.
    """

    def __init__(self, folder: Path, catalog: Catalog) -> None:
        self._folder = Path(folder)
        self._catalog = catalog
        self._journal: Journal | None = None

    @property
    def session(self) -> str:
        """Its name, empty before the first word."""
        return self._journal.session if self._journal is not None else ""

    def stamp(self, kind: str, fields: dict[str, Any]) -> bool:
        """Write a leaf; return whether it is on the disk."""
        if self._journal is None:
            from jupyter_llmops.audit.journal import Journal
            from jupyter_llmops.guard.redaction import Redactor

            context = {
                "user": self._catalog.user,
                "host": self._catalog.site,
                "catalog": str(self._catalog.location),
            }
            self._journal = Journal(self._folder, role="agent", context=context, redact=Redactor().redact)
        self._journal.stamp(kind, fields=fields)
        return self._journal.flush()

    def flush(self) -> bool:
        """Try to write what waits; return whether all is on the disk."""
        return self._journal is None or self._journal.flush()

    def close(self) -> None:
        """Close it, where it was begun; a later word begins another one."""
        if self._journal is not None:
            self._journal.close()
            self._journal = None
