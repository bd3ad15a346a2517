"""What went wrong at an endpoint, as one sentence, and what to do about it."""

from __future__ import annotations

import re
import socket
import ssl
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from typing import Any, Literal

from jupyter_llmops.errors import (
    ContextError,
    EndpointAnswerError,
    EndpointError,
    EndpointLimitError,
    EndpointRefusedError,
    EndpointUnreachableError,
    InferenceError,
)

# The request alone is at fault; it may go better later; the endpoint can't be used as it is set up.
Kind = Literal["request", "passing", "lasting"]
_TOO_LONG = re.compile(
    r"context.{0,20}length|maximum context|too many tokens|exceeds?.{0,30}context", re.IGNORECASE
)
_SECRET = re.compile(r"(?i)\b(?:sk|pk|rk|key|hf|gsk|xai)[-_][\w*.-]{6,}|bearer\s+\S+")


@dataclass(frozen=True, slots=True)
class Failure:
    """Why an attempt came to nothing.

    Parameters
    ----------
    error : InferenceError
        For the user.
    kind : {"request", "passing", "lasting"}
        Whether another attempt, or another request, may do better.
    wait : float or None
        Seconds after which the endpoint asked to come back; None where it did not.
    """

    error: InferenceError
    kind: Kind
    wait: float | None = None


class AttemptFailed(Exception):  # noqa: N818 - carries a Failure inside this folder only
    """Carries a `Failure` up to whoever decides about the next attempt."""

    def __init__(self, failure: Failure) -> None:
        super().__init__(failure.error.message)
        self.failure = failure


def of_status(
    base: str, served: str, status: int, headers: Mapping[str, str], body: Any, key: str
) -> Failure:
    """Return the failure that a status other than 200 means.

    Parameters
    ----------
    base, served : str
        The endpoint's address and the model's name there.
    status : int
        Of HTTP, or the code in an error that came with status 200.
    headers : mapping
        Of the answer.
    body : object
        Its JSON, or None where it is none.
    key : str
        Taken out of whatever the endpoint says.
    """
    said = _said(body, key)
    wait = seconds_to_wait(headers)
    if status in {401, 403}:
        hint = "Check the key in the place that its --credential names." if key else (
            "Name the place of its key: %models add NAME ADDRESS --credential env:NAME."
        )  # fmt: skip
        return Failure(
            EndpointRefusedError(f"The endpoint {base} refuses access ({status}).", hint), "lasting"
        )
    if status == 404 or "model_not_found" in _codes(body):
        return Failure(
            EndpointRefusedError(
                f"The endpoint {base} knows no model {served!r} ({status}).",
                f"Type %models scan {base} to see what it serves.",
            ),
            "lasting",
        )
    if status == 429 and "insufficient_quota" not in _codes(body):
        return Failure(limit_error(base, wait), "passing", wait)
    if status in {402, 429}:
        return Failure(
            EndpointLimitError(
                f"The quota at the endpoint {base} is used up ({status}).", "Top it up, or use another."
            ),
            "lasting",
        )
    if 300 <= status < 400:
        return Failure(
            EndpointAnswerError(
                f"The endpoint {base} sends on to another address ({status}), which is not followed.",
                "Add it with the address that it is really at.",
            ),
            "lasting",
        )
    if status in {408, 409, 425} or status >= 500:
        return Failure(
            EndpointUnreachableError(f"The endpoint {base} failed ({status}){said}.", "Try again later."),
            "passing",
            wait,
        )
    if status in {400, 413} and (_TOO_LONG.search(said) or "context_length_exceeded" in _codes(body)):
        return Failure(
            ContextError(
                f"Prompt and answer are too long for {served!r}{said}.", "Shorten the prompt, or lower -n."
            ),
            "request",
        )
    return Failure(
        EndpointError(f"The endpoint {base} refuses this request ({status}){said}.", "Change what it names."),
        "request",
    )


