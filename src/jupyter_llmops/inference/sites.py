"""Which model answers where: ``--site`` and ``--backend`` as a choice among registered endpoints.

The site of an endpoint is what ``%models add --site`` said, or its host; all else runs on this machine.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from jupyter_llmops.errors import UsageError
from jupyter_llmops.inference.backends.specification import BACKENDS, is_backend
from jupyter_llmops.inference.endpoints.address import host_of, is_endpoint, is_loopback
from jupyter_llmops.inference.endpoints.pool import is_pool, parse_pool
from jupyter_llmops.records.model import Model


def site_of(model: Model, here: str) -> str:
    """Return the site of a model that is being registered.

    Parameters
    ----------
    model : Model
        Without a site of its own.
    here : str
        The name of this host or site.
    """
    host = host_of(model)
    return host if host and not is_loopback(host) else here


def sites_of(model: Model, here: str) -> tuple[str, ...]:
    """Return the names of the sites at which a model answers, the registered one first."""
    if not is_endpoint(model):
        return (here,)
    host = host_of(model)
    # 127.0.0.1 of another machine is not the one that would be asked from here.
    named = (here,) if is_loopback(host) else (model.site, host)
    return tuple(dict.fromkeys(name for name in named if name))


def placed_model(model: str, *, backend: str, site: str, registered: Sequence[Model], here: str) -> str:
    """Return the name of the model, or the pool of endpoints, that answers.

    Parameters
    ----------
    model : str
        Name of the model that was asked for.
    backend : str
        As it was typed: endpoints such as ``a=3,b`` take the place of `model`.
    site : str
        Only what answers there may be used; empty for anywhere.
    registered : sequence of Model
        The models of the catalogs.
    here : str
        The name of this host or site.

    Raises
    ------
    UsageError
        The backend names something that is no endpoint, or nothing at that site answers; the message names
        what there is.
    """
    rows = {alias: row for row in registered for alias in row.aliases} | {row.name: row for row in registered}
    by_backend = bool(backend.strip()) and not is_backend(backend)
    asked = backend.strip() if by_backend else model
    if by_backend:
        _check_endpoints(asked, rows)
    if not site:
        return asked
    if not by_backend and backend.strip().partition(":")[0].lower() in ("dask", "ray"):
        raise UsageError(
            f"Where the workers of {backend!r} are can't be chosen by site.", "Leave --site or --backend out."
        )
    members = parse_pool(asked) if asked not in rows and is_pool(asked) else [(asked, 1.0)]
    there = [(name, weight) for name, weight in members if _is_at(rows.get(name), site, here)]
    if len(there) == len(members):
        return asked
    if not there:
        wanted = {called for name, _ in members for called in _called(name, rows.get(name))}
        same = [row for row in registered if _is_at(row, site, here) and _serves(row, wanted)]
        there = [(row.name, 1.0) for row in same]
    if not there:
        raise _nothing_there(asked, site, registered, here)
    return ",".join(name if weight == 1 else f"{name}={weight:g}" for name, weight in there)


def _check_endpoints(text: str, rows: dict[str, Model]) -> None:
    for name, _ in parse_pool(text):
        if name not in rows or not is_endpoint(rows[name]):
            known = sorted({row.name for row in rows.values() if is_endpoint(row) and not row.retired})
            listed = f" or registered endpoints ({', '.join(known)})" if known else ""
            raise UsageError(
                f"There is no backend and no endpoint named {name!r}.",
                f"Type {', '.join(BACKENDS)}{listed}; %models add NAME https://host/v1#SERVED-NAME registers one.",
            )


def _is_at(model: Model | None, site: str, here: str) -> bool:
    names = (here,) if model is None else sites_of(model, here)
    return site.casefold() in {name.casefold() for name in names}


def _called(name: str, row: Model | None) -> set[str]:
    """Return what a model is called in any place: by its own, its served and its base's name."""
    names = [name] if row is None else [name, row.source.partition("#")[2], row.base]
    return {one.rpartition("/")[2].casefold() for one in names if one}


def _serves(row: Model, wanted: set[str]) -> bool:
    """Return whether an endpoint serves a model of one of these names."""
    if row.retired or not is_endpoint(row) or row.kind != "llm":
        return False
    return bool(wanted & _called("", row))


def _nothing_there(asked: str, site: str, registered: Iterable[Model], here: str) -> UsageError:
    by_site: dict[str, list[str]] = {here: []}
    for row in registered:
        if is_endpoint(row) and not row.retired:
            by_site.setdefault(sites_of(row, here)[0], []).append(row.name)
    known = {name.casefold() for name in by_site}
    sites = [f"{name} ({', '.join(models) or 'this machine'})" for name, models in sorted(by_site.items())]
    if len(sites) == 1:
        hint = f"The only site is {sites[0]}."
    else:
        hint = f"The sites are {', '.join(sites[:-1])} and {sites[-1]}. Choose one of their models with -m."
    message = f"Nothing at the site {site!r} answers for {asked!r}."
    if site.casefold() not in known:
        message = f"There is no site {site!r}."
    return UsageError(message, hint)
