"""The Jinja2 environment behind `sandbox`, which alone imports this module: it imports Jinja2."""
# ruff: noqa: TID253 - nothing else imports this module, and sandbox() does at the first rendering

from __future__ import annotations

import functools
import types
from collections.abc import Callable, Iterable, Mapping
from itertools import islice
from typing import Any

import jinja2
from jinja2 import nodes
from jinja2.compiler import CodeGenerator, Frame
from jinja2.filters import make_attrgetter
from jinja2.runtime import Context, Macro, markup_join
from jinja2.sandbox import ImmutableSandboxedEnvironment, SandboxedFormatter

from jupyter_llmops.errors import TemplateError
from jupyter_llmops.prompting import limits

_PLAIN_TYPES = (str, bytes, int, float, complex, bool, list, tuple, dict, set, frozenset, range)
_MOST_ITEMS = 10_000


class SafeFormat:
    """``str.format`` of one text, reading attributes and items as a template does.

    Parameters
    ----------
    environment : PromptEnvironment
        Of the rendering.
    text : str
        With the fields.
    takes_mapping : bool
        Whether it is ``format_map``.
    """

    def __init__(self, environment: PromptEnvironment, text: str, *, takes_mapping: bool) -> None:
        self._environment = environment
        self._text = text
        self._takes_mapping = takes_mapping

    def __call__(self, *args: Any, **kwargs: Any) -> str:
        """Return the text with its fields filled in."""
        if self._takes_mapping:
            (kwargs,) = args
            args = ()
        text: str = BoundedFormatter(self._environment).vformat(self._text, args, kwargs)
        self._environment.budget.charge(text)
        return text


class BoundedFormatter(SandboxedFormatter):
    """Fills in fields, each within the limits.

    Parameters
    ----------
    environment : PromptEnvironment
        Of the rendering.
    """

    def __init__(self, environment: PromptEnvironment) -> None:
        super().__init__(environment)
        self._budget = environment.budget

    def format_field(self, value: Any, format_spec: str) -> Any:
        """Return the text of one field."""
        limits.check_format(value, format_spec)
        return self._budget.charge(super().format_field(value, format_spec))

    def convert_field(self, value: Any, conversion: Any) -> Any:
        """Return a value after ``!r``, ``!s`` or ``!a``."""
        if conversion is None:
            return value
        if isinstance(value, jinja2.Undefined):
            str(value)  # raises what it stands for; its repr would not
        limits.text_size(value)
        return self._budget.charge(super().convert_field(value, conversion))


class BoundedGenerator(CodeGenerator):
    """Compiles what Jinja2 does on its own into calls of the environment, which can then count it."""

    def buffer(self, frame: Frame) -> None:
        """Let the pieces of a block or a macro gather in a `limits.Buffer`."""
        frame.buffer = self.temporary_identifier()
        self.writeline(f"{frame.buffer} = environment.new_buffer()")

    def visit_Concat(self, node: nodes.Concat, frame: Frame) -> None:  # noqa: N802 - Jinja2's name
        """Write ``a ~ b``."""
        self.write("environment.concatenated((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("), context.eval_ctx)")

    def visit_Getitem(self, node: nodes.Getitem, frame: Frame) -> None:  # noqa: N802 - Jinja2's name
        """Write ``a[b]``; a slice is a copy."""
        self.write("environment.budget.charge(" if isinstance(node.arg, nodes.Slice) else "(")
        super().visit_Getitem(node, frame)
        self.write(")")


