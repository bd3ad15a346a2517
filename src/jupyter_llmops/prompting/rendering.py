"""Templates to text, with the origin of every span."""

from __future__ import annotations

import re
import secrets
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from types import BuiltinFunctionType, FunctionType, MethodType, ModuleType
from typing import TYPE_CHECKING, Any, Literal

from jupyter_llmops.errors import TemplateError, nearest
from jupyter_llmops.prompting.sandbox import Learn, sandbox

if TYPE_CHECKING:
    from jupyter_llmops.prompting.compilation import Compiled, Load
    from jupyter_llmops.records.prompt import Prompt

Origin = Literal["template", "variable", "context"]

# Marks around the value of an expression while a template renders. Private-use characters pass
# Jinja2's filters unchanged; the random part keeps a value from forging a mark.
_DIGITS = "\ue010\ue011\ue012\ue013\ue014\ue015\ue016\ue017\ue018\ue019\ue01a\ue01b\ue01c\ue01d\ue01e\ue01f"
_OPEN, _CLOSE = "\ue000", "\ue001"
# Of any nonce: a pattern of each rendering's own would be compiled anew each time.
_MARKS = re.compile(f"([{_OPEN}{_CLOSE}][{_DIGITS}]{{4}})")


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open range of characters and who wrote it."""

    start: int
    end: int
    origin: Origin


@dataclass(frozen=True, slots=True)
class Rendered:
    """A rendered template.

    Parameters
    ----------
    text : str
        What the model will read.
    spans : tuple of Span
        Contiguous, covering the whole text.
    variables : tuple of str
        Names of the variables that the template read, sorted.
    includes : tuple of Prompt
        The saved prompts that the template includes, at whatever depth.
    """

    text: str
    spans: tuple[Span, ...]
    variables: tuple[str, ...]
    includes: tuple[Prompt, ...] = ()


def variables_of(template: str, load: Load | None = None) -> tuple[str, ...]:
    """Return the names that a template needs, with what it includes, sorted.

    Parameters
    ----------
    template : str
        Jinja2 source.
    load : callable, optional
        Finds the saved prompts that it includes.

    Raises
    ------
    TemplateError
        The template is not valid Jinja2; the message names the line.
    """
    from jupyter_llmops.prompting.compilation import compiled

    return tuple(sorted(compiled(template, load).names))


def includes_of(template: str, load: Load | None = None) -> tuple[Prompt, ...]:
    """Return the saved prompts that a template includes, at whatever depth."""
    from jupyter_llmops.prompting.compilation import compiled

    return compiled(template, load).includes


def render(
    template: str, variables: Mapping[str, Any], learn: Learn | None = None, load: Load | None = None
) -> Rendered:
    """Render a template with the variables that it names, and no others.

    Parameters
    ----------
    template : str
        Jinja2 source.
    variables : mapping
        Where names are looked up; only those in the template are read.
    learn : callable, optional
        Is told the name and the value of each variable, attribute and item that the template
        reads, also when it can't be rendered afterwards.
    load : callable, optional
        Finds the saved prompts that it includes.

    Raises
    ------
    TemplateError
        A name is not defined (the error names it), the template is not valid, it asks for
        something that the sandbox does not allow, or it writes more than `limits` allows.
    """
    from jupyter_llmops.prompting.compilation import compiled

    ready = compiled(template, load)
    # ``range``, ``dict`` and the like are Jinja2's where the template calls them, else a variable.
    shadowed = {name for name in ready.own_names if name in variables}
    names = tuple(sorted(ready.names | shadowed))
    named = {name: variables[name] for name in names if name in variables}
    if learn is not None:
        for name, value in named.items():
            learn(name, value)
    missing = [name for name in names if name not in variables]
    if missing and not _tolerated(ready.text, missing):
        raise _undefined(missing[0], variables)
    for name in names:
        _refuse_code(name, variables.get(name))

    text = _render_text(ready, named, learn=learn)
    return Rendered(text, _spans(ready, named, text), names, ready.includes)


def _render_text(
    ready: Compiled,
    named: Mapping[str, Any],
    *,
    learn: Learn | None = None,
    mark: Callable[[Any], Any] | None = None,
) -> str:
    import jinja2

    environment = sandbox(learn, mark)
    try:
        template = jinja2.Template.from_code(environment, ready.code, environment.make_globals(None))
        return template.render(named)
    except TemplateError:
        raise
    except jinja2.UndefinedError as error:
        raise TemplateError(
            f"The template reads something that is not there: {error.message}.",
            "Define it in a cell or give it with --var name=value.",
        ) from None
    except jinja2.TemplateError as error:
        raise TemplateError(f"The template can't be rendered: {str(error).rstrip('.')}.") from None
    except RecursionError:
        raise TemplateError("The template nests too deeply.") from None
    except Exception as error:  # noqa: BLE001 - a value's own __str__, or arithmetic on it, can raise anything
        raise TemplateError(
            f"The template can't be rendered: {type(error).__name__}: {str(error).rstrip('.')}.",
            "Turn the value into text in a cell first.",
        ) from None


def _spans(ready: Compiled, named: Mapping[str, Any], text: str) -> tuple[Span, ...]:
    """Return who wrote which part of `text`, by rendering once more with every value marked."""
    nonce = "".join(secrets.choice(_DIGITS) for _ in range(4))
    opening, closing = _OPEN + nonce, _CLOSE + nonce
    try:
        marked = _render_text(ready, named, mark=lambda value: f"{opening}{value}{closing}")
    except TemplateError:
        marked = ""
    unmarked, spans = _unmark(marked, opening, closing)
    if unmarked == text:
        return spans
    # A template that measures its own captured blocks renders differently with marks in them:
    # then nothing is known, and all of it counts as written by a variable.
    return (Span(0, len(text), "variable"),) if text else ()


def _tolerated(template: str, missing: Iterable[str]) -> bool:
    """Whether every missing name is only used where Jinja2 tolerates it (``default``, ``is defined``)."""
    return all(
        re.search(rf"\b{re.escape(name)}\s*(\|\s*(default|d)\b|is\s+(not\s+)?defined\b)", template)
        for name in missing
    )


def _undefined(name: str, variables: Mapping[str, Any]) -> TemplateError:
    near = nearest(name, (key for key in variables if not key.startswith("_")))
    suggestion = f" Did you mean {' or '.join(near)}?" if near else ""
    if name == "context":
        suggestion = " For passages of a collection, add --context COLLECTION."
    return TemplateError(
        f"The template needs the variable {name!r}, which is not defined.",
        f"Define it in a cell or add --var {name}=value.{suggestion}",
    )


def _refuse_code(name: str, value: object) -> None:
    if isinstance(value, ModuleType | type | FunctionType | BuiltinFunctionType | MethodType):
        raise TemplateError(
            f"The variable {name!r} is a {type(value).__name__}, not a value that can be put into a prompt.",
            "Compute the value in a cell and give it a name of its own.",
        )


def _unmark(marked: str, opening: str, closing: str) -> tuple[str, tuple[Span, ...]]:
    """Take the marks out and return the text with the origin of its spans."""
    pieces: list[str] = []
    spans: list[Span] = []
    depth = position = 0
    for piece in _MARKS.split(marked):
        if piece == opening:
            depth += 1
        elif piece == closing:
            depth = max(0, depth - 1)
        elif piece:
            origin: Origin = "variable" if depth else "template"
            end = position + len(piece)
            if spans and spans[-1].origin == origin:
                spans[-1] = Span(spans[-1].start, end, origin)
            else:
                spans.append(Span(position, end, origin))
            pieces.append(piece)
            position = end
    return "".join(pieces), tuple(spans)
