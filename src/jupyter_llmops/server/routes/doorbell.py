"""POST doorbell: a kernel says that something changed."""

from __future__ import annotations

from jupyter_server.auth.decorator import authorized
from tornado.web import HTTPError, authenticated

from jupyter_llmops.server.bell import TOPICS
from jupyter_llmops.server.routes.base import LLMOpsHandler


class DoorbellHandler(LLMOpsHandler):
    """Tells every open page to look again."""

    def check_xsrf_cookie(self) -> None:
        """Let a kernel ring that has no token because the server asks for none.

        Nothing is changed by it: a forged ring makes the sidebar look again.
        """

    @authenticated
    @authorized
    async def post(self) -> None:
        """Emit the event; for runs, carry the journals into the catalog first thing."""
        body = self.get_json_body()
        topic = body.get("topic") if isinstance(body, dict) else None
        if topic not in TOPICS:
            raise HTTPError(400, f"topic is one of {', '.join(TOPICS)}")
        if topic == "runs":
            # What the agent then carries is rung for once more.
            self.state.background.wake()
        await self.in_thread(lambda: self.state.watch.hear(topic))
        self.set_status(204)
        self.finish()
