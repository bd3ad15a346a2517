"""Runs as spans of OpenTelemetry, in its semantic conventions for generative AI.

A session is a trace; cells, maps and prompts are its spans, each below what it ran in. Ids follow from the
records', so whoever exports twice writes the same spans again and no others. Conventions:
opentelemetry.io/docs/specs/semconv/gen-ai/gen-ai-spans.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from jupyter_llmops import __version__
from jupyter_llmops.errors import MissingDependencyError
from jupyter_llmops.records.run import Run

if TYPE_CHECKING:
    from opentelemetry.sdk.trace import ReadableSpan

_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
_RUN_ID = re.compile(r"[0-9a-f]{16}$")
SERVICE = "jupyter-llmops"
# Engines of this package as the conventions name those who answer; others are named as they are.
_LOCAL = {"transformers": "transformers", "llama.cpp": "llama.cpp"}


def trace_id(session: str) -> int:
    """Return a session's trace id, 128 bits."""
    return int.from_bytes(
        hashlib.sha256(b"llmops.trace\0" + session.encode("utf-8", "replace")).digest()[:16]
    )


def span_id(run_id: str) -> int:
    """Return a run's span id, 64 bits: its own id where it is one."""
    if _RUN_ID.match(run_id) and int(run_id, 16):
        return int(run_id, 16)
    return (
        int.from_bytes(hashlib.sha256(b"llmops.span\0" + run_id.encode("utf-8", "replace")).digest()[:8]) or 1
    )


def root_id(session: str) -> int:
    """Return the span id of a session itself."""
    return span_id(f"session {session}")


class SpanMaker:
    """Makes spans of runs.

    Parameters
    ----------
    exported : collection of str
        Ids of all runs that are exported: what ran in another stands below its session.

    Raises
    ------
    MissingDependencyError
        OpenTelemetry is not installed.
    """

    def __init__(self, exported: Collection[str]) -> None:
        try:
            from opentelemetry.sdk.trace import ReadableSpan
        except ImportError:
            raise MissingDependencyError("The export to OpenTelemetry", "otel") from None
        self._span = ReadableSpan
        self._exported = exported
        self._resources: dict[str, Any] = {}

    def session(self, session: str, user: str, host: str, begun: datetime, ended: datetime) -> ReadableSpan:
        """Return the root span of a session, which lasts from its first exported run to the end of its last."""
        attributes = {"llmops.run.kind": "session", "llmops.session": session, "llmops.user": user}
        return self._made(
            f"session {session}",
            session,
            host,
            root_id(session),
            None,
            begun,
            ended - begun,
            attributes,
            "ok",
            "",
        )

    def run(self, run: Run, rating: str = "", content: Mapping[str, str] | None = None) -> ReadableSpan:
        """Return a run as a span.

        Parameters
        ----------
        run : Run
            Of the exported ones.
        rating : str
            What was said of it.
        content : mapping, optional
            Its redacted texts, which become the messages of a prompt.
        """
        attributes = _attributes(run, rating) | (_messages(content) if content else {})
        parent = span_id(run.parent) if run.parent in self._exported else root_id(run.session)
        took = timedelta(microseconds=max(0, round(run.seconds * 1e6)))
        return self._made(
            _name(run), run.session, run.host, span_id(run.id), parent, run.started_at, took, attributes,
            run.status, run.error_type,
        )  # fmt: skip

    def _made(
        self, name: str, session: str, host: str, own: int, parent: int | None, begun: datetime, took: timedelta,
        attributes: Mapping[str, Any], status: str, error: str,
    ) -> ReadableSpan:  # fmt: skip
        from opentelemetry.sdk.util.instrumentation import InstrumentationScope
        from opentelemetry.trace import SpanContext, SpanKind, Status, StatusCode, TraceFlags

        def context(span: int) -> SpanContext:
            return SpanContext(trace_id(session), span, is_remote=False, trace_flags=TraceFlags(1))

        start = (begun - _EPOCH) // timedelta(microseconds=1) * 1000
        failed = status != "ok"
        return self._span(
            name=name,
            context=context(own),
            parent=None if parent is None else context(parent),
            resource=self._resource(session, host),
            attributes={key: value for key, value in attributes.items() if value not in (None, "", ())},
            kind=SpanKind.CLIENT if "gen_ai.operation.name" in attributes else SpanKind.INTERNAL,
            status=Status(StatusCode.ERROR, error or status) if failed else Status(StatusCode.OK),
            start_time=max(0, start),
            end_time=max(0, start) + took // timedelta(microseconds=1) * 1000,
            instrumentation_scope=InstrumentationScope("jupyter_llmops", __version__),
        )

    def _resource(self, session: str, host: str) -> Any:
        from opentelemetry.sdk.resources import Resource

        if session not in self._resources:
            self._resources[session] = Resource(
                {
                    "service.name": SERVICE,
                    "service.version": __version__,
                    "service.instance.id": session,
                    "host.name": host,
                }
            )
        return self._resources[session]