def of_exception(base: str, error: BaseException, timeout: float) -> Failure:
    """Return the failure that an exception of the HTTP library means; nothing of the request gets into it."""
    import httpx2

    causes = list(_causes(error))
    if any(isinstance(cause, ssl.SSLCertVerificationError) for cause in causes):
        return Failure(
            EndpointUnreachableError(
                f"The certificate of the endpoint {base} is not trusted.",
                "Have its authority added to this system, or name its file in SSL_CERT_FILE.",
            ),
            "lasting",
        )
    if any(isinstance(cause, socket.gaierror) for cause in causes):
        return Failure(
            EndpointUnreachableError(
                f"The host of the endpoint {base} is not known.", "Check its address and the network."
            ),
            "passing",
        )
    check = "Check that it runs, then run the cell again."
    if isinstance(error, httpx2.ConnectTimeout):
        said = "can't be reached: no answer to the connection"
    elif isinstance(error, httpx2.TimeoutException):
        said, check = f"is too slow: it was silent for {timeout:g} s", (
            "Give it longer: %config LLMOps.endpoint_limits = {'NAME': {'timeout': 600}}"
        )  # fmt: skip
    elif isinstance(error, httpx2.ProxyError):
        said, check = (
            "can't be reached: the proxy refused",
            "Check HTTPS_PROXY, or name the host in NO_PROXY.",
        )
    elif isinstance(error, httpx2.ConnectError):
        said = "is down: nothing listens there"
    elif isinstance(error, httpx2.TransportError):
        return cut(base)
    else:
        return Failure(
            EndpointAnswerError(
                f"The endpoint {base} sends what HTTP does not know ({type(error).__name__}).", check
            ),
            "lasting",
        )
    return Failure(EndpointUnreachableError(f"The endpoint {base} {said}.", check), "passing")


def cut(base: str, characters: int = 0) -> Failure:
    """Return the failure that an answer that ends in the middle is."""
    where = f" after {characters:,} characters of the answer" if characters else ""
    return Failure(
        EndpointUnreachableError(f"The endpoint {base} cut the connection{where}.", "Run the cell again."),
        "passing",
    )


def no_answer(base: str, content_type: str) -> Failure:
    """Return the failure that a web page, or anything else that is no chat completion, is."""
    what = "a web page" if "html" in content_type else "something that is no chat completion"
    return Failure(
        EndpointAnswerError(f"The endpoint {base} answers with {what}.", "Its address often ends in /v1."),
        "lasting",
    )


def too_much(base: str, most: int) -> Failure:
    """Return the failure that a stream without an end is."""
    return Failure(
        EndpointAnswerError(
            f"The endpoint {base} sent more than {most >> 20} MiB for one answer, so it was cut off.",
            "Lower -n, or look at what the endpoint does.",
        ),
        "request",
    )


def declined(base: str, refusal: str, key: str) -> Failure:
    """Return the failure that a declined or filtered answer is."""
    said = f": {clean(refusal, key)}" if refusal else ""
    return Failure(
        EndpointAnswerError(
            f"The endpoint {base} declined to answer this prompt{said}.", "Change the prompt."
        ),
        "request",
    )


def seconds_to_wait(headers: Mapping[str, str]) -> float | None:
    """Return after how many seconds to come back, by ``Retry-After`` (RFC 9110, 10.2.3); None: not said.

    A date counts from the endpoint's own ``Date``, so that a wrong clock here does no harm.
    """
    for name, unit in (("retry-after-ms", 1e-3), ("retry-after", 1.0)):
        try:
            seconds = float(headers[name]) * unit
        except (KeyError, ValueError):
            continue
        if 0 <= seconds < 1e7:
            return seconds
    until, now = _date(headers.get("retry-after", "")), _date(headers.get("date", ""))
    if until is None:
        return None
    return max(0.0, (until - (now or datetime.now(UTC))).total_seconds())


def clean(text: str, key: str) -> str:
    """Return what an endpoint says as one short line without keys."""
    if key:
        text = text.replace(key, "…")
    line = " ".join("".join(c if c.isprintable() else " " for c in text[:4000]).split())
    line = _SECRET.sub("…", line)
    return line if len(line) <= 200 else f"{line[:199]}…"


def limit_error(base: str, wait: float | None) -> EndpointLimitError:
    """Return the error of an endpoint that takes no more for so many seconds (None: not said)."""
    when = "" if wait is None else f" and asks to come back in {wait:,.0f} s"
    return EndpointLimitError(
        f"The endpoint {base} takes no more requests for now (429){when}.",
        "Run the cell again then: what is answered is kept. Fewer at once: "
        "%config LLMOps.endpoint_limits = {'NAME': {'concurrency': 2}}",
    )


def _date(text: str) -> datetime | None:
    try:
        found = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)


def _error(body: Any) -> Any:
    return (body.get("error") or body) if isinstance(body, dict) else body


def _codes(body: Any) -> str:
    error = _error(body)
    return f"{error.get('code')} {error.get('type')}" if isinstance(error, dict) else ""


def _said(body: Any, key: str) -> str:
    error = _error(body)
    if isinstance(error, dict):
        error = error.get("message") or error.get("detail") or error.get("error")
    return f": {clean(error, key).rstrip('.')}" if isinstance(error, str) and error.strip() else ""


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    while error is not None:
        yield error
        error = error.__cause__ or error.__context__
