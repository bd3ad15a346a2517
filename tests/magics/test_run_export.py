"""Handing runs on: a table that no spreadsheet runs, spans that a collector reads, a real MLflow server."""

from __future__ import annotations

import csv
import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from catalog_writer import a_run
from jupyter_llmops.audit.run_csv import COLUMNS, safe, write_csv
from jupyter_llmops.audit.run_spans import SpanMaker, root_id, span_id, trace_id
from jupyter_llmops.errors import AuditError, MissingDependencyError, UsageError
from jupyter_llmops.workspace.run_export import _collector

if TYPE_CHECKING:
    from magic_shell import Notebook


@pytest.fixture
def worked(notebook: Notebook) -> Notebook:
    """A session with a prompt, a map and a cell that fails."""
    notebook.run("%%prompt\nHi there")
    notebook.run("words = ['one', 'two']")
    notebook.run("%%prompt --map words\nSay {{ row }}")
    notebook.fail("1 / 0")
    return notebook


@pytest.mark.parametrize(
    "text", ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", " =1", "＝1", "|cmd", "%0A", "\n=1", "\ufeff=1"]
)
def test_a_cell_never_begins_a_formula(text: str) -> None:
    assert safe(text).startswith("'")
    run = a_run("s", 0, notebook=text, user=text, error_type=text, leaf={"currency": text})
    file = io.StringIO(newline="")
    write_csv(file, [run], {run.id: text}, {run.id: text})
    (row,) = csv.DictReader(io.StringIO(file.getvalue(), newline=""))
    for name in ("notebook", "user", "error_type", "currency", "rating", "text"):
        assert row[name] == f"'{text}"


def test_a_table_has_every_run_once_oldest_first(worked: Notebook, tmp_path: Path) -> None:
    done = worked.workspace.export_runs(tmp_path / "runs.csv")
    with Path(done).open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    assert tuple(rows[0]) == COLUMNS
    assert done.runs == len(rows) == len({row["id"] for row in rows})
    assert [row["started_at"] for row in rows] == sorted(row["started_at"] for row in rows)
    assert [row["error_type"] for row in rows if row["status"] == "error"] == ["ZeroDivisionError"]
    only = worked.workspace.export_runs(tmp_path / "prompts.csv", kind="prompt", content=True)
    assert only.runs == 3
    assert f"{only.runs} runs" in worked.shown(only)


def test_what_can_t_be_written_is_said_and_leaves_nothing(worked: Notebook, tmp_path: Path) -> None:
    with pytest.raises(AuditError, match="can't be written"):
        worked.workspace.export_runs(tmp_path / "no" / "runs.csv")
    for wrong in ({"format": "xml"}, {"user": "nobody"}, {"colour": "red"}, {"since": "soon"}):
        with pytest.raises(UsageError):
            worked.workspace.export_runs(tmp_path / "runs.csv", **wrong)
    with pytest.raises(UsageError, match="address"):
        worked.workspace.export_runs("http://localhost:1/v1/traces", format="csv")
    with pytest.raises(UsageError, match="no address"):
        worked.workspace.export_runs("http://user:secret@localhost:1", format="otel")
    assert not list(tmp_path.glob("*.csv"))


def spans_in(path: Path) -> list[dict[str, Any]]:
    lines = [json.loads(line) for line in path.read_text("utf-8").splitlines()]
    return [
        span
        for line in lines
        for resource in line["resourceSpans"]
        for scope in resource["scopeSpans"]
        for span in scope["spans"]
    ]


def attributes_of(span: dict[str, Any]) -> dict[str, Any]:
    return {one["key"]: next(iter(one["value"].values())) for one in span["attributes"]}


