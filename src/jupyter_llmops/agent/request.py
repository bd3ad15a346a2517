"""One HTTP request to the Jupyter server of this kernel, and to nobody else."""

from __future__ import annotations

import http.client
import ipaddress
import json
import ssl
import urllib.error
import urllib.parse
import urllib.request
from dataclasses import dataclass
from typing import Any

_TIMEOUT_SECONDS = 5.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back: whether it was welcome, the HTTP status (0 without one) and why not."""

    ok: bool
    status: int = 0
    reason: str = ""


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """A redirect would carry the token elsewhere."""

    def redirect_request(self, *_: Any) -> None:
        return None


def ask(url: str, token: str, route: str, body: dict[str, str] | None = None) -> Answer:
    """Send one request past every proxy and redirect; never raises for what the network does.

    Parameters
    ----------
    url : str
        The server's address, http or https, with a slash at its end.
    token : str
        Sent in a header, never in the address; may be empty.
    route : str
        Below ``jupyter-llmops/``.
    body : dict, optional
        Sent as JSON in a POST; without it, a GET.
    """
    data = None if body is None else json.dumps(body).encode()
    headers = {"Content-Type": "application/json"} | ({"Authorization": f"token {token}"} if token else {})
    try:
        request = urllib.request.Request(  # noqa: S310 - the caller found an http or https address
            f"{url}jupyter-llmops/{route}", data, headers, method="GET" if data is None else "POST"
        )
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}), _NoRedirect(), *_https(url))
        with opener.open(request, timeout=_TIMEOUT_SECONDS) as answer:
            answer.read()
            return Answer(ok=200 <= answer.status < 300, status=answer.status)
    except urllib.error.HTTPError as error:
        error.close()
        return Answer(ok=False, status=error.code, reason=f"{error.code} {error.reason}")
    except (OSError, ValueError, http.client.HTTPException) as error:
        return Answer(ok=False, reason=str(getattr(error, "reason", error)) or type(error).__name__)


def _https(url: str) -> list[urllib.request.BaseHandler]:
    """Return how to speak TLS to the server.

    A server on this very machine mostly has a certificate that it signed itself; what goes over
    the loopback can't be listened to by others, so it is not checked there. Elsewhere it is.
    """
    if not url.startswith("https:"):
        return []
    context = ssl.create_default_context()
    if _is_loopback(urllib.parse.urlsplit(url).hostname or ""):
        context.check_hostname = False
        context.verify_mode = ssl.CERT_NONE
    return [urllib.request.HTTPSHandler(context=context)]


def _is_loopback(host: str) -> bool:
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False
