"""The registry of prompts: find, compare, promote, describe, retire, publish."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from functools import cached_property
from typing import TYPE_CHECKING, Any

from jupyter_llmops.errors import SecretError, TemplateError, UnknownNameError, UsageError
from jupyter_llmops.records.listing import Listing
from jupyter_llmops.records.prompt import Example, Prompt, PromptDiff, PromptEvent, PromptHistory
from jupyter_llmops.workspace.finding import Finding
from jupyter_llmops.workspace.parts import Progress

if TYPE_CHECKING:
    from jupyter_llmops.catalog import Catalog
    from jupyter_llmops.records.change import Change

_FIRST = datetime.min.replace(tzinfo=UTC)


class PromptRegistry(Finding):
    """What a workspace knows of saved prompts."""

    def prompts(self, *, retired: bool = False) -> Listing[Prompt]:
        """Return the latest version of every saved prompt, the team's and this user's own.

        Parameters
        ----------
        retired : bool
            Whether those are wanted too that were retired.
        """
        found = list(self.catalog.prompts.list(retired=retired))
        found += [prompt for prompt in self._own_prompts() if retired or not prompt.retired]
        found.sort(key=lambda prompt: (prompt.name.casefold(), prompt.name, prompt.private))
        return Listing("prompt", found, "Save one with %%prompt -s NAME.")

    def find_prompts(self, query: str, progress: Progress | None = None) -> Listing[Prompt]:
        """Return the saved prompts that fit a query, best first."""
        listed = {prompt.name: prompt for prompt in self.prompts()}  # one's own counts before the team's
        texts = {
            name: "\n".join((prompt.name, prompt.description, *prompt.tags, prompt.template, prompt.system))
            for name, prompt in listed.items()
        }
        names = self.find_names("prompt", texts, query, progress)
        found = [listed[name] for name in names]
        return Listing("prompt", found, "%prompts lists all.", why=names.why, note=names.note)

    def saved_prompt(self, reference: str) -> Prompt:
        """Return a saved prompt by ``NAME`` (its latest version), ``NAME@VERSION`` or ``NAME@ALIAS``.

        This user's own prompts come before the team's.

        Raises
        ------
        UnknownNameError
            There is none; the error names the nearest.
        """
        name, version = split_reference(reference)
        if self._is_own_prompt(name):
            try:
                return replace(self.own.prompts.get(name, version), private=True)
            except UnknownNameError as unknown:
                try:  # a version or an alias that only the team has
                    return self.catalog.prompts.get(name, version)
                except UnknownNameError:
                    raise unknown from None
        try:
            return self.catalog.prompts.get(name, version)
        except UnknownNameError as unknown:
            if unknown.noun != "prompt" or self.own is self.catalog:
                raise
            known = self.catalog.prompts.names() | self.own.prompts.names()
            raise UnknownNameError("prompt", name, known) from None

    def diff_prompts(self, older: str, newer: str = "") -> PromptDiff:
        """Return two versions to be compared.

        Parameters
        ----------
        older : str
            ``NAME@VERSION``; a bare ``NAME`` is compared in its last two versions.
        newer : str
            ``NAME@VERSION``; the latest of the same prompt by default.

        Raises
        ------
        UsageError
            There is one version only.
        """
        if newer:
            return PromptDiff(self.saved_prompt(older), self.saved_prompt(newer))
        name, version = split_reference(older)
        latest = self.saved_prompt(name)
        if version is not None:
            return PromptDiff(self.saved_prompt(older), latest)
        before = [
            p for p in self._prompts_catalog(latest).prompts.versions(name) if p.version < latest.version
        ]
        if not before:
            raise UsageError(
                f"{latest.name!r} has one version, so there is nothing to compare.",
                f"Type %prompts diff {latest.name} OTHER to compare it with another prompt.",
            )
        return PromptDiff(replace(before[-1], private=latest.private), latest)

    def prompt_history(self, name: str) -> PromptHistory:
        """Return when its versions were saved, its aliases moved and things said of it, oldest first."""
        name, _ = split_reference(name)
        latest = self.saved_prompt(name)
        catalogs = [self._prompts_catalog(latest)]
        if latest.private and latest.name in self.catalog.prompts.names():
            catalogs.append(self.catalog)
        events = [
            replace(event, private=catalog is self.own and catalog is not self.catalog)
            for catalog in catalogs
            for event in _events(catalog, latest.name)
        ]
        return PromptHistory(latest.name, tuple(sorted(events, key=lambda event: event.created_at or _FIRST)))

    # -- what moves ---------------------------------------------------------------------------

    def promote_prompt(self, reference: str, alias: str, *, expected: int | None = None) -> Prompt:
        """Let an alias point to a version (the latest by default); the next `%prompt` of everybody uses it.

        Parameters
        ----------
        reference : str
            ``NAME``, ``NAME@VERSION`` or ``NAME@ALIAS``.
        alias : str
            Such as prod.
        expected : int, optional
            The revision of the alias that was looked at; see `catalog.prompts.Prompts.promote`.

        Raises
        ------
        ConflictError
            Somebody else moved it meanwhile.
        """
        prompt = self.saved_prompt(reference)
        where = self._prompts_catalog(prompt)
        where.prompts.promote(prompt.name, alias, prompt.version, expected=expected)
        return self._prompt_changed(where, prompt.name, prompt.version)

    def demote_prompt(self, name: str, alias: str) -> Prompt:
        """Take an alias away and return the latest version."""
        name, _ = split_reference(name)
        where = self._prompts_catalog(self.saved_prompt(name))
        where.prompts.demote(name, alias)
        return self._prompt_changed(where, name)

    def describe_prompt(
        self,
        name: str,
        description: str | None = None,
        *,
        tags: Iterable[str] | None = None,
        examples: Iterable[Example] | None = None,
    ) -> Prompt:
        """Say something of a prompt and all its versions; what is left out stays.

        Raises
        ------
        SecretError
            What would be said seems to hold a secret.
        """
        prompt = self.saved_prompt(name)
        tags = None if tags is None else checked_tags(tags)
        examples = None if examples is None else tuple(examples)
        self._refuse_prompt_secrets(prompt.name, said_texts(description or "", tags or (), examples or ()))
        where = self._prompts_catalog(prompt)
        where.prompts.describe(prompt.name, description=description, tags=tags, examples=examples)
        return self._prompt_changed(where, prompt.name)

    def retire_prompt(self, name: str, reason: str = "") -> Prompt:
        """Hide a prompt from lists; it stays usable by name, and `restore_prompt` undoes it."""
        prompt = self.saved_prompt(split_reference(name)[0])
        self._refuse_prompt_secrets(prompt.name, [reason])
        where = self._prompts_catalog(prompt)
        where.prompts.retire(prompt.name, reason)
        return self._prompt_changed(where, prompt.name)

    def restore_prompt(self, name: str) -> Prompt:
        """Show a retired prompt in lists again."""
        prompt = self.saved_prompt(split_reference(name)[0])
        where = self._prompts_catalog(prompt)
        where.prompts.restore(prompt.name)
        return self._prompt_changed(where, prompt.name)

    # -- within -------------------------------------------------------------------------------

    @cached_property
    def _included_prompts(self) -> dict[tuple[bool, str], Prompt]:
        """The included prompts that were read: a version never changes."""
        return {}

    def _load_included(self, *, private: bool) -> Callable[[str], Prompt]:
        """Return what finds included prompts: in the team's catalog, and for private ones in one's own first."""

        def load(reference: str) -> Prompt:
            known = self._included_prompts.get((private, reference))
            if known is None:
                known = self._included_prompts[private, reference] = self._read_included(
                    reference, private=private
                )
            return known

        return load

    def _read_included(self, reference: str, *, private: bool) -> Prompt:
        name, version = split_reference(reference)
        mine = self.own is not self.catalog and name in self.own.prompts.names()
        if not _is_number(version):
            prompt = self.own.prompts.get(name, version) if mine else self.catalog.prompts.get(name, version)
            pinned = f'{{% include "{prompt.name}@{prompt.version}" %}}'
            raise TemplateError(
                f"The template includes {reference!r} without the number of a version, which may change.",
                f"Write {pinned}.",
            )
        if private and mine:
            try:
                return self.own.prompts.get(name, version)
            except UnknownNameError:
                if name not in self.catalog.prompts.names():
                    raise
        if mine and not private and name not in self.catalog.prompts.names():
            raise TemplateError(
                f"The template includes {reference}, which is yours alone, and the team could not read it.",
                f"Type %prompts publish {name} first, or save this one with --private.",
            )
        return self.catalog.prompts.get(name, version)

    def _own_prompts(self) -> list[Prompt]:
        """Return the newest of this user's own that are not what the team has from them."""
        if self.own is self.catalog:
            return []
        published = {c.name: c.value for c in self.own.changes.current("prompt", field="published")}
        return [
            replace(prompt, private=True)
            for prompt in self.own.prompts.list(retired=True)
            if published.get(prompt.name) != prompt.version
        ]

    def _is_own_prompt(self, name: str) -> bool:
        if self.own is self.catalog or name not in self.own.prompts.names():
            return False
        moved = self.own.changes.current("prompt", name=name, field="published")
        return not moved or moved[0].value != self.own.prompts.get(name).version

    def _prompts_catalog(self, prompt: Prompt) -> Catalog:
        return self.own if prompt.private else self.catalog

    def _prompt_changed(self, where: Catalog, name: str, version: int | None = None) -> Prompt:
        """Ring for a change and return the prompt as it is now."""
        self.doorbell.ring("prompts")
        prompt = where.prompts.get(name, version)
        return replace(prompt, private=where is self.own and where is not self.catalog)

    def _refuse_prompt_secrets(self, name: str, texts: Iterable[str]) -> None:
        found = sorted({kind for text in (name, *texts) for kind in self.redactor.redact(text).found})
        if found:
            raise SecretError(
                f"The prompt {self.redactor.redact(name).text!r} was not saved: it seems to hold a secret ({', '.join(found)}).",
                "Put the secret into a variable and write {{ name }} in its place.",
            )


