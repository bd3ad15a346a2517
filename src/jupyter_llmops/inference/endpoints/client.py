"""Speaks chat completions with one endpoint."""

from __future__ import annotations

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator, Callable
from typing import Any
from urllib.request import getproxies

from jupyter_llmops.inference.endpoints import failures
from jupyter_llmops.inference.endpoints.address import Address, is_private
from jupyter_llmops.inference.endpoints.failures import AttemptFailed
from jupyter_llmops.inference.endpoints.protocol import Answer, read_chunk, read_whole

_CONNECT_SECONDS = 10.0
_MOST_BYTES = 16 << 20
# What of a body some endpoints do not know, by a word of their complaint.
_QUIRKS = ("max_completion_tokens", "stream_options")


class EndpointClient:
    """Asks one address over connections that stay open; its methods run in one event loop.

    Parameters
    ----------
    address : Address
        Checked by `address_of`.
    timeout : float
        Seconds of silence after which the endpoint counts as too slow.
    """

    def __init__(self, address: Address, timeout: float) -> None:
        import httpx2

        from jupyter_llmops.inference.endpoints.connections import DirectTransport

        self.address = address
        self._timeout = timeout
        self._url: Any = None
        self._quirks: set[str] = set()
        self._timeouts = httpx2.Timeout(timeout, connect=_CONNECT_SECONDS, pool=None)
        # No proxy stands before a machine of one's own; elsewhere the environment's counts.
        is_direct = is_private(address.host) or not _names_proxy()
        host = f"[{address.host}]" if ":" in address.host else address.host
        self._http = httpx2.AsyncClient(
            timeout=self._timeouts,
            limits=httpx2.Limits(max_connections=None, max_keepalive_connections=64),
            follow_redirects=False,  # a key must not travel to an address that nobody typed
            mounts={f"all://{host}": DirectTransport()} if is_direct else None,
            headers={"User-Agent": "jupyter-llmops", "Accept-Encoding": "identity"},
        )

    async def close(self) -> None:
        """Close its connections."""
        await self._http.aclose()

    async def ask(
        self, body: dict[str, Any], key: str, answer: Answer, on_piece: Callable[[str], None] | None = None
    ) -> None:
        """Ask once and fill `answer`, which keeps what had come when this is cancelled.

        Parameters
        ----------
        body : dict
            From `protocol.body_of`.
        key : str
            Sent as the bearer token; empty for none.
        answer : Answer
            Empty.
        on_piece : callable, optional
            Gets each piece of text as it comes; without it the answer comes in one piece.

        Raises
        ------
        AttemptFailed
            With the failure.
        """
        while True:
            failure = await self._attempt(
                self._adapted(body, stream=on_piece is not None), key, answer, on_piece
            )
            if failure is None:
                return
            if not self._learned(failure):
                raise AttemptFailed(failure)

    async def _attempt(
        self, body: dict[str, Any], key: str, answer: Answer, on_piece: Callable[[str], None] | None
    ) -> failures.Failure | None:
        import httpx2

        try:
            async with contextlib.aclosing(
                await self._http.send(self._request(body, key), stream=True)
            ) as response:
                kind = response.headers.get("content-type", "").partition(";")[0].strip().lower()
                if response.status_code != 200:
                    said = _json(await _read(response))
                    return failures.of_status(
                        self.address.base,
                        self.address.served,
                        response.status_code,
                        response.headers,
                        said,
                        key,
                    )
                if kind == "text/event-stream":
                    failure = await self._streamed(response, answer, on_piece, key)
                else:
                    failure = self._whole(_json(await _read(response)), kind, answer, on_piece, key)
        except (httpx2.HTTPError, httpx2.InvalidURL, httpx2.StreamError) as error:
            failure = failures.of_exception(self.address.base, error, self._timeout)
            if answer.pieces and isinstance(error, httpx2.ReadError | httpx2.RemoteProtocolError):
                failure = failures.cut(self.address.base, len(answer.text))
        if failure is None and (answer.refusal or answer.finish == "content_filter"):
            failure = failures.declined(self.address.base, answer.refusal, key)
        # Returned, not raised: an exception of the library would hold the request with the key in it.
        return failure

    def _request(self, body: dict[str, Any], key: str) -> Any:
        """Return a request; `AsyncClient.build_request` would read the address anew for each."""
        import httpx2

        if self._url is None:
            self._url = httpx2.URL(f"{self.address.base}/chat/completions")
        headers = [*self._http.headers.raw, (b"Content-Type", b"application/json")]
        if key:
            headers.append((b"Authorization", f"Bearer {key}".encode("ascii")))
        content = json.dumps(body, ensure_ascii=False, separators=(",", ":"), allow_nan=False)
        return httpx2.Request(
            "POST",
            self._url,
            headers=headers,
            content=content.encode(),
            extensions={"timeout": self._timeouts.as_dict()},
        )

    async def _streamed(
        self, response: Any, answer: Answer, on_piece: Callable[[str], None] | None, key: str
    ) -> failures.Failure | None:
        async for data in _events(response, self._timeout):
            if data == "[DONE]":
                break
            if response.num_bytes_downloaded > _MOST_BYTES:
                return failures.too_much(self.address.base, _MOST_BYTES)
            value = _json(data)
            if isinstance(value, dict) and value.get("error"):
                return self._said_in_answer(value, key)
            try:
                piece = read_chunk(answer, value)
            except (LookupError, TypeError, AttributeError):
                return failures.no_answer(self.address.base, "")
            if piece and on_piece is not None:
                on_piece(piece)
        return None if answer.finish else failures.cut(self.address.base, len(answer.text))

    def _whole(
        self, value: Any, kind: str, answer: Answer, on_piece: Callable[[str], None] | None, key: str
    ) -> failures.Failure | None:
        if isinstance(value, dict) and value.get("error"):
            return self._said_in_answer(value, key)
        try:
            read_whole(answer, value)
        except (LookupError, TypeError, AttributeError):
            return failures.no_answer(self.address.base, kind)
        if on_piece is not None and answer.text:
            on_piece(answer.text)
        return None

    def _said_in_answer(self, value: dict[str, Any], key: str) -> failures.Failure:
        """Return the failure of an error that came with status 200, as gateways send it."""
        error = value["error"]
        code = error.get("code") if isinstance(error, dict) else None
        status = code if isinstance(code, int) and 400 <= code < 600 else 500
        return failures.of_status(self.address.base, self.address.served, status, {}, value, key)

    def _adapted(self, body: dict[str, Any], *, stream: bool) -> dict[str, Any]:
        body = dict(body)
        if stream:
            body["stream"] = True
            if "stream_options" not in self._quirks:
                body["stream_options"] = {"include_usage": True}
        if "max_completion_tokens" in self._quirks:
            body["max_completion_tokens"] = body.pop("max_tokens")
        return body

    def _learned(self, failure: failures.Failure) -> bool:
        """Return whether the endpoint complained of a field that it wants otherwise, which is then sent so."""
        for quirk in _QUIRKS:
            if failure.kind == "request" and quirk in failure.error.message and quirk not in self._quirks:
                self._quirks.add(quirk)
                return True
        return False


def _names_proxy() -> bool:
    """Return whether the environment names a proxy for anything."""
    found = getproxies()
    return any(found.get(scheme) for scheme in ("http", "https", "all"))


async def _read(response: Any) -> bytes:
    """Return a whole body, or as much of it as an answer can have."""
    parts, size = [], 0
    async for part in response.aiter_bytes():
        size += len(part)
        if size > _MOST_BYTES:
            break
        parts.append(part)
    return b"".join(parts)


async def _events(response: Any, patience: float) -> AsyncIterator[str]:
    """Yield the data of each server-sent event; comments between them do not make it last longer.

    Raises
    ------
    httpx2.ReadTimeout
        No event came for `patience` seconds.
    """
    import httpx2

    events = aiter(httpx2.EventSource(response))
    while True:
        try:
            async with asyncio.timeout(patience):
                event = await anext(events)
        except TimeoutError:
            raise httpx2.ReadTimeout("no event") from None
        except StopAsyncIteration:
            return
        yield event.data


def _json(data: bytes | str) -> Any:
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        return None