def _name(run: Run) -> str:
    if run.kind == "prompt":
        return f"chat {run.model}".strip()
    if run.kind == "cell" and run.execution_count:
        return f"cell In[{run.execution_count}]"
    return f"{run.kind} {run.model}".strip()


def _attributes(run: Run, rating: str) -> dict[str, Any]:
    leaf = run.leaf or {}
    cost = leaf.get("cost_millionths")
    attributes: dict[str, Any] = {
        "llmops.run.id": run.id,
        "llmops.run.kind": run.kind,
        "llmops.run.leaf_digest": run.leaf_digest,
        "llmops.session": run.session,
        "llmops.user": run.user,
        "llmops.notebook": run.notebook,
        "llmops.cell.execution_count": run.execution_count,
        "llmops.cost": cost / 1e6 if type(cost) is int else None,
        "llmops.currency": _text(leaf, "currency"),
        "llmops.rating": rating,
        "error.type": run.error_type or (run.status if run.status != "ok" else ""),
    }
    if run.kind != "prompt":
        return attributes
    parameters = leaf.get("parameters")
    parameters = parameters if isinstance(parameters, Mapping) else {}
    finish = _text(leaf, "finish_reason")
    engine = _text(leaf, "engine")
    return attributes | {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": _LOCAL.get(engine, engine) or "jupyter-llmops",
        "gen_ai.request.model": run.model,
        "gen_ai.response.model": run.model,
        "gen_ai.response.id": run.id,
        "gen_ai.request.max_tokens": _number(parameters, "max_new_tokens"),
        "gen_ai.request.temperature": _number(parameters, "temperature"),
        "gen_ai.request.seed": _number(parameters, "seed"),
        "gen_ai.response.finish_reasons": (finish,) if finish else (),
        "gen_ai.usage.input_tokens": run.tokens_in,
        "gen_ai.usage.output_tokens": run.tokens_out,
        "server.address": _text(leaf, "served_by"),
        "llmops.source": run.source,
        "llmops.quantization": _text(leaf, "quantization"),
        "llmops.model.digest": _text(leaf, "model_digest"),
        "llmops.determinism": _text(leaf, "determinism"),
    }


def _text(leaf: Mapping[str, Any], name: str) -> str:
    value = leaf.get(name)
    return value if isinstance(value, str) else ""


def _number(values: Mapping[str, Any], name: str) -> float | int | None:
    value = values.get(name)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _messages(content: Mapping[str, str]) -> dict[str, str]:
    asked = [
        {"role": name.rsplit(".", 1)[-1], "parts": [{"type": "text", "content": text}]}
        for name, text in sorted(content.items())
        if name.startswith("message.")
    ]
    answer = content.get("response")
    messages = {"gen_ai.input.messages": json.dumps(asked, ensure_ascii=False)} if asked else {}
    if answer is not None:
        said = [{"role": "assistant", "parts": [{"type": "text", "content": answer}]}]
        messages["gen_ai.output.messages"] = json.dumps(said, ensure_ascii=False)
    return messages


def json_lines(spans: Sequence[ReadableSpan]) -> Iterator[str]:
    """Yield spans as lines of OTLP's JSON form, one request each, as collectors' file receivers read them."""
    from google.protobuf.json_format import MessageToDict  # type: ignore[import-untyped]
    from opentelemetry.exporter.otlp.proto.common.trace_encoder import encode_spans

    values = MessageToDict(encode_spans(spans), use_integers_for_enums=True)
    for resource in values.get("resourceSpans", ()):
        for scope in resource.get("scopeSpans", ()):
            for span in scope.get("spans", ()):
                _in_hex(span)
        yield json.dumps({"resourceSpans": [resource]}, ensure_ascii=False, sort_keys=True)


def _in_hex(span: dict[str, Any]) -> None:
    """Write ids as OTLP's JSON form has them, in hexadecimal digits and not in base64."""
    from base64 import b64decode

    for name in ("traceId", "spanId", "parentSpanId"):
        if name in span:
            span[name] = b64decode(span[name]).hex()
