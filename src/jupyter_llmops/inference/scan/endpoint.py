"""Models that an OpenAI-compatible endpoint serves."""

from __future__ import annotations

import http.client
import json
import socket
import threading
import urllib.error
import urllib.request
from collections.abc import Iterator, Mapping
from typing import Any
from urllib.parse import SplitResult, urlsplit

from jupyter_llmops.errors import InferenceError, UsageError
from jupyter_llmops.inference.credentials import check_reference, secret
from jupyter_llmops.inference.endpoints.address import is_private
from jupyter_llmops.inference.scan.reading import count, one_line, slug, text
from jupyter_llmops.records.model import Model, ModelKind

SECONDS = 15.0
_MOST_BYTES = 16 << 20
_MOST_MODELS = 10_000
# What vLLM, SGLang, llama.cpp, LM Studio, OpenRouter and others call it; llama.cpp's is in "meta".
_CONTEXT_KEYS = (
    "max_model_len",
    "context_length",
    "context_window",
    "max_context_length",
    "n_ctx",
    "n_ctx_train",
)


class _NoRedirect(urllib.request.HTTPRedirectHandler):
    """Follows nothing: a key must not travel to an address that nobody typed."""

    def redirect_request(self, *_: Any, **__: Any) -> None:
        return None


def models_of_endpoint(address: str, credential: str = "", seconds: float = SECONDS) -> Iterator[Model]:
    """Yield the models that ``GET ADDRESS/models`` lists.

    Parameters
    ----------
    address : str
        ``https://host/v1``. Without encryption (http) a key is sent to private addresses only.
    credential : str
        Where the key is: ``env:NAME`` or ``keyring:SERVICE/USER``; empty for none.
    seconds : float
        The whole answer must be there by then.

    Raises
    ------
    UsageError
        The address can't be used.
    InferenceError
        The endpoint did not answer, or not with a list of models.
    """
    parts = _checked(address, check_reference(credential))
    base = f"{parts.scheme}://{parts.netloc}{parts.path.rstrip('/').removesuffix('/models')}"
    answer = _ask(f"{base}/models", secret(credential), seconds)
    listed = answer.get("data") if isinstance(answer, dict) else answer
    if not isinstance(listed, list):
        raise InferenceError(
            f"The endpoint {base} answers, but not with a list of models.", "Its address often ends in /v1."
        )
    for entry in listed[:_MOST_MODELS]:
        if isinstance(entry, dict) and text(entry.get("id")):
            yield _model(base, entry, credential)


def _model(base: str, entry: Mapping[str, Any], credential: str) -> Model:
    meta = entry.get("meta")
    facts = {**(meta if isinstance(meta, dict) else {}), **entry}
    served, owner = text(entry["id"]), text(entry.get("owned_by"))
    lengths = [count(facts.get(key)) for key in _CONTEXT_KEYS]
    parent = text(entry.get("parent"))
    return Model(
        name=slug(served.rstrip("/").rpartition("/")[2]),
        kind=_kind(served, entry, parent),
        source=f"endpoint:{base}#{served}",
        format="endpoint",
        parameters=count(facts.get("n_params")),
        context_length=next(filter(None, lengths), None),
        size_bytes=count(facts.get("size")),
        base=parent,
        credential=credential,
        description=f"Served by {urlsplit(base).netloc}" + (f", owned by {owner}" if owner else ""),
    )


def _kind(served: str, entry: Mapping[str, Any], parent: str) -> ModelKind:
    said = f"{text(entry.get('type'))} {text(entry.get('task'))} {served}".casefold()
    if "embed" in said:
        return "encoder"
    return "adapter" if parent else "llm"


