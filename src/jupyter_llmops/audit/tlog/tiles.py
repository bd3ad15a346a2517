"""A log in a folder, as tiles (c2sp.org/tlog-tiles): what a static web server would serve of it.

::

    checkpoint                     the signed head
    tile/0/000                     256 leaf hashes
    tile/1/000.p/3                 3 hashes so far, each of a full tile of the level below
    tile/entries/000.p/12          the leaves themselves, each after its length

Every file but `checkpoint` gets its content once and for all. A leaf counts from the moment at which the
bundle that holds it is there; the hashes over it were written before, so that a kill at any moment leaves
a log that can be read and continued.

One thing is less than the specification asks of who serves a log to the public: of the partial tiles only
those of the last two checkpoints stay, not those of each; what they held begins the wider ones.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from itertools import pairwise
from pathlib import Path

from jupyter_llmops.audit.tlog.checkpoint import Checkpoint, parse_checkpoint
from jupyter_llmops.audit.tlog.merkle import HASH_BYTES, fold, leaf_hash, root_hash
from jupyter_llmops.audit.tlog.note import parse_note
from jupyter_llmops.audit.tlog.tile_files import WIDTH, TileFiles, tile_path
from jupyter_llmops.errors import AuditError

HEIGHT = 8
LARGEST_ENTRY = 65_535

_KEPT_TILES = 64


class TileStore:
    """Writes and reads one log; one process at a time may append.

    Parameters
    ----------
    folder : Path
        The log's folder; made, with its parents, when the first leaf comes.
    sync : bool
        Wait for the disk at each file, so that a loss of power leaves none that is empty.

    Raises
    ------
    AuditError
        (from every method) a file is missing, damaged, or would get a second content.
    OSError
        The disk refuses; the same call can be repeated.
    """

    def __init__(self, folder: Path, *, sync: bool = True) -> None:
        self.folder = Path(folder)
        self._files = TileFiles(self.folder, sync=sync)
        self._edge: _Edge | None = None
        self._tiles: dict[tuple[int, int], bytes] = {}

    def size(self) -> int:
        """Return how many leaves the log has."""
        full = self._full_bundles()
        return full * WIDTH + max(self._files.widths("entries", full), default=0)

    def append(self, lines: Iterable[bytes]) -> int:
        """Append leaves and return how many the log has then; it reads its right edge only.

        Parameters
        ----------
        lines : iterable of bytes
            The leaves, at most 65,535 bytes each; they are taken and written 256 at a time.
        """
        size = self.size()
        edge = self._edge
        self._edge = None  # what fails in between is read again from the files
        if edge is None or edge.size != size:
            edge = self._read_edge(size)
        for line in lines:
            if len(line) > LARGEST_ENTRY:
                raise AuditError(
                    f"A leaf of {len(line):,} bytes can't stand in a log.",
                    f"At most {LARGEST_ENTRY:,} bytes can.",
                )
            edge.add(line)
            if len(edge.lines) == WIDTH:
                self._write_full(edge)
        self._write_partial(edge)
        self._edge = edge
        return edge.size

    def leaf_hashes(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield the hashes of the leaves from `start` to before `stop`, as the tiles of level 0 have them."""
        for index, first, last in _pieces(start, stop):
            tile = self._tile(0, index, last)
            for place in range(first, last):
                yield tile[place * HASH_BYTES : (place + 1) * HASH_BYTES]

    def entries(self, start: int, stop: int) -> Iterator[bytes]:
        """Yield the leaves themselves from `start` to before `stop`."""
        for index, first, last in _pieces(start, stop):
            yield from self._bundle(index, last)[first:last]

    def hash_at(self, level: int, index: int) -> bytes:
        """Return the hash of the complete subtree of ``2**level`` leaves, from leaf ``index * 2**level`` on."""
        tile_level, rest = divmod(level, HEIGHT)
        first = index << rest
        tile_index, place = divmod(first, WIDTH)
        count = 1 << rest
        tile = self._tile(tile_level, tile_index, place + count)
        return fold(tile[place * HASH_BYTES : (place + count) * HASH_BYTES])

    def root(self, size: int | None = None) -> bytes:
        """Return the root over the first `size` leaves, over all of them by default."""
        return root_hash(self.size() if size is None else size, self.hash_at)

    def write_checkpoint(self, data: bytes) -> None:
        """Put a signed checkpoint in place of the one that is there.

        Partial tiles that neither it nor the one before needs are removed: what they held begins the
        wider ones.

        Parameters
        ----------
        data : bytes
            The note; its signatures are not looked at, but its root must be that of the tiles.

        Raises
        ------
        ValueError
            It is no checkpoint.
        """
        new = _read_head(data)
        if new.size > self.size() or new.root != self.root(new.size):
            raise AuditError(
                f"The checkpoint over {new.size:,} leaves is not one of the log in {self.folder}.",
                "Type: %audit verify",
            )
        kept = {new.size}
        before = self.read_checkpoint()
        if before is not None:
            with contextlib.suppress(ValueError):
                kept.add(_read_head(before).size)
        self._files.write_checkpoint(data)
        self._prune(new.size, kept)

    def read_checkpoint(self) -> bytes | None:
        """Return the signed checkpoint, None where there is none."""
        return self._files.read_checkpoint()

    # ---------------------------------------------------------------- reading

    def _full_bundles(self) -> int:
        """Return how many bundles are full: looked for by doubling, as they have no gaps."""
        if not self._files.has(tile_path("entries", 0)):
            return 0
        low, high = 0, 1
        while self._files.has(tile_path("entries", high)):
            low, high = high, high * 2
        while high - low > 1:
            middle = (low + high) // 2
            if self._files.has(tile_path("entries", middle)):
                low = middle
            else:
                high = middle
        return high

    def _tile(self, level: int, index: int, width: int) -> bytes:
        """Return the first `width` hashes of a tile, or more of them."""
        known = self._tiles.get((level, index), b"")
        if len(known) >= width * HASH_BYTES:
            return known
        # A kill between the tiles of one batch leaves out partial ones that can be made again.
        found = self._files.read(level, index, width)
        there, data = found or (width, self._remake(level, index, width))
        if len(data) != there * HASH_BYTES:
            raise self._files.damaged(tile_path(level, index, there))
        if len(self._tiles) >= _KEPT_TILES:
            self._tiles.pop(next(iter(self._tiles)))
        self._tiles[level, index] = data
        return data

    def _remake(self, level: int, index: int, width: int) -> bytes:
        """Return the first `width` hashes of a tile that is not there, from what lies below it."""
        if width == WIDTH and level == 0:
            raise self._files.missing(tile_path(level, index))
        if level == 0:
            return b"".join(map(leaf_hash, self._bundle(index, width)[:width]))
        below = range(index * WIDTH, index * WIDTH + width)
        return b"".join(fold(self._tile(level - 1, one, WIDTH)) for one in below)

    def _bundle(self, index: int, width: int) -> list[bytes]:
        file = self._files.read("entries", index, width)
        if file is None:
            raise self._files.missing(tile_path("entries", index, width))
        there, data = file
        found: list[bytes] = []
        place = 0
        while place < len(data):
            length = int.from_bytes(data[place : place + 2])
            entry = data[place + 2 : place + 2 + length]
            if place + 2 + length > len(data):
                raise self._files.damaged(tile_path("entries", index, there))
            found.append(entry)
            place += 2 + length
        if len(found) != there:
            raise self._files.damaged(tile_path("entries", index, there))
        return found

    # ---------------------------------------------------------------- writing

    def _read_edge(self, size: int) -> _Edge:
        edge = _Edge(size)
        levels = 0
        while size >> (HEIGHT * levels):
            levels += 1
        for level in range(levels):
            index, width = divmod(size >> (HEIGHT * level), WIDTH)
            tile = self._tile(level, index, width) if width else b""
            edge.levels.append([tile[i * HASH_BYTES : (i + 1) * HASH_BYTES] for i in range(width)])
        index, width = divmod(size, WIDTH)
        if width:
            edge.lines = self._bundle(index, width)[:width]
            if [leaf_hash(line) for line in edge.lines] != edge.levels[0]:
                raise AuditError(
                    f"Leaves and hashes of the log in {self.folder} disagree.", "Type: %audit verify"
                )
        if index:  # a kill may have come before the partial bundles of a full one were removed
            self._files.drop_partials("entries", index - 1)
        return edge

    def _write_full(self, edge: _Edge) -> None:
        """Write what became full with the last leaf: the hashes first, then the bundle, which makes it count."""
        level = 0
        while len(edge.levels[level]) == WIDTH:
            index = (edge.size >> (HEIGHT * (level + 1))) - 1
            hashes = b"".join(edge.levels[level])
            self._files.write(tile_path(level, index), hashes)
            self._files.drop_partials(level, index)
            edge.levels[level] = []
            level += 1
            if level == len(edge.levels):
                edge.levels.append([])
            edge.levels[level].append(fold(hashes))
        index = edge.size // WIDTH - 1
        self._files.write(tile_path("entries", index), _bundle_bytes(edge.lines))
        self._files.drop_partials("entries", index)
        edge.lines = []

    def _write_partial(self, edge: _Edge) -> None:
        for level in reversed(range(len(edge.levels))):
            if edge.levels[level]:
                index = edge.size >> (HEIGHT * (level + 1))
                hashes = edge.levels[level]
                self._files.write(tile_path(level, index, len(hashes)), b"".join(hashes))
        if edge.lines:
            self._files.write(
                tile_path("entries", edge.size // WIDTH, len(edge.lines)), _bundle_bytes(edge.lines)
            )

    def _prune(self, size: int, kept: set[int]) -> None:
        """Remove the partial tiles of the right edge that no size in `kept` has."""
        level = 0
        while size >> (HEIGHT * level):
            index = size >> (HEIGHT * (level + 1))
            needed = {
                (one >> (HEIGHT * level)) % WIDTH for one in kept if one >> (HEIGHT * (level + 1)) == index
            }
            for kind in (level, "entries") if level == 0 else (level,):
                for width in self._files.widths(kind, index):
                    if width not in needed and width < max(needed):
                        self._files.drop(kind, index, width)
            level += 1


class _Edge:
    """What the next leaf is hashed with: the hashes of the unfinished tiles, and the unfinished bundle."""

    def __init__(self, size: int) -> None:
        self.size = size
        self.levels: list[list[bytes]] = []
        self.lines: list[bytes] = []

    def add(self, line: bytes) -> None:
        if not self.levels:
            self.levels.append([])
        self.levels[0].append(leaf_hash(line))
        self.lines.append(line)
        self.size += 1


def _pieces(start: int, stop: int) -> Iterator[tuple[int, int, int]]:
    """Yield tile index, first place and place after the last for the leaves from `start` to before `stop`."""
    borders = [start, *range((start // WIDTH + 1) * WIDTH, stop, WIDTH), stop] if start < stop else []
    for first, last in pairwise(borders):
        index = first // WIDTH
        yield index, first - index * WIDTH, last - index * WIDTH


def _bundle_bytes(lines: Iterable[bytes]) -> bytes:
    return b"".join([len(line).to_bytes(2) + line for line in lines])


def _read_head(data: bytes) -> Checkpoint:
    return parse_checkpoint(parse_note(data).text)
