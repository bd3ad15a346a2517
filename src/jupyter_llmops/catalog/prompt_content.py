"""What makes a version of a prompt the version that it is, and its row in the catalog."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, get_args

from jupyter_llmops.catalog.schemas import understood
from jupyter_llmops.errors import UsageError
from jupyter_llmops.records.change import Change
from jupyter_llmops.records.prompt import Example, Prompt, Variable, VariableType
from jupyter_llmops.records.request import Scalar

# Content without declarations and includes has the digest that it always had.
PROMPT_SCHEMA = "llmops.prompt/1"
PROMPT_SCHEMA_2 = "llmops.prompt/2"

# Longer can't be rendered either.
LONGEST_PROMPT = 10_000_000

# How the fields of aliases begin among the changes.
ALIAS = "alias:"

FIELDS = (
    "name", "version", "digest", "template", "system", "variables", "model", "parameters", "description",
    "created_by", "created_at", "site", "declarations", "includes",
)  # fmt: skip


def content_digest(
    template: str,
    system: str,
    model: str,
    parameters: Iterable[tuple[str, Scalar]],
    declarations: Iterable[Variable] = (),
    includes: Mapping[str, str] | None = None,
) -> str:
    """Return ``sha256:…`` of a prompt's content in the canonical form of RFC 8785.

    Parameters
    ----------
    template, system, model : str
        As in `Prompt`.
    parameters : pairs
        As in `Prompt`.
    declarations : iterable of Variable
        Sorted by name.
    includes : mapping, optional
        From ``NAME@VERSION`` to the digest of what the templates include.

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
    if declared := [_declaration(variable) for variable in declarations]:
        content |= {"schema": PROMPT_SCHEMA_2, "declarations": declared}
    if includes:
        content |= {"schema": PROMPT_SCHEMA_2, "includes": dict(includes)}
    try:
        canonical = rfc8785.dumps(content)
    except (rfc8785.CanonicalizationError, UnicodeEncodeError) as error:
        raise UsageError(
            f"This prompt can't be saved: {error}.",
            "Parameters are text, true, false, null or finite numbers; text is valid Unicode.",
        ) from error
    return "sha256:" + hashlib.sha256(canonical).hexdigest()


def check_size(template: str, system: str) -> None:
    """Refuse what is longer than can be rendered, and what is empty."""
    if not template.strip():
        raise UsageError("This prompt can't be saved: it is empty.", "Write it below the %%prompt line.")
    size = max(len(template), len(system))
    if size > LONGEST_PROMPT:
        raise UsageError(
            f"This prompt can't be saved: it has {size:,} characters, more than {LONGEST_PROMPT:,}.",
            "Put the long part into a variable and write {{ name }} in its place.",
        )


def row_of(prompt: Prompt) -> dict[str, Any]:
    """Return a version's row."""
    return {name: getattr(prompt, name) for name in FIELDS} | {
        "key": f"{prompt.name}\x1f{prompt.version}",
        "variables": list(prompt.variables),
        "parameters": json.dumps(dict(prompt.parameters)),
        "declarations": json.dumps([_declaration(variable) for variable in prompt.declarations]),
        "includes": list(prompt.includes),
    }


def prompt_of(row: Mapping[str, Any]) -> Prompt:
    """Return the version of a row; a catalog of an earlier schema lacks some columns.

    What a row that this package did not write raises is among `NOT_UNDERSTOOD`.
    """
    values: dict[str, Any] = {name: row.get(name) for name in FIELDS}
    texts = ("digest", "system", "model", "description", "created_by", "site")
    values |= {name: values[name] or "" for name in texts}
    if None in (values["name"], values["version"], values["template"]):
        raise ValueError("not a version of a prompt")
    values["variables"] = tuple(values["variables"] or ())
    values["includes"] = tuple(values["includes"] or ())
    values["parameters"] = tuple(sorted(json.loads(values["parameters"] or "{}").items()))
    values["declarations"] = tuple(_variable(entry) for entry in json.loads(values["declarations"] or "[]"))
    return Prompt(**values)


def examples_to_json(examples: Iterable[Example]) -> list[dict[str, Any]]:
    """Return examples as JSON values."""
    return [{"variables": dict(example.variables), "answer": example.answer} for example in examples]


def examples_from_json(values: Iterable[dict[str, Any]] | None) -> tuple[Example, ...]:
    """Return examples of `examples_to_json`."""
    return tuple(understood(values or (), _example))


def with_changes(prompt: Prompt, changes: Iterable[Change]) -> Prompt:
    """Return a version with what is said of its prompt now."""
    current = {change.field: change for change in changes}
    values = {field: change.value for field, change in current.items()}
    moves = sorted(field for field, value in values.items() if field.startswith(ALIAS) and value is not None)
    return replace(
        prompt,
        description=prompt.description if values.get("description") is None else values["description"],
        tags=tuple(str(tag) for tag in values.get("tags") or ()),
        examples=examples_from_json(values.get("examples")),
        aliases=tuple(field.removeprefix(ALIAS) for field in moves if values[field] == prompt.version),
        alias_moves=tuple(current[field] for field in moves),
        retired=bool(values.get("retired")),
    )


def _declaration(variable: Variable) -> dict[str, Any]:
    entry: dict[str, Any] = {"name": variable.name, "type": variable.type}
    if variable.has_default:
        entry["default"] = variable.default
    if variable.description:
        entry["description"] = variable.description
    return entry


def _variable(entry: Mapping[str, Any]) -> Variable:
    if entry["type"] not in get_args(VariableType):
        raise ValueError("no type of a variable")
    return Variable(
        name=str(entry["name"]),
        type=entry["type"],
        default=entry.get("default"),
        has_default="default" in entry,
        description=str(entry.get("description", "")),
    )


def _example(value: Mapping[str, Any]) -> Example:
    return Example(tuple(value["variables"].items()), str(value["answer"]))
