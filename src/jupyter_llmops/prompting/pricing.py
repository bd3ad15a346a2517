"""What answers cost: local ones by the machine's hour, remote ones by their tokens."""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from statistics import median
from typing import Final

from jupyter_llmops.records.completion import Generation
from jupyter_llmops.records.cost import Cost
from jupyter_llmops.records.request import InferenceRequest

ENDPOINT: Final = "endpoint"
# An English token is about four characters; what is estimated for a budget rounds up.
_CHARACTERS_PER_TOKEN: Final = 3
_RECENT: Final = 20


class Pricing:
    """Prices by the settings and, for public endpoints, by the tables of ``genai-prices``.

    Parameters
    ----------
    per_hour : callable
        Returns the price of an hour by device name, host or "cpu", in the settings' currency.
    per_million : callable
        Returns the prices of a million tokens in and out, by model name.
    currency : callable
        Returns the settings' currency.
    devices : callable
        From "cpu" or "cuda" to the names under which that device may have a price, best first.
    address : callable
        From the name of a registered endpoint to its address; empty where there is none.
    """

    def __init__(
        self,
        per_hour: Callable[[], Mapping[str, float]],
        per_million: Callable[[], Mapping[str, tuple[float, float]]],
        currency: Callable[[], str],
        devices: Callable[[str], Iterable[str]],
        address: Callable[[str], str] = lambda _name: "",
    ) -> None:
        self._per_hour = per_hour
        self._per_million = per_million
        self._currency = currency
        self._devices = devices
        self._address = address
        self._rates: dict[tuple[str, str, str], deque[float]] = {}
        self._lock = threading.Lock()

    def cost(self, request: InferenceRequest, generation: Generation) -> Cost:
        """Return what computing an answer cost; unknown stays unknown.

        Parameters
        ----------
        request : InferenceRequest
            What was asked.
        generation : Generation
            Its seconds price a local answer, its tokens a remote one.
        """
        if request.engine == ENDPOINT and not generation.tokens_in:
            return Cost(None, self._currency(), "the endpoint did not say how many tokens it took")
        listed = self._listed(request, generation.served_by, generation.tokens_in, generation.tokens_out)
        if listed is not None:
            return listed
        if request.engine == ENDPOINT:
            return _public_price(request, generation.served_by, generation.tokens_in, generation.tokens_out)
        self._learn(request, generation)
        return self._by_the_hour(request, generation.seconds, generation.served_by)

    def estimate(self, request: InferenceRequest) -> Cost:
        """Return the most that an answer may cost: all of its tokens, at the speed of the last answers.

        Parameters
        ----------
        request : InferenceRequest
            What is going to be asked.
        """
        tokens_out = request.parameters.max_new_tokens
        tokens_in = sum(len(message.content) for message in request.messages) // _CHARACTERS_PER_TOKEN + 8
        listed = self._listed(request, "", tokens_in, tokens_out)
        if listed is not None:
            return listed
        if request.engine == ENDPOINT:
            return _public_price(request, "", tokens_in, tokens_out)
        with self._lock:
            rates = self._rates.get(_speed_key(request))
            rate = median(rates) if rates else None
        if rate is None:
            return Cost(None, self._currency(), "nobody knows yet how fast this model answers here")
        return self._by_the_hour(request, tokens_out / rate, "")

    def _listed(
        self, request: InferenceRequest, served_by: str, tokens_in: int, tokens_out: int
    ) -> Cost | None:
        """Return the price that the settings name; of a pool that of whoever served, or the dearest."""
        prices = self._per_million()
        names = [name for name in _names(request) if name in prices]
        if served_by and len(_names(request)) > 1:
            names = [name for name in names if self._address(name) == served_by]
        found = []
        for name in names:
            amount = (tokens_in * prices[name][0] + tokens_out * prices[name][1]) / 1e6
            basis = f"{name}: {tokens_in} in, {tokens_out} out (LLMOps.price_per_million_tokens)"
            found.append(Cost(amount, self._currency(), basis))
        return max(found, key=lambda cost: cost.amount or 0.0, default=None)

    def _by_the_hour(self, request: InferenceRequest, seconds: float, served_by: str) -> Cost:
        prices, currency = self._per_hour(), self._currency()
        if prices:
            for name in (served_by, *self._devices(request.device)):
                if name in prices:
                    basis = f"{seconds:.2f} s of {name} at {prices[name]:g} {currency}/h"
                    return Cost(seconds * prices[name] / 3600, currency, basis)
        return Cost(
            None, currency, f"LLMOps.price_per_hour has no price for {request.device or 'this machine'}"
        )

    def _learn(self, request: InferenceRequest, generation: Generation) -> None:
        if generation.seconds <= 0 or not generation.tokens_out:
            return
        with self._lock:
            rates = self._rates.setdefault(_speed_key(request), deque(maxlen=_RECENT))
            rates.append(generation.tokens_out / generation.seconds)


def _names(request: InferenceRequest) -> list[str]:
    """Return the names under which a model may have a price; a pool's, such as ``a=3,b``, are its members'."""
    if request.engine != ENDPOINT:
        return [request.model]
    return [part.partition("=")[0] for part in request.model.split(",")]


def _speed_key(request: InferenceRequest) -> tuple[str, str, str]:
    return request.model_digest, request.quantization, request.engine


def _public_price(request: InferenceRequest, served_by: str, tokens_in: int, tokens_out: int) -> Cost:
    """Return the public price of tokens at the endpoint that served them, or the dearest that may."""
    served = _endpoints(request)
    chosen = {served_by: served.get(served_by, request.model)} if served_by else served
    found = [_look_up(url, name, tokens_in, tokens_out) for url, name in chosen.items()]
    known = [cost for cost in found if cost is not None]
    if not known:
        return Cost(
            None, "USD", f"no public price is known for {', '.join(chosen.values()) or request.model}"
        )
    return max(known, key=lambda cost: cost.amount or 0.0)


def _endpoints(request: InferenceRequest) -> dict[str, str]:
    """Return the name under which each endpoint that may answer serves the model, by its address."""
    options = dict(request.engine_options)
    alone = options.get("served_name") or request.model
    return {
        str(url): str(options.get(f"served_name{name.removeprefix('url')}") or alone)
        for name, url in options.items()
        if name.startswith("url")
    }


def _look_up(url: str, served: str, tokens_in: int, tokens_out: int) -> Cost | None:
    from genai_prices import Usage, calc_price

    try:
        price = calc_price(
            Usage(input_tokens=tokens_in, output_tokens=tokens_out), served, provider_api_url=url
        )
    except (LookupError, ValueError):
        return None
    return Cost(float(price.total_price), "USD", f"{served}: {tokens_in} in, {tokens_out} out (genai-prices)")
