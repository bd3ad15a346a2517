"""Saved prompts as Markdown files with YAML front matter, one a prompt, so that they live in git."""

from __future__ import annotations

import hashlib
import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jupyter_llmops.errors import UsageError
from jupyter_llmops.prompting.declarations import check_type, checked
from jupyter_llmops.records.prompt import Example, Prompt, Variable
from jupyter_llmops.records.request import Scalar

if TYPE_CHECKING:
    from yaml.nodes import Node

FENCE = "---"
LARGEST_FRONT_MATTER = 1_000_000
"""Characters."""

_LONGEST_STEM = 80
_UNSAFE = re.compile(r"[^\w.-]+")
# Names that Windows keeps for devices, whatever follows the dot.
_DEVICES = frozenset(
    ["con", "prn", "aux", "nul", *(f"{port}{n}" for port in ("com", "lpt") for n in range(10))]
)
_TEXTS = ("name", "description", "model", "system")
_KEYS = (
    "name", "version", "description", "tags", "model", "parameters", "variables", "system", "includes", "examples",
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class PromptSource:
    """A prompt as a file has it.

    Parameters
    ----------
    prompt : Prompt
        With neither digest nor dates; the version is the file's, 0 where it names none.
    include_digests : mapping
        From ``NAME@VERSION`` to the digest of what it was exported with.
    """

    prompt: Prompt
    include_digests: Mapping[str, str]


def to_markdown(
    prompt: Prompt, *, with_version: bool = False, includes: Mapping[str, str] | None = None
) -> str:
    """Return a prompt as the text of a file; equal prompts are equal texts.

    Parameters
    ----------
    prompt : Prompt
        Its aliases, dates and names of people are left out: they belong to a catalog.
    with_version : bool
        Whether its number is written: where others include it by that.
    includes : mapping, optional
        Digests of what it includes, by ``NAME@VERSION``.
    """
    values: dict[str, Any] = {"name": prompt.name}
    if with_version:
        values["version"] = prompt.version
    values |= {
        "description": prompt.description,
        "tags": list(prompt.tags),
        "model": prompt.model,
        "parameters": dict(prompt.parameters),
        "variables": {variable.name: _variable_values(variable) for variable in prompt.declarations},
        "system": prompt.system,
        "includes": dict(sorted((includes or {}).items())),
        "examples": [
            {"variables": dict(example.variables), "answer": example.answer} for example in prompt.examples
        ],
    }
    kept = {key: value for key, value in values.items() if key in ("name", "version") or value}
    return f"{FENCE}\n{_dump(kept)}{FENCE}\n{prompt.template}\n"


def from_markdown(text: str) -> PromptSource:
    """Return the prompt of a file's text.

    Raises
    ------
    UsageError
        It is not one; the message names the line.
    """
    front, body = _split(text)
    values, lines = _load(front)
    try:
        return _source(values, body)
    except _BadValue as bad:
        line = next((lines[key] for key in (bad.key, bad.key.partition(".")[0]) if key in lines), 1)
        raise UsageError(f"Line {line}: {bad.message}", bad.hint) from None


def file_stem(name: str) -> str:
    """Return the name of a prompt's file, without its ending.

    A name that is none of a file on every system is written with a digest of it, so that two names
    never share a file; what looks like a path does not become one.
    """
    stem = _UNSAFE.sub("-", unicodedata.normalize("NFC", name)).strip("-.")
    while len(stem.encode()) > _LONGEST_STEM:
        stem = stem[:-1]
    if stem.partition(".")[0].casefold() in _DEVICES:
        stem = f"prompt-{stem}"
    if stem == name:
        return stem
    return f"{stem or 'prompt'}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def file_names(names: Iterable[str]) -> dict[str, str]:
    """Return the file of every name; two that differ by case only get a digest each."""
    stems = {name: file_stem(name) for name in names}
    folds: dict[str, int] = {}
    for stem in stems.values():
        folds[_fold(stem)] = folds.get(_fold(stem), 0) + 1
    return {
        name: (stem if folds[_fold(stem)] == 1 else f"{stem}-{hashlib.sha256(name.encode()).hexdigest()[:8]}")
        + ".md"
        for name, stem in stems.items()
    }


def _fold(stem: str) -> str:
    return unicodedata.normalize("NFKC", stem).casefold()


class _BadValue(Exception):  # noqa: N818 - becomes a UsageError with a line
    def __init__(self, key: str, message: str, hint: str = "") -> None:
        super().__init__(message)
        self.key, self.message, self.hint = key, message, hint


# -- writing ----------------------------------------------------------------------------------


def _variable_values(variable: Variable) -> dict[str, Any]:
    values: dict[str, Any] = {"type": variable.type}
    if variable.has_default:
        values["default"] = variable.default
    if variable.description:
        values["description"] = variable.description
    return values


def _dump(values: Mapping[str, Any]) -> str:
    """Return values as YAML that reads back as the same, long texts as blocks where that is possible."""
    import yaml

    class Blocks(yaml.SafeDumper):  # type: ignore[misc] # PyYAML has no types
        """Writes texts of several lines as blocks."""

        def ignore_aliases(self, _: object) -> bool:
            return True

    def text(dumper: yaml.SafeDumper, value: str) -> Any:
        style = "|" if "\n" in value else None
        return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=style)

    Blocks.add_representer(str, text)
    written: str = yaml.dump(values, Dumper=Blocks, allow_unicode=True, sort_keys=False, width=10_000)
    if _reads_back(written, values):
        return written
    # Control characters and some line ends have one safe form only.
    escaped: str = yaml.safe_dump(
        values, allow_unicode=False, sort_keys=False, default_style='"', width=10_000
    )
    return escaped


