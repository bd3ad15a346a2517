"""A saved prompt template."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from jupyter_llmops.records.request import Scalar


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
        ``sha256:…`` of the content (template, system, model, parameters).
    template, system : str
        Jinja2 sources of the user and the system message.
    variables : tuple of str
        Names that the two templates need.
    model : str
        Model it was saved with; empty means the default.
    parameters : tuple of (name, value)
        Generation parameters it was saved with.
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
