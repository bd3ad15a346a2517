"""How much an endpoint is asked, and how patiently."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

# Requests at once where nobody set a limit: what public endpoints take without complaint.
CONCURRENCY = 8


@dataclass(frozen=True, slots=True)
class EndpointPolicy:
    """The limits of one endpoint; they hold within this process.

    Parameters
    ----------
    concurrency : int or None
        Most requests at once; None is 8, in a pool shared out by weight.
    requests_per_minute, tokens_per_minute : float or None
        Most of each in any 60 s, prompt and answer tokens together; None: no limit.
    timeout : float
        Seconds of silence after which it counts as too slow.
    patience : float
        Seconds for which a row of a map is tried again.
    """

    concurrency: int | None = None
    requests_per_minute: float | None = None
    tokens_per_minute: float | None = None
    timeout: float = 120.0
    patience: float = 180.0


@dataclass(frozen=True, slots=True)
class EndpointOptions:
    """What the settings say of endpoints.

    Parameters
    ----------
    limits : mapping
        By name or host of an endpoint: fields of `EndpointPolicy`.
    http_hosts : tuple of str
        Hosts other than this machine that may be asked without encryption.
    """

    limits: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    http_hosts: tuple[str, ...] = ()

    def policy(self, name: str, host: str) -> EndpointPolicy:
        """Return the limits of an endpoint: those by its name, else those by its host, else none."""
        said = dict(self.limits.get(name) or self.limits.get(host) or {})
        concurrency = said.pop("concurrency", None)
        return EndpointPolicy(concurrency=None if concurrency is None else int(concurrency), **said)
