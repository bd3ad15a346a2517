"""Templates of several messages: lines that are a role alone begin a message.

A template is split before it is rendered, so no variable can forge a message.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

from jupyter_llmops.errors import TemplateError
from jupyter_llmops.records.request import Role

_ROLE = re.compile(r"^(system|user|assistant):[ \t]*\r?$", re.MULTILINE)
_BEGINS_WITH_ROLE = re.compile(rf"(?:[ \t]*\r?\n)*{_ROLE.pattern}", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Part:
    """The source of one message."""

    role: Role
    source: str


def is_chat(template: str) -> bool:
    """Return whether a template holds several messages: its first line that is not blank is a role."""
    return _BEGINS_WITH_ROLE.match(template) is not None


def split(template: str, system: str = "") -> tuple[Part, ...]:
    """Return the messages' sources, the system message first where there is one.

    Parameters
    ----------
    template : str
        With or without lines that are ``system:``, ``user:`` or ``assistant:`` alone.
    system : str
        Source of a system message from elsewhere.

    Raises
    ------
    TemplateError
        There are two system messages, or one that is not the first, or the last is not the user's.
    """
    first = (Part("system", system),) if system else ()
    if not is_chat(template):
        return (*first, Part("user", template))
    pieces = _ROLE.split(template)
    roles, sources = pieces[1::2], pieces[2::2]
    parts = tuple(
        Part(role, source.strip("\r\n"))  # type: ignore[arg-type] # the pattern allows the three roles only
        for role, source in zip(roles, sources, strict=True)
    )
    if any(part.role == "system" for part in (*parts[1:], *(parts[:1] if system else ()))):
        raise TemplateError(
            "A chat has one system message, the first.",
            "Leave --system out, or take the system: lines out of the template.",
        )
    if parts[-1].role != "user":
        raise TemplateError(
            f"The last message of the template is the {parts[-1].role}'s, and a model answers a user.",
            "End it with a line user: and what is asked.",
        )
    return (*first, *parts)


def escape_roles(text: str) -> str:
    """Return a message's text whose lines that look like roles are written so that they begin none."""
    return _ROLE.sub(lambda found: f"{{{{ '{found[0].rstrip()}' }}}}", text)
