"""The models of the catalog: immutable rows, with what changes about them joined in."""

from __future__ import annotations

import builtins
import time
import unicodedata
from collections.abc import Iterable, Iterator
from datetime import UTC, datetime
from typing import Any

from jupyter_llmops.catalog.changes import Changes
from jupyter_llmops.catalog.connection import Connection, sql_text
from jupyter_llmops.catalog.migrations import Migrations
from jupyter_llmops.catalog.model_rows import ALIAS, COLUMNS, joined, model_of, row_of
from jupyter_llmops.catalog.names import check_name
from jupyter_llmops.catalog.places import Places
from jupyter_llmops.catalog.schemas import CHANGES, MODELS, PLACES, rows_of
from jupyter_llmops.catalog.speeds import Speeds, read_speeds
from jupyter_llmops.errors import CatalogError, UnknownNameError, UsageError
from jupyter_llmops.records.change import Change
from jupyter_llmops.records.model import Model

NOUN = "model"

# What a row may get later, when it was empty: it follows from the files and never changes again.
_FROM_FILES = ("digest", "files", "size_bytes")

# Two commits within one tick of the file system's clock (4 ms on ext4) leave the same mark, so a mark
# that is younger than this proves nothing yet.
_SETTLED_NS = 100_000_000


class Models:
    """Models that the team registered, and the aliases that point to them.

    Parameters
    ----------
    connection : Connection
        The catalog.
    migrations : Migrations
        Its schema version.
    changes : Changes
        Where aliases, retirements, descriptions and tags move.
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
        self.places = Places(connection, migrations, site, user)
        self._last: tuple[tuple[int, ...], builtins.list[Model]] | None = None

    # -- reading ------------------------------------------------------------------------------

    def list(self, *, retired: bool = False) -> builtins.list[Model]:
        """Return the models, sorted by name, as they are now.

        Parameters
        ----------
        retired : bool
            True lists what is retired too.
        """
        changes = self._changes.current(NOUN)
        places = self.places.by_model()
        rows = rows_of(self._connection.read(MODELS, COLUMNS))
        said: dict[str, dict[str, Change]] = {}
        moves: dict[str, builtins.list[Change]] = {}
        for change in changes:
            if change.name:
                said.setdefault(change.name, {})[change.field] = change
            elif change.field.startswith(ALIAS) and change.value is not None:
                moves.setdefault(str(change.value), []).append(change)
        found = [joined(model_of(row), places, said, moves) for row in rows]
        kept = [model for model in found if retired or not model.retired]
        return sorted(kept, key=lambda model: (model.name.casefold(), model.name))

    def current(self) -> builtins.list[Model]:
        """Return every model, also the retired, as it is now; from memory where nothing was published since.

        In a local folder that costs three file look-ups, in a bucket a request for each table.
        """
        marks, settled = self._marks()
        if self._last is not None and settled and self._last[0] == marks:
            return self._last[1]
        found = self.list(retired=True)
        # Marked as of before the read: a commit during it leads to another read, never to an old answer.
        self._last = (marks, found) if settled else None
        return found

    def get(self, name: str) -> Model:
        """Return the model of that name, or the one that the alias points to now.

        Raises
        ------
        UnknownNameError
            There is none; the nearest names are in the hint.
        """
        wanted = unicodedata.normalize("NFC", name)
        listed = self.current()
        for model in listed:
            if model.name == wanted:
                return model
        for model in listed:
            if wanted in model.aliases:
                return model
        raise UnknownNameError(NOUN, name, [word for m in listed for word in (m.name, *m.aliases)])

    def speeds(self, *, model: str = "", host: str = "") -> Speeds:
        """Return the measured tokens a second; see `read_speeds`."""
        return read_speeds(self._connection, model=model, host=host)

    # -- registering --------------------------------------------------------------------------

    def add(self, model: Model) -> Model:
        """Register a model; the same files under the same name again only add the place.

        A row without a digest gets it from the first add that knows it. A description and tags are
        kept beside the row, where there are none yet; aliases are not taken: `point` moves them.

        Returns
        -------
        Model
            As it is in the catalog.

        Raises
        ------
        UsageError
            The name is taken by other files, by an alias or in another case, or is not valid.
        """
        name = check_name(NOUN, model.name)
        self._migrations.prepare_write()
        known = self._find(name)
        # Looked up first: the same model is added far more often than a new one.
        if known is None:
            self._refuse_look_alike(name)
            row = row_of(model) | {
                "name": name,
                "site": model.site or self._site,
                "created_by": model.created_by or self._user,
                "created_at": model.created_at or datetime.now(UTC),
            }
            self._connection.insert_absent(MODELS, [row])
            known = self._find(name)
        if known is None:
            raise CatalogError(
                f"The model {name!r} was taken out of the catalog while it was added.", "Add it again."
            )
        known = self._completed(known, model)
        same = known.digest == model.digest if model.digest else known.source == model.source
        if not same:
            raise UsageError(
                f"There is already a model named {name!r} with other files ({known.source}).",
                f"Add it under another name, e.g. {name + '-2'!r}.",
            )
        self._keep_what_is_said(known, model)
        return next(found for found in self.list(retired=True) if found.name == name)

    def add_place(self, name: str, source: str, *, site: str = "") -> Model:
        """Say that a model's files lie at `source` of a site (this one by default) too."""
        model = self.get(name)
        self.places.add(model.name, model.digest, source, site=site)
        return self.get(model.name)

    # -- what moves ---------------------------------------------------------------------------

    def point(self, alias: str, name: str | None, *, expected: int | None = None, reason: str = "") -> Change:
        """Let an alias point to a model, or take it away; the model's row stays as it is.

        Parameters
        ----------
        alias : str
            A name that no model has.
        name : str or None
            The model's name; None takes the alias away.
        expected : int, optional
            The revision that the caller saw (0: none): where it moved since, nothing is changed.
        reason : str
            Kept in the history.

        Raises
        ------
        UsageError
            The alias is the name of a model, or no valid name.
        UnknownNameError
            There is no such model, or no such alias to take away.
        ConflictError
            Somebody moved it since `expected`.
        """
        alias = check_name("model alias", alias)
        listed = self.list(retired=True)
        pointed = {pointing for model in listed for pointing in model.aliases}
        if name is None:
            if alias not in pointed:
                raise UnknownNameError("model alias", alias, pointed)
            return self._changes.move(NOUN, "", ALIAS + alias, None, expected=expected, reason=reason)
        for model in listed:
            if model.name.casefold() == alias.casefold():
                raise UsageError(
                    f"{alias!r} can't be an alias: there is a model named {model.name!r}.",
                    f"Choose another word, e.g. {alias + '-now'!r}.",
                )
        _refuse_other_case("model alias", alias, pointed)
        target = _target(unicodedata.normalize("NFC", name), listed)
        return self._changes.move(NOUN, "", ALIAS + alias, target, expected=expected, reason=reason)

    def aliases(self) -> builtins.list[Change]:
        """Return where every alias points now, with who moved it there; sorted."""
        found = self._changes.current(NOUN, name="", field=ALIAS)
        return [change for change in found if change.value is not None]

    def history(self, name: str) -> builtins.list[Change]:
        """Return every move of an alias, or all that changed about a model, oldest first.

        Raises
        ------
        UnknownNameError
            There is neither an alias nor a model of that name, nor was there such an alias.
        """
        wanted = unicodedata.normalize("NFC", name)
        moves = self._changes.history(NOUN, "", ALIAS)
        of_alias = [move for move in moves if move.field == ALIAS + wanted]
        if of_alias:
            return of_alias
        model = self.get(wanted)
        found = [*self._changes.history(NOUN, model.name), *_to_and_from(model.name, moves)]
        return sorted(found, key=lambda change: change.created_at or datetime.min.replace(tzinfo=UTC))

    def describe(self, name: str, text: str) -> Change:
        """Say in words what a model is; an empty text takes it away."""
        return self._changes.move(NOUN, self._row_name(name), "description", text or None)

    def tag(self, name: str, tags: Iterable[str]) -> Change:
        """Set the tags of a model."""
        value = sorted({tag.strip() for tag in tags if tag.strip()})
        return self._changes.move(NOUN, self._row_name(name), "tags", value or None)

    def retire(self, name: str, reason: str = "") -> Change:
        """Hide a model from lists; it stays usable by name, and `restore` undoes it."""
        return self._changes.move(NOUN, self._row_name(name), "retired", value=True, reason=reason)

    def restore(self, name: str) -> Change:
        """Show a retired model in lists again."""
        return self._changes.move(NOUN, self._row_name(name), "retired", value=None)

    # -- within -------------------------------------------------------------------------------

    def _marks(self) -> tuple[tuple[int, ...], bool]:
        """Return numbers that differ after each commit, and whether equal ones prove that there was none."""
        tables = (MODELS, PLACES, CHANGES)
        if not self._connection.location.is_local:
            # A bucket's own marks are only asked for every few seconds; an alias must be fresh.
            versions = tuple(self._connection.version(table) for table in tables)
            return versions, versions[0] > 0
        marks = tuple(self._connection.mark(table) for table in tables)
        return marks, marks[0] > 0 and max(marks) < time.time_ns() - _SETTLED_NS

    def _row_name(self, name: str) -> str:
        wanted = unicodedata.normalize("NFC", name)
        listed = self.current()
        if any(model.name == wanted for model in listed):
            return wanted
        return _target(wanted, listed)  # says that it is an alias, or which names are near

    def _find(self, name: str) -> Model | None:
        rows = self._connection.read(MODELS, COLUMNS, where=f"name = {sql_text(name)}")
        return next((model_of(row) for row in rows_of(rows)), None)

    def _refuse_look_alike(self, name: str) -> None:
        rows = self._connection.read(MODELS, ["name"])
        _refuse_other_case(NOUN, name, () if rows is None else rows["name"].to_pylist())
        for change in self.aliases():
            alias = change.field.removeprefix(ALIAS)
            if alias.casefold() == name.casefold():
                raise UsageError(
                    f"{alias!r} is an alias of the model {change.value!r}, so no model can be named that.",
                    f"Choose another name, or type %models alias {alias} --remove first.",
                )

    def _completed(self, known: Model, model: Model) -> Model:
        """Fill in what follows from the files and was not known when the row was written."""
        same = known.digest == model.digest if known.digest else known.source == model.source
        if not model.digest or not same:
            return known
        row = row_of(model)
        for column in _FROM_FILES:
            empty = row[column] in (None, "", "[]")
            if empty or getattr(known, column) not in (None, "", ()):
                continue
            unset = (
                "size_bytes IS NULL"
                if column == "size_bytes"
                else f"({column} IS NULL OR {column} IN ('', '[]'))"
            )
            # Only where it is still empty, so that of two writers with different files one is refused.
            digest = f"digest IN ('', {sql_text(model.digest)})"
            where = f"name = {sql_text(known.name)} AND {unset} AND {digest}"
            self._connection.update(MODELS, where, {column: row[column]})
        return self._find(known.name) or known

    def _keep_what_is_said(self, known: Model, model: Model) -> None:
        site = model.site or self._site
        there = (known.site, known.source) == (site, model.source)
        if known.digest and not there:
            self.places.add(known.name, known.digest, model.source, site=site)
        if not (model.description or model.tags):
            return
        said = {change.field: change.value for change in self._changes.current(NOUN, name=known.name)}
        if model.description and not said.get("description"):
            self.describe(known.name, model.description)
        if model.tags and not said.get("tags"):
            self.tag(known.name, model.tags)


def _to_and_from(name: str, moves: Iterable[Change]) -> Iterator[Change]:
    """Yield the moves of aliases to a model and away from it."""
    before: dict[str, Any] = {}
    for move in sorted(moves, key=lambda move: move.revision):
        if name in (move.value, before.get(move.field)):
            yield move
        before[move.field] = move.value


def _target(name: str, listed: builtins.list[Model]) -> str:
    for model in listed:
        if model.name == name:
            return name
    for model in listed:
        if name in model.aliases:
            raise UsageError(
                f"{name!r} is an alias itself; it points to {model.name!r} now.",
                f"Type {model.name!r} in its place.",
            )
    raise UnknownNameError(NOUN, name, [model.name for model in listed])


def _refuse_other_case(noun: str, name: str, known: Iterable[str]) -> None:
    for other in known:
        if other != name and other.casefold() == name.casefold():
            raise UsageError(
                f"There is already a {noun} named {other!r}, which differs from {name!r} only by case.",
                f"Type {other!r}, or choose a name that can't be mixed up with it.",
            )
