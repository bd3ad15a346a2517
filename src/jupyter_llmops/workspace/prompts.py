"""Prompts: run, save, list."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any, Unpack, cast

from jupyter_llmops.errors import UnknownNameError, UsageError, nearest
from jupyter_llmops.workspace.context import Contexts
from jupyter_llmops.workspace.parts import Progress
from jupyter_llmops.workspace.prompt_exchange import PromptExchange
from jupyter_llmops.workspace.prompt_options import (
    PromptOptions,
    SaveOptions,
    check_option_names,
    check_option_types,
    declarations_of,
    saved_parameters,
)
from jupyter_llmops.workspace.prompt_registry import checked_tags, said_texts, split_reference

if TYPE_CHECKING:
    from jupyter_llmops.prompting.draft import PromptDraft
    from jupyter_llmops.records.completion import Completion
    from jupyter_llmops.records.prompt import Example, Prompt, Variable
    from jupyter_llmops.records.prompting import DryRun


class Prompts(Contexts, PromptExchange):
    """What a workspace does with prompts."""

    def prompt(
        self,
        template: str,
        *,
        save_as: str = "",
        description: str = "",
        tags: Iterable[str] = (),
        private: bool = False,
        on_saved: Callable[[Prompt, bool], None] | None = None,
        use_cache: bool = True,
        on_text: Callable[[str], None] | None = None,
        progress: Progress | None = None,
        **options: Unpack[PromptOptions],
    ) -> Completion:
        """Render a template, answer it from the cache or the model, and stamp the run.

        Parameters
        ----------
        template : str
            Jinja2 source of the user message.
        save_as, description, tags, private
            Saves the template in the catalog under this name first; see `save_prompt`.
        on_saved : callable, optional
            Gets the saved prompt, and whether its content is new.
        use_cache : bool
            False neither reads nor writes the cache.
        on_text, progress : callable, optional
            Get the answer piece by piece, and a sentence while a model loads.
        **options
            See `PromptOptions`.

        Raises
        ------
        LLMOpsError
            See ``jupyter_llmops.errors``.
        Interrupted
            Ctrl-C; the unfinished completion is in the exception and in the record.
        """
        _check_backend(options.get("backend", ""))
        draft = self._draft(template, options, private=private or not save_as, progress=progress)
        prepared = self.pipeline.prepare(draft)
        if save_as:
            said: SaveOptions = {"description": description, "tags": tags, "private": private}
            saved, is_new = self._save_prompt(save_as, template, said, options)
            prepared = replace(prepared, draft=replace(draft, saved=saved, alias=""))
            if on_saved:
                on_saved(saved, is_new)
        return self.pipeline.run(prepared, use_cache=use_cache, on_text=on_text, progress=progress)

    def dry_run(self, template: str, *, use_cache: bool = True, **options: Unpack[PromptOptions]) -> DryRun:
        """Return what `prompt` would send, how many tokens it is and whether it would hit."""
        prepared = self.pipeline.prepare(self._draft(template, options))
        return self.pipeline.dry_run(prepared, use_cache=use_cache)

    def variables_needed(self, template: str, system: str = "") -> tuple[str, ...]:
        """Return the names that a prompt's templates read, with what they include, sorted.

        Raises
        ------
        TemplateError
            A template is not valid; the message names the line.
        """
        from jupyter_llmops.prompting.messages import needs_of

        return needs_of(template, system, load=self._load_included(private=True)).variables

    def save_prompt(
        self,
        name: str,
        template: str,
        *,
        description: str = "",
        tags: Iterable[str] = (),
        examples: Iterable[Example] = (),
        private: bool = False,
        **options: Unpack[PromptOptions],
    ) -> Prompt:
        """Save a template in the catalog; the same content again is the same version.

        Parameters
        ----------
        name : str
            What people will type.
        template : str
            Jinja2 source; lines that are a role alone make it a chat.
        description, tags, examples
            For people; they are said of all versions and no part of the content.
        private : bool
            Whether it goes into this user's own catalog instead of the team's.
        **options
            See `PromptOptions`.

        Raises
        ------
        SecretError
            The template, or what would be saved with it, seems to hold a secret, and a catalog is shared.
        """
        said: SaveOptions = {
            "description": description,
            "tags": tags,
            "examples": examples,
            "private": private,
        }
        return self._save_prompt(name, template, said, options)[0]

    def _save_prompt(
        self, name: str, template: str, said: SaveOptions, options: PromptOptions
    ) -> tuple[Prompt, bool]:
        from jupyter_llmops.catalog.prompt_content import check_size
        from jupyter_llmops.prompting.messages import needs_of

        check_option_names(options)
        check_option_types(template, options)
        check_size(template, options.get("system", ""))  # before looking for secrets, which takes longer
        system, model = options.get("system", ""), options.get("model", "")
        private = said.get("private", False) and self.own is not self.catalog
        description, tags = said.get("description", ""), checked_tags(said.get("tags", ()))
        examples = tuple(said.get("examples", ()))
        parameters, declarations = saved_parameters(options), declarations_of(options)
        # Beside its name a value may be known as a secret that says nothing alone.
        named = [f'{key} = "{value}"' for key, value in parameters.items()]
        named += [f'{v.name} = "{v.default}"\n{v.description}' for v in declarations]
        self._refuse_prompt_secrets(
            name, [template, system, model, *named, *said_texts(description, tags, examples)]
        )
        needs = needs_of(template, system, declarations, self._load_included(private=private))
        where = self.own if private else self.catalog
        saved, is_new = where.prompts.save(
            name,
            template,
            system=system,
            model=model,
            parameters=parameters,
            variables=needs.variables,
            declarations=needs.declarations,
            includes={f"{found.name}@{found.version}": found.digest for found in needs.includes},
            version=said.get("version"),
        )
        self._included_prompts.clear()
        if not (description or tags or examples):
            self.doorbell.ring("prompts")
            return replace(saved, private=private), is_new
        where.prompts.describe(
            saved.name, description=description or None, tags=tags or None, examples=examples or None
        )
        return self._prompt_changed(where, saved.name, saved.version), is_new

    def _save_source(self, prompt: Prompt, *, private: bool) -> tuple[Prompt, bool]:
        check_option_types(prompt.template, self.saved_options(prompt))
        said: SaveOptions = {
            "description": prompt.description,
            "tags": prompt.tags,
            "examples": prompt.examples,
            "private": private,
            "version": prompt.version or None,
        }
        content: PromptOptions = {
            "system": prompt.system,
            "model": prompt.model,
            "parameters": dict(prompt.parameters),
            "declarations": prompt.declarations,
        }
        return self._save_prompt(prompt.name, prompt.template, said, content)

    def saved_options(self, prompt: Prompt, reference: str = "") -> PromptOptions:
        """Return the options that a saved prompt carries.

        Parameters
        ----------
        prompt : Prompt
            From `saved_prompt`.
        reference : str
            How it was asked for; an alias in it is recorded with the run.
        """
        values: dict[str, Any] = dict(prompt.parameters)
        typed = {
            name: values.pop(name) for name in ("max_new_tokens", "temperature", "seed") if name in values
        }
        version = split_reference(reference)[1] if reference else None
        options = {"system": prompt.system, "saved": prompt, "model": prompt.model, "parameters": values}
        options["alias"] = version if isinstance(version, str) and version != "latest" else ""
        return cast("PromptOptions", options | {"declarations": prompt.declarations} | typed)

    def read_variables(
        self,
        given: Mapping[str, str],
        prompt: Prompt | None = None,
        declarations: Sequence[str | Variable] = (),
    ) -> dict[str, Any]:
        """Return variables that were typed as text, as values of their declared types.

        Parameters
        ----------
        given : mapping
            Texts by name.
        prompt : Prompt, optional
            The saved prompt that they are for: it must have variables of these names.
        declarations : sequence of str or Variable
            Types, where there is no saved prompt.

        Raises
        ------
        TemplateError
            A text is not of the declared type.
        UnknownNameError
            The prompt has no such variable.
        """
        from jupyter_llmops.prompting.declarations import inherited, read_text

        known = declarations_of({"declarations": declarations})
        if prompt is not None:
            for name in given:
                if name not in prompt.variables:
                    raise UnknownNameError(
                        f"variable of the prompt {prompt.name!r}",
                        name,
                        prompt.variables,
                        hint="" if nearest(name, prompt.variables) else _variables_hint(prompt),
                    )
            load = self._load_included(private=prompt.private)
            known = inherited(prompt.declarations, map(load, prompt.includes))
        types = {variable.name: variable for variable in known}
        return {name: read_text(types[name], text) if name in types else text for name, text in given.items()}

    def _draft(
        self,
        template: str,
        options: PromptOptions,
        *,
        private: bool = True,
        progress: Progress | None = None,
    ) -> PromptDraft:
        from jupyter_llmops.inference.decoding import ALLOWED, ENDPOINT_ALLOWED, check_parameters
        from jupyter_llmops.prompting.draft import PromptDraft
        from jupyter_llmops.prompting.messages import needs_of
        from jupyter_llmops.records.request import GenerationParameters

        check_option_names(options)
        check_option_types(template, options)
        settings = self.settings
        tokens = options.get("max_new_tokens")
        parameters = GenerationParameters(
            max_new_tokens=settings.max_new_tokens if tokens is None else tokens,
            temperature=options.get("temperature", 0.0),
            seed=options.get("seed"),
            extra=tuple(sorted(options.get("parameters", {}).items())),
        )
        saved, declarations = options.get("saved"), declarations_of(options)
        load = self._load_included(private=saved.private if saved else private)
        if declarations and saved is None:
            needs_of(template, options.get("system", ""), declarations, load)  # refuses a misspelt name
        # Before the prompt is saved with what can't be decoded with.
        check_parameters(parameters, ALLOWED | ENDPOINT_ALLOWED)
        return PromptDraft(
            template=template,
            system=options.get("system", ""),
            variables=options.get("variables", {}),
            model=self._placed(options),
            parameters=parameters,
            quantization=options.get("quantization") or settings.quantization,
            saved=saved,
            alias=options.get("alias", ""),
            declarations=declarations,
            load=load,
            context=self.context_source(options, progress),
            output_schema=_output_schema(options),
            exact=options.get("exact", False),
            reuse=options.get("reuse", False),
            truncate=options.get("truncate", False),
            site=options.get("site", ""),
            backend=options.get("backend", ""),
        )

    def _placed(self, options: PromptOptions) -> str:
        """Return the name of the model that answers, or the pool of endpoints."""
        model = options.get("model") or self.settings.model
        backend, site = options.get("backend", ""), options.get("site", "")
        if not backend and not site:
            return model
        from jupyter_llmops.inference.sites import placed_model

        here = self.settings.site
        return placed_model(model, backend=backend, site=site, registered=self.catalog_models(), here=here)


def _check_backend(backend: str) -> None:
    """Refuse a cluster for one prompt: its workers would load the model for a single answer."""
    from jupyter_llmops.inference.backends.specification import is_backend

    if is_backend(backend) and backend.strip().lower() != "kernel":
        raise UsageError(
            f"--backend {backend} spreads the rows of a map, and this is one prompt.",
            "Add --map ROWS, or leave --backend out.",
        )


def _output_schema(options: PromptOptions) -> str:
    schema = options.get("schema")
    if schema is None and options.get("format", "text") == "text":
        return ""
    if schema is not None and options.get("format") == "text":
        raise UsageError("A schema needs the format json.", "Leave --format out, or type --format json.")
    from jupyter_llmops.inference.constrained import canonical_schema

    return canonical_schema({"type": "object"} if schema is None else schema)


def _variables_hint(prompt: Prompt) -> str:
    return f"It has {', '.join(prompt.variables)}." if prompt.variables else "It has no variables."
