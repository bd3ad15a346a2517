"""The models of a user's own catalog beside the team's."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from jupyter_llmops.records.model import Model


def are_one(own: Model, theirs: Model) -> bool:
    """Return whether a model of the user's own catalog is the team's: it was published, or is not private."""
    if own.name != theirs.name:
        return False
    if own.digest and theirs.digest:
        return own.digest == theirs.digest
    return own.source == theirs.source  # an endpoint has no digest, and a hub's model none until it was used


def with_own_aliases(team: list[Model], own: list[Model]) -> list[Model]:
    """Return the team's models with the user's own aliases, which come before the team's of that name."""
    mine = {alias for model in own for alias in model.aliases}
    if not mine:
        return team
    merged = []
    for model in team:
        kept = tuple(alias for alias in model.aliases if alias not in mine)
        moves = tuple(move for move in model.moves if move.field.removeprefix("alias:") not in mine)
        published = [one for one in own if are_one(one, model)]
        merged.append(
            replace(
                model,
                aliases=(*kept, *(alias for one in published for alias in one.aliases)),
                moves=(*moves, *(replace(move, private=True) for one in published for move in one.moves)),
            )
        )
    return merged
