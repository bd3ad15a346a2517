"""Digests of files and folders, such as data sets and saved weights."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Final

from jupyter_llmops.audit.values.limits import SkippedError

_BLOCK: Final = 1 << 20
_MOST_FILES: Final = 100_000


def digest_path(path: Path, salt: str = "") -> str:
    """Return the digest of a file's bytes, or of all files of a folder with their names.

    Parameters
    ----------
    path : Path
        A file, or a folder: the digest is over the sorted lines ``<SHA-256>  <relative path>``, as ``sha256sum``
        writes them.
    salt : str
        Hexadecimal digits that come first; without them a file's digest is its SHA-256.

    Returns
    -------
    str
        ``sha256:…`` or ``skipped: REASON``.

    Raises
    ------
    OSError
        It can't be read.
    """
    path.stat()  # raises where there is nothing
    try:
        if path.is_dir():
            return "sha256:" + hashlib.sha256(bytes.fromhex(salt) + _listing(path)).hexdigest()
        return "sha256:" + _read(path, bytes.fromhex(salt))
    except SkippedError as reason:
        return f"skipped: {reason}"


def _listing(folder: Path) -> bytes:
    lines: list[str] = []
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            if len(lines) >= _MOST_FILES:
                raise SkippedError(f"a folder of more than {_MOST_FILES:,} files")
            lines.append(f"{_read(path)}  {path.relative_to(folder).as_posix()}\n")
    return "".join(lines).encode("utf-8", "surrogateescape")


def _read(path: Path, start: bytes = b"") -> str:
    # A pipe or a device may never end.
    if not path.is_file():
        raise SkippedError("no regular file")
    made = hashlib.sha256(start)
    with path.open("rb") as file:
        while block := file.read(_BLOCK):
            made.update(block)
    return made.hexdigest()
