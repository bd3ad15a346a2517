"""GET runs?limit=50: the newest runs of everyone, with a preview of one's own."""

from __future__ import annotations

from typing import Any

from jupyter_server.auth.decorator import authorized
from tornado.web import HTTPError, authenticated

from jupyter_llmops.audit.reading import read_content
from jupyter_llmops.errors import AuditError
from jupyter_llmops.records.run import Run
from jupyter_llmops.server.routes.base import LLMOpsHandler, when

MOST_RUNS = 1000
_PREVIEW_LENGTH = 200


class RunsHandler(LLMOpsHandler):
    """The runs that the agents carried into the catalog."""

    @authenticated
    @authorized
    async def get(self) -> None:
        """Answer the newest runs, newest first."""
        limit = self._limit()
        await self.answer(lambda: self._runs(limit))

    def _limit(self) -> int:
        typed = self.get_query_argument("limit", "50")
        if not (typed.isascii() and typed.isdigit() and 1 <= int(typed) <= MOST_RUNS):
            raise HTTPError(400, f"limit is a number from 1 to {MOST_RUNS}")
        return int(typed)

    def _runs(self, limit: int) -> dict[str, Any]:
        return {"runs": [self._run(run) for run in self.state.catalog.runs.list(limit=limit)]}

    def _run(self, run: Run) -> dict[str, Any]:
        return {
            "id": run.id,
            "session": run.session,
            "seq": run.seq,
            "kind": run.kind,
            "status": run.status,
            "started_at": when(run.started_at),
            "seconds": run.seconds,
            "user": run.user,
            "host": run.host,
            "notebook": run.notebook,
            "execution_count": run.execution_count,
            "parent": run.parent,
            "model": run.model,
            "source": run.source,
            "tokens_in": run.tokens_in,
            "tokens_out": run.tokens_out,
            "error_type": run.error_type,
            "preview": self._preview(run),
        }

    def _preview(self, run: Run) -> str:
        """Return the first line of what ran; empty where this user has no content of it."""
        try:
            content = read_content(self.state.audit_folder, run) or {}
        except AuditError:
            return ""  # `%audit verify` tells about damage
        text = content.get("source") or content.get("template") or ""
        first = next((line.strip() for line in text.splitlines() if line.strip()), "")
        return first if len(first) <= _PREVIEW_LENGTH else first[: _PREVIEW_LENGTH - 1] + "…"