class PromptEnvironment(ImmutableSandboxedEnvironment):
    """Reads values, calls nothing of the notebook, counts what it writes and says what it reads.

    Every rendering has an overlay of its own, with these attributes.

    Parameters
    ----------
    learn : callable or None
        Is told the name and the value of every attribute and item that the template reads.
    budget : Budget
        What the rendering may still write.
    mark : callable or None
        Gets the value of every expression and returns what is written in its place.
    """

    intercepted_binops = frozenset({"*", "**", "+", "%"})
    code_generator_class = BoundedGenerator
    learn: Callable[[str, object], object] | None = None
    budget = limits.Budget()
    mark: Callable[[Any], Any] | None = None

    def is_safe_callable(self, obj: Any) -> bool:
        """Return whether a template may call an object."""
        # By identity: an object of the notebook may call itself equal to anything.
        if type(obj) is SafeFormat or isinstance(obj, Macro):
            return True
        if any(obj is own for own in self.globals.values()):
            return True
        owner = getattr(obj, "__self__", None)
        if isinstance(obj, types.MethodType) and type(owner).__module__.startswith("jinja2."):
            return True  # loop.cycle and the like
        return _is_plain_method(obj) and super().is_safe_callable(obj)

    def call(self, context: Context, obj: Any, *args: Any, **kwargs: Any) -> Any:
        """Call an object for a template."""
        # A method that the notebook keeps in a container was not read as an attribute.
        obj = self.wrap_str_format(obj) or obj
        if not self.is_safe_callable(obj):
            name = getattr(obj, "__name__", type(obj).__name__)
            raise TemplateError(
                f"The template calls {name}(), and a template can only read values.",
                "Compute the value in a cell and name the variable in the template.",
            )
        if not _is_plain_method(obj):
            return super().call(context, obj, *args, **kwargs)
        owner, name = obj.__self__, obj.__name__
        args = limits.check_method(owner, name, args, kwargs)
        result = super().call(context, obj, *args, **kwargs)
        if name == "get":
            return self.was_read(args[0], result)
        if name in ("items", "values"):
            self.were_read(owner)
        return self.budget.charge(result, new_items=True)

    def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
        """Compute ``left operator right`` for a template."""
        limits.check_operator(operator, left, right)
        return self.budget.charge(super().call_binop(context, operator, left, right))

    def getattr(self, obj: Any, attribute: str) -> Any:
        """Read an attribute, or else an item."""
        return self.was_read(attribute, super().getattr(obj, attribute))

    def getitem(self, obj: Any, argument: Any) -> Any:
        """Read an item, or else an attribute."""
        return self.was_read(argument, super().getitem(obj, argument))

    def was_read(self, name: object, value: Any) -> Any:
        """Return a value that the template read under a name, after saying so."""
        if self.learn is not None and isinstance(name, str) and not isinstance(value, jinja2.Undefined):
            self.learn(name, value)
        return value

    def were_read(self, items: Mapping[Any, Any]) -> None:
        """Say that the template read all items."""
        for name, value in islice(items.items(), _MOST_ITEMS):
            self.was_read(name, value)

    def wrap_str_format(self, value: Any) -> Callable[..., str] | None:
        """Return what a template gets in place of a text's ``format`` or ``format_map``."""
        if not isinstance(value, types.MethodType | types.BuiltinMethodType):
            return None
        text, name = value.__self__, value.__name__
        if not isinstance(text, str) or name not in ("format", "format_map"):
            return None
        # A notebook's own kind of text may have its own way to be one.
        return SafeFormat(self, str.__str__(text), takes_mapping=name == "format_map")

    def new_buffer(self) -> limits.Buffer:
        """Return where a block's pieces gather."""
        return limits.Buffer(self.budget)

    def concat(self, pieces: Iterable[str]) -> str:
        """Return the pieces as one text; `Template.render` is one call of it."""
        return self.budget.joined(pieces)

    def concatenated(self, parts: tuple[Any, ...], evaluation: nodes.EvalContext) -> str:
        """Return ``a ~ b``."""
        for part in parts:
            limits.text_size(part)
        text: str = self.budget.charge(self.budget.joined(map(str, parts)))
        return markup_join(parts) if evaluation.autoescape else text


@jinja2.pass_context
def _write(context: Context, value: Any) -> Any:
    """Return what is written for the value of an expression.

    With the context, so that the code of a template is the same whoever renders it.
    """
    environment = context.environment
    assert isinstance(environment, PromptEnvironment)
    limits.text_size(value)
    return environment.mark(value) if environment.mark else value


@functools.cache
def shared_environment() -> PromptEnvironment:
    """Return the environment of which every rendering has an overlay."""
    environment = PromptEnvironment(
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=False,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # a prompt is text, not HTML
        finalize=_write,
    )
    # lipsum draws at random and so would make a hidden input.
    environment.globals.pop("lipsum", None)
    environment.filters.pop("random", None)
    environment.filters = {name: _bounded(name, function) for name, function in environment.filters.items()}
    return environment


def _bounded(name: str, function: Callable[..., Any]) -> Callable[..., Any]:
    passes = getattr(function, "jinja_pass_arg", None)

    @functools.wraps(function)
    def apply(context: Context, *args: Any, **kwargs: Any) -> Any:
        environment = context.environment
        assert isinstance(environment, PromptEnvironment)
        if name == "join":
            args = _attributes_read(environment, args, kwargs)
        args = limits.check_filter(name, args, kwargs)
        if name in ("items", "dictsort") and isinstance(args[0], Mapping):
            environment.were_read(args[0])
        before = {"context": context, "eval_context": context.eval_ctx, "environment": environment}
        first = () if passes is None else (before[passes.name],)
        result = function(*first, *args, **kwargs)
        return environment.budget.charge(result, new_items=True) if limits.makes_text(name) else result

    # With the context, so that no filter runs already while the template compiles.
    return jinja2.pass_context(apply)


def _attributes_read(
    environment: PromptEnvironment, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> tuple[Any, ...]:
    """Return the arguments of ``join`` with the attributes to be joined in place of their objects."""
    attribute = kwargs.pop("attribute", args[2] if len(args) > 2 else None)
    if attribute is None:
        return args
    return map(make_attrgetter(environment, attribute), args[0]), *args[1:2]


def _is_plain_method(obj: Any) -> bool:
    return isinstance(obj, types.BuiltinMethodType) and type(getattr(obj, "__self__", None)) in _PLAIN_TYPES
