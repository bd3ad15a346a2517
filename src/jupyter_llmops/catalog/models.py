"""The models of the catalog."""

from __future__ import annotations

import builtins
from datetime import UTC, datetime
from typing import Any

from jupyter_llmops.catalog.connection import Connection, sql_text
from jupyter_llmops.catalog.migrations import Migrations
from jupyter_llmops.catalog.names import check_name
from jupyter_llmops.catalog.schemas import MODELS, rows_of
from jupyter_llmops.errors import CatalogError, UnknownNameError, UsageError
from jupyter_llmops.records.model import Model

_FIELDS = (
    "name", "kind", "source", "digest", "family", "license", "parameters", "context_length", "size_bytes",
    "site", "created_by", "created_at",
)  # fmt: skip


class Models:
    """Models that the team registered.

    Parameters
    ----------
    connection : Connection
        The catalog.
    migrations : Migrations
        Its schema version.
    site, user : str
        Recorded with every new row.
    """

    def __init__(self, connection: Connection, migrations: Migrations, site: str, user: str) -> None:
        self._connection = connection
        self._migrations = migrations
        self._site = site
        self._user = user

    def list(self) -> builtins.list[Model]:
        """Return every model, sorted by name."""
        rows = self._connection.read(MODELS, _FIELDS)
        found = [_model(row) for row in rows_of(rows)]
        return sorted(found, key=lambda model: (model.name.casefold(), model.name))

    def get(self, name: str) -> Model:
        """Return the model of that name.

        Raises
        ------
        UnknownNameError
            There is none; the nearest names are in the hint.
        """
        found = self._find(check_name("model", name))
        if found is None:
            raise UnknownNameError("model", name, [model.name for model in self.list()])
        return found

    def add(self, model: Model) -> Model:
        """Register a model; the same digest under the same name again changes nothing.

        A row without a digest gets it from the first add that knows it. Aliases are not kept here:
        they move, rows don't.

        Returns
        -------
        Model
            As it is in the catalog.

        Raises
        ------
        UsageError
            The name is taken by other files, or not valid.
        """
        name = check_name("model", model.name)
        self._migrations.prepare_write()
        row = {field: getattr(model, field) for field in _FIELDS} | {
            "name": name,
            "site": model.site or self._site,
            "created_by": model.created_by or self._user,
            "created_at": model.created_at or datetime.now(UTC),
        }
        # Looked up first: the same model is added far more often than a new one.
        known = self._find(name)
        if known is None:
            self._connection.insert_absent(MODELS, [row])
            known = self._find(name)
        if known is None:
            raise CatalogError(
                f"The model {name!r} was taken out of the catalog while it was added.", "Add it again."
            )
        if model.digest and not known.digest and known.source == model.source:
            known = self._set_digest(name, model.digest)
        if known.digest != model.digest and (model.digest or known.source != model.source):
            raise UsageError(
                f"There is already a model named {name!r} with other files ({known.source}).",
                f"Add it under another name, e.g. {name + '-2'!r}.",
            )
        return known

    def _set_digest(self, name: str, digest: str) -> Model:
        # Only where it is still empty, so that of two writers with different files one is refused.
        self._connection.update(MODELS, f"name = {sql_text(name)} AND digest = ''", {"digest": digest})
        return self.get(name)

    def _find(self, name: str) -> Model | None:
        rows = self._connection.read(MODELS, _FIELDS, where=f"name = {sql_text(name)}")
        return next((_model(row) for row in rows_of(rows)), None)


def _model(row: dict[str, Any]) -> Model:
    optional = {"parameters", "context_length", "size_bytes", "created_at"}
    values: dict[str, Any] = {}
    for name in _FIELDS:
        value = row.get(name)
        values[name] = "" if value is None and name not in optional else value
    return Model(**values)
