"""The Merkle tree over a journal's lines, computed anew from the lines (RFC 6962, section 2.1)."""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256

_HASH = 32
EMPTY_ROOT = sha256(b"").digest()


class LeafTree:
    """Every complete subtree's hash, 64 bytes a leaf, so that any earlier root can be asked for.

    It is computed from the lines and shares no code with what writes the log, so that a fault there shows.
    """

    def __init__(self) -> None:
        self._levels = [bytearray()]

    @property
    def size(self) -> int:
        """How many leaves it has."""
        return len(self._levels[0]) // _HASH

    def extend(self, hashes: Sequence[bytes]) -> None:
        """Append leaf hashes, SHA-256(0x00 ‖ line) each."""
        self._levels[0] += b"".join(hashes)
        level = 0
        while len(self._levels[level]) >= 2 * _HASH:
            if level + 1 == len(self._levels):
                self._levels.append(bytearray())
            below, above = self._levels[level], self._levels[level + 1]
            pairs = bytes(memoryview(below)[2 * len(above) : len(below) // (2 * _HASH) * 2 * _HASH])
            above += b"".join(
                [sha256(b"\x01" + pairs[i : i + 64]).digest() for i in range(0, len(pairs), 2 * _HASH)]
            )
            level += 1

    def hash_at(self, level: int, index: int) -> bytes:
        """Return the hash of the complete subtree of leaves from index * 2**level on, 2**level many."""
        return bytes(self._levels[level][index * _HASH : (index + 1) * _HASH])

    def hashes(self, level: int, start: int, stop: int) -> bytes:
        """Return the hashes of neighbouring complete subtrees, joined; fewer where there are not as many."""
        if level >= len(self._levels):
            return b""
        return bytes(self._levels[level][start * _HASH : stop * _HASH])

    def root(self, size: int) -> bytes:
        """Return the root over the first `size` leaves, 32 bytes.

        Raises
        ------
        ValueError
            There are not as many.
        """
        if not 0 <= size <= self.size:
            raise ValueError(f"the tree has {self.size} leaves, not {size}")
        root = b""
        for level in range(size.bit_length()):
            if size >> level & 1:
                part = self.hash_at(level, (size >> level) - 1)
                root = sha256(b"\x01" + part + root).digest() if root else part
        return root or EMPTY_ROOT