def test_spans_hang_together_and_are_the_same_when_exported_twice(worked: Notebook, tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    worked.workspace.export_runs(path, format="otel", kind="prompt")
    first = path.read_bytes()
    worked.workspace.export_runs(path, format="otel", kind="prompt")
    assert path.read_bytes() == first
    worked.workspace.export_runs(path, format="otel")
    spans = spans_in(path)
    by_id = {span["spanId"]: span for span in spans}
    session = worked.workspace.journal.session
    assert len(by_id) == len(spans)
    assert {span["traceId"] for span in spans} == {f"{trace_id(session):032x}"}
    roots = [span for span in spans if not span.get("parentSpanId")]
    assert [span["spanId"] for span in roots] == [f"{root_id(session):016x}"]
    assert all(span["parentSpanId"] in by_id for span in spans if span not in roots)
    runs = {run.id: run for run in worked.run("%runs -n 99 --since 1h")}
    for run in runs.values():
        if run.kind not in ("cell", "prompt", "map"):
            continue
        span = by_id[f"{span_id(run.id):016x}"]
        assert span["parentSpanId"] == (run.parent if run.parent in runs else f"{root_id(session):016x}")
        if run.kind == "prompt":
            said = attributes_of(span)
            assert said["gen_ai.operation.name"] == "chat"
            assert said["gen_ai.request.model"] == run.model
            assert int(said["gen_ai.usage.output_tokens"]) == run.tokens_out
            assert "gen_ai.input.messages" not in said  # content only where it is asked for
    failed = [span for span in spans if span["status"].get("code") == 2]
    assert [attributes_of(span)["error.type"] for span in failed] == ["ZeroDivisionError"]


def test_content_goes_along_when_asked_for(worked: Notebook, tmp_path: Path) -> None:
    path = tmp_path / "runs.jsonl"
    worked.workspace.export_runs(path, format="otel", kind="prompt", content=True)
    said = [attributes_of(span) for span in spans_in(path) if span.get("parentSpanId")]
    assert any("Hi there" in one["gen_ai.input.messages"] for one in said)
    assert all(json.loads(one["gen_ai.output.messages"])[0]["role"] == "assistant" for one in said)


def test_where_nothing_ran_no_filter_is_blamed(worked: Notebook, tmp_path: Path) -> None:
    workspace, file = worked.workspace, tmp_path / "runs.csv"
    with pytest.raises(UsageError, match="No run fits") as caught:
        workspace.export_runs(file, user="nobody")
    assert "filter" in caught.value.hint
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(type(workspace.catalog.run_search), "newest_ids", lambda *_: [])
        with pytest.raises(UsageError, match="no runs yet") as caught:
            workspace.export_runs(file)
    assert "filter" not in str(caught.value)


def test_without_opentelemetry_it_says_what_to_install(
    worked: Notebook, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.sdk.trace", None)
    with pytest.raises(MissingDependencyError, match=r"%pip install 'jupyter-llmops\[otel\]'"):
        worked.workspace.export_runs(tmp_path / "runs.jsonl", format="otel")
    assert not list(tmp_path.glob("*.jsonl"))


def test_a_collector_that_is_not_there_or_refuses_is_said_in_one_sentence(
    caplog: pytest.LogCaptureFixture,
) -> None:
    class Refusing(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            self.send_error(401)

        def log_message(self, *_: object) -> None:
            pass

    with HTTPServer(("127.0.0.1", 0), Refusing) as server:
        address = f"http://127.0.0.1:{server.server_port}"
        threading.Thread(target=server.serve_forever, daemon=True).start()
        span = SpanMaker(()).run(a_run("s", 0))
        with pytest.raises(AuditError, match="did not take the spans"), _collector(address, None) as send:
            send([span])
        server.shutdown()
    with pytest.raises(AuditError, match="Nobody listens at"), _collector(address, None):
        pass
    with pytest.raises(UsageError, match="no port"), _collector("http://127.0.0.1:99999", None):
        pass
    assert not caplog.records


def test_strange_ids_get_spans_too() -> None:
    run = replace(a_run("s", 0), id="0" * 16)
    assert span_id(run.id) not in (0, span_id("not an id"))
    assert 0 < trace_id("") < 2**128


@pytest.fixture
def mlflow_server(tmp_path: Path) -> Iterator[str]:
    """Start a real MLflow server on SQLite: mlflow-skinny has its code, the tests' own packages the rest."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    address = f"http://127.0.0.1:{port}"
    command = [
        sys.executable, "-m", "mlflow", "server", "--backend-store-uri", f"sqlite:///{tmp_path}/mlflow.db",
        "--host", "127.0.0.1", "--port", str(port), "--workers", "1",
    ]  # fmt: skip
    environment = {**os.environ, "MLFLOW_DISABLE_TELEMETRY": "true", "DO_NOT_TRACK": "true"}
    environment["MLFLOW_SERVER_ENABLE_JOB_EXECUTION"] = "false"  # it needs huey, and spans need no jobs
    with (tmp_path / "mlflow.log").open("wb") as log:
        process = subprocess.Popen(
            command, cwd=tmp_path, env=environment, stdout=log, stderr=log, start_new_session=True
        )
        try:
            deadline = time.monotonic() + 120
            while True:
                try:
                    urllib.request.urlopen(f"{address}/health", timeout=2).close()
                    break
                except OSError:
                    assert process.poll() is None, (tmp_path / "mlflow.log").read_text()
                    assert time.monotonic() < deadline, (tmp_path / "mlflow.log").read_text()
                    time.sleep(0.2)
            yield address
        finally:
            os.killpg(process.pid, 15)
            process.wait(30)


def asked(address: str, path: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(
        f"{address}/{path}", data=data, headers={"Content-Type": "application/json"}
    )
    with urllib.request.urlopen(request, timeout=30) as answer:
        found: dict[str, Any] = json.load(answer)
    return found


@pytest.mark.slow
def test_a_real_mlflow_server_shows_the_spans_once(worked: Notebook, mlflow_server: str) -> None:
    headers = {"x-mlflow-experiment-id": "0"}
    for _ in range(2):
        done = worked.workspace.export_runs(mlflow_server, format="otel", headers=headers, content=True)
    place = [{"type": "MLFLOW_EXPERIMENT", "mlflow_experiment": {"experiment_id": "0"}}]
    found = asked(mlflow_server, "api/3.0/mlflow/traces/search", {"locations": place, "max_results": 50})
    (trace,) = found["traces"]
    session = worked.workspace.journal.session
    assert trace["trace_id"] == f"tr-{trace_id(session):032x}"
    shown = asked(mlflow_server, f"api/3.0/mlflow/traces/get?trace_id={trace['trace_id']}")
    spans = shown["trace"]["spans"]
    runs = [run for run in worked.workspace.find_runs(limit=99) if run.kind != "session"]
    assert len(spans) >= done.runs - 1
    names = [span["name"] for span in spans]
    assert names.count("chat smollm2-135m-instruct") == 3
    assert f"session {session}" in names
    assert "cell In[2]" in names
    assert len(names) == len({span["span_id"] for span in spans})
    assert len(runs) >= 7
