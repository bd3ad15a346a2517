"""What all routes share: the state, work in threads, errors as JSON."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from datetime import datetime
from http.client import responses
from typing import TYPE_CHECKING, Any, TypeVar

from jupyter_server.base.handlers import APIHandler
from tornado.web import HTTPError

from jupyter_llmops.errors import (
    AmbiguousNameError,
    CatalogError,
    LLMOpsError,
    UnknownNameError,
    UsageError,
)

if TYPE_CHECKING:
    from jupyter_llmops.server.extension import ServerState

T = TypeVar("T")

# The first that fits counts.
_STATUS: tuple[tuple[type[LLMOpsError], int], ...] = (
    (UnknownNameError, 404),
    (AmbiguousNameError, 409),
    (UsageError, 400),
    (CatalogError, 503),
    (LLMOpsError, 500),
)


class LLMOpsHandler(APIHandler):
    """A route; every method of a subclass is authenticated and authorized."""

    auth_resource = "llmops"
    # The sidebar asks by itself: that must not keep an idle server alive.
    _track_activity = False

    @property
    def state(self) -> ServerState:
        """What the routes share."""
        state: ServerState = self.settings["jupyter_llmops_state"]
        return state

    async def in_thread(self, work: Callable[[], T]) -> T:
        """Return what `work` returns, without blocking the server meanwhile."""
        return await asyncio.get_running_loop().run_in_executor(self.state.workers, work)

    async def answer(self, work: Callable[[], dict[str, Any]]) -> None:
        """Finish with the JSON of what `work` returns; it runs in a thread.

        The answer has an ETag: a reader that sends it back gets 304 when nothing changed.
        """
        values = await self.in_thread(work)
        self.set_header("Cache-Control", "no-cache")
        self.finish(json.dumps(values, allow_nan=False))

    def write_error(self, status_code: int, **kwargs: Any) -> None:
        """Finish with ``{"message", "hint"}``, never with a traceback."""
        error = (kwargs.get("exc_info") or (None, None, None))[1]
        message, hint = responses.get(status_code, "Unknown error"), ""
        if isinstance(error, LLMOpsError):
            self.set_status(next(status for kind, status in _STATUS if isinstance(error, kind)))
            message, hint = error.message, error.hint
        elif isinstance(error, HTTPError):
            message = error.log_message or error.reason or message
        elif error is not None:
            message = "The server's part of LLMOps met an error that it did not expect."
            hint = "Its traceback is in the server's log."
        self.finish(json.dumps({"message": message, "hint": hint}))

    def log_exception(self, kind: Any, error: Any, trace: Any) -> None:
        """Log in one line what is told to the user anyway."""
        if isinstance(error, LLMOpsError):
            self.log.warning("%s: %s", self.request.path, error)
        else:
            super().log_exception(kind, error, trace)


def when(moment: datetime | None) -> str | None:
    """Return a moment as ISO 8601."""
    return None if moment is None else moment.isoformat()
