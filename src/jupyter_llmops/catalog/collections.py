"""The collections of the catalog: which there are, what their vectors mean, which table holds them now."""

from __future__ import annotations

import builtins
import contextlib
import json
import operator
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import UTC, datetime
from typing import Any

from jupyter_llmops.catalog.changes import Changes
from jupyter_llmops.catalog.connection import Connection
from jupyter_llmops.catalog.items import Items, items_table
from jupyter_llmops.catalog.migrations import Migrations
from jupyter_llmops.catalog.names import check_name
from jupyter_llmops.catalog.schemas import CHANGES, COLLECTIONS, NOT_UNDERSTOOD, rows_of
from jupyter_llmops.errors import CatalogError, UnknownNameError, UsageError
from jupyter_llmops.records.change import Change
from jupyter_llmops.records.collection import Chunking, Collection, EmbeddingSpace

NOUN = "collection"
_MOST_DIMENSIONS = 1 << 16
_FIELDS = ("name", "space", "chunking", "created_by", "created_at", "site")


class NotUnderstoodError(CatalogError):
    """A row of a collection that this package did not write."""


@dataclass(frozen=True, slots=True)
class Standing:
    """Where the passages of a collection are now; moved by compare-and-set, as one change.

    Parameters
    ----------
    table : str
        Their table.
    space : EmbeddingSpace
        What its vectors mean.
    revision : int
        Of this change; 0 until the collection was migrated for the first time.
    closing : str
        The encoder that a migration is about to switch to; nothing may be added meanwhile. Empty else.
    closed_by : str
        Who migrates.
    """

    table: str
    space: EmbeddingSpace
    revision: int = 0
    closing: str = ""
    closed_by: str = ""


