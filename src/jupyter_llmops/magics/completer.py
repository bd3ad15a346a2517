"""Tab completion of sub-commands, options and names, without importing anything heavy."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from IPython.core.error import TryNext
from IPython.core.interactiveshell import InteractiveShell

from jupyter_llmops.magics.run_completion import run_words
from jupyter_llmops.workspace import Workspace

MODEL_COMMANDS = (
    "add", "alias", "aliases", "describe", "find", "grade", "history", "load", "publish", "pull", "push", "restore",
    "retire", "scan", "show", "unload",
)  # fmt: skip
COLLECTION_COMMANDS = (
    "add", "describe", "find", "history", "migrate", "publish", "restore", "retire", "show",
)  # fmt: skip
PROMPT_COMMANDS = (
    "add", "describe", "diff", "export", "find", "history", "import", "promote", "publish", "restore", "retire", "show",
)  # fmt: skip
COMMANDS: dict[str, tuple[str, ...]] = {
    "collections": COLLECTION_COMMANDS,
    "prompts": PROMPT_COMMANDS,
    "models": MODEL_COMMANDS,
    "cache": ("why", "wrong", "right", "limit", "clear", "off", "on"),
    "runs": ("find", "show", "diff", "rate"),
    "audit": ("verify", "prove", "keys", "export", "forget", "retain"),
    "budget": ("off",),
    "llmops": ("doctor", "autoload", "invite", "join", "snapshot", "snapshots"),
    "cascade": ("new", "run"),
}
_CHOICES = {
    "--format": ("json", "text"),
    "--per": ("session", "day", "month"),
}
_LINE = re.compile(
    r"^%{1,2}(prompts|prompt|models|collections|search|cascades|cascade|cache|budget|runs|audit|training"
    r"|llmops|gpus|reproduce)\b"
)
_AGES = ("30d", "90d", "1y", "2y")
_CELLS = 20
# Behind which sub-command, in which places, a run is named.
_TAKES_CELLS = {"prove": (2,), "forget": (2,), "show": (2,), "rate": (2,), "diff": (2, 3)}


def register_completers(shell: InteractiveShell, workspace: Workspace) -> None:
    """Let Tab complete what stands behind this package's magics.

    Parameters
    ----------
    shell : InteractiveShell
        Where Tab is pressed.
    workspace : Workspace
        Whose names are offered.
    """

    def complete(_completer: Any, event: Any) -> list[str]:
        match = _LINE.match(event.line.lstrip())
        if not match:
            raise TryNext
        offered = candidates(workspace, shell, match[1], event.line)
        typed = "" if event.line.endswith(" ") else event.line.rsplit(None, 1)[-1]
        if typed.startswith("In[") and typed.endswith(event.symbol):
            # IPython takes the bracket for the end of a word.
            before = len(typed) - len(event.symbol)
            return sorted(word[before:] for word in offered if word.startswith(typed))
        return sorted(word for word in offered if word.startswith(event.symbol))

    shell.set_hook("complete_command", complete, re_key=_LINE.pattern)


def candidates(workspace: Workspace, shell: InteractiveShell, magic: str, line: str) -> Iterable[str]:
    """Return every word that could stand at the end of `line`."""
    words = line.split()
    if not line.endswith(" ") and words[-1].startswith("--"):
        return _options(shell, magic)
    previous = words[-1] if line.endswith(" ") else words[-2] if len(words) > 1 else ""
    position = len(words) if line.endswith(" ") else len(words) - 1
    found = _in_the_trail(workspace, shell, magic, line, words, position, previous)
    if found is None:
        found = _after_option(workspace, previous)
    if found is not None:
        return found
    if previous in ("--map", "--schema"):
        names = _variable_names(shell)
        return [name for name in names if previous == "--map" or _may_be_schema(shell.user_ns[name])]
    if magic == "models" and (offered := _after_models(workspace, line, words, previous)) is not None:
        return offered
    if magic in ("collections", "search") and (
        offered := _after_collections(workspace, shell, line, words, previous)
    ):
        return offered
    if (offered := _after_saved(workspace, magic, line, words, position)) is not None:
        return [*offered, *_options(shell, magic)]
    if position in (1, 2) and magic == "cascade":
        return [*(COMMANDS["cascade"] if position == 1 else ()), *(c.name for c in workspace.cascades)]
    return [*(COMMANDS.get(magic, ()) if position == 1 else ()), *_options(shell, magic)]


def _after_option(workspace: Workspace, option: str) -> Iterable[str] | None:
    """Return what may stand behind an option that means the same in every magic, None for another word."""
    if option in ("-m", "--model"):
        return _model_words(workspace)
    if option == "--context":
        return _names(workspace.collections)
    if option in ("-s", "--save"):
        return _names(workspace.prompts)
    if option == "--quant":
        return ("auto", "nf4", "int8", "bf16", "fp32", "gguf")
    if option in _CHOICES:
        return _CHOICES[option]
    if option == "--backend":
        return ("kernel", "loky", "dask", "ray", *_names(lambda: _endpoints(workspace)))
    if option == "--site":
        return _sites(workspace)
    return None


def _in_the_trail(
    workspace: Workspace,
    shell: InteractiveShell,
    magic: str,
    line: str,
    words: list[str],
    position: int,
    previous: str,
) -> Iterable[str] | None:
    """Return what may stand in a line that is about runs, None where sub-commands and options may."""
    if magic == "training":
        return _after_training(shell, line, previous)
    if magic == "llmops":
        return _after_llmops(line, words, position) or None
    if magic == "audit" and (offered := _after_audit(line, words, position, previous)):
        return offered
    runs = run_words(workspace, magic, words, previous)
    if not runs:
        return None
    takes_cells = position in _TAKES_CELLS.get(words[1] if len(words) > 1 else "", ())
    return [*(_cells(shell) if takes_cells or magic == "reproduce" else ()), *runs]


def _after_audit(line: str, words: list[str], position: int, previous: str) -> Iterable[str]:
    """Return what may stand behind %audit's options and sub-commands, empty where runs or only options may."""
    command = words[1] if len(words) > 1 else ""
    if previous == "--format":
        return ("csv", "otel")
    if previous in ("--against", "-o", "--output") or (command == "export" and position == 2):
        return _paths(line)
    return _AGES if command == "retain" and position == 2 else ()


