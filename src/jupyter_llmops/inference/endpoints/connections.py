"""Connections to one endpoint without a proxy: HTTP/1.1 by h11 over asyncio's own sockets.

httpx2's own transport costs about twice the processor time for a request, and gives way to other tasks
between head and body: of rows whose answers come together none is asked anew before all are read.
"""
# ruff: noqa: TID253 - it imports httpx2, and only the client does this, inside a function

from __future__ import annotations

import asyncio
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from ssl import SSLContext
from typing import Any, Final

import h11
import httpx2

_MOST_HEAD_BYTES: Final = 100 * 1024
# Public endpoints close what is idle for longer; httpx2 has the same number.
_IDLE_SECONDS: Final = 5.0
_MOST_IDLE: Final = 64
_HAPPY_EYEBALLS_SECONDS: Final = 0.25  # RFC 8305


class DirectTransport(httpx2.AsyncBaseTransport):
    """Sends httpx2's requests for one address over connections that stay open; of one event loop."""

    def __init__(self) -> None:
        self._idle: list[_Connection] = []
        self._tls: SSLContext | None = None

    async def handle_async_request(self, request: httpx2.Request) -> httpx2.Response:
        """Return the answer as soon as its head is there.

        Raises
        ------
        httpx2.TransportError
            As httpx2's own transport raises them.
        """
        timeouts = request.extensions.get("timeout", {})
        content = await request.aread()
        connection = self._idle_one() or await self._connect(request.url, timeouts.get("connect"))
        try:
            await connection.send(request, content, timeouts.get("write"))
            head = await connection.head(timeouts.get("read"))
        except BaseException:
            connection.close()
            raise
        return httpx2.Response(
            head.status_code,
            headers=list(head.headers),
            stream=_Body(self, connection, timeouts.get("read")),
            extensions={"http_version": b"HTTP/" + head.http_version, "reason_phrase": head.reason},
        )

    async def aclose(self) -> None:
        """Close the connections that nobody uses."""
        while self._idle:
            self._idle.pop().close()

    def give_back(self, connection: _Connection) -> None:
        """Keep a connection for the next request, where its answer was read to the end."""
        if len(self._idle) < _MOST_IDLE and connection.rests():
            self._idle.append(connection)
        else:
            connection.close()

    def _idle_one(self) -> _Connection | None:
        """Return the connection that was used last: the others are the first to grow too old."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_usable():
                return connection
            connection.close()
        return None

    async def _connect(self, url: httpx2.URL, limit: float | None) -> _Connection:
        if url.scheme == "https" and self._tls is None:
            self._tls = httpx2.create_ssl_context()
            self._tls.set_alpn_protocols(["http/1.1"])
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(limit):
                _, connection = await loop.create_connection(
                    _Connection,
                    url.raw_host.decode("ascii"),
                    url.port or (443 if url.scheme == "https" else 80),
                    ssl=self._tls if url.scheme == "https" else None,
                    happy_eyeballs_delay=_HAPPY_EYEBALLS_SECONDS,
                )
        except TimeoutError as error:
            raise httpx2.ConnectTimeout(str(error)) from error
        except OSError as error:
            raise httpx2.ConnectError(str(error)) from error
        return connection


class _Connection(asyncio.Protocol):
    """One connection: a request, then its answer, then the next one."""

    def __init__(self) -> None:
        self._state = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MOST_HEAD_BYTES)
        self._socket: asyncio.Transport | None = None
        self._is_open = False
        self._rests_since: float | None = None
        self._arrived: list[bytes] = []
        self._lost: Exception | None = None
        self._readable: asyncio.Future[None] | None = None
        self._writable: asyncio.Future[None] | None = None

    # What asyncio tells

    def connection_made(self, transport: Any) -> None:
        self._socket, self._is_open = transport, True

    def data_received(self, data: bytes) -> None:
        if self._rests_since is not None:  # nobody asked: it must not become the next request's answer
            self.close()
            return
        self._arrived.append(data)
        _wake(self._readable)

    def eof_received(self) -> None:
        self._is_open = False
        _wake(self._readable)

    def connection_lost(self, exc: Exception | None) -> None:
        self._is_open, self._lost = False, exc
        _wake(self._readable)
        _wake(self._writable)

    def pause_writing(self) -> None:
        self._writable = asyncio.get_running_loop().create_future()

    def resume_writing(self) -> None:
        _wake(self._writable)
        self._writable = None

    # What the transport asks

    async def send(self, request: httpx2.Request, content: bytes, limit: float | None) -> None:
        """Send a request at once, and wait only for what the system does not take."""
        assert self._socket is not None
        self._rests_since = None
        with _as_httpx2():
            head = h11.Request(
                method=request.method, target=request.url.raw_path, headers=request.headers.raw
            )
            parts = [self._state.send(head), self._state.send(h11.Data(data=content))]
            parts.append(self._state.send(h11.EndOfMessage()))
        self._socket.write(b"".join(part for part in parts if part))
        if self._writable is not None:
            async with _limited(limit, httpx2.WriteTimeout):
                await self._writable

    async def head(self, limit: float | None) -> h11.Response:
        """Return the head of the answer."""
        while True:
            event = await self._event(limit)
            if isinstance(event, h11.Response):
                return event
            if not isinstance(event, h11.InformationalResponse):
                raise httpx2.RemoteProtocolError("Server disconnected without sending a response.")

    async def body(self, limit: float | None) -> AsyncIterator[bytes]:
        """Yield the body as it comes."""
        while isinstance(event := await self._event(limit), h11.Data):
            yield bytes(event.data)

    def rests(self) -> bool:
        """Make it ready for the next request; return whether it can be."""
        if self._state.our_state is not h11.DONE or self._state.their_state is not h11.DONE:
            return False
        self._state.start_next_cycle()
        self._rests_since = time.monotonic()
        return self._is_open and not self._arrived and self._state.trailing_data == (b"", False)

    def is_usable(self) -> bool:
        """Return whether it can still be used after its rest."""
        return (
            self._is_open
            and self._rests_since is not None
            and time.monotonic() - self._rests_since < _IDLE_SECONDS
        )

    def close(self) -> None:
        """Close it now; what was not sent is dropped."""
        self._is_open = False
        if self._socket is not None:
            self._socket.abort()

    async def _event(self, limit: float | None) -> Any:
        while True:
            with _as_httpx2():
                event = self._state.next_event()
            if event is not h11.NEED_DATA:
                return event
            data = await self._read(limit)
            if not data and self._state.their_state is h11.SEND_RESPONSE:
                raise httpx2.RemoteProtocolError("Server disconnected without sending a response.")
            with _as_httpx2():
                self._state.receive_data(data)

    async def _read(self, limit: float | None) -> bytes:
        """Return what came; empty at the end."""
        if not self._arrived and self._is_open:
            self._readable = asyncio.get_running_loop().create_future()
            async with _limited(limit, httpx2.ReadTimeout):
                await self._readable
        if not self._arrived and self._lost is not None:
            raise httpx2.ReadError(str(self._lost)) from self._lost
        data = b"".join(self._arrived)
        self._arrived.clear()
        return data


class _Body(httpx2.AsyncByteStream):
    """The body of an answer; closing it gives the connection back."""

    def __init__(self, owner: DirectTransport, connection: _Connection, limit: float | None) -> None:
        self._owner = owner
        self._connection: _Connection | None = connection
        self._limit = limit

    async def __aiter__(self) -> AsyncIterator[bytes]:
        if self._connection is not None:
            async for part in self._connection.body(self._limit):
                yield part

    async def aclose(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            self._owner.give_back(connection)


def _wake(waiting: asyncio.Future[None] | None) -> None:
    if waiting is not None and not waiting.done():
        waiting.set_result(None)


@asynccontextmanager
async def _limited(limit: float | None, kind: type[httpx2.TimeoutException]) -> AsyncIterator[None]:
    try:
        async with asyncio.timeout(limit):
            yield
    except TimeoutError as error:
        raise kind(str(error)) from error


@contextmanager
def _as_httpx2() -> Iterator[None]:
    try:
        yield
    except h11.RemoteProtocolError as error:
        raise httpx2.RemoteProtocolError(str(error)) from error
    except h11.LocalProtocolError as error:
        raise httpx2.LocalProtocolError(str(error)) from error
