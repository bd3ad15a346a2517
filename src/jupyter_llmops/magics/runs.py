"""``%runs``: what ran, found again, shown, compared and rated."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, get_args

from IPython.core.magic import line_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments

from jupyter_llmops.errors import AmbiguousNameError, UnknownNameError, UsageError
from jupyter_llmops.magics.arguments import choose, one_name, parse, usage
from jupyter_llmops.magics.base import WorkspaceMagics
from jupyter_llmops.magics.live import LiveAnswer
from jupyter_llmops.magics.trail import protect, reference
from jupyter_llmops.records.run import RunKind
from jupyter_llmops.records.run_search import ALL_KINDS, RATINGS

if TYPE_CHECKING:
    from jupyter_llmops.records.listing import Listing
    from jupyter_llmops.records.run import Run
    from jupyter_llmops.records.run_search import RunDiff, RunView

KINDS: tuple[str, ...] = get_args(RunKind)
FILTERS = ("kind", "user", "notebook", "model", "status", "since", "until", "cost", "rating")
_LISTED = 20


@magics_class
class RunsMagics(WorkspaceMagics):
    """The runs."""

    @no_var_expand
    @magic_arguments()
    @argument("-n", "--limit", type=int, metavar="N", help="At most this many; 20 by default.")
    @argument(
        "--kind",
        choices=(*KINDS, ALL_KINDS),
        help="Only runs of this kind; all: also what logs say of machines, of kernels and of other runs.",
    )
    @argument("--user", metavar="NAME", help="Only this user's.")
    @argument("--notebook", metavar="PATH", help="Only of this notebook: its path, or its name alone.")
    @argument("--model", metavar="NAME", help="Only of this model.")
    @argument(
        "--status",
        metavar="STATUS",
        help="ok, error (without what was interrupted), interrupted, or an error's name, e.g. KeyError.",
    )
    @argument("--since", metavar="WHEN", help="Only since then: 30min, 2h, 3d, 2026-11-01, today.")
    @argument("--until", metavar="WHEN", help="Only until then; of a day its end.")
    @argument("--cost", metavar="RANGE", help="Only what cost that: 0.01..0.5, 0.1.., ..0.5.")
    @argument("--rating", choices=RATINGS, help="Only what was rated so.")
    @argument("--meaning", action="store_true", help="find: also by what a text is about.")
    @argument("--newest", action="store_true", help="find: newest first, not best first.")
    @argument("--why", metavar="TEXT", help="rate: the reason, kept with it.")
    @argument(
        "words",
        nargs="*",
        metavar="COMMAND",
        help="find TEXT, show RUN, diff RUN RUN, rate RUN good|bad; nothing lists the newest. A RUN is In[7], -1 "
        "(the last), the beginning of an id, or a variable that holds an answer.",
    )
    @line_magic
    def runs(self, line: str) -> Any:
        """List the newest runs of everyone who uses this catalog; find, show, compare, rate them.

        In the list a map stands for all of its rows; with filters, and in a find, rows are listed, too.

        ::

            %runs
            %runs -n 50 --kind prompt --since 2h
            %runs find refund policy --user grace --status ok
            %runs find "why did the import fail" --meaning
            %runs show -1
            %runs show In[7]
            %runs diff In[7] In[9]
            %runs rate -1 good --why "names every clause"
            %runs --rating bad
        """
        arguments = parse(self.runs, protect(line), self.shell)
        if arguments.limit is not None and arguments.limit < 1:
            raise UsageError(f"-n {arguments.limit} asks for no runs.", "Type %runs -n 20.")
        if not arguments.words:
            self._refuse(arguments, ("why", "meaning", "newest"), "a list")
            return self._list(arguments)
        commands: dict[str, Callable[[list[str], Namespace], Any]] = {
            "find": self._find,
            "show": self._show,
            "diff": self._diff,
            "rate": self._rate,
        }
        command, rest = choose("%runs", arguments.words, commands, "%runs show -1")
        return command(rest, arguments)

    def _list(self, arguments: Namespace) -> Listing[Run]:
        filters = filters_of(arguments)
        limit = arguments.limit or _LISTED
        if set(filters) <= {"kind"}:
            return self.workspace.runs(limit=limit, **filters)
        return self.workspace.find_runs(limit=limit, **filters)

    def _find(self, words: list[str], arguments: Namespace) -> Listing[Run]:
        self._refuse(arguments, ("why",), "find")
        filters = filters_of(arguments)
        if not words and not filters:
            raise UsageError(
                "There is nothing to look for.", "Type %runs find WORDS, or a filter, e.g. --status error."
            )
        with LiveAnswer(self.shell) as live:
            return self.workspace.find_runs(
                " ".join(words),
                meaning=arguments.meaning,
                newest_first=arguments.newest,
                limit=arguments.limit or _LISTED,
                progress=live.progress,
                **filters,
            )

    def _show(self, words: list[str], arguments: Namespace) -> RunView | Listing[Run]:
        self._refuse(arguments, ("limit", *FILTERS, "why", "meaning", "newest"), "show")
        word = one_name(words, "%runs show RUN")
        try:
            return self.workspace.show_run(reference(self.namespace, word))
        except (AmbiguousNameError, UnknownNameError) as error:
            near = self.workspace.runs_like(word)
            if not near:
                raise
            near.note = f"{error.message} Type %runs show and the id of one of these."
            return near

    def _diff(self, words: list[str], arguments: Namespace) -> RunDiff:
        self._refuse(arguments, ("limit", *FILTERS, "why", "meaning", "newest"), "diff")
        if len(words) != 2:
            raise UsageError("Two runs are compared.", "Type %runs diff In[7] In[9], or %runs diff -2 -1.")
        left, right = (reference(self.namespace, word) for word in words)
        return self.workspace.diff_runs(left, right)

    def _rate(self, words: list[str], arguments: Namespace) -> RunView:
        self._refuse(arguments, ("limit", *FILTERS, "meaning", "newest"), "rate")
        if len(words) != 2:
            raise UsageError("A run is rated good or bad.", 'Type %runs rate RUN good --why "the reason".')
        return self.workspace.rate(reference(self.namespace, words[0]), words[1], arguments.why or "")

    def _refuse(self, arguments: Namespace, options: tuple[str, ...], what: str) -> None:
        """Refuse options that mean nothing here: they would be passed over in silence."""
        for option in options:
            if getattr(arguments, option):
                name = "-n" if option == "limit" else f"--{option}"
                raise UsageError(f"{name} means nothing to {what}.", usage(self.runs))


def filters_of(arguments: Namespace) -> dict[str, Any]:
    """Return the filters that a line names, as `find_runs` takes them."""
    return {name: value for name in FILTERS if (value := getattr(arguments, name))}
