"""``%audit``: prove, check, export, forget and retain what the trail holds."""

from __future__ import annotations

from argparse import Namespace
from typing import TYPE_CHECKING, Any

from IPython.core.magic import line_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, kwds, magic_arguments

from jupyter_llmops.errors import UsageError
from jupyter_llmops.magics.arguments import choose, one_name, parse, usage
from jupyter_llmops.magics.base import WorkspaceMagics
from jupyter_llmops.magics.live import LiveAnswer
from jupyter_llmops.magics.runs import FILTERS, KINDS, filters_of
from jupyter_llmops.magics.trail import protect, reference

if TYPE_CHECKING:
    from jupyter_llmops.records.deletion import Forgotten, Retained
    from jupyter_llmops.records.listing import Listing
    from jupyter_llmops.records.run import Verification
    from jupyter_llmops.records.run_search import RunExport
    from jupyter_llmops.records.trail import Proof, Signer

# Which command an option belongs to.
_BELONGS = {
    "against": ("verify",),
    "output": ("prove",),
    "checker": ("prove",),
    "yes": ("forget", "retain"),
    **dict.fromkeys(("format", "content", *FILTERS), ("export",)),
}


@magics_class
class AuditMagics(WorkspaceMagics):
    """The trail as evidence."""

    @no_var_expand
    @magic_arguments()
    @argument(
        "words",
        nargs="*",
        metavar="COMMAND",
        help="verify (also without a word), prove RUN, keys, export FILE or ADDRESS, forget RUN, retain AGE. A RUN "
        "is In[7], -1 (the last), the beginning of an id, or a variable that holds an answer; an AGE is 12h, 90d, "
        "26w or 1y.",
    )
    @argument("--against", metavar="FILE", help="verify: a checkpoint or proof that somebody kept.")
    @argument(
        "-o", "--output", metavar="FILE", help="prove: where the proof goes; <run>.tlog-proof by default."
    )
    @argument(
        "--checker", action="store_true",
        help="prove: put check_proof.py beside it, which checks it without this package.",
    )  # fmt: skip
    @argument(
        "--format", choices=("csv", "otel"), help="export: csv, or spans in OpenTelemetry's conventions."
    )
    @argument("--content", action="store_true", help="export: also what runs said, redacted.")
    @argument(
        "--kind",
        choices=KINDS,
        help="export: only runs of this kind; so are the filters below, as in %%runs.",
    )
    @argument("--user", metavar="NAME", help="Only this user's.")
    @argument("--notebook", metavar="PATH", help="Only of this notebook: its path, or its name alone.")
    @argument("--model", metavar="NAME", help="Only of this model.")
    @argument(
        "--status",
        metavar="STATUS",
        help="ok, error (without what was interrupted), interrupted, or an error's name, e.g. KeyError.",
    )
    @argument("--since", metavar="WHEN", help="Only since then: 30min, 2h, 30d, 2026-11-01, today.")
    @argument("--until", metavar="WHEN", help="Only until then; of a day its end.")
    @argument(
        "--cost",
        metavar="RANGE",
        help="Only what cost that, in the currency of its model's price, e.g. 0.01..0.5.",
    )
    @argument("--rating", metavar="RATING", help="Only what was rated so, good or bad.")
    @argument(
        "-y", "--yes", action="store_true", help="forget, retain: do it; without it you see what would go."
    )
    @kwds(usage="audit [verify | prove RUN | keys | export FILE | forget RUN | retain AGE] [options]")
    @line_magic
    def audit(self, line: str) -> Any:
        """Check that nobody touched the trail, prove a run to a third party, export, forget or retain runs.

        ``verify`` checks every log of yours: each leaf and content, the Merkle tree, its signed heads, what the
        catalog and witnesses say, and names the cells that no log covers. ``prove`` writes a file that anybody
        checks without this package, with the keys that ``keys`` lists. ``export`` writes runs as a table, or as
        spans. ``forget`` deletes what a run said, everywhere; its salted leaf stays, and the log still verifies.
        ``retain`` deletes all but the signed heads of sessions that ended longer ago than an age.

        ::

            %audit verify
            %audit verify --against kept.checkpoint
            %audit prove In[7] --checker
            %audit keys
            %audit export runs.csv --since 30d
            %audit export http://localhost:5000 --format otel --kind prompt
            %audit forget 3f9a --yes
            %audit retain 1y
        """
        arguments = parse(self.audit, protect(line), self.shell)
        words = arguments.words or ["verify"]
        commands = {
            "verify": self._verify,
            "prove": self._prove,
            "keys": self._keys,
            "export": self._export,
            "forget": self._forget,
            "retain": self._retain,
        }
        command, rest = choose("%audit", words, commands, "%audit verify")
        self._refuse_strangers(words[0], arguments)
        return command(rest, arguments)

    def _refuse_strangers(self, command: str, arguments: Namespace) -> None:
        """Refuse an option of another command: it would be passed over in silence."""
        for option, commands in _BELONGS.items():
            if getattr(arguments, option) and command not in commands:
                raise UsageError(
                    f"--{option} means nothing to %audit {command}, only to {' and '.join(commands)}.",
                    usage(self.audit),
                )

    def _verify(self, words: list[str], arguments: Namespace) -> Verification:
        if words:
            raise UsageError(f"{' '.join(words)!r} is too much.", usage(self.audit))
        return self.workspace.verify(against=arguments.against)

    def _prove(self, words: list[str], arguments: Namespace) -> Proof:
        run = reference(self.namespace, one_name(words, "%audit prove RUN")) if words else ""
        return self.workspace.prove(run, arguments.output, checker=arguments.checker)

    def _keys(self, words: list[str], _: Namespace) -> Listing[Signer]:
        if words:
            raise UsageError(f"{' '.join(words)!r} is too much.", usage(self.audit))
        return self.workspace.signers()

    def _export(self, words: list[str], arguments: Namespace) -> RunExport:
        chosen = arguments.format or "csv"
        target = one_name(words, "%audit export FILE")
        with LiveAnswer(self.shell) as live:
            return self.workspace.export_runs(
                target, chosen, content=arguments.content, progress=live.progress, **filters_of(arguments)
            )

    def _forget(self, words: list[str], arguments: Namespace) -> Forgotten:
        run = reference(self.namespace, one_name(words, "%audit forget RUN"))
        return self.workspace.forget(run, yes=arguments.yes)

    def _retain(self, words: list[str], arguments: Namespace) -> Retained:
        if not words:
            raise UsageError("How long runs are retained is missing.", "Type an age: %audit retain 1y")
        return self.workspace.retain(one_name(words, "%audit retain 1y"), yes=arguments.yes)
