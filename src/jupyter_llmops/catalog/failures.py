"""What LanceDB and the file system say, as sentences that a user can act on."""

from __future__ import annotations

import re
from pathlib import Path

from jupyter_llmops.errors import CatalogError, LLMOpsError

_REFUSED = ("permission denied", "operation not permitted", "read-only file system")
_FULL = ("no space left", "disk quota exceeded")
_CONTENDED = ("too many concurrent writers", "commit conflict", "conflict", "concurrent")


def is_contention(error: BaseException) -> bool:
    """Return whether other writers were in the way, so that trying again can help."""
    text = str(error).lower()
    return any(phrase in text for phrase in _CONTENDED)


def read_failure(error: Exception, folder: Path, table: str) -> LLMOpsError:
    """Return what to raise when `table` of the catalog in `folder` can't be read."""
    if isinstance(error, LLMOpsError):
        return error
    if _says(error, _REFUSED):
        return CatalogError(
            f"The catalog in {folder} can't be read: {_why(error)}.",
            "Ask its owner for access, or set LLMOPS_CATALOG to a folder of your own.",
        )
    return damaged(folder / f"{table}.lance", _why(error))


def write_failure(error: Exception, folder: Path, table: str) -> LLMOpsError:
    """Return what to raise when `table` of the catalog in `folder` can't be written."""
    if isinstance(error, LLMOpsError):
        return error
    if _says(error, _REFUSED) or isinstance(error, (PermissionError, NotADirectoryError, FileExistsError)):
        return unwritable(folder, _why(error))
    if _says(error, _FULL):
        return CatalogError(
            f"The disk of the catalog in {folder} is full; nothing was written.",
            "Free some space there and try again.",
        )
    if is_contention(error):
        return CatalogError(
            f"Too many others are writing to the catalog in {folder}; nothing was written.",
            "Try again in a moment.",
        )
    return damaged(folder / f"{table}.lance", _why(error))


def unwritable(folder: Path, why: str) -> CatalogError:
    """Return the error for a folder that refuses writes."""
    return CatalogError(
        f"The catalog in {folder} can't be written: {why}.",
        "Ask its owner for write access, or set LLMOPS_CATALOG to a folder of your own.",
    )


def damaged(path: Path, why: str) -> CatalogError:
    """Return the error for a table or folder that is there but can't be understood."""
    return CatalogError(
        f"The catalog is damaged at {path}: {why}.",
        "Nothing was changed. Restore it from a backup, or move it away to begin with an empty one.",
    )


def _says(error: Exception, phrases: tuple[str, ...]) -> bool:
    text = str(error).lower()
    return any(phrase in text for phrase in phrases)


def _why(error: Exception) -> str:
    """Return the reason in one line, without the source positions that Lance appends."""
    if isinstance(error, OSError) and error.strerror:
        return error.strerror
    text = " ".join(str(error).split())
    text = re.sub(r",? ?/\S+\.rs:\d+:\d+.*", "", text)
    text = re.sub(r"^(lance error: |External error: )*(LanceError\(\w+\): )?", "", text)
    return text.rstrip(". ")[:200] or type(error).__name__
