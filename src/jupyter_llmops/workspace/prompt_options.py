"""What a prompt may be given, and what it may not."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

from jupyter_llmops.errors import UsageError, nearest

if TYPE_CHECKING:
    from jupyter_llmops.records.prompt import Example, Prompt, Variable
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
    alias : str
        The alias by which it was found.
    declarations : sequence of str or Variable
        Types and defaults of variables, e.g. ``["n: int = 3"]``.
    context : str or sequence of str
        Collections whose passages the model is shown, before the text or at ``{{ context }}``.
    k : int
        How many passages, 1 to 100; 5 by default.
    context_query : str
        Jinja2 source of what to search for; the text of the user by default.
    format : {"text", "json"}
        "json": the answer is JSON by construction, of `schema` where one is given.
    schema : mapping, str or pydantic model
        JSON Schema that the answer follows; implies the format "json".
    exact : bool
        Answer in the mode in which batches, padding and threads don't change a token.
    reuse : bool
        Reuse a stored answer although it was sampled without a seed.
    truncate : bool
        Cut a prompt that is longer than the model's context instead of refusing it.
    site : str
        Only engines of this site may answer.
    backend : str
        Where it runs: "kernel", or the names of endpoints, e.g. "team-llama=3,spare".
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
    alias: str
    declarations: Sequence[str | Variable]
    context: str | Sequence[str]
    k: int
    context_query: str
    format: str
    schema: Any
    exact: bool
    reuse: bool
    truncate: bool
    site: str
    backend: str


class SaveOptions(TypedDict, total=False):
    """What is said of a prompt when it is saved.

    Parameters
    ----------
    description : str
        For people.
    tags : iterable of str
        For people.
    examples : iterable of Example
        For people and for evaluation.
    private : bool
        Whether it goes into this user's own catalog instead of the team's.
    version : int
        The number that it should get where it is above all others.
    """

    description: str
    tags: Iterable[str]
    examples: Iterable[Example]
    private: bool
    version: int | None


def declarations_of(options: Mapping[str, Any]) -> tuple[Variable, ...]:
    """Return what the options declare of variables."""
    from jupyter_llmops.prompting.declarations import parse_declaration

    given: Sequence[str | Variable] = options.get("declarations", ())
    return tuple(parse_declaration(item) if isinstance(item, str) else item for item in given)


def saved_parameters(options: PromptOptions) -> dict[str, Scalar]:
    """Return the generation parameters that are saved with a prompt."""
    values: dict[str, Scalar] = dict(options.get("parameters", {}))
    for name in ("max_new_tokens", "temperature", "seed"):
        value = options.get(name)
        if value is not None and (name != "temperature" or value != 0):
            values[name] = value  # type: ignore[assignment]
    return values


def check_option_names(options: Mapping[str, Any]) -> None:
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
    "quantization": ((str,), "auto, nf4, int8, bf16, fp32 or gguf"),
    "alias": ((str,), "an alias"),
    "declarations": ((list, tuple), 'a list such as ["n: int = 3"]'),
    "format": ((str,), "text or json"),
    "site": ((str,), "the name of a site"),
    "backend": ((str,), "a backend, e.g. kernel"),
}
_FLAGS = ("exact", "reuse", "truncate")


def check_option_types(template: object, options: Mapping[str, Any]) -> None:
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
    for name in _FLAGS:
        if not isinstance(options.get(name, False), bool):
            raise UsageError(
                f"{name} is True or False, not {options[name]!r}.", f"Leave it out, or give {name}=True."
            )
    if options.get("format", "text") not in ("text", "json"):
        raise UsageError(f"There is no format {options['format']!r}.", "Valid are text and json.")
    for name in options.get("parameters", {}):
        if not isinstance(name, str):
            raise UsageError(
                f"{name!r} is not the name of a parameter.", "Give e.g. parameters={'top_p': 0.9}."
            )
