"""The engine that asks endpoints."""

from __future__ import annotations

import asyncio
import contextlib
import math
import queue
import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import Future
from functools import partial
from typing import Any

from jupyter_llmops.errors import (
    EndpointAnswerError,
    InferenceError,
    LLMOpsError,
    OutputSchemaError,
    UnknownNameError,
    UsageError,
)
from jupyter_llmops.inference import decoding
from jupyter_llmops.inference.credentials import secret
from jupyter_llmops.inference.endpoints.address import Address, address_of
from jupyter_llmops.inference.endpoints.client import EndpointClient
from jupyter_llmops.inference.endpoints.dispatch import (
    SHORT_PATIENCE,
    Asked,
    Dispatch,
    Member,
    Served,
    share_slots,
)
from jupyter_llmops.inference.endpoints.event_loop import LoopThread
from jupyter_llmops.inference.endpoints.gate import Gate
from jupyter_llmops.inference.endpoints.policy import EndpointOptions
from jupyter_llmops.inference.endpoints.protocol import PROTOCOL, Answer, body_of
from jupyter_llmops.inference.engine import EngineIdentity, LoadedModel, OnDone, Progress
from jupyter_llmops.records.completion import Generation
from jupyter_llmops.records.model import Model, PoolMember
from jupyter_llmops.records.request import InferenceRequest, Message

_DONE = object()
_WAKE_SECONDS = 0.2
# An English token has about four bytes of UTF-8, and each message a few tokens around it.
_BYTES_PER_TOKEN = 4
_TOKENS_PER_MESSAGE = 4


