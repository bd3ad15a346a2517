"""Which heads this home has published in a catalog, so that one that goes from there is missed.

Who changes this file and the catalog together is held only by what witnesses signed, and by who kept a head.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Final

from jupyter_llmops.keys.key_files import alone_with
from jupyter_llmops.records.trail import Head

# A file of so many bytes is read in some milliseconds.
_LARGE_BYTES: Final = 1 << 18
_DUE: Final = "due"


class PublishedHeads:
    """A file that is added to: a line a head, of session, size and the size of the head before.

    Once it is large an agent makes one line of all heads of a session when it publishes its first:
    their sizes, comma-separated, and 0. A line of session, size and "due" is of the last head of a session that was
    pruned, which the catalog shall have, whether it was published before or not.

    Parameters
    ----------
    path : Path
        The file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._looked = False

    def add(self, heads: Iterable[Head]) -> None:
        """Note heads that the catalog has acknowledged; a disk that refuses is no obstacle."""
        self._shorten()
        self._append("".join(f"{head.session} {head.size} {head.previous_size}\n" for head in heads))

    def expect(self, session: str, size: int) -> None:
        """Note a head that the catalog shall have; a disk that refuses is no obstacle."""
        if size not in self.read().get(session, set()):
            self._append(f"{session} {size} {_DUE}\n")

    def join(self, sizes: Mapping[str, Iterable[int]]) -> None:
        """Note further heads of sessions beside those that are known, by session; as `add`."""
        known = self.read()
        self._append(
            "".join(_line(session, {*known.get(session, ()), *more}) for session, more in sizes.items())
        )

    def _append(self, lines: str) -> None:
        if not lines:
            return
        with contextlib.suppress(OSError), alone_with(self._path):
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, lines.encode())
            finally:
                os.close(descriptor)

    def due(self) -> dict[str, set[int]]:
        """Return the sizes of heads that the catalog shall have and never acknowledged, by session."""
        published = self.read()
        found: dict[str, set[int]] = {}
        for line in self._lines():
            session, _, rest = line.partition(" ")
            size, _, word = rest.partition(" ")
            is_size = size.isdecimal() and size.isascii()
            if word == _DUE and is_size and int(size) not in published.get(session, set()):
                found.setdefault(session, set()).add(int(size))
        return found

    def read(self) -> dict[str, set[int]]:
        """Return the sizes of the heads of each session; one without a head before it begins them anew."""
        found: dict[str, set[int]] = {}
        for line in self._lines():
            session, _, rest = line.partition(" ")
            listed, _, before = rest.partition(" ")
            sizes = listed.split(",")
            if all(size.isdecimal() and size.isascii() for size in (*sizes, before)):
                if before == "0":
                    found[session] = set()
                found.setdefault(session, set()).update(map(int, sizes))
        return found

    def _lines(self) -> list[str]:
        try:
            return self._path.read_text("utf-8", "replace").splitlines()
        except OSError:
            return []

    def _shorten(self) -> None:
        """Write it anew with a line a session, where it is large; kernels that prune add to it, too."""
        if self._looked:
            return
        self._looked = True
        unfinished = self._path.with_name(f".{self._path.name}.{os.urandom(4).hex()}")
        with contextlib.suppress(OSError):
            if self._path.stat().st_size < _LARGE_BYTES:
                return
        with contextlib.suppress(OSError), alone_with(self._path):
            if not (known := self.read()):
                return
            lines = "".join(_line(session, sizes) for session, sizes in known.items())
            lines += "".join(
                f"{session} {size} {_DUE}\n" for session, sizes in self.due().items() for size in sizes
            )
            try:
                descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
                with os.fdopen(descriptor, "w", encoding="utf-8") as file:
                    file.write(lines)
                    file.flush()
                    os.fsync(file.fileno())
                unfinished.replace(self._path)
            finally:
                unfinished.unlink(missing_ok=True)


def _line(session: str, sizes: Iterable[int]) -> str:
    return f"{session} {','.join(map(str, sorted(sizes)))} 0\n"