def _after_llmops(line: str, words: list[str], position: int) -> Iterable[str]:
    """Return what may stand behind a sub-command of %llmops."""
    if position != 2 or words[1] not in ("autoload", "invite", "join"):
        return ()
    return ("on", "off") if words[1] == "autoload" else _paths(line)


def _after_training(shell: InteractiveShell, line: str, previous: str) -> Iterable[str]:
    """Return what may stand in the line of %%training."""
    if previous in ("-d", "--data", "-w", "--weights"):
        return [*_variable_names(shell), *_paths(line)]
    if previous == "--loss":
        return [name for name in _variable_names(shell) if type(shell.user_ns[name]) is list]
    return () if previous in ("-p", "--param", "--seed") else _options(shell, "training")


def _cells(shell: InteractiveShell) -> list[str]:
    """Return the newest cells of this session as runs are named."""
    last = shell.execution_count - 1
    return [f"In[{count}]" for count in range(max(1, last - _CELLS + 1), last + 1)]


def _variable_names(shell: InteractiveShell) -> list[str]:
    """Return the names of what the user has assigned."""
    return [name for name in shell.user_ns if not name.startswith("_") and name not in shell.user_ns_hidden]


def _may_be_schema(value: object) -> bool:
    """Return whether it is a class or the dictionary of a JSON Schema."""
    return isinstance(value, type) or (
        type(value) is dict and bool({"type", "properties", "$ref"} & set(value))
    )


def _endpoints(workspace: Workspace) -> list[Any]:
    return [model for model in workspace.catalog_models() if model.format == "endpoint" and not model.retired]


def _sites(workspace: Workspace) -> list[str]:
    from jupyter_llmops.inference.sites import sites_of

    here = workspace.settings.site
    try:
        return [here, *{site for model in _endpoints(workspace) for site in sites_of(model, here)}]
    except Exception:  # noqa: BLE001 - Tab must never fail
        return [here]


def _after_collections(
    workspace: Workspace, shell: InteractiveShell, line: str, words: list[str], previous: str
) -> Iterable[str]:
    """Return what may stand behind %collections' sub-commands and %search, empty where only options may."""
    if previous == "--encoder" or (words[1:2] == ["migrate"] and words[2:3] == [previous]):
        return _names(lambda: [model for model in workspace.models() if model.kind == "encoder"])
    if previous == "--from":
        hidden = shell.user_ns_hidden
        return [
            *(name for name in shell.user_ns if not name.startswith("_") and name not in hidden),
            *_paths(line),
        ]
    if previous == "--how":
        return ("hybrid", "text", "vector")
    if previous == "restore":
        return _names(lambda: [one for one in workspace.collections(retired=True) if one.retired])
    if previous in ("%search", *COLLECTION_COMMANDS):
        return _names(workspace.collections)
    return ()


