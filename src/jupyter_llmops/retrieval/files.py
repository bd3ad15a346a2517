"""Documents in files: text, Markdown and notebooks, below one folder and nowhere else."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

from jupyter_llmops.errors import UsageError
from jupyter_llmops.records.collection import Document, Section

SUFFIXES = (".txt", ".md", ".ipynb")
LARGEST_FILE = 50 * 2**20
MOST_FILES = 100_000


@dataclass(frozen=True, slots=True)
class FileDocuments:
    """Files that are read one after another.

    Parameters
    ----------
    root : Path
        What documents are named relative to.
    paths : tuple of Path
        In order.
    skipped : list of (str, str)
        What could not be read, and why; grows while they are read.
    """

    root: Path
    paths: tuple[Path, ...]
    skipped: list[tuple[str, str]] = field(default_factory=list)

    @property
    def size(self) -> int:
        """All their bytes."""
        return sum(_size(path) for path in self.paths)

    def __iter__(self) -> Iterator[tuple[Document, int]]:
        """Yield each document with its share of `size`."""
        for path in self.paths:
            name = path.relative_to(self.root).as_posix()
            try:
                document = read_document(path, name)
            except (OSError, ValueError) as error:
                why = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
                self.skipped.append((name, why))
                continue
            yield document, _size(path)


def files_below(place: Path) -> tuple[Path, tuple[Path, ...]]:
    """Return what documents are named relative to, and the files with texts, sorted.

    Hidden files and folders are left out, and so are links that lead out of the folder.

    Parameters
    ----------
    place : Path
        A file or a folder; ``~`` is expanded.

    Raises
    ------
    UsageError
        There is nothing, nothing with text, or too much.
    """
    try:
        root = place.expanduser().resolve()
        found = root.exists()
    except (RuntimeError, OSError, ValueError) as error:
        raise UsageError(
            f"The path {str(place)[:200]!r} can't be used: {error}", "Write it out in full."
        ) from None
    if not found:
        raise UsageError(
            f"There is no file, folder or variable {str(place)[:200]!r}.",
            "Give a data frame, a list, or the path of a file or a folder.",
        )
    if not root.is_dir():
        if root.suffix.lower() not in SUFFIXES:
            raise UsageError(
                f"The file {root.name!r} is none of {', '.join(SUFFIXES)}.",
                "Read it yourself and add its texts as a list.",
            )
        return root.parent, (root,)
    paths = sorted(_walk(root))
    if not paths:
        raise UsageError(f"The folder {root} holds no {', '.join(SUFFIXES)} files.", "Name another one.")
    return root, tuple(paths)


def _walk(root: Path) -> Iterator[Path]:
    count = 0
    for folder, folders, names in os.walk(root):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in names:
            path = Path(folder) / name
            if name.startswith(".") or path.suffix.lower() not in SUFFIXES:
                continue
            if path.is_symlink() and not path.resolve().is_relative_to(root):
                continue
            count += 1
            if count > MOST_FILES:
                raise UsageError(
                    f"The folder {root} holds more than {MOST_FILES:,} texts.", "Add its folders one by one."
                )
            yield path


def read_document(path: Path, name: str) -> Document:
    """Return a file as a document; a notebook's cells are its sections, numbered from 1.

    Raises
    ------
    ValueError
        It is no text in UTF-8, no notebook, or too large.
    OSError
        It can't be read.
    """
    if not path.is_file():  # a pipe would wait for ever
        raise ValueError("it is no ordinary file")
    with path.open("rb") as file:
        content = file.read(LARGEST_FILE + 1)
    if len(content) > LARGEST_FILE:
        raise ValueError(f"it is larger than {LARGEST_FILE // 2**20} MiB")
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise ValueError("it is not text in UTF-8") from None
    if "\0" in text:
        raise ValueError("it is not text: it holds zero bytes")
    return _notebook(text, name) if path.suffix.lower() == ".ipynb" else Document(name, text, {})


def _notebook(text: str, name: str) -> Document:
    import nbformat
    from nbformat import reader

    try:
        # Not `nbformat.reads`, which validates all of it and logs what is wrong with cells we don't read.
        cells = nbformat.convert(reader.reads(text), 4).cells  # type: ignore[no-untyped-call]
    except Exception as error:  # nbformat raises its own, jsonschema's, KeyError and AttributeError
        raise ValueError(f"it is no notebook ({type(error).__name__})") from error
    pieces: list[str] = []
    sections: list[Section] = []
    place = 0
    for number, cell in enumerate(cells, start=1):
        source = str(cell.get("source", ""))
        if source.strip():
            sections.append(Section(place, place + len(source), {"cell": number}))
            pieces.append(source)
            place += len(source) + 2
    return Document(name, "\n\n".join(pieces), {}, tuple(sections))


def _size(path: Path) -> int:
    try:
        return path.stat().st_size
    except OSError:
        return 0