class EndpointEngine:
    """Answers through OpenAI-compatible endpoints, several requests at once.

    Parameters
    ----------
    options : callable
        Returns the limits and allowed hosts that hold now.
    """

    name = "endpoint"

    def __init__(self, options: Callable[[], EndpointOptions] = EndpointOptions) -> None:
        self._options = options
        self._loop = LoopThread()
        self._clients: dict[tuple[Address, float], EndpointClient] = {}
        self._gates: dict[str, Gate] = {}

    def identify(self, model: Model, quantization: str, *, exact: bool = False) -> EngineIdentity:
        """Return who would answer; nobody is asked.

        Raises
        ------
        UsageError
            The address can't be used, or something is asked of the endpoint that is its own to decide.
        """
        if quantization not in ("", "auto"):
            raise UsageError(
                f"The endpoint {model.name!r} decides its precision itself, so it can't be {quantization}.",
                "Leave --quant out, or type --quant auto.",
            )
        if exact:
            raise UsageError(
                f"The endpoint {model.name!r} has no exact mode.",
                "Leave --exact out, or choose a local model with -m.",
            )
        if model.adapter is not None:
            raise UsageError(
                f"No adapter can be put on the endpoint {model.name!r} from here.",
                "Register the endpoint's own name for it: %models add NAME https://host/v1#SERVED-NAME.",
            )
        if model.kind not in ("llm", "adapter"):
            raise UsageError(
                f"The model {model.name!r} can't answer prompts; it is of the kind {model.kind!r}.",
                "Choose a language model with -m.",
            )
        addresses = sorted(self._addresses(model), key=str)
        reason = f"{model.name} is served by {addresses[0].base}"
        if len(addresses) > 1:
            reason = f"{len(addresses)} endpoints share the requests"
        return EngineIdentity(self.name, PROTOCOL, "", "", reason, _options_of(addresses))

    def load(
        self,
        model: Model,
        quantization: str,
        progress: Progress | None = None,  # noqa: ARG002
        *,
        exact: bool = False,  # noqa: ARG002
    ) -> None:
        """Look that the address and the key are there; nothing is loaded and nobody is asked.

        Raises
        ------
        UsageError
            The address can't be used.
        InferenceError
            The key is not where the model's row says.
        """
        self.identify(model, quantization)
        for member in _members(model):
            secret(member.model.credential)

    def generate(
        self, request: InferenceRequest, model: Model, on_text: Callable[[str], None] | None = None
    ) -> Generation:
        """Answer one request; see `Engine.generate`.

        A failure that may pass is tried again for 15 s, at other endpoints of a pool first; not once a
        piece of text was handed to `on_text`.

        Raises
        ------
        EndpointError
            Its kind says what went wrong; see `jupyter_llmops.errors`.
        """
        events: queue.SimpleQueue[Any] = queue.SimpleQueue()
        answers: list[Answer] = []
        dispatch = self._dispatch(model, SHORT_PATIENCE)
        asked = _asked(request, model, self.identify(model, "").options)
        began = time.perf_counter()

        async def run() -> Served:
            try:
                on_piece = events.put if on_text is not None else _ignore
                return await dispatch().ask(asked, answers, on_piece, again_after_text=on_text is None)
            finally:
                events.put(_DONE)

        with self._running(run()) as future:
            try:
                for piece in _arriving(events):
                    if on_text is not None:
                        on_text(piece)
                served = future.result()
            except KeyboardInterrupt:
                return _interrupted(answers, time.perf_counter() - began)
        return _generation(served, request)

    def generate_many(self, requests: Sequence[InferenceRequest], model: Model, on_done: OnDone) -> None:
        """Answer many requests, as many at once as the limits let; see `Engine.generate_many`.

        A failure that may pass is tried again for as long as the endpoint's limits say (180 s), with
        growing rests or when the endpoint asks (``Retry-After``). An endpoint that keeps failing is left
        alone; where none is left, the remaining requests fail at once.
        """
        done: queue.SimpleQueue[Any] = queue.SimpleQueue()
        dispatch = self._dispatch(model)
        options = self.identify(model, "").options
        rows = iter(enumerate(requests))

        async def work(run: Dispatch) -> None:
            soon = asyncio.get_running_loop().call_soon
            for position, request in rows:
                outcome: Generation | LLMOpsError
                try:
                    outcome = _generation(await run.ask(_asked(request, model, options)), request)
                except LLMOpsError as error:
                    outcome = error.with_traceback(None)
                except Exception as error:  # noqa: BLE001 - what nobody foresaw is this row's, not the map's
                    outcome = EndpointAnswerError(
                        f"The answer of {model.name} could not be read: {type(error).__name__}.",
                        "Ask again; if it stays so, ask whoever runs the endpoint.",
                    )
                # When the next request is sent: whoever waits here takes the interpreter to keep this one.
                soon(done.put, (position, outcome))

        async def run_all() -> None:
            try:
                run = dispatch()
                async with asyncio.TaskGroup() as group:
                    for _ in range(min(run.slots, len(requests))):
                        group.create_task(work(run))
            finally:
                asyncio.get_running_loop().call_soon(done.put, _DONE)

        with self._running(run_all()) as future:
            try:
                for position, outcome in _arriving(done):
                    on_done(position, outcome)
                future.result()
            except KeyboardInterrupt:
                # What came meanwhile is paid for.
                with contextlib.suppress(queue.Empty):
                    for position, outcome in iter(done.get_nowait, _DONE):
                        on_done(position, outcome)
                raise

    def count_tokens(self, model: Model, messages: Sequence[Message]) -> int:  # noqa: ARG002
        """Return about how many tokens the chat has; no endpoint says it beforehand."""
        return estimated_tokens(messages)

    def score(
        self,
        model: Model,
        quantization: str,  # noqa: ARG002
        messages: Sequence[Message],  # noqa: ARG002
        choices: Sequence[str],  # noqa: ARG002
    ) -> list[float]:
        """Refuse: an endpoint does not give the probabilities of whole answers."""
        raise UsageError(
            f"The endpoint {model.name!r} gives no probabilities of choices.",
            "Choose a local model for this.",
        )

    def loaded(self) -> list[LoadedModel]:
        """Return nothing: no endpoint's model is in this memory."""
        return []

    def unload(self, name: str) -> None:
        """Refuse: no endpoint's model is in this memory."""
        raise UnknownNameError("loaded model", name, hint="An endpoint keeps its models itself.")

    def close(self) -> None:
        """Close the connections."""
        clients, self._clients = list(self._clients.values()), {}
        if not self._loop.is_fresh:
            for client in clients:
                self._loop.submit(client.close()).result(5)
            self._loop.stop()

    def _addresses(self, model: Model) -> list[Address]:
        allowed = self._options().http_hosts
        return [address_of(member.model, allowed) for member in _members(model)]

    def _dispatch(self, model: Model, patience: float | None = None) -> Callable[[], Dispatch]:
        """Read the keys in this thread; what is returned makes the run in the loop's."""
        options = self._options()
        entries = _members(model)
        keys = [secret(entry.model.credential) for entry in entries]
        addresses = self._addresses(model)
        if self._loop.is_fresh:  # clients belong to a loop
            self._clients, self._gates = {}, {}
        policies = [
            options.policy(entry.model.name, address.host)
            for entry, address in zip(entries, addresses, strict=True)
        ]
        slots = share_slots([entry.weight for entry in entries], [policy.concurrency for policy in policies])
        members = []
        for entry, key, address, policy, most in zip(entries, keys, addresses, policies, slots, strict=True):
            client = self._clients.get((address, policy.timeout))
            if client is None:
                client = self._clients[address, policy.timeout] = EndpointClient(address, policy.timeout)
            names = [name for name in (entry.model.name, address.host) if name in options.limits]
            name = names[0] if names else str(address)
            gate = self._gates.get(name)
            if gate is None or gate.policy != policy:
                gate = self._gates[name] = Gate(policy)
            members.append(Member(client, gate, key, entry.weight, most))
        longest = max(policy.patience for policy in policies)
        return lambda: Dispatch(members, longest if patience is None else patience)

    @contextlib.contextmanager
    def _running(self, work: Any) -> Iterator[Future[Any]]:
        future = self._loop.submit(work)
        try:
            yield future
        finally:
            future.cancel()


