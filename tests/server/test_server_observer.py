"""A real Jupyter server sees what its kernels run, and verify names what no log has."""

from __future__ import annotations

import json
import logging
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, ClassVar

import pytest
import websocket
from jupyter_client.session import Session

from jupyter_llmops.audit.coverage import coverage_of
from jupyter_llmops.audit.journal import Journal
from jupyter_llmops.audit.reading import list_journals, read_runs
from jupyter_llmops.records.run import Run
from jupyter_llmops.server.observer import FLUSH_SECONDS, KernelObserver, _Process, _Watch
from jupyter_llmops.workspace.autoload import STARTUP_FILE, switch_on
from server_process import PATIENCE, TOKEN, RunningServer, running_server


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    """Start one for all: each test has kernels of its own, and the last one sees how it ends."""
    with running_server(tmp_path_factory.mktemp("server")) as found:
        yield found
    for socket in Remote.sockets:
        socket.close()


class Remote:
    """A client that runs cells over the server's websocket, as a program of whoever does."""

    sockets: ClassVar[list[websocket.WebSocket]] = []

    def __init__(self, server: RunningServer, notebook: str = "") -> None:
        path = notebook or f"{uuid.uuid4().hex}.ipynb"
        session = {"path": path, "type": "notebook", "name": "", "kernel": {"name": "python3"}}
        self.server = server
        self.kernel: str = server.ask("api/sessions", session)["kernel"]["id"]
        self.client = uuid.uuid4().hex
        self.connect()

    def connect(self) -> None:
        address = self.server.url.replace("http", "ws", 1)
        self.socket = websocket.create_connection(
            f"{address}api/kernels/{self.kernel}/channels?session_id={self.client}",
            header={"Authorization": f"token {TOKEN}"},
            timeout=PATIENCE,
        )
        self.sockets.append(self.socket)

    def send(self, source: str, **options: Any) -> str:
        sent = uuid.uuid4().hex
        header = {"msg_id": sent, "msg_type": "execute_request", "session": self.client, "username": "x",
                  "version": "5.3", "date": ""}  # fmt: skip
        content = {"code": source, "silent": False, "store_history": True, "user_expressions": {},
                   "allow_stdin": False, "stop_on_error": False} | options  # fmt: skip
        self.socket.send(json.dumps(
            {"header": header, "parent_header": {}, "metadata": {}, "content": content, "channel": "shell"}
        ))  # fmt: skip
        return sent

    def run(self, source: str, **options: Any) -> int | None:
        """Run a cell to its end and return its number."""
        sent = self.send(source, **options)
        count: int | None = None
        replied = idle = False
        deadline = time.monotonic() + PATIENCE
        while not (replied and idle):
            assert time.monotonic() < deadline, f"the cell did not end: {source}"
            message = json.loads(self.socket.recv())
            if message["parent_header"].get("msg_id") != sent:
                continue
            if message["msg_type"] == "execute_reply":
                count, replied = message["content"].get("execution_count"), True
            idle = idle or message["content"].get("execution_state") == "idle"
        return count

    def shown(self, source: str) -> str:
        """Run a cell and return its value as text."""
        sent = self.send(source)
        while True:
            message = json.loads(self.socket.recv())
            if message["parent_header"].get("msg_id") == sent and message["msg_type"] == "execute_result":
                return str(message["content"]["data"]["text/plain"])

    def ask(self, what: str, body: dict[str, Any] | None = None) -> None:
        self.server.ask(f"api/kernels/{self.kernel}{what}", body)


def observations(audit: Path) -> list[Run]:
    return [run for path in list_journals(audit) for run in read_runs(path) if run.kind == "observation"]


def seen_counts(audit: Path, kernel: str) -> list[int]:
    cells = {
        (cell[1], cell[0])
        for run in observations(audit)
        if run.leaf is not None and run.leaf["kernel"] == kernel
        for cell in run.leaf["cells"]
    }
    return [count for _, count in sorted(cells)]


def events(audit: Path, kernel: str) -> list[str]:
    return [
        event
        for run in observations(audit)
        if run.leaf is not None and run.leaf["kernel"] == kernel
        for event, _ in run.leaf["events"]
    ]


def wait_for(found: Callable[[], Any], wanted: Any) -> None:
    deadline = time.monotonic() + PATIENCE
    while (value := found()) != wanted and time.monotonic() < deadline:
        time.sleep(0.1)
    assert value == wanted


def gaps_of(audit: Path, kernel: str, *, started: bool = True) -> list[tuple[str, int | None, int | None]]:
    found = [gap for gap in coverage_of(audit) if gap.kernel == kernel]
    for gap in found:
        assert gap.after is not None or not started
        assert gap.before is not None or started
        assert gap.message
    return [(gap.reason, gap.first_count, gap.last_count) for gap in found]


@pytest.mark.slow
def test_cells_over_the_websocket_with_and_without_the_extension(server: RunningServer) -> None:
    audit = server.audit
    without, loaded = Remote(server, "without.ipynb"), Remote(server, "with.ipynb")
    for _ in range(3):
        without.run("secret_of_mine = 1")
    loaded.run("first = 1")
    loaded.run("%load_ext jupyter_llmops")
    loaded.run("inside = 2")
    loaded.run("   ")
    loaded.run("1 / 0")
    loaded.run("not_kept = 3", store_history=False)
    loaded.run("silent = 4", silent=True)
    loaded.run("%unload_ext jupyter_llmops")
    loaded.run("hidden = 5")
    loaded.run("%reload_ext jupyter_llmops")
    wait_for(lambda: seen_counts(audit, loaded.kernel), [1, 2, 3, 4, 5, 5, 6, 7])
    assert seen_counts(audit, without.kernel) == [1, 2, 3]
    assert gaps_of(audit, without.kernel) == [("no log", 1, 3)]
    # The cell that unloads is not stamped either.
    assert gaps_of(audit, loaded.kernel) == [("before loading", 1, 1), ("missing count", 5, 6)]
    no_log = next(gap for gap in coverage_of(audit) if gap.reason == "no log")
    assert no_log.notebook == "without.ipynb"
    assert all("secret_of_mine" not in path.read_text() for path in list_journals(audit))