def _after_saved(
    workspace: Workspace, magic: str, line: str, words: list[str], position: int
) -> Iterable[str] | None:
    """Return what may stand behind %prompt and a sub-command of %prompts, None where only options may."""
    if magic == "prompts" and position > 1:
        return _after_prompts(workspace, line, words, position)
    if magic == "prompt" and position >= 1 and not line.lstrip().startswith("%%"):
        return _prompt_words(workspace) if position == 1 else _variables(workspace, words[1])
    return None


def _after_prompts(workspace: Workspace, line: str, words: list[str], position: int) -> Iterable[str]:
    """Return what may stand behind a sub-command of %prompts."""
    command = words[1]
    if command == "restore":
        return _names(lambda: [prompt for prompt in workspace.prompts(retired=True) if prompt.retired])
    if command == "promote" and position == 3:
        return _prompt_aliases(workspace, words[2])
    if position == 2 and command in ("show", "diff", "promote"):
        return _prompt_words(workspace)
    if position == 2 and command in ("add", "history", "describe", "retire", "publish"):
        return _names(workspace.prompts)
    if position == 2 and command in ("export", "import"):
        return _paths(line)
    if command in ("diff", "export") and position > 2:
        return _prompt_words(workspace)
    return ()


def _prompt_words(workspace: Workspace) -> list[str]:
    """Return the names of prompts, alone and with each of their aliases."""
    names = _names(workspace.prompts)
    try:
        moves = [change for prompt in workspace.prompts() for change in prompt.alias_moves]
    except Exception:  # noqa: BLE001 - Tab must never fail
        return names
    return [*names, *(f"{change.name}@{change.field.removeprefix('alias:')}" for change in moves)]


def _prompt_aliases(workspace: Workspace, reference: str) -> list[str]:
    try:
        events = workspace.prompt_history(reference).events
    except Exception:  # noqa: BLE001 - Tab must never fail
        return []
    return [event.what.removeprefix("alias:") for event in events if event.what.startswith("alias:")]


def _variables(workspace: Workspace, reference: str) -> list[str]:
    """Return ``name=`` of every variable of a saved prompt."""
    try:
        return [f"{name}=" for name in workspace.saved_prompt(reference).variables]
    except Exception:  # noqa: BLE001 - Tab must never fail
        return []


def _after_models(workspace: Workspace, line: str, words: list[str], previous: str) -> Iterable[str] | None:
    """Return what may stand behind a sub-command of %models, None where only options may."""
    command = words[1] if len(words) > 1 else ""
    if previous == "alias":
        return _aliases(workspace)
    if previous == "restore":
        return _names(lambda: [model for model in workspace.catalog_models() if model.retired])
    if previous in ("grade", "history", "load", "pull", "show"):
        return _model_words(workspace)
    if previous == "scan":
        return ["hf", "packages", *_paths(line)]
    named = ("unload", "push", "retire", "publish", "describe", "--was", "--base")
    if previous in named or (command == "alias" and previous in _aliases(workspace)):
        return _model_names(workspace)
    return None


def _model_words(workspace: Workspace) -> list[str]:
    return [*_model_names(workspace), *_aliases(workspace)]


def _model_names(workspace: Workspace) -> list[str]:
    from jupyter_llmops.inference.sources import DEFAULT_ENCODER, DEFAULT_LLM

    listed = _names(lambda: [model for model in workspace.catalog_models() if not model.retired])
    return [DEFAULT_LLM, DEFAULT_ENCODER, *listed]


def _aliases(workspace: Workspace) -> list[str]:
    try:
        return [alias for model in workspace.catalog_models() for alias in model.aliases]
    except Exception:  # noqa: BLE001 - Tab must never fail
        return []


def _paths(line: str) -> list[str]:
    """Return the folders and files that the line's last word is the beginning of, as it is written."""
    typed = "" if line.endswith(" ") else line.rsplit(maxsplit=1)[-1]
    folder, slash, _ = typed.rpartition("/")
    beginning = folder + slash
    try:
        inside = list(Path(beginning or ".").expanduser().iterdir())
    except OSError:
        return []
    shown = [path for path in inside if not path.name.startswith(".") and " " not in path.name]
    return [f"{beginning}{path.name}{'/' if path.is_dir() else ''}" for path in shown]


def _names(listing: Callable[[], Iterable[Any]]) -> list[str]:
    try:
        return [record.name for record in listing()]
    except Exception:  # noqa: BLE001 - Tab must never fail
        return []


def _options(shell: InteractiveShell, magic: str) -> list[str]:
    method = shell.find_line_magic(magic) or shell.find_cell_magic(magic)
    parser = getattr(method, "parser", None)
    if parser is None:
        return []
    return [name for action in parser._actions for name in action.option_strings if name.startswith("--")]
