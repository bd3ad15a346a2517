"""Templates compiled once, with what they include in its place: imported at the first rendering."""
# ruff: noqa: TID253 - it imports Jinja2, and only `rendering` imports it, inside functions

from __future__ import annotations

import functools
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import CodeType
from typing import Any

import jinja2
from jinja2 import meta, nodes
from jinja2.visitor import NodeTransformer

from jupyter_llmops.errors import TemplateError
from jupyter_llmops.prompting.environment import shared_environment
from jupyter_llmops.prompting.roles import is_chat
from jupyter_llmops.records.prompt import Prompt

Load = Callable[[str], Prompt]
"""From ``NAME@VERSION`` to the saved prompt; raises with the line to type for anything else."""

MOST_LEVELS = 8
MOST_INCLUDED = 200
MOST_INCLUDED_CHARACTERS = 1_000_000
# What is longer is compiled at each rendering, so that what is kept stays small.
LONGEST_KEPT = 100_000
_KEPT = 512

_FORBIDDEN = {
    nodes.Extends: "extends",
    nodes.Import: "import",
    nodes.FromImport: "from … import",
}


@dataclass(frozen=True, slots=True)
class Compiled:
    """A template ready to be rendered.

    Parameters
    ----------
    code : CodeType
        What `jinja2.Template.from_code` takes, with any overlay of the shared environment.
    names : frozenset of str
        Variables that it needs, those of what it includes too.
    own_names : frozenset of str
        Names of Jinja2's own (``range``) that it reads without calling them.
    includes : tuple of Prompt
        What it includes at whatever depth, each once, in the order of their first line.
    text : str
        Its source and theirs.
    """

    code: CodeType
    names: frozenset[str]
    own_names: frozenset[str]
    includes: tuple[Prompt, ...]
    text: str


def compiled(source: str, load: Load | None = None) -> Compiled:
    """Return a template compiled; the same source is compiled once.

    Parameters
    ----------
    source : str
        Jinja2.
    load : callable, optional
        Finds what it includes; nothing can be included without.

    Raises
    ------
    TemplateError
        It is not valid, or includes what it can't.
    UnknownNameError
        It includes a prompt that there is not.
    """
    if "include" not in source:
        return _kept(source, ()) if len(source) <= LONGEST_KEPT else _compile(source, ())
    included = _closure(source, load)
    size = len(source) + sum(len(prompt.template) for prompt in included)
    key = tuple((_reference(prompt), prompt) for prompt in included)
    return _kept(source, key) if size <= LONGEST_KEPT else _compile(source, key)


def _reference(prompt: Prompt) -> str:
    return f"{prompt.name}@{prompt.version}"


def _closure(source: str, load: Load | None) -> tuple[Prompt, ...]:
    """Return what a template includes, at whatever depth."""
    found: dict[str, Prompt] = {}

    def visit(text: str, name: str, level: int) -> None:
        for reference in _references(text, name):
            if level > MOST_LEVELS:
                raise TemplateError(
                    f"The template includes prompts more than {MOST_LEVELS} levels deep.",
                    "Include them from the template itself.",
                )
            if reference in found:
                continue
            prompt = found[reference] = _loaded(reference, load)
            visit(prompt.template, reference, level + 1)

    visit(source, "", 1)
    return tuple(found.values())


def _loaded(reference: str, load: Load | None) -> Prompt:
    if load is None:
        raise TemplateError(
            f"The template includes {reference!r}, and no saved prompts can be read here.",
            "Write the text itself.",
        )
    prompt = load(reference)
    if is_chat(prompt.template):
        raise TemplateError(
            f"{reference} is a chat of several messages, and a message can't include it.",
            "Save the part that is shared as a prompt of its own and include that.",
        )
    return prompt


def _references(source: str, name: str) -> tuple[str, ...]:
    if len(source) > LONGEST_KEPT:
        return _references_in(source, name)
    return _kept_references(source, name)


@functools.lru_cache(_KEPT)
def _kept_references(source: str, name: str) -> tuple[str, ...]:
    return _references_in(source, name)


def _references_in(source: str, name: str) -> tuple[str, ...]:
    return tuple(_included_name(node) for node in _parse(source, name).find_all(nodes.Include))


def _included_name(node: nodes.Include) -> str:
    target = node.template
    plain = isinstance(target, nodes.Const) and isinstance(target.value, str)
    if not plain or node.ignore_missing or not node.with_context:
        raise TemplateError(
            f'Line {node.lineno} of the template: an include is written {{% include "NAME@VERSION" %}} and no more.',
            "%prompts lists the names and versions.",
        )
    assert isinstance(target, nodes.Const)
    name: str = target.value
    return name