@pytest.mark.slow
def test_with_autoload_nothing_is_missing(server: RunningServer) -> None:
    startup = server.folder / "ipython" / "profile_default" / "startup"
    switch_on(startup)
    remote = Remote(server)
    for source in ("x = 1", "1 / 0", "%%capture\ny = 2", "", "get_ipython().reset()", "x = 1"):
        remote.run(source)
    (startup / STARTUP_FILE).unlink()
    wait_for(lambda: seen_counts(server.audit, remote.kernel), [1, 2, 3, 4, 1])
    assert gaps_of(server.audit, remote.kernel) == []
    assert "the server notes which cells run" in remote.shown("%llmops")


@pytest.mark.slow
def test_kernels_that_restart_die_and_end(server: RunningServer) -> None:
    audit = server.audit
    remote = Remote(server)
    remote.run("%load_ext jupyter_llmops")
    remote.run("x = 1")
    remote.socket.close()
    remote.ask("/restart", {})
    remote.connect()
    remote.run("y = 1")
    wait_for(lambda: seen_counts(audit, remote.kernel), [1, 2, 1])
    assert "restarted" in events(audit, remote.kernel)
    assert gaps_of(audit, remote.kernel) == [("not in the log", 1, 1)]
    # It ends itself in a cell, and the server starts it again.
    remote.run("%load_ext jupyter_llmops")
    remote.send("import os; os._exit(1)")
    wait_for(lambda: "died" in events(audit, remote.kernel), True)
    # The second process began with the cell that did not load: known from its own count now.
    assert gaps_of(audit, remote.kernel) == [("before loading", 1, 1), ("not finished", 3, 3)]
    other = Remote(server, "other.ipynb")
    other.run("x = 1")
    server.end(f"api/kernels/{other.kernel}")
    wait_for(lambda: events(audit, other.kernel), ["started", "shut down"])


@pytest.mark.slow
def test_a_running_cell_is_no_gap_until_the_server_ends(server: RunningServer) -> None:
    remote = Remote(server)
    remote.run("x = 1")
    remote.send("import time; time.sleep(600)")
    wait_for(lambda: seen_counts(server.audit, remote.kernel), [1, 2])
    assert gaps_of(server.audit, remote.kernel) == [("no log", 1, 1)]
    server.process.terminate()
    server.process.wait(2 * PATIENCE)
    wait_for(lambda: gaps_of(server.audit, remote.kernel), [("no log", 1, 2)])
    assert "server stopped" in events(server.audit, remote.kernel)
    path = next(path for path in list_journals(server.audit) if b'"role":"server"' in path.read_bytes())
    assert b"closed" in path.with_suffix(".head").read_bytes(), "the server's journal was not closed"


@pytest.mark.slow
def test_nothing_is_seen_where_the_trail_is_off(tmp_path: Path) -> None:
    with running_server(tmp_path, {"LLMOps": {"audit": False}}) as server:
        Remote(server).run("x = 1")
        time.sleep(2 * FLUSH_SECONDS)
    assert list_journals(server.audit) == []


class Kernels:
    """Kernels of which nothing is known but what they say."""

    def get_kernel(self, kernel_id: str) -> None:
        return None


@pytest.mark.parametrize(
    ("said", "gap"),
    [
        (["starting", 1, 2], None),
        (["iopub_welcome", "starting", 1, 2], None),
        (["iopub_welcome", 1, 2], None),
        (["iopub_welcome", "idle", 3, 4], ("not seen", 1, 2)),
        ([5, 6], ("not seen", 1, 4)),
        (["iopub_welcome", "idle"], ("not seen", None, None)),
        (["stream"], None),
    ],
)
def test_who_hears_a_kernel_late_says_what_it_missed(
    tmp_path: Path, said: list[str | int], gap: tuple[str, int | None, int | None] | None
) -> None:
    journal = Journal(tmp_path)
    observer = KernelObserver(Kernels(), None, journal, logging.getLogger())  # type: ignore[arg-type]
    process = _Process("k", "python3")
    observer._watches["k"] = _Watch([], None, process)
    kernel, server = Session(key=b"x"), Session(key=b"x")
    for one in said:
        content: dict[str, Any] = {"execution_state": one}
        if isinstance(one, int):
            content = {"execution_count": one, "code": "x"}
        kind = "status" if one in ("starting", "idle") else one if isinstance(one, str) else "execute_input"
        parent = {"msg_id": str(one), "msg_type": "execute_request" if isinstance(one, int) else ""}
        observer._hear("k", server, kernel.serialize(kernel.msg(kind, content, parent=parent)))
        if process.pending:
            journal.stamp("observation", fields=process.fields())
    journal.close()
    known = [found for found in gaps_of(tmp_path, "k", started=False) if found[0] != "no log"]
    assert known == ([] if gap is None else [gap])
