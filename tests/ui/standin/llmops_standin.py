"""A Jupyter Server extension that answers whatever a test wrote into a file.

It stands in for the real one where a state is shown that a real machine can't be brought into:
a GPU that is not there, an error, an answer that does not come. It keeps to the same routes,
event and authentication.
"""

from __future__ import annotations

import asyncio
import json
import os
from pathlib import Path
from typing import Any

from jupyter_server.base.handlers import APIHandler
from jupyter_server.utils import url_path_join
from tornado import web

CHANGED = """
$id: https://schema.jupyter-llmops.org/changed/v1
version: "1"
title: Something changed
type: object
properties:
  revision: {type: integer}
  topic: {type: string}
required: [revision, topic]
"""


class Answer(APIHandler):
    """Answers a route from the file, or waits while the file says so."""

    @web.authenticated
    async def get(self, route: str) -> None:
        answer = read_state().get(route, {})
        while answer.get("$wait"):
            await asyncio.sleep(0.02)
            answer = read_state().get(route, {})
        if "$status" in answer:
            self.set_status(answer["$status"])
            answer = {key: answer[key] for key in ("message", "hint")}
        self.finish(json.dumps(answer))


class Doorbell(APIHandler):
    """Rings the event of a topic."""

    @web.authenticated
    async def post(self) -> None:
        body = self.get_json_body() or {}
        self.event_logger.emit(
            schema_id="https://schema.jupyter-llmops.org/changed/v1",
            data={"revision": 1, "topic": body["topic"]},
        )
        self.set_status(204)
        self.finish()


def read_state() -> dict[str, Any]:
    return json.loads(Path(os.environ["LLMOPS_STANDIN"]).read_text())


def _jupyter_server_extension_points() -> list[dict[str, str]]:
    return [{"module": "llmops_standin"}]


def _load_jupyter_server_extension(app: Any) -> None:
    app.event_logger.register_event_schema(CHANGED)
    base = url_path_join(app.web_app.settings["base_url"], "jupyter-llmops")
    app.web_app.add_handlers(
        ".*$",
        [
            (url_path_join(base, "doorbell"), Doorbell),
            (
                url_path_join(base, "(status|gpus|models|prompts|prompts/versions|collections|search|runs)"),
                Answer,
            ),
        ],
    )