def _reads_back(written: str, values: Mapping[str, Any]) -> bool:
    import yaml

    try:
        return yaml.safe_load(written) == values and f"\n{FENCE}\n" not in f"\n{written}"
    except yaml.YAMLError:
        return False


# -- reading ----------------------------------------------------------------------------------


def _split(text: str) -> tuple[str, str]:
    text = text.removeprefix("\ufeff")
    if text.startswith(f"{FENCE}\r\n"):  # git may have given the whole file another system's line ends
        text = text.replace("\r\n", "\n")
    if not text.startswith(f"{FENCE}\n"):
        raise UsageError(
            "Line 1: it does not begin with a line ---.", "A prompt's file begins with front matter."
        )
    front, fence, body = text[len(FENCE) + 1 :].partition(f"\n{FENCE}\n")
    if not fence and text.endswith(f"\n{FENCE}"):
        front, fence, body = text[len(FENCE) + 1 : -len(FENCE) - 1], FENCE, ""
    if not fence:
        raise UsageError("Line 1: the front matter has no end.", "Close it with a line ---.")
    if len(front) > LARGEST_FRONT_MATTER:
        raise UsageError(
            f"Line 1: the front matter has {len(front):,} characters, more than {LARGEST_FRONT_MATTER:,}.",
            "The text of the prompt goes below it.",
        )
    return front + "\n", body.removesuffix("\n")


def _load(front: str) -> tuple[dict[str, Any], dict[str, int]]:
    """Return the values of YAML, and the line of every key (``parameters.seed``) in the file."""
    import yaml

    try:
        tree = yaml.compose(front, yaml.SafeLoader)
        lines: dict[str, int] = {}
        if tree is not None:
            _note_lines(tree, lines)
        values = yaml.safe_load(front)
    except _BadValue as bad:
        raise UsageError(f"Line {bad.key}: {bad.message}", bad.hint) from None
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None) or getattr(error, "context_mark", None)
        line = mark.line + 2 if mark else 1
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise UsageError(
            f"Line {line}: it is not valid YAML: {problem}.", "Put the text into quotes."
        ) from None
    except (RecursionError, ValueError, OverflowError) as error:
        raise UsageError(f"Line 1: it is not valid YAML: {error}.", "Put the text into quotes.") from None
    if not isinstance(values, dict):
        raise UsageError("Line 2: the front matter holds no name: it needs lines such as name: summary.")
    return values, lines


