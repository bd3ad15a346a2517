"""Several endpoints that answer as one: ``a=3,b`` gives a three times as much as b."""

from __future__ import annotations

import re
from collections.abc import Callable

from jupyter_llmops.errors import UsageError
from jupyter_llmops.inference.endpoints.address import is_endpoint
from jupyter_llmops.records.model import Model, PoolMember

_ITEM = re.compile(r"\s*(?P<name>[^=,]*[^=,\s])\s*(?:=\s*(?P<weight>[^,=]*?)\s*)?")


def is_pool(text: str) -> bool:
    """Return whether a text can only be a pool: several names, or a weight."""
    return "," in text or "=" in text


def parse_pool(text: str) -> list[tuple[str, float]]:
    """Return the names and weights of a pool as it is typed, e.g. ``a=3,b``.

    Raises
    ------
    UsageError
        It can't be read, or a weight is not above 0.
    """
    found: list[tuple[str, float]] = []
    for item in text.split(","):
        match = _ITEM.fullmatch(item)
        weight = _weight(match["weight"]) if match else None
        if match is None or weight is None:
            raise UsageError(
                f"{item.strip() or text!r} is not an endpoint with its weight.",
                "Type names of registered endpoints, each with a weight above 0 if you like: a=3,b",
            )
        found.append((match["name"], weight))
    names = [name for name, _ in found]
    twice = next((name for name in names if names.count(name) > 1), "")
    if twice:
        raise UsageError(f"The endpoint {twice!r} is named twice.", f"Give it a weight instead: {twice}=2")
    return found


def pool_of(text: str, resolve: Callable[[str], Model]) -> Model:
    """Return the pool that a text names as one model; a single name is that endpoint's model.

    Parameters
    ----------
    text : str
        As in `parse_pool`.
    resolve : callable
        From a name to its `Model`.

    Raises
    ------
    UsageError
        It can't be read, or names a model that no endpoint serves.
    UnknownNameError
        There is no such model.
    """
    members = []
    for name, weight in parse_pool(text):
        model = resolve(name)
        if not is_endpoint(model) or model.pool:
            raise UsageError(
                f"The model {name!r} is not served by an endpoint, so it can't be part of a pool.",
                "Register one: %models add NAME https://host/v1#SERVED-NAME.",
            )
        members.append(PoolMember(model, weight))
    if len(members) == 1:
        return members[0].model
    return pool_model(members)


def pool_model(members: list[PoolMember]) -> Model:
    """Return endpoints with their weights as one model; what all of them say of themselves stays."""
    models = [member.model for member in members]
    windows = [model.context_length for model in models]
    name = ",".join(
        member.model.name if member.weight == 1 else f"{member.model.name}={member.weight:g}"
        for member in members
    )
    return Model(
        name=name,
        kind="llm",
        source="pool:" + " ".join(sorted(model.source.removeprefix("endpoint:") for model in models)),
        format="endpoint",
        context_length=None if None in windows else min(window for window in windows if window is not None),
        pool=tuple(members),
    )


def _weight(text: str | None) -> float | None:
    if text is None:
        return 1.0
    try:
        weight = float(text)
    except ValueError:
        return None
    return weight if 0 < weight < 1e6 else None
