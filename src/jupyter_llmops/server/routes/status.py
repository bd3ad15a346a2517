"""GET status: which catalog, how it is, and the number of the last event."""

from __future__ import annotations

from typing import Any

from jupyter_server.auth.decorator import authorized
from tornado.web import authenticated

from jupyter_llmops.server.routes.base import LLMOpsHandler


class StatusHandler(LLMOpsHandler):
    """The state of the whole; always answers, a problem is a value."""

    @authenticated
    @authorized
    async def get(self) -> None:
        """Answer the state."""
        await self.answer(self._status)

    def _status(self) -> dict[str, Any]:
        import jupyter_llmops

        state = self.state
        found = state.catalog.describe()
        return {
            "version": jupyter_llmops.__version__,
            "catalog": {
                "path": found.path,
                "kind": "folder" if state.catalog.location.is_local else "s3",
                "own": str(state.own.location),
                # How long a commit of another host may take to show, s.
                "fresh_within_seconds": state.watch.seconds_between_looks,
                "writable": found.writable,
                "problem": found.problem or state.settings_problem,
            },
            "revision": state.bell.revision,
            "user": state.user,
            "site": state.settings.site,
        }
