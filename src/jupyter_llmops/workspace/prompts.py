"""Prompts: run, save, list."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import TYPE_CHECKING, Any, TypedDict, Unpack, cast

from jupyter_llmops.errors import SecretError, UsageError, nearest
from jupyter_llmops.records.listing import Listing
from jupyter_llmops.workspace.parts import Parts, Progress

if TYPE_CHECKING:
    from jupyter_llmops.prompting.pipeline import PromptDraft
    from jupyter_llmops.records.completion import Completion
    from jupyter_llmops.records.prompt import Prompt
    from jupyter_llmops.records.prompting import DryRun
    from jupyter_llmops.records.request import Scalar


class PromptOptions(TypedDict, total=False):
    """What a prompt may be given besides its template.

    Parameters
    ----------
    variables : mapping
        Values for the names that the templates read.
    system : str
        Jinja2 source of the system message.
    model : str
        Name of a model; the setting ``LLMOps.model`` by default.
    max_new_tokens : int
        Most tokens of the answer; the setting by default.
    temperature : float
        0, the default, is greedy.
    seed : int
        Makes a sampled answer repeatable.
    parameters : mapping
        Further generation parameters, e.g. ``{"top_p": 0.9}``.
    quantization : {"auto", "nf4", "bf16", "fp32"}
        Precision of the weights; the setting by default.
    saved : Prompt
        The saved prompt that this is a run of.
    """

    variables: Mapping[str, Any]
    system: str
    model: str
    max_new_tokens: int | None
    temperature: float
    seed: int | None
    parameters: Mapping[str, Scalar]
    quantization: str
    saved: Prompt | None


class Prompts(Parts):
    """What a workspace does with prompts."""

    def prompt(
        self,
        template: str,
        *,
        save_as: str = "",
        description: str = "",
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
        save_as, description : str
            Publishes the template in the catalog under this name first.
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
        draft = self._draft(template, options)
        prepared = self.pipeline.prepare(draft)
        if save_as:
            saved = self.save_prompt(save_as, template, description=description, **options)
            prepared = replace(prepared, draft=replace(draft, saved=saved))
        return self.pipeline.run(prepared, use_cache=use_cache, on_text=on_text, progress=progress)

    def dry_run(self, template: str, *, use_cache: bool = True, **options: Unpack[PromptOptions]) -> DryRun:
        """Return what `prompt` would send, how many tokens it is and whether it would hit."""
        prepared = self.pipeline.prepare(self._draft(template, options))
        return self.pipeline.dry_run(prepared, use_cache=use_cache)

    def save_prompt(
        self, name: str, template: str, *, description: str = "", **options: Unpack[PromptOptions]
    ) -> Prompt:
        """Publish a template in the catalog; the same content again is the same version.

        Raises
        ------
        SecretError
            The template, or what would be saved with it, seems to hold a secret, and a catalog is shared.
        """
        from jupyter_llmops.prompting.rendering import variables_of

        _check_names(options)
        system = options.get("system", "")
        parameters = _saved_parameters(options)
        # Beside its name a value may be known as a secret that says nothing alone.
        named = (f'{key} = "{value}"' for key, value in parameters.items())
        texts = (name, template, system, description, options.get("model", ""), *named)
        found = sorted({kind for text in texts for kind in self.redactor.redact(text).found})
        if found:
            raise SecretError(
                f"The prompt {self.redactor.redact(name).text!r} was not saved: it seems to hold a secret ({', '.join(found)}).",
                "Put the secret into a variable and write {{ name }} in its place.",
            )
        prompt = self.catalog.prompts.publish(
            name,
            template,
            system=system,
            model=options.get("model", ""),
            parameters=parameters,
            variables=tuple(sorted({*variables_of(template), *variables_of(system)})),
            description=description,
        )
        self.doorbell.ring("prompts")
        return prompt

    def saved_prompt(self, reference: str) -> Prompt:
        """Return a saved prompt by ``NAME`` (its latest version) or ``NAME@VERSION``.

        Raises
        ------
        UnknownNameError
            There is none; the error names the nearest.
        """
        name, at, version = reference.rpartition("@")
        if not at:
            return self.catalog.prompts.get(reference)
        if not (version.isascii() and version.isdigit()):
            raise UsageError(
                f"{version!r} is not a version of a prompt.",
                f"Type %prompt {name}@1, or %prompt {name} for the latest.",
            )
        return self.catalog.prompts.get(name, int(version))

    def saved_options(self, prompt: Prompt) -> PromptOptions:
        """Return the options that a saved prompt carries."""
        values: dict[str, Any] = dict(prompt.parameters)
        typed = {
            name: values.pop(name) for name in ("max_new_tokens", "temperature", "seed") if name in values
        }
        return cast(
            "PromptOptions",
            {"system": prompt.system, "saved": prompt, "model": prompt.model, "parameters": values, **typed},
        )

    def prompts(self) -> Listing[Prompt]:
        """Return the latest version of every saved prompt."""
        return Listing("prompt", self.catalog.prompts.list(), "Save one with %%prompt -s NAME.")

    def _draft(self, template: str, options: PromptOptions) -> PromptDraft:
        from jupyter_llmops.inference.decoding import check_parameters
        from jupyter_llmops.prompting.pipeline import PromptDraft
        from jupyter_llmops.records.request import GenerationParameters

        _check_names(options)
        _check_types(template, options)
        settings = self.settings
        tokens = options.get("max_new_tokens")
        parameters = GenerationParameters(
            max_new_tokens=settings.max_new_tokens if tokens is None else tokens,
            temperature=options.get("temperature", 0.0),
            seed=options.get("seed"),
            extra=tuple(sorted(options.get("parameters", {}).items())),
        )
        check_parameters(parameters)  # before the prompt is saved with what can't be decoded with
        return PromptDraft(
            template=template,
            system=options.get("system", ""),
            variables=options.get("variables", {}),
            model=options.get("model") or settings.model,
            parameters=parameters,
            quantization=options.get("quantization") or settings.quantization,
            saved=options.get("saved"),
        )


def _saved_parameters(options: PromptOptions) -> dict[str, Scalar]:
    values: dict[str, Scalar] = dict(options.get("parameters", {}))
    for name in ("max_new_tokens", "temperature", "seed"):
        value = options.get(name)
        if value is not None and (name != "temperature" or value != 0):
            values[name] = value  # type: ignore[assignment]
    return values


def _check_names(options: Mapping[str, Any]) -> None:
    """Refuse an option that there is not: a misspelt one would silently not count."""
    known = PromptOptions.__annotations__
    for name in options:
        if name not in known:
            near = nearest(name, known)
            hint = f"Did you mean {' or '.join(near)}? " if near else ""
            raise UsageError(
                f"A prompt has no option named {name!r}.",
                f"{hint}Valid are {', '.join(known)}; further generation parameters go into parameters={{…}}.",
            )


_TYPES: dict[str, tuple[tuple[type, ...], str]] = {
    "variables": ((Mapping,), "a mapping of names to values"),
    "system": ((str,), "a text"),
    "model": ((str,), "a model's name"),
    "max_new_tokens": ((int,), "a whole number"),
    "temperature": ((int, float), "a number"),
    "seed": ((int,), "a whole number"),
    "parameters": ((Mapping,), "a mapping of names to values"),
    "quantization": ((str,), "auto, nf4, bf16 or fp32"),
}


def _check_types(template: object, options: Mapping[str, Any]) -> None:
    """Refuse what a script may pass and a magic can't: a value of another type."""
    if not isinstance(template, str):
        raise UsageError(
            f"A template is a text, not a {type(template).__name__}.",
            'Give one, e.g. ws.prompt("Hi {{ name }}").',
        )
    for name, (types, wanted) in _TYPES.items():
        value = options.get(name)
        if value is None and name in ("max_new_tokens", "seed", "saved"):
            continue
        if name in options and (not isinstance(value, types) or isinstance(value, bool)):
            raise UsageError(f"{name} is {wanted}, not {value!r}.", f"Leave it out, or give {wanted}.")
    for name in options.get("parameters", {}):
        if not isinstance(name, str):
            raise UsageError(
                f"{name!r} is not the name of a parameter.", "Give e.g. parameters={'top_p': 0.9}."
            )
