"""What is in the team's catalog and in the user's own, side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from typing import TYPE_CHECKING, TypeVar

from jupyter_llmops.catalog import Catalog
from jupyter_llmops.records.collection import Collection
from jupyter_llmops.records.model import Model
from jupyter_llmops.records.prompt import Prompt

if TYPE_CHECKING:
    from jupyter_llmops.server.extension import ServerState

Record = TypeVar("Record", Model, Prompt, Collection)


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
