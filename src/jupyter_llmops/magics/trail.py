"""``%runs``, ``%reproduce`` and ``%audit``: the trail."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from IPython.core.magic import line_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments

from jupyter_llmops.errors import UsageError
from jupyter_llmops.magics.arguments import choose, one_name, parse, usage
from jupyter_llmops.magics.base import WorkspaceMagics
from jupyter_llmops.magics.live import LiveAnswer

if TYPE_CHECKING:
    from jupyter_llmops.records.reproduction import Reproduction
    from jupyter_llmops.records.run import Run, Verification

KINDS = ("cell", "prompt", "map", "cascade", "reproduction", "cache", "session")


@magics_class
class TrailMagics(WorkspaceMagics):
    """The trail of runs."""

    @no_var_expand
    @magic_arguments()
    @argument("-n", "--limit", type=int, default=20, metavar="N", help="At most this many.")
    @argument("--kind", choices=KINDS, help="Only runs of this kind.")
    @argument("words", nargs="*", metavar="COMMAND", help="show RUN; nothing lists the newest runs.")
    @line_magic
    def runs(self, line: str) -> Any:
        """List the newest runs of everyone who uses this catalog, or show one; of a map its rows are left out.

        ::

            %runs -n 50 --kind prompt
            %runs show -1
            %runs show In[7]
        """
        arguments = parse(self.runs, _protect(line), self.shell)
        if not arguments.words:
            if arguments.limit < 1:
                raise UsageError(f"-n {arguments.limit} asks for no runs.", "Type %runs -n 20.")
            return self.workspace.runs(limit=arguments.limit, kind=arguments.kind)
        command, rest = choose("%runs", arguments.words, {"show": self._show}, "%runs show -1")
        return command(rest)

    def _show(self, words: list[str]) -> Run:
        return self.workspace.run(self._reference(one_name(words, "%runs show RUN")))

    @no_var_expand
    @magic_arguments()
    @argument(
        "words",
        nargs="*",
        metavar="RUN",
        help="In[7], -1, the beginning of an id, or a variable; none: the last.",
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
        words = parse(self.reproduce, _protect(line), self.shell).words
        if len(words) > 1:
            raise UsageError("Only one run can be reproduced at a time.", usage(self.reproduce))
        with LiveAnswer(self.shell) as live:
            return self.workspace.reproduce(self._reference(words[0]) if words else "", live.progress)

    @no_var_expand
    @magic_arguments()
    @argument("words", nargs="*", metavar="COMMAND", help="verify (also without a word).")
    @line_magic
    def audit(self, line: str) -> Verification:
        """Check that nobody touched the trail: chain, contents, and what the catalog says of it.

        ::

            %audit verify
        """
        words = parse(self.audit, line, self.shell).words or ["verify"]
        command, rest = choose("%audit", words, {"verify": self.workspace.verify}, "%audit verify")
        if rest:
            raise UsageError(f"{' '.join(rest)!r} is too much.", usage(self.audit))
        verification: Verification = command()
        return verification

    def _reference(self, word: str) -> object:
        """Return what a word means: a variable that holds a Completion, or the word itself."""
        from jupyter_llmops.records.completion import Completion
        from jupyter_llmops.records.run import Run

        value = self.namespace.get(word)
        return value if isinstance(value, Completion | Run) else word


def _protect(line: str) -> str:
    """Let ``-1`` through as a run, which argparse would take for an option."""
    words = [f" {word}" if word.startswith("-") and word[1:].isdigit() else word for word in line.split()]
    return " ".join(repr(word) if word.startswith(" ") else word for word in words)
