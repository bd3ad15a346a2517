"""``%collections`` and ``%search``: shared vector stores."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Callable
from keyword import iskeyword
from typing import TYPE_CHECKING, Any

from IPython.core.magic import line_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments

from jupyter_llmops.errors import UsageError
from jupyter_llmops.magics.arguments import choose, one_name, parse
from jupyter_llmops.magics.base import WorkspaceMagics
from jupyter_llmops.magics.live import LiveAnswer
from jupyter_llmops.records.listing import Listing

if TYPE_CHECKING:
    from jupyter_llmops.records.change import Change
    from jupyter_llmops.records.collection import AddReport, Collection, SearchResult

Command = Callable[[list[str], Namespace], Any]


@magics_class
class CollectionsMagics(WorkspaceMagics):
    """The registry of collections, and search in one."""

    @no_var_expand
    @magic_arguments()
    @argument("--all", action="store_true", help="List retired collections too.")
    @argument(
        "--from",
        dest="source",
        metavar="DATA",
        default="",
        help="add: a variable (data frame or list), a file or a folder with .txt, .md and .ipynb files.",
    )
    @argument("--text", metavar="COLUMN", default="", help="add: the column with the texts.")
    @argument("--id", metavar="COLUMN", default="", help="add: the column that names the documents.")
    @argument("--private", action="store_true", help="add: into your own catalog, not the team's.")
    @argument("--max-tokens", type=int, metavar="N", help="add: most tokens of a chunk (new collections).")
    @argument("--overlap", type=int, metavar="N", help="add: tokens that a chunk repeats of the one before.")
    @argument("--encoder", metavar="MODEL", default="", help="add: the embedding model of a new collection.")
    @argument("--tag", metavar="WORD", action="append", default=[], help="describe: a tag; repeat for more.")
    @argument("--why", metavar="TEXT", default="", help="retire: the reason, kept in the history.")
    @argument(
        "words",
        nargs="*",
        metavar="COMMAND",
        help="add NAME --from DATA, find TEXT, show NAME, describe NAME TEXT, migrate NAME ENCODER, publish NAME, "
        "history NAME, retire NAME, restore NAME; nothing lists all.",
    )
    @line_magic
    def collections(self, line: str) -> Any:
        """List, fill, find and share collections of texts that can be searched by meaning.

        ::

            %collections
            %collections add handbook --from docs/            # .txt, .md and .ipynb below a folder
            %collections add tickets --from df --text body --id number
            %collections add notes --from texts --private     # a list, for yourself
            %collections publish notes                        # now for the team
            %collections describe tickets what customers asked --tag support
            %collections find customer complaints
            %collections migrate tickets my-encoder           # searchable all the while
        """
        arguments = parse(self.collections, line, self.shell)
        if not arguments.words:
            return self.workspace.collections(retired=arguments.all)
        commands: dict[str, Command] = {
            "add": self._add,
            "find": self._find,
            "show": lambda words, _: self.workspace.collection(one_name(words, "%collections show NAME")),
            "describe": self._describe,
            "migrate": self._migrate,
            "publish": self._publish,
            "history": self._history,
            "retire": self._retire,
            "restore": lambda words, _: self.workspace.restore_collection(
                one_name(words, "%collections restore NAME")
            ),
        }
        command, rest = choose("%collections", arguments.words, commands, "%collections show NAME")
        return command(rest, arguments)

    @no_var_expand
    @magic_arguments()
    @argument("-k", "--k", type=int, default=5, metavar="N", help="Most passages, 5 by default.")
    @argument(
        "--where",
        action="append",
        default=[],
        metavar="CONDITION",
        help='A condition on a column, e.g. "year>=2020" or author=Ann; repeat it for more.',
    )
    @argument(
        "--how",
        choices=("hybrid", "vector", "text"),
        default="hybrid",
        help="By meaning, by words, or by both.",
    )
    @argument("--into", metavar="VAR", default="", help="Put the result into a variable, too.")
    @argument("--encoder", metavar="MODEL", default="", help="Must be the collection's own, as by default.")
    @argument("words", nargs="*", metavar="COLLECTION QUERY", help="The collection, then what you look for.")
    @line_magic
    def search(self, line: str) -> SearchResult:
        """Search a collection by meaning and by words.

        ::

            %search handbook "how do I reset my password"
            %search tickets refund --k 10 --where "year>=2025" --where product=app
            %search handbook "VPN" --how text --into found
        """
        arguments = parse(self.search, line, self.shell)
        if len(arguments.words) < 2:
            raise UsageError(
                "A search needs a collection and what you look for.",
                'Type %search NAME "your question"; %collections lists the names.',
            )
        if arguments.into and (not arguments.into.isidentifier() or iskeyword(arguments.into)):
            raise UsageError(
                f"--into {arguments.into!r} is not the name of a variable.", "Type --into found."
            )
        name, *query = arguments.words
        with LiveAnswer(self.shell) as live:
            result = self.workspace.search(
                name,
                " ".join(query),
                k=arguments.k,
                filters=arguments.where,
                how=arguments.how,
                encoder=arguments.encoder,
                progress=live.progress,
            )
        if arguments.into:
            self.namespace[arguments.into] = result
        return result

    def _add(self, words: list[str], arguments: Namespace) -> AddReport:
        name = one_name(words, "%collections add NAME --from DATA")
        if not arguments.source:
            raise UsageError(
                "What should be added?", f"Type %collections add {name} --from DATA, a variable or a path."
            )
        names = self.namespace
        source = (
            names.get(arguments.source, arguments.source)
            if arguments.source.isidentifier()
            else arguments.source
        )
        with LiveAnswer(self.shell) as live:
            return self.workspace.add_to_collection(
                name,
                source,
                text=arguments.text,
                id=arguments.id,
                private=arguments.private,
                max_tokens=arguments.max_tokens,
                overlap=arguments.overlap,
                encoder=arguments.encoder,
                progress=live.progress,
            )

    def _find(self, words: list[str], _: Namespace) -> Listing[Collection]:
        if not words:
            raise UsageError("There is nothing to look for.", "Type %collections find WORDS.")
        with LiveAnswer(self.shell) as live:
            return self.workspace.find_collections(" ".join(words), live.progress)

    def _describe(self, words: list[str], arguments: Namespace) -> Collection:
        if not words or (len(words) == 1 and not arguments.tag):
            raise UsageError(
                "A description is missing.", "Type %collections describe NAME what it holds, or --tag WORD."
            )
        description = " ".join(words[1:]) if len(words) > 1 else None
        return self.workspace.describe_collection(words[0], description, arguments.tag or None)

    def _migrate(self, words: list[str], _: Namespace) -> Collection:
        if len(words) != 2:
            raise UsageError(
                "A migration needs a collection and an encoder.", "Type %collections migrate NAME ENCODER."
            )
        with LiveAnswer(self.shell) as live:
            return self.workspace.migrate_collection(words[0], words[1], live.progress)

    def _publish(self, words: list[str], _: Namespace) -> AddReport:
        name = one_name(words, "%collections publish NAME")
        with LiveAnswer(self.shell) as live:
            return self.workspace.publish_collection(name, live.progress)

    def _history(self, words: list[str], _: Namespace) -> Listing[Change]:
        name = one_name(words, "%collections history NAME")
        return Listing("collection change", self.workspace.collection_history(name), "Nothing has moved.")

    def _retire(self, words: list[str], arguments: Namespace) -> str:
        retired = self.workspace.retire_collection(one_name(words, "%collections retire NAME"), arguments.why)
        name = f"{retired.name} (yours)" if retired.private else retired.name
        return (
            f"{name} is retired: hidden from lists, searchable by name; "
            f"%collections restore {retired.name} undoes it."
        )
