"""The sandbox of prompt templates: values only, no calls into the notebook.

A template may come from a colleague through the catalog while its variables are taken from this
notebook, so a template can read values and use Jinja2's filters, but it can't call anything of
the notebook: ``{{ os.system('…') }}`` is refused even when the notebook has imported ``os``. Nor
can it write more than memory holds (see `limits`), and what it reads under a secret-looking name,
at whatever depth, is told to whoever renders it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from jupyter_llmops.prompting.limits import Budget

if TYPE_CHECKING:
    from jupyter_llmops.prompting.environment import PromptEnvironment

Learn = Callable[[str, object], object]


def sandbox(learn: Learn | None = None, finalize: Callable[[Any], Any] | None = None) -> PromptEnvironment:
    """Return an environment for one rendering.

    Parameters
    ----------
    learn : callable, optional
        Is told the name and the value of every attribute and item that the template reads.
    finalize : callable, optional
        Gets the value of every expression and returns what is written in its place.
    """
    from jupyter_llmops.prompting.environment import shared_environment

    environment = shared_environment().overlay()
    environment.mark = finalize
    environment.learn = learn
    environment.budget = Budget()
    return environment
