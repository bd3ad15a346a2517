"""Which heads this home has published in a catalog, so that one that goes from there is missed.

Who changes this file and the catalog together is held only by what witnesses signed, and by who kept a head.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable
from pathlib import Path

from jupyter_llmops.records.trail import Head


class PublishedHeads:
    """A file that is only added to: a line a head, of session, size and the size of the head before.

    Parameters
    ----------
    path : Path
        The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path

    def add(self, heads: Iterable[Head]) -> None:
        """Note heads that the catalog has acknowledged; a disk that refuses is no obstacle."""
        lines = "".join(f"{head.session} {head.size} {head.previous_size}\n" for head in heads)
        with contextlib.suppress(OSError):
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, lines.encode())
            finally:
                os.close(descriptor)

    def read(self) -> dict[str, set[int]]:
        """Return the sizes of the heads of each session; one without a head before it begins them anew."""
        found: dict[str, set[int]] = {}
        try:
            text = self._path.read_text("utf-8", "replace")
        except OSError:
            return {}
        for line in text.splitlines():
            session, *sizes = line.split(" ")
            if len(sizes) == 2 and all(size.isdecimal() and size.isascii() for size in sizes):
                if sizes[1] == "0":
                    found[session] = set()
                found.setdefault(session, set()).add(int(sizes[0]))
        return found