def _note_lines(node: Node, lines: dict[str, int], above: str = "", depth: int = 0) -> None:
    from yaml.nodes import MappingNode

    if not isinstance(node, MappingNode) or depth > 2:
        return
    for key, value in node.value:
        line = key.start_mark.line + 2
        name = f"{above}{key.value}" if isinstance(key.value, str) else above
        if name in lines:
            raise _BadValue(str(line), f"the key {name!r} stands there twice.", "Leave one out.")
        lines[name] = line
        _note_lines(value, lines, f"{name}.", depth + 1)


def _source(values: dict[str, Any], body: str) -> PromptSource:
    for key in values:
        if key not in _KEYS:
            raise _BadValue(str(key), f"there is no key {str(key)[:60]!r}.", f"Valid are {', '.join(_KEYS)}.")
    texts = {key: _text(values.get(key, ""), key) for key in _TEXTS}
    if not texts["name"]:
        raise _BadValue("name", "the name is missing.", "Write for example name: summary.")
    version = values.get("version", 0)
    if type(version) is not int or not 0 <= version < 10**12:
        raise _BadValue("version", "the version is not a whole number.")
    prompt = Prompt(
        name=texts["name"],
        version=version,
        digest="",
        template=body,
        system=texts["system"],
        model=texts["model"],
        parameters=tuple(sorted(_scalars(values.get("parameters"), "parameters").items())),
        description=texts["description"],
        declarations=_declarations(values.get("variables")),
        tags=tuple(_text(tag, "tags") for tag in _list(values.get("tags"), "tags")),
        examples=tuple(_example(value) for value in _list(values.get("examples"), "examples")),
    )
    digests = _scalars(values.get("includes"), "includes")
    return PromptSource(prompt, {key: _text(value, f"includes.{key}") for key, value in digests.items()})


def _declarations(value: Any) -> tuple[Variable, ...]:
    found = []
    for name, entry in _mapping(value, "variables").items():
        key = f"variables.{name}"
        if not isinstance(entry, dict) or set(entry) - {"type", "default", "description"}:
            raise _BadValue(
                key,
                f"the variable {name!r} is not described.",
                "Write for example n: {type: int, default: 3}.",
            )
        default = entry.get("default")
        if not isinstance(default, str | int | float | bool | None):
            raise _BadValue(
                key,
                f"the default of {name!r} is not a text, a number, true, false or null.",
                "Put it into quotes.",
            )
        try:
            kind = check_type(_text(entry.get("type", "any"), f"{key}.type"), name)
            description = _text(entry.get("description", ""), f"{key}.description")
            found.append(checked(Variable(name, kind, default, "default" in entry, description)))
        except UsageError as error:
            raise _BadValue(key, error.message, error.hint) from None
    return tuple(sorted(found, key=lambda variable: variable.name))


def _example(value: Any) -> Example:
    if not isinstance(value, dict) or set(value) - {"variables", "answer"}:
        raise _BadValue("examples", "an example has the keys variables and answer.")
    variables = _scalars(value.get("variables"), "examples")
    return Example(tuple(variables.items()), _text(value.get("answer", ""), "examples"))


def _text(value: Any, key: str) -> str:
    if not isinstance(value, str):
        raise _BadValue(key, f"{key} is not a text.", "Put it into quotes.")
    return value


def _list(value: Any, key: str) -> list[Any]:
    if value is None:
        return []
    if not isinstance(value, list):
        raise _BadValue(key, f"{key} is not a list.", f"Write for example {key}: [one, two].")
    return value


def _mapping(value: Any, key: str) -> dict[str, Any]:
    if value is None:
        return {}
    if not isinstance(value, dict) or not all(isinstance(name, str) for name in value):
        raise _BadValue(key, f"{key} is not a list of names and values.", "Write each as name: value.")
    return value


def _scalars(value: Any, key: str) -> dict[str, Scalar]:
    found = _mapping(value, key)
    for name, item in found.items():
        if not isinstance(item, str | int | float | bool | None):
            raise _BadValue(
                f"{key}.{name}",
                f"{name!r} is not a text, a number, true, false or null.",
                "Put it into quotes.",
            )
    return found
