"""The server looks on: which cells its kernels run, so that a cell that no log has can be named.

It listens on each kernel's IOPub channel as the server's own watch for idle kernels does, and keeps counts and
times. Source code and output pass by unread: of ``execute_input`` only its number is kept.

A subscription that comes late misses what a kernel said before. A kernel says ``status: starting`` before it
takes any request, so who hears that has missed nothing; else the leaf says what may have been missed.
"""

from __future__ import annotations

import asyncio
import contextlib
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from typing import TYPE_CHECKING, Any

from jupyter_llmops.audit.journal import Journal
from jupyter_llmops.audit.leaf import instant

if TYPE_CHECKING:
    import logging

    from jupyter_client.session import Session
    from jupyter_server.services.kernels.kernelmanager import AsyncMappingKernelManager
    from jupyter_server.services.sessions.sessionmanager import SessionManager

KERNEL_ACTIONS = "https://events.jupyter.org/jupyter_server/kernel_actions/v1"
FLUSH_SECONDS = 2.0
# A batch lies in one leaf, whose line must stay below 60,000 bytes.
MOST_CELLS = 500
MOST_OPEN = 64
MOST_CLIENTS = 32
MOST_WAITING = 1_000
_STOP_SECONDS = 5.0
_MOST_LOOKS_FOR_NOTEBOOK = 5
# After how long ZeroMQ tries again to reach a kernel that boots, ms, at most twice as long: a kernel opens its
# channels some 100 ms before it takes requests, and ZeroMQ's own 100 to 200 ms may be too late.
_RECONNECT_MS = 10


