"""What is in the team's catalog and in the user's own, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from jupyter_llmops.catalog import Catalog
from jupyter_llmops.errors import UnknownNameError, UsageError
from jupyter_llmops.records.collection import Collection
from jupyter_llmops.records.model import Model
from jupyter_llmops.records.prompt import Prompt

if TYPE_CHECKING:
    from jupyter_llmops.server.extension import ServerState

Record = TypeVar("Record", Model, Prompt, Collection)
Found = TypeVar("Found")


def catalogs_of(state: ServerState) -> tuple[Catalog, ...]:
    """Return the team's catalog, then the user's own unless it is the same."""
    return (state.catalog,) if state.own is state.catalog else (state.catalog, state.own)


def from_both(state: ServerState, read: Callable[[Catalog], Iterable[Record]]) -> list[Record]:
    """Return the records of both catalogs; those of the user's own are marked as private.

    Parameters
    ----------
    state : ServerState
        Holds the catalogs.
    read : callable
        Returns the records of one of them.
    """
    return [
        replace(record, private=True) if catalog is not state.catalog else record
        for catalog in catalogs_of(state)
        for record in read(catalog)
    ]


def asked_catalogs(state: ServerState, private: str) -> tuple[Catalog, ...]:
    """Return the catalogs that a name is looked up in, in that order.

    Parameters
    ----------
    state : ServerState
        Holds the catalogs.
    private : str
        The query argument: "1" is the user's own, "0" the team's, empty the own before the team's.

    Raises
    ------
    UsageError
        It is something else.
    """
    team, *own = catalogs_of(state)
    choices = {"0": (team,), "1": tuple(own) or (team,), "": (*own, team)}
    if private not in choices:
        raise UsageError(
            f"private={private[:20]} is neither 0 nor 1.",
            "1 asks the user's own catalog, 0 the team's; without it, the first that has the name.",
        )
    return choices[private]


def first_that_has(catalogs: Sequence[Catalog], read: Callable[[Catalog], Found]) -> Found:
    """Return what `read` finds in the first catalog that knows the name.

    Raises
    ------
    UnknownNameError
        None does; the hint has the names of the last.
    """
    *before, last = catalogs
    for catalog in before:
        try:
            return read(catalog)
        except UnknownNameError:
            continue
    return read(last)
