"""The saved prompts of the catalog: immutable versions, addressed by content, and what is said of them."""

from __future__ import annotations

import builtins
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from typing import TypedDict, Unpack

from jupyter_llmops.catalog.changes import Changes, Counting
from jupyter_llmops.catalog.connection import Connection, sql_text
from jupyter_llmops.catalog.migrations import Migrations
from jupyter_llmops.catalog.names import check_name
from jupyter_llmops.catalog.prompt_content import (
    ALIAS,
    FIELDS,
    check_size,
    content_digest,
    examples_to_json,
    prompt_of,
    row_of,
    with_changes,
)
from jupyter_llmops.catalog.schemas import PROMPTS, rows_of, understood
from jupyter_llmops.errors import UnknownNameError, UsageError
from jupyter_llmops.records.change import Change
from jupyter_llmops.records.prompt import Example, Prompt, Variable
from jupyter_llmops.records.request import Scalar

NOUN = "prompt"
LATEST = "latest"
"""What always means the newest version, and so is no alias."""


class PromptContent(TypedDict, total=False):
    """What a prompt has besides its template; see `Prompts.save`."""

    system: str
    model: str
    parameters: Mapping[str, Scalar] | Iterable[tuple[str, Scalar]]
    variables: Iterable[str]
    description: str
    declarations: Iterable[Variable]
    includes: Mapping[str, str] | None
    version: int | None


