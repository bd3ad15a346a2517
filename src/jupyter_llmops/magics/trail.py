"""``%reproduce``, and how a run is named in a line."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from IPython.core.magic import line_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments

from jupyter_llmops.errors import UsageError
from jupyter_llmops.magics.arguments import parse, usage
from jupyter_llmops.magics.base import WorkspaceMagics
from jupyter_llmops.magics.live import LiveAnswer

if TYPE_CHECKING:
    from jupyter_llmops.records.reproduction import Reproduction

# A quoted text, or a run counted from the end; the number behind the option -n is none.
_COUNT_BACK = re.compile(r"""("(?:\\.|[^"\\])*"|'[^']*')|((?:^|(?<=\s))(?<!-n )-\d+(?=\s|$))""")


@magics_class
class TrailMagics(WorkspaceMagics):
    """The trail of runs."""

    @no_var_expand
    @magic_arguments()
    @argument(
        "words",
        nargs="*",
        metavar="RUN",
        help="In[7], -1 (the last), the beginning of an id, or a variable that holds an answer; without one the last "
        "prompt.",
    )
    @line_magic
    def reproduce(self, line: str) -> Reproduction:
        """Infer a recorded prompt again, in another process, and say whether the answer is identical.

        A hit of the cache is never called a reproduction: the model answers again.

        ::

            %reproduce
            %reproduce In[7]
            %reproduce 3f9a
        """
        words = parse(self.reproduce, protect(line), self.shell).words
        if len(words) > 1:
            raise UsageError("Only one run can be reproduced at a time.", usage(self.reproduce))
        with LiveAnswer(self.shell) as live:
            return self.workspace.reproduce(
                reference(self.namespace, words[0]) if words else "", live.progress
            )


def reference(namespace: Mapping[str, Any], word: str) -> object:
    """Return what a word means as a run: a variable that holds an answer or a run, or the word itself.

    Parameters
    ----------
    namespace : mapping of str to object
        The notebook's variables.
    word : str
        As it was typed.
    """
    from jupyter_llmops.records.completion import Completion
    from jupyter_llmops.records.run import Run
    from jupyter_llmops.records.run_search import RunView

    value = namespace.get(word)
    if isinstance(value, RunView):
        return value.run
    return value if isinstance(value, Completion | Run) else word


def protect(line: str) -> str:
    """Let ``-1`` through as a run, which argparse would take for an option; ``-n 5`` stays one.

    What is quoted is left as it is.
    """
    return _COUNT_BACK.sub(lambda found: found[1] or f"' {found[2]}'", line)