def _asked(request: InferenceRequest, model: Model, options: tuple[tuple[str, Any], ...]) -> Asked:
    check_parameters(request, model)
    if request.engine_options != options:
        raise InferenceError(
            f"The request is for another endpoint than {model.name!r} is now.", "Ask again with %%prompt."
        )
    tokens = estimated_tokens(request.messages) + request.parameters.max_new_tokens
    return Asked(partial(body_of, request), tokens)


def check_parameters(request: InferenceRequest, model: Model) -> None:
    """Refuse parameters that can't be used, or that endpoints do not know.

    Raises
    ------
    UsageError
        The message names it.
    """
    for name, _ in request.parameters.extra:
        if name in decoding.ALLOWED and name not in decoding.ENDPOINT_ALLOWED:
            raise UsageError(
                f"The endpoint {model.name!r} does not know the parameter {name!r}.",
                f"Valid are {', '.join(decoding.ENDPOINT_ALLOWED)}.",
            )
    decoding.check_parameters(request.parameters, decoding.ENDPOINT_ALLOWED)


def estimated_tokens(messages: Sequence[Message]) -> int:
    """Return about how many tokens a chat has, by its bytes."""
    return sum(
        _TOKENS_PER_MESSAGE + math.ceil(len(message.content.encode("utf-8", "replace")) / _BYTES_PER_TOKEN)
        for message in messages
    )


def _arriving(items: queue.SimpleQueue[Any]) -> Iterator[Any]:
    """Yield what arrives until the end; wakes up now and then, as a lock does not let every Ctrl-C through."""
    while True:
        with contextlib.suppress(queue.Empty):
            item = items.get(timeout=_WAKE_SECONDS)
            if item is _DONE:
                return
            yield item


def _members(model: Model) -> tuple[PoolMember, ...]:
    return model.pool or (PoolMember(model),)


def _options_of(addresses: Sequence[Address]) -> tuple[tuple[str, str], ...]:
    """Return what of endpoints decides an answer: any of these addresses and names may give it."""
    if len(addresses) == 1:
        return (("served_name", addresses[0].served), ("url", addresses[0].base))
    urls = {f"url{number}": address.base for number, address in enumerate(addresses, start=1)}
    names = {f"served_name{number}": address.served for number, address in enumerate(addresses, start=1)}
    if len(set(names.values())) == 1:
        names = {"served_name": addresses[0].served}
    return tuple(sorted((urls | names).items()))


def _ignore(_: str) -> None:
    """Take a piece of text that nobody waits for; it is streamed all the same, so that Ctrl-C keeps it."""


def _generation(served: Served, request: InferenceRequest) -> Generation:
    answer = served.answer
    if request.output_schema and answer.finish_reason == "stop":
        from jupyter_llmops.inference.constrained import parse

        try:
            parse(request.output_schema, answer.text)
        except OutputSchemaError as error:
            error.answer = answer.text
            raise
    return Generation(
        text=answer.text,
        token_ids=(),
        tokens_in=answer.tokens_in,
        seconds=served.seconds,
        finish_reason=answer.finish_reason,
        tokens_out=answer.tokens_out,
        served_by=served.base,
        served_version=answer.version,
    )


def _interrupted(answers: Sequence[Answer], seconds: float) -> Generation:
    answer = answers[-1] if answers else Answer()
    return Generation(
        text=answer.text,
        token_ids=(),
        tokens_in=answer.tokens_in,
        seconds=seconds,
        finish_reason="interrupted",
        tokens_out=answer.tokens_out or len(answer.pieces),
        served_version=answer.version,
    )
