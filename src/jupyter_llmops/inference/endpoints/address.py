"""Where an endpoint is, and whether prompts may travel there."""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable, Collection
from dataclasses import dataclass
from urllib.parse import urlsplit

from jupyter_llmops.errors import LLMOpsError, UsageError
from jupyter_llmops.records.model import Model

PREFIX = "endpoint:"


@dataclass(frozen=True, slots=True)
class Address:
    """One model of one endpoint.

    Parameters
    ----------
    base : str
        E.g. ``https://host/v1``, without credentials and without a slash at the end.
    served : str
        The name by which the endpoint knows the model.
    """

    base: str
    served: str

    @property
    def host(self) -> str:
        """The host's name, lower case, without a port."""
        return urlsplit(self.base).hostname or ""

    def __str__(self) -> str:
        return f"{self.base}#{self.served}"


def is_endpoint(model: Model) -> bool:
    """Return whether a model is served by endpoints: one, or a pool of them."""
    return bool(model.pool) or model.source.startswith(PREFIX)


def base_of(name: str, resolve: Callable[[str], Model], allowed_hosts: Collection[str] = ()) -> str:
    """Return where the endpoint of a model's name is; empty where the name means none any more.

    Parameters
    ----------
    name : str
        Of a registered endpoint.
    resolve : callable
        From a name to its `Model`.
    allowed_hosts : collection of str
        As in `address_of`.
    """
    try:
        return address_of(resolve(name), allowed_hosts).base
    except LLMOpsError:
        return ""


def address_of(model: Model, allowed_hosts: Collection[str] = ()) -> Address:
    """Return where an endpoint's model is served.

    Parameters
    ----------
    model : Model
        With a source ``endpoint:https://host/v1#served-name``.
    allowed_hosts : collection of str
        Hosts that may be asked without encryption; this machine always may.

    Raises
    ------
    UsageError
        The address can't be read, holds a secret, or is not encrypted.
    """
    base, _, served = model.source.removeprefix(PREFIX).partition("#")
    again = f"Add it again: %models add {model.name} https://host/v1#SERVED-NAME."
    try:
        parts = urlsplit(base)
        host, _ = parts.hostname, parts.port
    except ValueError:
        parts, host = None, None
    if parts is None or not host or parts.scheme not in ("http", "https") or not served:
        raise UsageError(f"The address of the endpoint {model.name!r} can't be read.", again)
    if parts.username or parts.password or parts.query:
        # Not repeated: a key in it must not reach the outputs.
        raise UsageError(
            f"The address of the endpoint {model.name!r} holds a user or a query.",
            f"{again[:-1]} --credential env:NAME.",
        )
    if parts.scheme == "http" and not is_loopback(host) and host not in allowed_hosts:
        raise UsageError(
            f"The endpoint {model.name!r} at {host} is not encrypted (http): prompts and keys would travel in the open.",
            f"Use https, or allow it: %config LLMOps.http_endpoints = [{host!r}]",
        )
    return Address(base.rstrip("/"), served)


def host_of(model: Model) -> str:
    """Return the host of an endpoint, lower case; empty for other models and where it can't be read."""
    if not model.source.startswith(PREFIX):
        return ""
    try:
        return urlsplit(model.source.removeprefix(PREFIX).partition("#")[0]).hostname or ""
    except ValueError:
        return ""


def is_loopback(host: str) -> bool:
    """Return whether a host's name or address is this machine; no name is looked up."""
    try:
        return ipaddress.ip_address(host.strip("[]")).is_loopback
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")


def is_private(host: str) -> bool:
    """Return whether every address of a host is of this machine or a private network."""
    try:
        found = {str(info[4][0]).partition("%")[0] for info in socket.getaddrinfo(host, None)}
    except (OSError, UnicodeError):
        return False
    return bool(found) and all(ipaddress.ip_address(address).is_private for address in found)