def _checked(address: str, credential: str) -> SplitResult:
    try:
        parts = urlsplit(address)
        host, _ = parts.hostname, parts.port
    except ValueError:
        host = None
    if not host or any(c.isspace() or not c.isprintable() for c in address):
        raise UsageError("The address of an endpoint can't be read.", "Type it as https://host/v1.")
    if parts.username or parts.password or parts.query or parts.fragment:
        # Not repeated: a key in it must not reach the outputs.
        raise UsageError(
            f"The address of the endpoint at {host} holds a user, a query or a fragment.",
            "Type https://host/v1, and the key's place with --credential env:NAME.",
        )
    if parts.scheme == "http" and credential and not is_private(host):
        raise UsageError(
            f"The endpoint at {host} is not encrypted (http), so no key is sent to it.",
            "Use https, or leave the credential out.",
        )
    return parts


def _ask(url: str, key: str, seconds: float) -> Any:
    """Return the JSON of an answer, in a thread: a server that trickles bytes can't outlast `seconds`."""
    result: list[Any] = []

    def work() -> None:
        try:
            result.append(_get(url, key, seconds))
        except Exception as error:  # noqa: BLE001 - raised in the calling thread
            result.append(error)

    thread = threading.Thread(target=work, daemon=True, name="llmops-endpoint")
    thread.start()
    thread.join(seconds)
    if not result:
        raise InferenceError(
            f"The endpoint {url} did not answer within {seconds:g} s.", "Check that it runs, then scan again."
        )
    if isinstance(result[0], InferenceError):
        raise result[0]
    if isinstance(result[0], Exception):
        raise InferenceError(
            f"The endpoint {url} can't be reached: {_why(result[0])}.", "Check its address and that it runs."
        ) from None
    return result[0]


def _get(url: str, key: str, seconds: float) -> Any:
    headers = {"Accept": "application/json", "User-Agent": "jupyter-llmops"}
    if key:
        headers["Authorization"] = f"Bearer {key}"
    handlers: list[urllib.request.BaseHandler] = [_NoRedirect()]
    if is_private(urlsplit(url).hostname or ""):
        handlers.append(urllib.request.ProxyHandler({}))  # no proxy stands before a machine of one's own
    request = urllib.request.Request(url, headers=headers)  # noqa: S310 - http or https, checked
    try:
        with urllib.request.build_opener(*handlers).open(request, timeout=seconds) as response:
            data = response.read(_MOST_BYTES + 1)
            kind = response.headers.get_content_type()
    except urllib.error.HTTPError as error:
        raise _refusal(url, error.code, bool(key)) from None
    if len(data) > _MOST_BYTES:
        raise InferenceError(f"The answer of the endpoint {url} is larger than 16 MiB.")
    try:
        return json.loads(data)
    except (ValueError, RecursionError):
        said = "a web page" if "html" in kind else "something that is not JSON"
        raise InferenceError(
            f"The endpoint {url} answers with {said}.", "Its address often ends in /v1; scan that."
        ) from None


def _refusal(url: str, status: int, with_key: bool) -> InferenceError:
    if status in {401, 403}:
        hint = (
            "Check the key in the place that the credential names."
            if with_key
            else "Name the place of its key with --credential env:NAME."
        )
        return InferenceError(f"The endpoint {url} refuses to list its models ({status}).", hint)
    if status in {404, 405}:
        return InferenceError(
            f"There is no list of models at {url} ({status}).", "Its address often ends in /v1; scan that."
        )
    if 300 <= status < 400:
        return InferenceError(
            f"The endpoint {url} sends on to another address ({status}), which is not followed.",
            "Scan the address that it is really at.",
        )
    return InferenceError(f"The endpoint {url} failed ({status}).", "Try again later.")


def _why(error: Exception) -> str:
    """Return what went wrong on the way, without anything that the request held."""
    reason = error.reason if isinstance(error, urllib.error.URLError) else error
    if isinstance(reason, TimeoutError):
        return "it did not answer in time"
    if isinstance(reason, ConnectionRefusedError):
        return "nothing listens there (connection refused)"
    if isinstance(reason, socket.gaierror):
        return "its name is not known"
    if isinstance(reason, http.client.HTTPException | OSError):
        return one_line(f"{type(reason).__name__} {getattr(reason, 'strerror', '') or ''}")
    return type(reason).__name__
