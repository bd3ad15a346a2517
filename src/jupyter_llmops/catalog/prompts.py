"""The saved prompts of the catalog: immutable versions, addressed by content."""

from __future__ import annotations

import builtins
import dataclasses
import hashlib
import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

from jupyter_llmops.catalog.connection import Connection, sql_text
from jupyter_llmops.catalog.migrations import Migrations
from jupyter_llmops.catalog.names import check_name
from jupyter_llmops.catalog.schemas import PROMPTS, rows_of
from jupyter_llmops.errors import CatalogError, UnknownNameError, UsageError
from jupyter_llmops.records.prompt import Prompt
from jupyter_llmops.records.request import Scalar

PROMPT_SCHEMA = "llmops.prompt/1"

_FIELDS = (
    "name", "version", "digest", "template", "system", "variables", "model", "parameters", "description",
    "created_by", "created_at", "site",
)  # fmt: skip
# A version is lost to another writer at most once per version that was published meanwhile.
_ATTEMPTS = 10_000


class Prompts:
    """Prompts that the team saved.

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

    def list(self) -> builtins.list[Prompt]:
        """Return the newest version of every prompt, sorted by name."""
        rows = self._connection.read(PROMPTS, _FIELDS)
        if rows is None:
            return []
        newest: dict[str, tuple[int, int]] = {}
        pairs = zip(rows["name"].to_pylist(), rows["version"].to_pylist(), strict=True)
        for position, (name, version) in enumerate(pairs):
            newest[name] = max(newest.get(name, (0, 0)), (version, position))
        if not newest:
            return []
        # Only the newest become Python objects: there may be many more versions than prompts.
        chosen = rows.take([position for _, position in newest.values()])
        found = [_prompt(row) for row in rows_of(chosen)]
        return sorted(found, key=lambda prompt: (prompt.name.casefold(), prompt.name))

    def versions(self, name: str) -> builtins.list[Prompt]:
        """Return every version of a prompt, oldest first.

        Raises
        ------
        UnknownNameError
            There is no prompt of that name; the nearest names are in the hint.
        """
        rows = self._connection.read(PROMPTS, _FIELDS, where=f"name = {sql_text(check_name('prompt', name))}")
        found = [_prompt(row) for row in rows_of(rows)]
        if not found:
            raise UnknownNameError("prompt", name, self._names())
        return sorted(found, key=lambda prompt: prompt.version)

    def get(self, name: str, version: int | None = None) -> Prompt:
        """Return one version of a prompt, the newest by default.

        Raises
        ------
        UnknownNameError
            There is no such prompt or version; what there is, is in the hint.
        """
        versions = self.versions(name)
        if version is None:
            return versions[-1]
        for prompt in versions:
            if prompt.version == version:
                return prompt
        last = versions[-1].version
        raise UnknownNameError(
            "version",
            f"{name}@{version}",
            hint=f"{name!r} has version 1 only." if last == 1 else f"{name!r} has versions 1 to {last}.",
        )

    def publish(
        self,
        name: str,
        template: str,
        *,
        system: str = "",
        model: str = "",
        parameters: Mapping[str, Scalar] | Iterable[tuple[str, Scalar]] = (),
        variables: Iterable[str] = (),
        description: str = "",
    ) -> Prompt:
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

        Returns
        -------
        Prompt
            With its version number, which no other content of this name has.

        Raises
        ------
        UsageError
            The name or a value is not valid.
        CatalogError
            It can't be written.
        """
        name = check_name("prompt", name)
        settled = tuple(sorted(dict(parameters).items()))
        digest = content_digest(template, system, model, settled)
        prompt = Prompt(
            name=name,
            version=0,
            digest=digest,
            template=template,
            system=system,
            variables=tuple(variables),
            model=model,
            parameters=settled,
            description=description,
            created_by=self._user,
            site=self._site,
        )
        self._migrations.prepare_write()
        for _ in range(_ATTEMPTS):
            known = self._digests(name)
            same = min((version for version, other in known.items() if other == digest), default=None)
            if same is not None:
                return self.get(name, same)
            prompt = dataclasses.replace(
                prompt, version=max(known, default=0) + 1, created_at=datetime.now(UTC)
            )
            if self._connection.insert_absent(PROMPTS, [_row(prompt)]):
                return prompt
            # Another writer took this number first: look what it saved, then try the next.
        raise CatalogError(f"The prompt {name!r} could not be saved: too many others do.", "Try again.")

    def _digests(self, name: str) -> dict[int, str]:
        rows = self._connection.read(PROMPTS, ["version", "digest"], where=f"name = {sql_text(name)}")
        if rows is None:
            return {}
        return dict(zip(rows["version"].to_pylist(), rows["digest"].to_pylist(), strict=True))

    def _names(self) -> set[str]:
        rows = self._connection.read(PROMPTS, ["name"])
        return set() if rows is None else set(rows["name"].to_pylist())


def content_digest(template: str, system: str, model: str, parameters: Iterable[tuple[str, Scalar]]) -> str:
    """Return ``sha256:…`` of a prompt's content in the canonical form of RFC 8785.

    Raises
    ------
    UsageError
        A value has no such form: not a number, an integer of more than 53 bits, broken Unicode.
    """
    import rfc8785

    content: Any = {
        "schema": PROMPT_SCHEMA,
        "template": template,
        "system": system,
        "model": model,
        "parameters": dict(parameters),
    }
    try:
        canonical = rfc8785.dumps(content)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError) as error:
        raise UsageError(
            f"This prompt can't be saved: {error}.",
            "Parameters are text, true, false, null or finite numbers; text is valid Unicode.",
        ) from error
    return "sha256:" + hashlib.sha256(canonical).hexdigest()


def _row(prompt: Prompt) -> dict[str, Any]:
    row = {name: getattr(prompt, name) for name in _FIELDS}
    row["key"] = f"{prompt.name}\x1f{prompt.version}"
    row["variables"] = list(prompt.variables)
    row["parameters"] = json.dumps(dict(prompt.parameters))
    return row


def _prompt(row: dict[str, Any]) -> Prompt:
    values: dict[str, Any] = {name: row.get(name) for name in _FIELDS}
    texts = ("system", "model", "description", "created_by", "site")
    values |= {name: values[name] or "" for name in texts}
    values["variables"] = tuple(values["variables"] or ())
    values["parameters"] = tuple(sorted(json.loads(values["parameters"] or "{}").items()))
    return Prompt(**values)