def split_reference(reference: str) -> tuple[str, int | str | None]:
    """Return the name and the version or alias of ``NAME``, ``NAME@3`` or ``NAME@prod``.

    Raises
    ------
    UsageError
        Nothing stands before or behind the ``@``.
    """
    name, at, version = reference.partition("@")
    if not at:
        return name, None
    if not name.strip() or not version.strip() or "@" in version:
        raise UsageError(
            f"{reference!r} is not a prompt.", "Type NAME for the latest version, NAME@3, or NAME@ALIAS."
        )
    return name, int(version) if _is_number(version) else version


def _is_number(version: Any) -> bool:
    return isinstance(version, int) or (
        isinstance(version, str) and version.isascii() and version.isdigit() and len(version) < 16
    )


def checked_tags(tags: Iterable[str]) -> tuple[str, ...]:
    """Return tags sorted, each once.

    Raises
    ------
    UsageError
        One is empty, too long or holds a line's end.
    """
    found = sorted({tag.strip() for tag in tags})
    for tag in found:
        if not tag or len(tag) > 100 or not tag.isprintable():
            raise UsageError(f"{tag[:60]!r} is not a tag.", "A tag is a word or two, e.g. --tag support.")
    return tuple(found)


def said_texts(description: str, tags: Iterable[str], examples: Iterable[Example]) -> list[str]:
    """Return every text of what is said of a prompt, values beside their names."""
    texts = [description, *tags]
    for example in examples:
        texts += [example.answer, *(f'{name} = "{value}"' for name, value in example.variables)]
    return texts


def _events(catalog: Catalog, name: str) -> list[PromptEvent]:
    saved = [
        PromptEvent(
            "version",
            str(prompt.version),
            note=prompt.template.strip().splitlines()[0] if prompt.template.strip() else "",
            created_by=prompt.created_by,
            created_at=prompt.created_at,
            site=prompt.site,
        )
        for prompt in catalog.prompts.versions(name)
    ]
    return saved + [_event(change) for change in catalog.changes.history("prompt", name)]


def _event(change: Change) -> PromptEvent:
    value = change.value
    if isinstance(value, list):
        shown = ", ".join(map(str, value)) if change.field == "tags" else str(len(value))
    elif value is None:
        shown = ""
    else:
        shown = "yes" if value is True else str(value)
    return PromptEvent(change.field, shown, change.reason, change.created_by, change.created_at, change.site)
