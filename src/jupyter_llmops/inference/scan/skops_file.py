"""skops files: a zip archive whose schema says which types it holds."""

from __future__ import annotations

import json
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from jupyter_llmops.errors import InferenceError
from jupyter_llmops.inference.scan.pickled import estimators, public_name
from jupyter_llmops.inference.scan.reading import Reading, name_of, one_line, reason
from jupyter_llmops.inference.sources import files_in
from jupyter_llmops.records.model import Model

_MOST_SCHEMA_BYTES = 64 << 20


def describe_skops(path: Path, reading: Reading) -> Model:
    """Return what a skops file holds: its types are read from the schema, nothing is loaded.

    Parameters
    ----------
    path : Path
        The file.
    reading : Reading
        How files are read.

    Raises
    ------
    InferenceError
        It is damaged, or its schema is larger than 64 MiB.
    OSError
        It can't be read.
    """
    schema = _schema(path)
    types = list(dict.fromkeys(_types(schema)))
    manifest, digest, size = reading.manifest(path.parent, files_in(path).files)
    return Model(
        name=name_of(path),
        kind="classic",
        source=f"folder:{path}",
        digest=digest,
        family=public_name(types[0]) if types else "",
        size_bytes=size,
        format="skops",
        files=manifest,
        description=one_line(f"Holds {', '.join(estimators(types)) or 'no estimator'}"),
    )


def _schema(path: Path) -> dict[str, Any]:
    try:
        with zipfile.ZipFile(path) as archive, archive.open("schema.json") as file:
            data = file.read(_MOST_SCHEMA_BYTES + 1)
        schema = json.loads(data) if len(data) <= _MOST_SCHEMA_BYTES else None
    except (
        zipfile.BadZipFile,
        zlib.error,
        KeyError,
        ValueError,
        RecursionError,
        NotImplementedError,
        EOFError,
    ) as error:
        raise InferenceError(f"The file {path} is not a skops file: {reason(error)}") from error
    if not isinstance(schema, dict):
        raise InferenceError(
            f"The file {path} is not a skops file: its schema is no object of at most 64 MiB."
        )
    return schema


def _types(schema: dict[str, Any]) -> Iterator[str]:
    """Yield the dotted types of a schema, the outermost first."""
    waiting: list[Any] = [schema]
    while waiting:
        node = waiting.pop()
        if isinstance(node, dict):
            module, name = node.get("__module__"), node.get("__class__")
            if isinstance(module, str) and isinstance(name, str):
                yield one_line(f"{module}.{name}")
            waiting += reversed(list(node.values()))
        elif isinstance(node, list):
            waiting += reversed(node)