class Collections:
    """Vector stores that the team shares.

    Parameters
    ----------
    connection : Connection
        The catalog.
    migrations : Migrations
        Its schema version.
    changes : Changes
        Which table counts, what is retired, what is said of it.
    site, user : str
        Recorded with every new row.
    """

    def __init__(
        self, connection: Connection, migrations: Migrations, changes: Changes, site: str, user: str
    ) -> None:
        self._connection = connection
        self._migrations = migrations
        self._changes = changes
        self._site = site
        self._user = user
        self._seen_rows: tuple[int, dict[str, dict[str, Any]]] = (-1, {})
        self._seen_changes: tuple[int, dict[str, dict[str, Change]]] = (-1, {})

    def list(self) -> builtins.list[Collection]:
        """Return every collection sorted by name, retired ones too."""
        found = []
        for row in self._rows().values():
            # One that can't be understood says so when it is asked for; the others are listed.
            with contextlib.suppress(NotUnderstoodError):
                found.append(self._described(row))
        return sorted(found, key=lambda collection: (collection.name.casefold(), collection.name))

    def names(self) -> builtins.list[str]:
        """Return the names of all collections, retired ones too, without opening any."""
        return sorted(self._rows())

    def get(self, name: str) -> Collection:
        """Return the collection of that name.

        Raises
        ------
        UnknownNameError
            There is none; the nearest names are in the hint.
        """
        return self._described(self._row(name))

    def create(self, name: str, space: EmbeddingSpace, chunking: Chunking) -> Collection:
        """Create a collection where there is none of that name; the one that is there stays as it is.

        Parameters
        ----------
        name : str
            Anything printable; it never becomes the name of a file.
        space : EmbeddingSpace
            What its vectors mean.
        chunking : Chunking
            How its documents are cut, from now on.

        Raises
        ------
        UsageError
            The name is not valid, or another one differs from it by case only.
        """
        name = check_name(NOUN, name)
        for known in self.names():
            if known != name and known.casefold() == name.casefold():
                raise UsageError(
                    f"There is a collection {known!r}, which differs from {name!r} by case only.",
                    f"Type {known!r}, or choose another name.",
                )
        self._migrations.prepare_write()
        # The table first: a collection that is listed can be searched.
        self._items(items_table(name, space.digest), space).create()
        row = {
            "name": name,
            "space": json.dumps(asdict(space), ensure_ascii=False, sort_keys=True),
            "chunking": json.dumps(asdict(chunking), sort_keys=True),
            "created_by": self._user,
            "created_at": datetime.now(UTC),
            "site": self._site,
        }
        self._connection.insert_absent(COLLECTIONS, [row])
        return self.get(name)

    def prepare_write(self) -> None:
        """Refuse what can only be read, before work is done for it.

        Raises
        ------
        CatalogError
            It is a snapshot, or a newer version of the package wrote the catalog.
        """
        self._migrations.prepare_write()

    def standing(self, name: str) -> Standing:
        """Return where the passages of a collection are now."""
        row = self._row(name)
        return _standing(row, self._moves(row["name"]))

    def items(self, name: str) -> Items:
        """Return the passages of a collection as they are searched now."""
        standing = self.standing(name)
        return self.items_at(standing)

    def items_at(self, standing: Standing) -> Items:
        """Return the passages that a standing names."""
        return self._items(standing.table, standing.space)

    def prepare(self, name: str, space: EmbeddingSpace) -> Items:
        """Return the table of a collection in another space, made where it is not there yet."""
        self._migrations.prepare_write()
        items = self._items(items_table(self._row(name)["name"], space.digest), space)
        items.create()
        return items

    def move(self, name: str, standing: Standing, *, reason: str = "") -> Standing:
        """Let another table count, or close the one that does for a moment.

        Parameters
        ----------
        standing : Standing
            What is to be; its revision is the one that the caller saw.

        Raises
        ------
        ConflictError
            Somebody moved it meanwhile.
        """
        row = self._row(name)
        value = {"table": standing.table, "space": asdict(standing.space)}
        if standing.closing:
            value["closing"] = {"to": standing.closing, "by": self._user}
        change = self._changes.move(
            NOUN, row["name"], "table", value, expected=standing.revision, reason=reason
        )
        return replace(standing, revision=change.revision, closed_by=self._user if standing.closing else "")

    def retire(self, name: str, reason: str = "") -> Collection:
        """Hide a collection from lists; it can still be searched by name."""
        self._changes.move(NOUN, self._row(name)["name"], "retired", True, reason=reason)
        return self.get(name)

    def restore(self, name: str) -> Collection:
        """Show a retired collection again."""
        self._changes.move(NOUN, self._row(name)["name"], "retired", None)
        return self.get(name)

    def describe(
        self, name: str, description: str | None = None, tags: Sequence[str] | None = None
    ) -> Collection:
        """Say what a collection is about; what is None stays as it is."""
        name = self._row(name)["name"]
        if description is not None:
            self._changes.move(NOUN, name, "description", description or None)
        if tags is not None:
            self._changes.move(NOUN, name, "tags", sorted(set(tags)) or None)
        return self.get(name)

    def history(self, name: str) -> builtins.list[Change]:
        """Return every migration, retirement and description of a collection, oldest first."""
        return self._changes.history(NOUN, self._row(name)["name"])

    # -- within -------------------------------------------------------------------------------

    def _row(self, name: str) -> dict[str, Any]:
        row = self._rows().get(unicodedata.normalize("NFC", name))
        if row is None:
            raise UnknownNameError(NOUN, name, self.names())
        return row

    def _rows(self) -> dict[str, dict[str, Any]]:
        """Return the rows of all collections by name, read again only when a commit came."""
        # Asked before the rows are read: what comes in between is read once more, never missed.
        version = self._connection.version(COLLECTIONS)
        if version != self._seen_rows[0]:
            rows = rows_of(self._connection.read(COLLECTIONS, _FIELDS))
            self._seen_rows = (version, {row["name"]: row for row in rows if row["name"]})
        return self._seen_rows[1]

    def _moves(self, name: str) -> dict[str, Change]:
        """Return the newest change of each of a collection's fields, read again only when a commit came."""
        version = self._connection.version(CHANGES)
        if version != self._seen_changes[0]:
            found: dict[str, dict[str, Change]] = {}
            for change in self._changes.current(NOUN):
                found.setdefault(change.name, {})[change.field] = change
            self._seen_changes = (version, found)
        return self._seen_changes[1].get(name, {})

    def _items(self, table: str, space: EmbeddingSpace) -> Items:
        return Items(self._connection, table, space.dimension, self._site, self._user)

    def _described(self, row: Mapping[str, Any]) -> Collection:
        changes = self._moves(row["name"])
        standing = _standing(row, changes)
        items = self.items_at(standing)
        chunks, documents = items.count()

        def said(field: str) -> Any:
            return changes[field].value if field in changes else None

        return Collection(
            name=row["name"],
            space=standing.space,
            chunking=_chunking(row),
            items=chunks,
            documents=documents,
            index=items.index(),
            metadata=tuple(items.columns()),
            description=said("description") or "",
            tags=tuple(str(tag) for tag in said("tags") or ()),
            created_by=row["created_by"] or "",
            created_at=row["created_at"],
            site=row["site"] or "",
            retired=bool(said("retired")),
        )


def _standing(row: Mapping[str, Any], changes: Mapping[str, Change]) -> Standing:
    try:
        moved = changes.get("table")
        value = (moved.value if moved else None) or {"space": json.loads(row["space"])}
        space = EmbeddingSpace(**value["space"])
        if not 0 < operator.index(space.dimension) <= _MOST_DIMENSIONS:
            raise ValueError("no dimension")
        closing = value.get("closing") or {}
        return Standing(
            # Computed, never taken from the row: nothing that others wrote becomes the name of a file.
            items_table(row["name"], space.digest),
            space,
            moved.revision if moved else 0,
            str(closing.get("to", "")),
            str(closing.get("by", "")),
        )
    except NOT_UNDERSTOOD as error:
        raise _not_understood(row) from error


def _chunking(row: Mapping[str, Any]) -> Chunking:
    try:
        return Chunking(**json.loads(row["chunking"]))
    except NOT_UNDERSTOOD as error:
        raise _not_understood(row) from error


def _not_understood(row: Mapping[str, Any]) -> NotUnderstoodError:
    return NotUnderstoodError(
        f"The catalog's row of the collection {row['name']!r} can't be understood.",
        "Nothing was changed. A newer version of jupyter_llmops may have written it.",
    )
