"""Models as rows of the catalog, and what changes about them joined in."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, get_args

from jupyter_llmops.catalog.places import STORAGE_SITE
from jupyter_llmops.catalog.schemas import NOT_UNDERSTOOD
from jupyter_llmops.records.change import Change
from jupyter_llmops.records.model import Model, ModelFile, ModelFormat, ModelKind, Place

ALIAS = "alias:"
_TEXTS = (
    "name", "kind", "source", "digest", "family", "license", "site", "created_by", "format", "base",
    "base_digest", "data_digest", "signed_by", "credential",
)  # fmt: skip
_NUMBERS = ("parameters", "context_length", "size_bytes")
COLUMNS = (*_TEXTS, *_NUMBERS, "created_at", "quantizations", "files")


def row_of(model: Model) -> dict[str, Any]:
    """Return the row of a model: what never changes of it."""
    return {column: getattr(model, column) for column in (*_TEXTS, *_NUMBERS, "created_at")} | {
        "quantizations": [*model.quantizations],
        "files": json.dumps([[f.path, f.size_bytes, f.sha256] for f in model.files], ensure_ascii=False),
    }


def model_of(row: Mapping[str, Any]) -> Model:
    """Return the model of a row; columns that an older catalog lacks stay empty."""
    values: dict[str, Any] = {column: row.get(column) or "" for column in _TEXTS}
    values |= {column: row.get(column) for column in (*_NUMBERS, "created_at")}
    values["quantizations"] = tuple(said for said in row.get("quantizations") or () if said)
    values["files"] = _files(row.get("files"))
    # What this version does not know is nothing that it could load.
    values["kind"] = values["kind"] if values["kind"] in get_args(ModelKind) else "classic"
    values["format"] = values["format"] if values["format"] in get_args(ModelFormat) else ""
    return Model(**values)


def _files(text: str | None) -> tuple[ModelFile, ...]:
    try:
        return tuple(
            ModelFile(str(p), int(size), str(digest)) for p, size, digest in json.loads(text or "[]")
        )
    except NOT_UNDERSTOOD:
        return ()  # not of this package's making; the digest is what counts


def joined(
    model: Model,
    places: Mapping[tuple[str, str], list[Place]],
    said: Mapping[str, Mapping[str, Change]],
    moves: Mapping[str, list[Change]],
) -> Model:
    """Return a model with its places, with what is said of it, and with the aliases that point to it.

    Parameters
    ----------
    model : Model
        From `model_of`.
    places : mapping
        From `Places.by_model`.
    said : mapping
        By name of a model: the newest change of each of its fields.
    moves : mapping
        By name of a model: the moves of the aliases that point to it now.
    """
    now = {field: change.value for field, change in said.get(model.name, {}).items()}
    first = Place(model.site, model.source, model.created_by, model.created_at)
    others = [
        p
        for p in places.get((model.name, model.digest), ())
        if (p.site, p.source) != (first.site, first.source)
    ]
    pointing = moves.get(model.name, [])
    return dataclasses.replace(
        model,
        aliases=tuple(sorted(move.field.removeprefix(ALIAS) for move in pointing)),
        moves=tuple(sorted(pointing, key=lambda move: move.field)),
        retired=bool(now.get("retired")),
        description=str(now.get("description") or ""),
        tags=tuple(str(tag) for tag in now.get("tags") or ()),
        places=(first, *others),
    )


def in_storage(model: Model) -> bool:
    """Return whether a model's files lie in the team's storage."""
    return any(place.site == STORAGE_SITE for place in model.places)
