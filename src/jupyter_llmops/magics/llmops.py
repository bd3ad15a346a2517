"""``%llmops``: the state of the workspace."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from IPython.core.magic import line_magic, magics_class, no_var_expand
from IPython.core.magic_arguments import argument, magic_arguments

from jupyter_llmops.errors import UsageError
from jupyter_llmops.magics.arguments import choose, one_name, parse
from jupyter_llmops.magics.base import WorkspaceMagics

if TYPE_CHECKING:
    from jupyter_llmops.records.listing import Listing
    from jupyter_llmops.records.snapshot import Snapshot
    from jupyter_llmops.records.status import Checkup


@magics_class
class LLMOpsMagics(WorkspaceMagics):
    """The workspace itself."""

    @no_var_expand
    @magic_arguments()
    @argument(
        "words",
        nargs="*",
        metavar="COMMAND",
        help="doctor, invite FILE, join FILE, snapshot NAME, snapshots, autoload [on|off]; without a word the state is "
        "shown.",
    )
    @argument("-d", "--description", help="What a snapshot is for.")
    @line_magic
    def llmops(self, line: str) -> Any:
        """Show the state of the workspace, check every part, or load this extension in every kernel.

        A snapshot names the whole catalog as it is now. It opens read-only later, in another kernel:
        ``jupyter_llmops.open_workspace(snapshot="2026-11")``, or the environment variable LLMOPS_SNAPSHOT.

        What the team caches is sealed with the team's key, which lies in your own folder and never in the catalog.
        ``invite`` writes it into a file to hand over to a colleague, who types ``join``; it is never shown.

        ``autoload on`` writes one startup file into this IPython profile, so that each of its kernels loads this
        extension before its first cell and no cell is missing in the trail; ``off`` deletes that file.

        ::

            %llmops
            %llmops doctor
            %llmops invite key-for-ada
            %llmops join key-for-ada
            %llmops snapshot 2026-11 --description "what we shipped"
            %llmops snapshots
            %llmops autoload on
        """
        arguments = parse(self.llmops, line, self.shell)
        words = arguments.words
        if arguments.description is not None and words[:1] != ["snapshot"]:
            raise UsageError("Only a snapshot is described.", "Type %llmops snapshot NAME -d TEXT.")
        if not words:
            return self.workspace.status()
        commands = {
            "doctor": self._doctor,
            "invite": self._invite,
            "join": self._join,
            "snapshot": lambda rest: self._snapshot(rest, arguments.description or ""),
            "snapshots": self._snapshots,
            "autoload": self._autoload,
        }
        command, rest = choose("%llmops", words, commands, "%llmops doctor")
        return command(rest)

    def _invite(self, words: list[str]) -> None:
        path = self.workspace.invite(one_name(words, "%llmops invite FILE"))
        print(
            f"{path} holds the team's key. Hand it over on a way that you trust, then delete it; "
            f"your colleague types %llmops join {path.name}"
        )

    def _join(self, words: list[str]) -> None:
        former = self.workspace.join(one_name(words, "%llmops join FILE"))
        print("You use the team's key: what the team caches is yours too, at once here.")
        if former is not None:
            print(f"Your former key is kept in {former}; %llmops join {former} takes it back.")

    def _snapshot(self, words: list[str], description: str) -> Snapshot:
        name = one_name(words, "%llmops snapshot NAME")
        return self.workspace.snapshot(name, description)

    def _snapshots(self, words: list[str]) -> Listing[Snapshot]:
        if words:
            raise UsageError(f"snapshots takes no {words[0]!r}.", "Type %llmops snapshots.")
        return self.workspace.snapshots()

    def _doctor(self, words: list[str]) -> Checkup:
        if words:
            raise UsageError(f"doctor takes no {words[0]!r}.", "Type %llmops doctor.")
        from jupyter_llmops.workspace.doctor import examine

        return examine(self.workspace)

    def _autoload(self, words: list[str]) -> None:
        from jupyter_llmops.workspace import autoload

        if words not in ([], ["on"], ["off"]):
            raise UsageError("autoload is switched on or off.", "Type %llmops autoload on.")
        profile = self.shell.profile_dir
        if profile is None:
            raise UsageError("This shell has no profile.", "Type %load_ext jupyter_llmops by hand.")
        startup = Path(profile.startup_dir)
        if words == ["on"]:
            state = autoload.switch_on(startup)
            print(
                f"Autoload is {state}: every kernel and terminal of that profile, also those of nbconvert, "
                "nbclient and papermill, loads jupyter_llmops before its first cell.\n"
                f"{state.path} does it; %llmops autoload off deletes it."
            )
        elif words == ["off"]:
            there = autoload.switch_off(startup)
            print(
                f"{startup / autoload.STARTUP_FILE} is deleted: new kernels of this profile do not load "
                "jupyter_llmops by themselves."
                if there
                else "Autoload was not on in this profile."
            )
        else:
            here = autoload.autoload_of(startup)
            print(f"Autoload is {here} ({here.path})." if here else "Autoload is off in this profile.")
        others = [one for one in autoload.autoloads() if Path(one.path).parent != startup]
        for one in others:
            print(f"It is {one}, too ({one.path}).")