@dataclass(slots=True)
class _Process:
    """One process of a kernel: what was seen since the last leaf; moments in microseconds since 1970."""

    kernel: str
    name: str
    process: str = ""
    pid: int | None = None
    started_at: str = ""
    notebook: str = ""
    looks_for_notebook: int = 0
    # [count, begin, duration or None, number of the client], by the id of the request.
    cells: dict[str, list[int | None]] = field(default_factory=dict)
    open: dict[str, list[int | None]] = field(default_factory=dict)
    clients: dict[str, int] = field(default_factory=dict)
    events: list[list[str | int]] = field(default_factory=list)
    missed: int = 0
    # Number of the last cell before the first message that was heard, None as long as it is not known; when
    # that message was made.
    unheard: list[int | None] = field(default_factory=list)
    unheard_stamped: bool = True

    @property
    def pending(self) -> bool:
        """Whether there is something to stamp."""
        return bool(self.cells or self.events or self.missed) or not self.unheard_stamped

    def hears(self, moment: int, last_before: int | None) -> None:
        """Note that a message was heard, and the number of the last cell before it where that is known."""
        if not self.unheard or (self.unheard[0] is None and last_before is not None):
            self.unheard = [last_before, self.unheard[1] if self.unheard else moment]
            self.unheard_stamped = False

    def note(self, event: str) -> None:
        """Note what became of the process."""
        self.events.append([event, time.time_ns() // 1000])

    def began(self, request: str, count: int, begin: int, client: str) -> None:
        """Note that a cell began."""
        if len(self.cells) >= MOST_CELLS:
            self.missed += 1
            return
        known = len(self.clients) < MOST_CLIENTS or client in self.clients
        number = self.clients.setdefault(client, len(self.clients)) if known else MOST_CLIENTS
        while len(self.open) >= MOST_OPEN:
            del self.open[next(iter(self.open))]
        self.open[request] = self.cells[request] = [count, begin, None, number]

    def ended(self, request: str, end: int) -> None:
        """Note that a cell ended, again if its beginning was stamped already."""
        cell = self.open.pop(request, None)
        if cell is None or cell[1] is None:
            return
        if request not in self.cells and len(self.cells) >= MOST_CELLS:
            self.missed += 1
            return
        cell[2] = max(0, end - cell[1])
        self.cells[request] = cell

    def fields(self) -> dict[str, Any]:
        """Return what is to be stamped, and begin anew."""
        values: dict[str, Any] = {
            "kernel": self.kernel,
            "kernel_name": self.name,
            "kernel_pid": self.pid,
            "kernel_started_at": self.started_at,
            "process": self.process,
            "notebook": self.notebook,
            # Copies: a cell that is open now is changed when it ends.
            "cells": [list(cell) for cell in self.cells.values()],
            "clients": list(self.clients),
            "events": self.events,
        }
        if self.missed:
            values["missed"] = self.missed
        if not self.unheard_stamped:
            values["unheard"] = self.unheard
            self.unheard_stamped = True
        self.cells, self.events, self.missed = {}, [], 0
        return values


@dataclass(slots=True)
class _Watch:
    """A kernel that is listened to."""

    ports: list[int]
    stream: Any
    process: _Process
    restarter: Any = None


class KernelObserver:
    """Stamps leaves of kind "observation" into the server's own journal; used on the server's event loop.

    Parameters
    ----------
    kernels : AsyncMappingKernelManager
        The server's kernels.
    sessions : SessionManager
        Says which notebook a kernel belongs to.
    journal : Journal
        The server's own.
    log : logging.Logger
        Told of what goes wrong; never an error of the server's.
    flush_seconds : float
        How long seen cells wait to be stamped together, s; as many are lost when the server is killed.
    """

    def __init__(
        self,
        kernels: AsyncMappingKernelManager,
        sessions: SessionManager,
        journal: Journal,
        log: logging.Logger,
        flush_seconds: float = FLUSH_SECONDS,
    ) -> None:
        self.journal = journal
        self._kernels = kernels
        self._sessions = sessions
        self._log = log
        self._flush_seconds = flush_seconds
        self._watches: dict[str, _Watch] = {}
        self._task: asyncio.Task[None] | None = None
        # The disk may take its time: not on the event loop. One thread keeps the order.
        self._writer = ThreadPoolExecutor(max_workers=1, thread_name_prefix="llmops-observer")

    @property
    def observing(self) -> int:
        """How many kernels are listened to."""
        return len(self._watches)

    def start(self) -> None:
        """Begin; on the event loop."""
        if self._task is None:
            self._task = asyncio.get_running_loop().create_task(self._keep())

    async def on_kernel_action(self, logger: Any, schema_id: str, data: dict[str, Any]) -> None:  # noqa: ARG002
        """Look at the kernels at once when the server has started or ended one."""
        self._look_or_say()

    async def stop(self) -> None:
        """Stamp what was seen and let go of the kernels."""
        if self._task is not None:
            self._task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await self._task
        for kernel_id in list(self._watches):
            self._let_go(kernel_id, "server stopped")
        done = asyncio.get_running_loop().run_in_executor(self._writer, self.journal.close)
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(done, _STOP_SECONDS)
        self._writer.shutdown(wait=False)

    async def _keep(self) -> None:
        while True:
            self._look_or_say()
            for watch in list(self._watches.values()):
                if watch.process.pending:
                    await self._find_notebook(watch.process)
                    self._stamp(watch.process)
            await asyncio.sleep(self._flush_seconds)

    def _look_or_say(self) -> None:
        try:
            self._look()
        except Exception as error:  # noqa: BLE001 - the server goes on, whatever its kernels are
            self._log.warning("jupyter_llmops can't look at the kernels: %s: %s", type(error).__name__, error)

    def _look(self) -> None:
        """Listen to new kernels, let go of those that are gone."""
        present = set(self._kernels.list_kernel_ids())
        for kernel_id in self._watches.keys() - present:
            self._let_go(kernel_id, "shut down")
        for kernel_id in present:
            manager = self._kernels.get_kernel(kernel_id)
            if not manager.has_kernel:
                continue  # it is being started, or was shut down a moment ago
            watch = self._watches.get(kernel_id)
            if watch is not None and (watch.ports != manager.ports or watch.stream.closed()):
                self._let_go(kernel_id, "restarted")  # with other ports
                watch = None
            if watch is None:
                watch = self._watches[kernel_id] = self._listen(kernel_id, manager)
            restarter = getattr(manager, "_restarter", None)
            if restarter is not None and watch.restarter is not restarter:
                watch.restarter = restarter
                # "restart": it died, and the server starts it again.
                for event in ("restart", "dead"):
                    manager.add_restart_callback(partial(self._died, kernel_id), event)

    def _listen(self, kernel_id: str, manager: Any) -> _Watch:
        from jupyter_client.session import Session

        stream = manager.connect_iopub()
        # What is set on a socket holds for its next connection.
        address = stream.socket.last_endpoint
        stream.socket.disconnect(address)
        stream.socket.reconnect_ivl = _RECONNECT_MS
        stream.socket.connect(address)
        session = Session(config=manager.session.config, key=manager.session.key)
        process = _Process(kernel_id, str(manager.kernel_name))
        stream.on_recv(partial(self._hear_or_say, kernel_id, session))
        return _Watch(list(manager.ports), stream, process)

    def _let_go(self, kernel_id: str, event: str) -> None:
        watch = self._watches.pop(kernel_id)
        if not watch.stream.closed():
            with contextlib.suppress(Exception):
                watch.stream.flush()  # what has come and was not heard yet
            watch.stream.close()
        self._end(watch.process, event)

    def _died(self, kernel_id: str) -> None:
        watch = self._watches.get(kernel_id)
        if watch is not None:
            self._end(watch.process, "died")
            watch.process = _Process(kernel_id, watch.process.name)

    def _end(self, process: _Process, event: str) -> None:
        if process.process:  # a kernel that never said anything has run nothing
            process.note(event)
            self._stamp(process)

    def _hear_or_say(self, kernel_id: str, session: Session, frames: list[bytes]) -> None:
        try:
            self._hear(kernel_id, session, frames)
        except Exception as error:  # noqa: BLE001 - a kernel may send whatever it likes
            self._log.debug("jupyter_llmops can't read a message of kernel %s: %s", kernel_id, error)

    def _hear(self, kernel_id: str, session: Session, frames: list[Any]) -> None:
        """Take a message; most are outputs, and are told by their header alone."""
        parts: list[Any] = session.feed_identities(frames)[1]
        header = parts[1]
        began = b'"execute_input"' in header
        ended = b'"status"' in header and b'"execute_request"' in parts[2] and b'"idle"' in parts[4]
        watch = self._watches.get(kernel_id)
        if watch is None or not (began or ended or _is_first(watch.process, header)):
            return
        message = session.deserialize(parts)
        process = self._process_of(watch, kernel_id, str(message["header"]["session"]))
        parent = message["parent_header"]
        moment = _micros(message["header"].get("date"))
        process.hears(moment, _last_before(message))
        if message["msg_type"] == "execute_input":
            content = message["content"]
            # IPython gives an empty cell no number and fires no event before it: it runs nothing.
            if type(content["execution_count"]) is int and str(content["code"]).strip():
                client = str(parent.get("session", ""))[:64]
                process.began(str(parent["msg_id"]), content["execution_count"], moment, client)
                if len(process.cells) >= MOST_CELLS:
                    self._stamp(process)
        elif ended:
            process.ended(str(parent["msg_id"]), moment)

    def _process_of(self, watch: _Watch, kernel_id: str, session: str) -> _Process:
        """Return the process that a message is of: each has a session of its own."""
        process = watch.process
        if process.process and process.process != session:
            self._end(process, "restarted")
            process = watch.process = _Process(kernel_id, process.name)
        if not process.process:
            process.process = session
            provisioner = getattr(self._kernels.get_kernel(kernel_id), "provisioner", None)
            pid = getattr(provisioner, "pid", None)
            process.pid = pid if type(pid) is int else None
            process.started_at = _started_at(process.pid)
            process.note("started")
        return process

    async def _find_notebook(self, process: _Process) -> None:
        if process.notebook or process.looks_for_notebook >= _MOST_LOOKS_FOR_NOTEBOOK:
            return
        process.looks_for_notebook += 1
        with contextlib.suppress(Exception):  # 404: it belongs to none
            model = await self._sessions.get_session(kernel_id=process.kernel)  # type: ignore[no-untyped-call]
            process.notebook = str(model["path"])

    def _stamp(self, process: _Process) -> None:
        if self.journal.waiting > MOST_WAITING:
            # The disk has taken nothing for long: what no leaf has any room for is counted.
            process.missed += len(process.cells)
            process.cells = {}
            return
        fields = process.fields()
        self._writer.submit(self._write, fields)

    def _write(self, fields: dict[str, Any]) -> None:
        self.journal.stamp("observation", fields=fields)


def _is_first(process: _Process, header: bytes) -> bool:
    """Return whether a message comes of a kernel that begins, or may have missed messages before it."""
    own = b'"status"' in header or b'"iopub_welcome"' in header
    if not own:
        return False
    known = process.process and process.process.encode() in header
    return not known or (bool(process.unheard) and process.unheard[0] is None)


def _last_before(message: dict[str, Any]) -> int | None:
    """Return the number of the last cell that ran before a message, None where the message does not say it."""
    content = message["content"]
    if message["msg_type"] == "execute_input" and type(content["execution_count"]) is int:
        return max(0, content["execution_count"] - 1)
    return 0 if message["msg_type"] == "status" and content["execution_state"] == "starting" else None


def _micros(moment: object) -> int:
    """Return when a message was made; when it came, where it does not say so."""
    if isinstance(moment, datetime) and moment.tzinfo is not None:
        return round(moment.timestamp() * 1e6)
    return time.time_ns() // 1000


def _started_at(pid: int | None) -> str:
    if pid is None:
        return ""
    import psutil

    try:
        return instant(datetime.fromtimestamp(psutil.Process(pid).create_time(), UTC))
    except (psutil.Error, ValueError, OverflowError):
        return ""


def observes(kernels: object) -> bool:
    """Return whether these kernels can be listened to: those of a remote gateway have no channels here."""
    return not type(kernels).__module__.startswith("jupyter_server.gateway")
