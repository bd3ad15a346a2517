"""Every exception that this package raises on purpose.

::

    LLMOpsError
    ├── UsageError                a magic or a call was typed wrongly
    │   ├── UnknownNameError      no such model, prompt, run, cascade (names the nearest)
    │   ├── AmbiguousNameError    a prefix that fits more than one thing
    │   ├── TemplateError         a prompt template that can't be rendered
    │   └── SpaceError            vectors of two embedding spaces would be mixed
    ├── SettingsError             a setting has a value that can't be used
    ├── CatalogError              the shared catalog can't be opened, read or written
    │   ├── CatalogNewerError     written by a newer version of this package: read only
    │   └── ConflictError         somebody else moved it first
    ├── InferenceError            a model can't be loaded or can't answer
    │   ├── ModelNotAvailableError
    │   ├── ModelMemoryError
    │   ├── ContextError          prompt and answer are longer than the model's context
    │   ├── UnsafeModelError      its files could run code (pickle, remote code)
    │   ├── OutputSchemaError     a JSON Schema that can't be followed, or an answer that does not
    │   ├── BackendError          the cluster that should compute can't be reached, or lost the work
    │   └── EndpointError         an endpoint refused or failed
    │       ├── EndpointUnreachableError   down, too slow, or the connection was cut
    │       ├── EndpointRefusedError       wrong credentials, or not allowed
    │       ├── EndpointLimitError         too many requests; says when to come back
    │       └── EndpointAnswerError        what came back is no answer
    ├── BudgetError               it would cost more than the budget leaves
    ├── TeamKeyError              the team's key can't be read, made or handed over
    ├── SecretError               something that looks like a secret was about to be shared
    ├── AuditError                the trail can't be read or does not verify
    ├── ReproduceError            a run can't be inferred again from its record
    └── MissingDependencyError    an optional package is not installed
    Interrupted (a KeyboardInterrupt, so that ``except Exception`` never swallows Ctrl-C)
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable
from typing import Any


class OneLine:
    """Renders an exception as one line in a notebook instead of a traceback.

    IPython calls ``_render_traceback_`` where it exists, keeps the exception's name in the
    output and still stops "Run All".
    """

    message: str
    hint: str

    def __str__(self) -> str:
        return f"{self.message} {self.hint}".strip()

    def _render_traceback_(self) -> list[str]:
        return [f"{type(self).__name__}: {self}"]


class LLMOpsError(OneLine, Exception):
    """What happened, and what to type next.

    Parameters
    ----------
    message : str
        One sentence that says what happened.
    hint : str
        What is valid and what to type next; may be empty.
    """

    def __init__(self, message: str, hint: str = "") -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint


class UsageError(LLMOpsError):
    """A magic or a call was typed wrongly."""


class UnknownNameError(UsageError):
    """There is no such thing; the nearest names are in the hint.

    Parameters
    ----------
    noun : str
        What was looked for: "model", "prompt", "run", …
    name : str
        The name as it was typed.
    known : iterable of str
        Every name that would have been valid.
    hint : str
        Replaces the hint made from the nearest names.
    """

    def __init__(self, noun: str, name: str, known: Iterable[str] = (), hint: str = "") -> None:
        near = nearest(name, known)
        if not hint and near:
            hint = f"Did you mean {' or '.join(near)}?"
        super().__init__(f"There is no {noun} named {name!r}.", hint)
        self.noun = noun
        self.name = name
        self.nearest = near

    def __reduce__(self) -> tuple[Any, ...]:
        return (type(self), (self.noun, self.name, self.nearest, self.hint))


class AmbiguousNameError(UsageError):
    """A prefix that fits more than one thing."""


class TemplateError(UsageError):
    """A prompt template that can't be rendered."""


class SpaceError(UsageError):
    """Vectors of two embedding spaces would be mixed."""


class SettingsError(LLMOpsError):
    """A setting has a value that can't be used."""


class CatalogError(LLMOpsError):
    """The shared catalog can't be opened, read or written."""


class CatalogNewerError(CatalogError):
    """The catalog was written by a newer version of this package; it can only be read."""


class ConflictError(CatalogError):
    """Somebody else moved it between this user's look and this user's move."""


class InferenceError(LLMOpsError):
    """A model can't be loaded or can't answer."""


class ModelNotAvailableError(InferenceError):
    """The model's files are not here and can't be fetched."""


class ModelMemoryError(InferenceError):
    """The model or its context does not fit the memory that is free."""


class ContextError(InferenceError):
    """Prompt and answer are longer than the model's context."""


class UnsafeModelError(InferenceError):
    """The model's files could run code when they are loaded: a pickle, or Python of their own."""


class OutputSchemaError(InferenceError):
    """A JSON Schema that can't be followed, or an answer that does not follow it.

    Attributes
    ----------
    answer : str
        The whole answer that does not follow it, for the record; else empty.
    """

    answer = ""


class BackendError(InferenceError):
    """The cluster that should compute can't be reached, or lost the work too often."""


class EndpointError(InferenceError):
    """An endpoint refused or failed."""


class EndpointUnreachableError(EndpointError):
    """The endpoint is down, too slow, or cut the connection."""


class EndpointRefusedError(EndpointError):
    """The endpoint refused the credentials, or knows no such model."""


class EndpointLimitError(EndpointError):
    """The endpoint asked to come back later."""


class EndpointAnswerError(EndpointError):
    """What the endpoint sent is no answer."""


class BudgetError(LLMOpsError):
    """It would cost more than the budget leaves."""


class TeamKeyError(LLMOpsError):
    """The team's key can't be read, made or handed over."""


class SecretError(LLMOpsError):
    """Something that looks like a secret was about to be shared."""


class AuditError(LLMOpsError):
    """The trail can't be read, or does not verify."""


class ReproduceError(LLMOpsError):
    """A run can't be inferred again from its record alone."""


class MissingDependencyError(LLMOpsError):
    """An optional package is not installed.

    Parameters
    ----------
    feature : str
        What needs it, as the beginning of a sentence.
    extra : str
        The extra of this package that brings it.
    """

    def __init__(self, feature: str, extra: str) -> None:
        super().__init__(
            f"{feature} needs a package that is not installed.",
            f"Type: %pip install 'jupyter-llmops[{extra}]'",
        )


class Interrupted(OneLine, KeyboardInterrupt):
    """Ctrl-C stopped a generation; what had come is in the record.

    Parameters
    ----------
    message : str
        One sentence that says what was stopped.
    hint : str
        What to type next.
    completion : object
        The unfinished Completion, or None.
    """

    def __init__(self, message: str, hint: str = "", completion: Any = None) -> None:
        super().__init__(message, hint)
        self.message = message
        self.hint = hint
        self.completion = completion


def nearest(name: str, known: Iterable[str], limit: int = 3) -> list[str]:
    """Return the known names that look most like `name`, best first."""
    by_fold = {item.casefold(): item for item in known}
    close = difflib.get_close_matches(name.casefold(), by_fold, n=limit, cutoff=0.5)
    return [by_fold[fold] for fold in close]
