"""A process that pushes or pulls a model's files in small pieces and says each step in a line, to be killed.

``python tests/transfer_process.py push|pull CATALOG FOLDER SOURCE``: SOURCE is the folder whose files are
meant, FOLDER where a pull puts them. A line is the number of bytes that went; the last one is "done".
"""

from __future__ import annotations

import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from jupyter_llmops.catalog.objects import Objects, open_objects
from jupyter_llmops.inference.manifest import digest_of_files, model_files
from jupyter_llmops.inference.transfer import pull_files, push_files
from jupyter_llmops.location import Location
from jupyter_llmops.records.model import Model

PIECE_BYTES = 1 << 16
_BLOCK = 1 << 12


def model_of(folder: Path) -> Model:
    """Return the model that a folder's files are."""
    files = model_files(folder, sorted(path for path in folder.rglob("*") if path.is_file()))
    return Model("m", "llm", f"folder:{folder}", digest=digest_of_files(files), files=files)


class Telling:
    """Passes on to real objects in small blocks, and says so."""

    def __init__(self, inner: Objects) -> None:
        self.inner = inner
        self.size = inner.size
        self.delete = inner.delete

    def read(self, name: str) -> Iterator[bytes]:
        """Read as the inner one does."""
        for block in self.inner.read(name):
            for start in range(0, len(block), _BLOCK):
                yield block[start : start + _BLOCK]
                print(len(block[start : start + _BLOCK]), flush=True)

    def write(self, name: str, chunks: Iterable[bytes]) -> None:
        """Write as the inner one does."""
        self.inner.write(name, self._told(chunks))

    def _told(self, chunks: Iterable[bytes]) -> Iterator[bytes]:
        for chunk in chunks:
            for start in range(0, len(chunk), _BLOCK):
                yield chunk[start : start + _BLOCK]
                print(len(chunk[start : start + _BLOCK]), flush=True)


def main(action: str, catalog: str, folder: str, source: str) -> None:
    """Do it."""
    objects = Telling(open_objects(Location.parse(catalog)))
    model = model_of(Path(source))
    if action == "push":
        push_files(objects, model, Path(source), piece_bytes=PIECE_BYTES)
    else:
        pull_files(objects, model, Path(folder))
    print("done", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