class Prompts:
    """Prompts that the team saved.

    Parameters
    ----------
    connection : Connection
        The catalog.
    migrations : Migrations
        Its schema version.
    changes : Changes
        What moves.
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

    def list(self, *, retired: bool = False) -> builtins.list[Prompt]:
        """Return the newest version of every prompt, sorted by name; the retired ones only when asked for."""
        rows = self._connection.read(PROMPTS, FIELDS)
        if rows is None:
            return []
        newest: dict[str, tuple[int, int]] = {}
        pairs = zip(rows["name"].to_pylist(), rows["version"].to_pylist(), strict=True)
        for position, (name, version) in enumerate(pairs):
            if name is not None and version is not None:
                newest[name] = max(newest.get(name, (0, 0)), (version, position))
        if not newest:
            return []
        # Only the newest become Python objects: there may be many more versions than prompts.
        chosen = rows.take([position for _, position in newest.values()])
        readable = understood(rows_of(chosen), prompt_of)
        for name in newest.keys() - {prompt.name for prompt in readable}:
            readable += _newest(self._read(name))
        found = self._joined(readable)
        kept = [prompt for prompt in found if retired or not prompt.retired]
        return sorted(kept, key=lambda prompt: (prompt.name.casefold(), prompt.name))

    def versions(self, name: str) -> builtins.list[Prompt]:
        """Return every version of a prompt, oldest first.

        Raises
        ------
        UnknownNameError
            There is no prompt of that name; the nearest names are in the hint.
        """
        found = self._read(name)
        if not found:
            raise UnknownNameError(NOUN, name, self.names())
        return sorted(self._joined(found, name), key=lambda prompt: prompt.version)

    def get(self, name: str, version: int | str | None = None) -> Prompt:
        """Return one version of a prompt, the newest by default.

        Parameters
        ----------
        name : str
            What the prompt is called.
        version : int or str, optional
            A number, an alias, or "latest".

        Raises
        ------
        UnknownNameError
            There is no such prompt, version or alias; what there is, is in the hint.
        """
        if version in (None, "", LATEST):
            newest = self._connection.read(
                PROMPTS, FIELDS, where=_named(name), newest_by=["version"], limit=1
            )
            found = understood(rows_of(newest), prompt_of) or _newest(self._read(name))
            if not found:
                raise UnknownNameError(NOUN, name, self.names())
            return self._joined(found, name)[0]
        number = self._pointed(name, version) if isinstance(version, str) else version
        found = [] if number is None else self._read(name, number)
        if found:
            return self._joined(found, name)[0]
        raise self._unknown_version(name, str(version), alias=isinstance(version, str))

    def publish(self, name: str, template: str, **content: Unpack[PromptContent]) -> Prompt:
        """Save a prompt as `save` does and return it."""
        return self.save(name, template, **content)[0]

    def save(
        self,
        name: str,
        template: str,
        *,
        system: str = "",
        model: str = "",
        parameters: Mapping[str, Scalar] | Iterable[tuple[str, Scalar]] = (),
        variables: Iterable[str] = (),
        description: str = "",
        declarations: Iterable[Variable] = (),
        includes: Mapping[str, str] | None = None,
        version: int | None = None,
    ) -> tuple[Prompt, bool]:
        """Save a prompt; content that was saved under this name before keeps its version.

        Parameters
        ----------
        name : str
            What a user types.
        template, system : str
            Jinja2 sources of the user and the system message.
        model : str
            Model to run it with; empty means the default.
        parameters : mapping or pairs
            Generation parameters to run it with.
        variables : iterable of str
            Names that the two templates need.
        description : str
            For people; no part of the content.
        declarations : iterable of Variable
            Types and defaults.
        includes : mapping, optional
            From ``NAME@VERSION`` to the digest of what the templates include.
        version : int, optional
            The number that it should get where it is above all others: that of the catalog which it
            comes from.

        Returns
        -------
        (Prompt, bool)
            With its version number, which no other content of this name has; whether it is new.

        Raises
        ------
        UsageError
            The name or a value is not valid, or another name differs by case only.
        CatalogError
            It can't be written.
        """
        name = unicodedata.normalize("NFC", name)
        settled = tuple(sorted(dict(parameters).items()))
        declared = tuple(sorted(declarations, key=lambda variable: variable.name))
        included = dict(sorted((includes or {}).items()))
        check_size(template, system)
        prompt = Prompt(
            name=name,
            version=0,
            digest=content_digest(template, system, model, settled, declared, included),
            template=template,
            system=system,
            variables=tuple(variables),
            model=model,
            parameters=settled,
            description=description,
            created_by=self._user,
            site=self._site,
            declarations=declared,
            includes=tuple(included),
        )
        self._migrations.prepare_write()
        counting = Counting(f"The prompt {name!r}")
        while True:
            known = self._digests(name)
            same = min((number for number, other in known.items() if other == prompt.digest), default=None)
            if same is not None:
                return self.get(name, same), False
            counting.check(max(known, default=0))
            following = max(known, default=0) + 1
            prompt = replace(prompt, version=max(version or 0, following), created_at=datetime.now(UTC))
            if self._connection.insert_absent(PROMPTS, [row_of(prompt)]):
                return self._joined([prompt], name)[0] if known else prompt, True
            # Another writer took this number first: look what it saved, then try the next.

    def names(self) -> set[str]:
        """Return the name of every prompt, the retired ones too."""
        rows = self._connection.read(PROMPTS, ["name"])
        return set() if rows is None else set(rows["name"].to_pylist()) - {None}

    # -- what moves ---------------------------------------------------------------------------

    def aliases(self, name: str) -> dict[str, Change]:
        """Return where the aliases of a prompt point; those that were taken away are left out."""
        moved = self._changes.current(NOUN, name=_composed(name), field=ALIAS)
        return {change.field.removeprefix(ALIAS): change for change in moved if change.value is not None}

    def promote(
        self, name: str, alias: str, version: int | str | None = None, *, expected: int | None = None
    ) -> Change:
        """Let an alias point to a version, unless somebody else has moved it since it was looked at.

        Parameters
        ----------
        name : str
            Of a prompt.
        alias : str
            Neither a number nor "latest".
        version : int or str, optional
            A version, or another alias; the newest by default.
        expected : int, optional
            The revision of the alias that the caller saw (0: there was none); by default it is
            looked at first.

        Raises
        ------
        ConflictError
            Somebody moved it meanwhile; the message says who, where to.
        UsageError
            The alias has not a valid name, or there is no such prompt or version.
        """
        alias = _checked_alias(alias)
        name = _composed(name)
        moved = {c.field.removeprefix(ALIAS): c for c in self._changes.current(NOUN, name=name, field=ALIAS)}
        for other, change in moved.items():
            if change.value is not None and other != alias and other.casefold() == alias.casefold():
                raise UsageError(
                    f"{name!r} has an alias {other!r}, which differs from {alias!r} by case only.",
                    f"Type %prompts promote {name} {other}.",
                )
        if expected is None:
            expected = moved[alias].revision if alias in moved else 0
        target = self.get(name, version)
        return self._changes.move(NOUN, target.name, ALIAS + alias, target.version, expected=expected)

    def demote(self, name: str, alias: str) -> Change:
        """Take an alias away.

        Raises
        ------
        UnknownNameError
            There is none.
        """
        known, alias = self.aliases(name), _composed(alias)
        if alias not in known:
            raise UnknownNameError("alias", f"{name}@{alias}", (f"{name}@{other}" for other in known))
        return self._changes.move(NOUN, _composed(name), ALIAS + alias, None, expected=known[alias].revision)

    def describe(
        self,
        name: str,
        *,
        description: str | None = None,
        tags: Iterable[str] | None = None,
        examples: Iterable[Example] | None = None,
    ) -> Prompt:
        """Say something of a prompt, all its versions; what is None stays; return the newest version."""
        prompt = self.get(name)
        said = {
            "description": description,
            "tags": None if tags is None else sorted(set(tags)),
            "examples": None if examples is None else examples_to_json(examples),
        }
        for field, value in said.items():
            if value is not None:
                self._changes.move(NOUN, prompt.name, field, value)
        return self.get(name)

    def retire(self, name: str, reason: str = "") -> Prompt:
        """Hide a prompt from lists; it stays usable by name."""
        prompt = self.get(name)
        self._changes.move(NOUN, prompt.name, "retired", True, reason=reason)
        return replace(prompt, retired=True)

    def restore(self, name: str) -> Prompt:
        """Show a retired prompt in lists again."""
        prompt = self.get(name)
        self._changes.move(NOUN, prompt.name, "retired", None)
        return replace(prompt, retired=False)

    # -- within -------------------------------------------------------------------------------

    def _read(self, name: str, version: int | None = None) -> builtins.list[Prompt]:
        where = _named(name) + (f" AND version = {int(version)}" if version is not None else "")
        return understood(rows_of(self._connection.read(PROMPTS, FIELDS, where=where)), prompt_of)

    def _digests(self, name: str) -> dict[int, str]:
        """Return the versions of a name that may be published to."""
        # One read for both: the versions, and names that differ by case.
        lower = f"lower(name) = {sql_text(name.lower())}"
        rows = rows_of(
            self._connection.read(PROMPTS, ["name", "version", "digest"], where=f"{_named(name)} OR {lower}")
        )
        found = {row["version"]: row["digest"] for row in rows if row["name"] == name and row["version"]}
        if not found:
            check_name(NOUN, name)  # an old name may have become a sub-command since
            if rows:
                other = rows[0]["name"]
                raise UsageError(
                    f"There is a prompt {other!r}, which differs from {name!r} by case only.",
                    f"Type -s {other} for its next version, or use another name.",
                )
        return found

    def _pointed(self, name: str, alias: str) -> int | None:
        change = self.aliases(name).get(_composed(alias))
        return int(change.value) if change else None

    def _joined(self, prompts: builtins.list[Prompt], name: str | None = None) -> builtins.list[Prompt]:
        """Return prompts with what is said of them now."""
        said: dict[str, builtins.list[Change]] = {}
        for change in self._changes.current(NOUN, name=None if name is None else _composed(name)):
            said.setdefault(change.name, []).append(change)
        return [
            with_changes(prompt, said[prompt.name]) if prompt.name in said else prompt for prompt in prompts
        ]

    def _unknown_version(self, name: str, version: str, *, alias: bool) -> UnknownNameError:
        numbers = [prompt.version for prompt in self.versions(name)]
        aliases = sorted(self.aliases(name))
        if numbers == [1]:
            hint = f"{name!r} has version 1 only"
        elif numbers == [*range(1, len(numbers) + 1)]:
            hint = f"{name!r} has versions 1 to {numbers[-1]}"
        else:
            hint = f"{name!r} has the versions {', '.join(map(str, numbers[-10:]))}"
        hint += f" and the aliases {', '.join(aliases)}." if aliases else "."
        if alias and not aliases:
            hint += f" Type %prompts promote {name} {version} to give it this alias."
        return UnknownNameError("alias" if alias else "version", f"{name}@{version}", hint=hint)


def _composed(name: str) -> str:
    return unicodedata.normalize("NFC", name)


def _newest(versions: builtins.list[Prompt]) -> builtins.list[Prompt]:
    """Return the newest version alone; none where there are none."""
    return sorted(versions, key=lambda prompt: prompt.version)[-1:]


def _named(name: str) -> str:
    return f"name = {sql_text(_composed(name))}"


def _checked_alias(alias: str) -> str:
    alias = check_name("alias", alias)
    if alias.casefold() == LATEST or alias.isnumeric():
        raise UsageError(
            f"{alias!r} always means a version, so it can't be an alias.", "Type for example prod or review."
        )
    return alias
