"""A saved prompt template."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Literal

from jupyter_llmops.records.change import Change
from jupyter_llmops.records.request import Scalar

if TYPE_CHECKING:
    from pandas import DataFrame

VariableType = Literal["any", "str", "int", "float", "bool", "list", "dict"]


@dataclass(frozen=True, slots=True)
class Variable:
    """What a prompt says of one of its variables.

    Parameters
    ----------
    name : str
        As in the template.
    type : str
        What a value must be; text typed after ``%prompt`` is read as that type.
    default : scalar
        Used where no value is given; only meaningful when `has_default`.
    has_default : bool
        Whether there is a default (None is a valid one).
    description : str
        For people.
    """

    name: str
    type: VariableType = "any"
    default: Scalar = None
    has_default: bool = False
    description: str = ""


@dataclass(frozen=True, slots=True)
class Example:
    """One example of a prompt's use, for people and for evaluation.

    Parameters
    ----------
    variables : tuple of (name, value)
        What it was given.
    answer : str
        What a good answer looks like.
    """

    variables: tuple[tuple[str, Scalar], ...]
    answer: str


@dataclass(frozen=True, slots=True)
class Prompt:
    """One immutable version of a named prompt.

    Parameters
    ----------
    name : str
        What a user types.
    version : int
        1 for the first, then counted up; a version never changes.
    digest : str
        ``sha256:…`` of the content: all that decides what a model reads.
    template, system : str
        Jinja2 sources of the user and the system message. A template whose first line is a role
        (``system:``, ``user:`` or ``assistant:``, alone) holds several messages.
    variables : tuple of str
        Names that the two templates need.
    model : str
        Model it was saved with; empty means the default.
    parameters : tuple of (name, value)
        Generation parameters it was saved with.
    description : str
        For people.
    declarations : tuple of Variable
        Types and defaults of variables; part of the content.
    includes : tuple of str
        Prompts that the templates include, each ``NAME@VERSION``.
    tags : tuple of str
        For people.
    examples : tuple of Example
        For people and for evaluation.
    aliases : tuple of str
        Names that point to this version now.
    alias_moves : tuple of Change
        Where each alias of this name points, to whichever version, and who moved it there.
    retired : bool
        Hidden from lists; still usable by name.
    private : bool
        In this user's own catalog, not in the team's.
    """

    name: str
    version: int
    digest: str
    template: str
    system: str = ""
    variables: tuple[str, ...] = ()
    model: str = ""
    parameters: tuple[tuple[str, Scalar], ...] = ()
    description: str = ""
    created_by: str = ""
    created_at: datetime | None = None
    site: str = ""
    declarations: tuple[Variable, ...] = ()
    includes: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()
    examples: tuple[Example, ...] = ()
    aliases: tuple[str, ...] = ()
    alias_moves: tuple[Change, ...] = ()
    retired: bool = False
    private: bool = False


@dataclass(frozen=True, slots=True)
class PromptDiff:
    """Two versions to be compared; showing it computes the difference.

    Parameters
    ----------
    older, newer : Prompt
        The left and the right side.
    """

    older: Prompt
    newer: Prompt


@dataclass(frozen=True, slots=True)
class PromptEvent:
    """Something that happened to a prompt.

    Parameters
    ----------
    what : str
        ``version``, or the field that moved: ``alias:prod``, ``retired``, ``description`` …
    to : str
        The version, or what the field is since; empty where it was taken away.
    note : str
        The first line of the version's template, or why it moved.
    private : bool
        In this user's own catalog.
    """

    what: str
    to: str
    note: str = ""
    created_by: str = ""
    created_at: datetime | None = None
    site: str = ""
    private: bool = False


@dataclass(frozen=True, slots=True)
class PromptHistory:
    """All that happened to a prompt, oldest first.

    Parameters
    ----------
    name : str
        Of the prompt.
    events : tuple of PromptEvent
        In the order of time.
    """

    name: str
    events: tuple[PromptEvent, ...]

    @property
    def df(self) -> DataFrame:
        """The events as a pandas data frame, one row each."""
        import pandas as pd

        return pd.DataFrame([asdict(event) for event in self.events])


@dataclass(frozen=True, slots=True)
class PromptFile:
    """What became of one file of an export or an import.

    Parameters
    ----------
    file : str
        Its name; for a prompt of another registry, the prompt's.
    name : str
        Of the prompt; empty where the file does not say.
    version : int
        In the catalog; 0 for none.
    outcome : {"written", "unchanged", "new", "new version", "skipped", "problem"}
        What was done.
    note : str
        What the problem is, in one line.
    """

    file: str
    name: str
    version: int
    outcome: str
    note: str = ""


@dataclass(frozen=True, slots=True)
class PromptFiles:
    """What an export or an import of prompts did, file by file.

    Parameters
    ----------
    place : str
        The folder or the registry.
    files : tuple of PromptFile
        Sorted by name.
    """

    place: str
    files: tuple[PromptFile, ...]

    @property
    def problems(self) -> tuple[PromptFile, ...]:
        """Those that were not taken."""
        return tuple(file for file in self.files if file.outcome == "problem")

    @property
    def df(self) -> DataFrame:
        """The files as a pandas data frame, one row each."""
        import pandas as pd

        return pd.DataFrame([asdict(file) for file in self.files])
