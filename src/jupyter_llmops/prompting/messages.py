"""Templates to the messages of a chat."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from jupyter_llmops.errors import TemplateError
from jupyter_llmops.prompting.declarations import declared, inherited, with_defaults
from jupyter_llmops.prompting.rendering import Rendered, includes_of, render, variables_of
from jupyter_llmops.prompting.roles import split
from jupyter_llmops.prompting.sandbox import Learn
from jupyter_llmops.records.prompt import Prompt, Variable
from jupyter_llmops.records.request import Role

if TYPE_CHECKING:
    from jupyter_llmops.prompting.compilation import Load


@dataclass(frozen=True, slots=True)
class RenderedMessage:
    """One message, and who wrote which part of it."""

    role: Role
    rendered: Rendered


@dataclass(frozen=True, slots=True)
class Needs:
    """What a prompt's templates need.

    Parameters
    ----------
    variables : tuple of str
        Names, sorted.
    includes : tuple of Prompt
        The saved prompts that are included, at whatever depth.
    declarations : tuple of Variable
        The prompt's own, checked and sorted by name.
    """

    variables: tuple[str, ...]
    includes: tuple[Prompt, ...]
    declarations: tuple[Variable, ...]


def needs_of(
    template: str, system: str = "", declarations: tuple[Variable, ...] = (), load: Load | None = None
) -> Needs:
    """Return what templates need, without rendering them.

    Raises
    ------
    TemplateError
        A template is not valid; the message names the line.
    UsageError
        A declared variable is in no template.
    """
    names: set[str] = set()
    includes: dict[str, Prompt] = {}
    for part in split(template, system):
        names.update(variables_of(part.source, load))
        includes |= {f"{found.name}@{found.version}": found for found in includes_of(part.source, load)}
    return Needs(tuple(sorted(names)), tuple(includes.values()), declared(declarations, names))


def render_messages(
    template: str,
    system: str,
    variables: Mapping[str, Any],
    *,
    declarations: tuple[Variable, ...] = (),
    learn: Learn | None = None,
    load: Load | None = None,
) -> tuple[RenderedMessage, ...]:
    """Render a prompt's messages, the user's last; a system message that renders to nothing is left out.

    Parameters
    ----------
    template, system : str
        Jinja2 sources; see `roles.split`.
    variables : mapping
        Values by name; only those that the templates name are read.
    declarations : tuple of Variable
        Types and defaults.
    learn, load : callable, optional
        See `rendering.render`.

    Raises
    ------
    TemplateError
        A template can't be rendered, a message is empty, or a value has not its declared type.
    """
    parts = split(template, system)
    included = (prompt for part in parts for prompt in includes_of(part.source, load))
    values = with_defaults(inherited(declarations, included), variables)
    messages = []
    for number, part in enumerate(parts, 1):
        rendered = render(part.source, values, learn, load)
        if part.role == "system" and not rendered.text:
            continue
        if not rendered.text.strip():
            raise _empty(part.role, number, len(parts))
        messages.append(RenderedMessage(part.role, rendered))
    return tuple(messages)


def _empty(role: Role, number: int, count: int) -> TemplateError:
    if number == count:
        return TemplateError("The prompt is empty.", "Write it below the %%prompt line.")
    return TemplateError(
        f"The {role} message, number {number} of the chat, is empty.",
        f"Write it below its line {role}: or take that line out.",
    )