@functools.lru_cache(_KEPT)
def _kept(source: str, included: tuple[tuple[str, Prompt], ...]) -> Compiled:
    return _compile(source, included)


def _compile(source: str, included: tuple[tuple[str, Prompt], ...]) -> Compiled:
    environment = shared_environment()
    try:
        tree = _parse(source, "")
        if included:
            tree = _Inliner(source, dict(included)).visit(tree)
            tree.set_environment(environment)
        names = meta.find_undeclared_variables(tree)
        code = environment.compile(tree)
    except jinja2.TemplateSyntaxError as error:
        raise _invalid(error, "") from None
    except RecursionError:
        raise TemplateError("The template nests too deeply.") from None
    called = {call.node.name for call in tree.find_all(nodes.Call) if isinstance(call.node, nodes.Name)}
    read = {name.name for name in tree.find_all(nodes.Name) if name.ctx == "load"}
    own = frozenset(environment.globals)
    prompts = tuple(prompt for _, prompt in included)
    return Compiled(
        code=code,
        names=frozenset(names) - own,
        own_names=frozenset((read - called) & own),
        includes=prompts,
        text="\n".join((source, *(prompt.template for prompt in prompts))),
    )


def _parse(source: str, name: str) -> nodes.Template:
    try:
        tree = shared_environment().parse(source)
    except jinja2.TemplateSyntaxError as error:
        raise _invalid(error, name) from None
    except RecursionError:
        raise TemplateError("The template nests too deeply.") from None
    for kind, word in _FORBIDDEN.items():
        node = tree.find(kind)
        if node is not None:
            raise TemplateError(
                f"Line {node.lineno} of the template: a prompt can't have {{% {word} %}}, it can only include another.",
                'Write {% include "NAME@VERSION" %}; %prompts lists the names.',
            )
    return tree


def _invalid(error: jinja2.TemplateSyntaxError, name: str) -> TemplateError:
    where = name or "the template"
    return TemplateError(
        f"Line {error.lineno} of {where} is not valid Jinja2: {str(error.message).rstrip('.')}.",
        "A variable is written {{ name }}; literal braces {{ '{{' }}.",
    )


class _Inliner(NodeTransformer):
    """Puts the templates of included prompts in the place of their includes, in a scope of their own.

    So an included text counts as the template's, sees the variables around it as Jinja2's includes
    do, and is compiled once with what includes it.

    Parameters
    ----------
    source : str
        Of the tree that it visits.
    prompts : mapping
        By reference.
    """

    def __init__(self, source: str, prompts: Mapping[str, Prompt]) -> None:
        self._prompts = prompts
        self._included = self._characters = 0
        self._ends = iter(_line_ends(source))

    def visit_Include(self, node: nodes.Include, *_: Any) -> nodes.Node:  # noqa: N802 - Jinja2's name
        """Return what is included."""
        ends_line = next(self._ends)
        prompt = self._prompts[_included_name(node)]
        self._included += 1
        self._characters += len(prompt.template)
        if self._included > MOST_INCLUDED or self._characters > MOST_INCLUDED_CHARACTERS:
            raise TemplateError(
                f"The template includes more than {MOST_INCLUDED} prompts or "
                f"{MOST_INCLUDED_CHARACTERS // 1_000_000} million characters.",
                "Include each once, from the template itself.",
            )
        outer, self._ends = self._ends, iter(_line_ends(prompt.template))
        body = self.visit(_parse(prompt.template, _reference(prompt))).body
        self._ends = outer
        if ends_line:
            body.append(nodes.Output([nodes.TemplateData("\n")]))
        for part in body:
            part.set_lineno(node.lineno, override=True)
        return nodes.Scope(body, lineno=node.lineno)


def _line_ends(source: str) -> list[bool]:
    """Return of every include whether its tag is the end of a line.

    Jinja2 takes the line's end away behind a block's tag, which would join the last line of what is
    included with the next one.
    """
    ends: list[bool] = []
    first_word = is_include = False
    for _, kind, value in shared_environment().lex(source):
        if kind == "block_begin":
            first_word, is_include = True, False
        elif kind == "name" and first_word:
            first_word, is_include = False, value == "include"
        elif kind == "block_end" and is_include:
            ends.append(value.endswith("\n") and not value.startswith("-"))
    return ends
