"""The Jinja2 environment of prompt templates: values only, no calls into the notebook.

A template may come from a colleague through the catalog while its variables are taken from this
notebook, so a template can read values and use Jinja2's filters, but it can't call anything of
the notebook: ``{{ os.system('…') }}`` is refused even when the notebook has imported ``os``.
"""

from __future__ import annotations

import types
from functools import cache
from typing import TYPE_CHECKING, Any

from jupyter_llmops.errors import TemplateError

if TYPE_CHECKING:
    from jinja2.sandbox import ImmutableSandboxedEnvironment

LARGEST_REPETITION = 1_000_000
LARGEST_POWER_BITS = 4096
_PLAIN_TYPES = (str, bytes, int, float, complex, bool, list, tuple, dict, set, frozenset, range)


@cache
def sandbox() -> ImmutableSandboxedEnvironment:
    """Return the environment in which every template is rendered."""
    import jinja2
    from jinja2 import sandbox as jinja_sandbox
    from jinja2.runtime import Context, Macro

    class PromptSandbox(jinja_sandbox.ImmutableSandboxedEnvironment):
        intercepted_binops = frozenset({"*", "**"})

        def is_safe_callable(self, obj: Any) -> bool:
            # By identity: an object of the notebook may call itself equal to anything.
            if isinstance(obj, Macro) or any(obj is own for own in self.globals.values()):
                return True
            owner = getattr(obj, "__self__", None)
            if isinstance(obj, types.MethodType) and type(owner).__module__.startswith("jinja2."):
                return True  # loop.cycle and the like
            return (
                isinstance(obj, types.BuiltinMethodType)
                and type(owner) in _PLAIN_TYPES
                and super().is_safe_callable(obj)
            )

        def call(self, context: Context, obj: Any, *args: Any, **kwargs: Any) -> Any:
            if not self.is_safe_callable(obj):
                name = getattr(obj, "__name__", type(obj).__name__)
                raise TemplateError(
                    f"The template calls {name}(), and a template can only read values.",
                    "Compute the value in a cell and name the variable in the template.",
                )
            return super().call(context, obj, *args, **kwargs)

        def call_binop(self, context: Context, operator: str, left: Any, right: Any) -> Any:
            if operator == "**" and _power_bits(left, right) > LARGEST_POWER_BITS:
                raise TemplateError("The template computes a power that is too large.")
            if operator == "*" and _repetition(left, right) > LARGEST_REPETITION:
                raise TemplateError("The template repeats a text too many times.")
            return super().call_binop(context, operator, left, right)

    environment = PromptSandbox(
        undefined=jinja2.StrictUndefined,
        keep_trailing_newline=False,
        trim_blocks=True,
        lstrip_blocks=True,
        autoescape=False,  # a prompt is text, not HTML
    )
    # lipsum draws at random and so would make a hidden input.
    environment.globals.pop("lipsum", None)
    environment.filters.pop("random", None)
    return environment


def _power_bits(base: Any, exponent: Any) -> float:
    if isinstance(base, int) and isinstance(exponent, int):
        return base.bit_length() * abs(exponent)
    return 0


def _repetition(left: Any, right: Any) -> int:
    for sequence, count in ((left, right), (right, left)):
        if isinstance(sequence, str | bytes | list | tuple) and isinstance(count, int):
            return len(sequence) * count
    return 0
