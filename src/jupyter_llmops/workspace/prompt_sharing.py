"""A user's own prompts and the team's: publishing copies from the one to the other."""

from __future__ import annotations

from collections.abc import Callable

from jupyter_llmops.errors import UsageError
from jupyter_llmops.records.prompt import Prompt
from jupyter_llmops.workspace.prompt_registry import PromptRegistry, split_reference


class PromptSharing(PromptRegistry):
    """How a user's own prompts become the team's."""

    def publish_prompt(
        self, reference: str, *, on_published: Callable[[Prompt], None] | None = None
    ) -> Prompt:
        """Copy one of this user's own prompts to the team's catalog, with the own ones that it includes.

        Parameters
        ----------
        reference : str
            ``NAME``, ``NAME@VERSION`` or ``NAME@ALIAS``.
        on_published : callable, optional
            Gets each prompt that was copied, as the team has it.

        Raises
        ------
        UnknownNameError
            This user has no such prompt.
        UsageError
            The team has another prompt under the name and version that it includes.
        """
        name, version = split_reference(reference)
        if self.own is self.catalog:
            raise UsageError(
                "Your own catalog is the one in use, so everything is where it should be.",
                "Set LLMOPS_CATALOG to the team's catalog to publish to it.",
            )
        prompt = self.own.prompts.get(name, version)
        missing: dict[str, Prompt] = {}
        for included in prompt.includes:
            self._check_includable(included, missing)
        along = sorted(missing.values(), key=lambda found: len(found.includes))
        for copied in (*along, prompt):
            published = self._copy_prompt(copied)
            if on_published:
                on_published(published)
        return published

    def _check_includable(self, reference: str, missing: dict[str, Prompt]) -> None:
        name, version = split_reference(reference)
        mine = self.own.prompts.get(name, version) if name in self.own.prompts.names() else None
        known = {p.version: p for p in self._team_versions(name)}
        theirs = known.get(int(version or 0))
        if theirs is not None and (mine is None or theirs.digest == mine.digest):
            return
        same = [p.version for p in known.values() if mine is not None and p.digest == mine.digest]
        if same:
            raise UsageError(
                f"It includes {reference}, which is {name}@{same[0]} in the team's catalog.",
                f'Write {{% include "{name}@{same[0]}" %}} and save it again.',
            )
        if theirs is not None or mine is None or max(known, default=0) > mine.version:
            raise UsageError(
                f"It includes {reference}, and the team has another prompt named {name!r}.",
                f"Save yours under another name with %%prompt --private -s my-{name}, and include that.",
            )
        missing[reference] = mine

    def _team_versions(self, name: str) -> list[Prompt]:
        return self.catalog.prompts.versions(name) if name in self.catalog.prompts.names() else []

    def _copy_prompt(self, prompt: Prompt) -> Prompt:
        digests = {key: self._load_included(private=True)(key).digest for key in prompt.includes}
        copied = self.catalog.prompts.publish(
            prompt.name,
            prompt.template,
            system=prompt.system,
            model=prompt.model,
            parameters=prompt.parameters,
            variables=prompt.variables,
            declarations=prompt.declarations,
            includes=digests,
            version=prompt.version,
        )
        self.catalog.prompts.describe(
            copied.name,
            description=prompt.description or None,
            tags=prompt.tags or None,
            examples=prompt.examples or None,
        )
        if self.own.prompts.get(prompt.name).version == prompt.version:
            # From now on the team's counts, until something newer is saved here.
            self.own.changes.move("prompt", prompt.name, "published", prompt.version)
        return self._prompt_changed(self.catalog, copied.name, copied.version)
