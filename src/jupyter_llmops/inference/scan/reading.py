"""What every describer shares: digests of files, names, and numbers that come from files of strangers."""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyter_llmops.errors import InferenceError
from jupyter_llmops.inference.manifest import digest_of_files, model_files
from jupyter_llmops.records.model import ModelFile


class NotAModelError(InferenceError):
    """A file that is whole and no model of its own: data, or a part of something else."""


_MOST_JSON_BYTES = 32 << 20
_NOT_IN_NAMES = re.compile(r"[^\w.+-]+")
# Names of files and folders that say nothing: the folder above says more.
_PLAIN_NAMES = frozenset(
    {"adapter", "checkpoint", "final", "latest", "main", "merged", "model", "output", "snapshot", "weights"}
)


@dataclass(frozen=True, slots=True)
class Reading:
    """How files are read.

    Parameters
    ----------
    memory : Path, optional
        Folder that remembers the digests of files.
    on_bytes : callable, optional
        Called with the number of bytes of each block that was read.
    """

    memory: Path | None = None
    on_bytes: Callable[[int], None] | None = None

    def manifest(self, root: Path, files: Iterable[Path]) -> tuple[tuple[ModelFile, ...], str, int]:
        """Return the manifest of files below `root`, its digest, and the size of all, bytes.

        Raises
        ------
        OSError
            A file can't be read.
        """
        manifest = model_files(root, files, self.memory, self.on_bytes)
        return manifest, digest_of_files(manifest), sum(file.size_bytes for file in manifest)


def read_json(path: Path) -> dict[str, Any]:
    """Return a JSON file that holds an object.

    Raises
    ------
    InferenceError
        It can't be read, is larger than 32 MiB, or holds something else.
    """
    try:
        found = json.loads(path.read_bytes()) if path.stat().st_size <= _MOST_JSON_BYTES else None
    except (OSError, ValueError, RecursionError) as error:
        raise InferenceError(f"The file {path} can't be read: {reason(error)}") from error
    if not isinstance(found, dict):
        raise InferenceError(f"The file {path} is not a JSON object of at most 32 MiB.")
    return found


def count(value: object) -> int | None:
    """Return a positive number of a file, None for anything else."""
    if isinstance(value, bool) or not isinstance(value, int) or not 0 < value < 1 << 62:
        return None
    return value


def text(value: object) -> str:
    """Return one line of a file, at most 200 characters, empty for anything but text."""
    return one_line(value) if isinstance(value, str) else ""


def one_line(value: object, most: int = 200) -> str:
    """Return a value or an exception as one printable line of at most that many characters."""
    said = " ".join(str(value)[: 4 * most].split())
    return "".join(c for c in said if c.isprintable())[:most]


def reason(error: BaseException) -> str:
    """Return what an exception says as the end of a sentence."""
    said = one_line(error) or type(error).__name__
    return said if said.endswith((".", "!", "?")) else f"{said}."


def name_of(path: Path) -> str:
    """Return the name that a file or folder suggests; one that says nothing takes the folder above along."""
    stem = path.name if path.is_dir() else path.stem
    plain = stem.casefold().partition("-")[0] in _PLAIN_NAMES
    return slug(f"{path.parent.name}-{stem}" if plain and path.parent.name else stem)


def slug(said: str) -> str:
    """Return a name that can be typed and be a name of the catalog: lower case, no spaces, no ``@``."""
    composed = unicodedata.normalize("NFC", said).casefold()
    kept = _NOT_IN_NAMES.sub("-", composed).strip("-.")
    return kept[:120] or "model"
