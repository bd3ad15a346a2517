"""Merkle trees of RFC 6962 (SHA-256): hashes, a frontier that grows, proofs and their verification."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from hashlib import sha256

HASH_BYTES = 32
EMPTY_ROOT = sha256(b"").digest()

HashAt = Callable[[int, int], bytes]
"""``hash_at(level, index)``: the hash of the complete subtree over leaves ``index * 2**level`` and the
following, `2**level` of them."""


def leaf_hash(data: bytes) -> bytes:
    """Return the hash of a leaf: SHA-256(0x00 ‖ data), RFC 6962 section 2.1."""
    return sha256(b"\0" + data).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Return the hash of an inner node: SHA-256(0x01 ‖ left ‖ right), RFC 6962 section 2.1."""
    return sha256(b"\1" + left + right).digest()


def fold(hashes: bytes) -> bytes:
    """Return the hash of a complete subtree.

    Parameters
    ----------
    hashes : bytes
        The hashes of its bottom row one after another, 32 bytes each, a power of two of them.
    """
    while len(hashes) > HASH_BYTES:
        pairs = range(0, len(hashes), 2 * HASH_BYTES)
        hashes = b"".join([sha256(b"\1" + hashes[i : i + 2 * HASH_BYTES]).digest() for i in pairs])
    return hashes


class Frontier:
    """The right edge of a tree: enough to append leaves and to say the root, O(log n) of each.

    It holds the hashes of the complete subtrees that the leaves fall into, the largest (leftmost) first.
    """

    __slots__ = ("_hashes", "_size")

    def __init__(self) -> None:
        self._size = 0
        self._hashes: list[bytes] = []

    @classmethod
    def of(cls, size: int, hashes: Sequence[bytes]) -> Frontier:
        """Return the frontier of a tree that is there already.

        Parameters
        ----------
        size : int
            How many leaves it has.
        hashes : sequence of bytes
            Its complete subtrees, the largest first: one for each bit that is set in `size`.

        Raises
        ------
        ValueError
            There are more or fewer hashes than that, or one is not of 32 bytes.
        """
        if size < 0 or len(hashes) != size.bit_count() or any(len(one) != HASH_BYTES for one in hashes):
            raise ValueError(f"{len(hashes)} hashes are no frontier of {size} leaves")
        self = cls()
        self._size, self._hashes = size, list(hashes)
        return self

    @property
    def size(self) -> int:
        """How many leaves the tree has."""
        return self._size

    @property
    def hashes(self) -> tuple[bytes, ...]:
        """The complete subtrees, the largest first, as `of` takes them."""
        return tuple(self._hashes)

    def append(self, leaf_hash: bytes) -> None:
        """Append one leaf, given by its hash."""
        carry = leaf_hash
        size = self._size
        while size & 1:
            carry = node_hash(self._hashes.pop(), carry)
            size >>= 1
        self._hashes.append(carry)
        self._size += 1

    def root(self) -> bytes:
        """Return the root over all leaves; SHA-256 of nothing for an empty tree."""
        return _joined(self._hashes)


def root_hash(size: int, hash_at: HashAt) -> bytes:
    """Return the root of the first `size` leaves.

    Parameters
    ----------
    size : int
        How many leaves.
    hash_at : callable
        Returns the hash of a complete subtree.
    """
    return _range_hash(0, size, hash_at)


def inclusion_proof(index: int, size: int, hash_at: HashAt) -> tuple[bytes, ...]:
    """Return the proof that a leaf is in a tree, RFC 6962 section 2.1.1: siblings from the leaf up.

    Parameters
    ----------
    index : int
        The leaf, from 0.
    size : int
        How many leaves the tree has.
    hash_at : callable
        Returns the hash of a complete subtree.

    Raises
    ------
    ValueError
        There is no such leaf in a tree of that size.
    """
    if not 0 <= index < size:
        raise ValueError(f"a tree of {size} leaves has no leaf {index}")
    proof = []
    start, stop = 0, size
    while stop - start > 1:
        middle = start + _split(stop - start)
        if index < middle:
            proof.append(_range_hash(middle, stop, hash_at))
            stop = middle
        else:
            proof.append(_range_hash(start, middle, hash_at))
            start = middle
    return tuple(reversed(proof))


def consistency_proof(old: int, new: int, hash_at: HashAt) -> tuple[bytes, ...]:
    """Return the proof that a tree continues an older one, RFC 6962 section 2.1.2; empty from nothing.

    Parameters
    ----------
    old, new : int
        How many leaves the two have.
    hash_at : callable
        Returns the hash of a complete subtree.

    Raises
    ------
    ValueError
        The older one is the larger.
    """
    if not 0 <= old <= new:
        raise ValueError(f"a tree of {new} leaves continues none of {old}")
    if old in {0, new}:
        return ()
    proof = []
    start, stop = 0, new
    while old != stop:
        middle = start + _split(stop - start)
        if old <= middle:
            proof.append(_range_hash(middle, stop, hash_at))
            stop = middle
        else:
            proof.append(_range_hash(start, middle, hash_at))
            start = middle
    if start:  # otherwise the verifier has this hash already: it is the older root
        proof.append(_range_hash(start, stop, hash_at))
    return tuple(reversed(proof))


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root: bytes) -> bool:
    """Return whether a proof shows that a leaf is in a tree, RFC 9162 section 2.1.3.2.

    Parameters
    ----------
    leaf : bytes
        Hash of the leaf.
    index : int
        Its place, from 0.
    size : int
        How many leaves the tree has.
    proof : sequence of bytes
        What `inclusion_proof` returned.
    root : bytes
        Root of the tree.
    """
    if not 0 <= index < size or not _are_hashes((leaf, root, *proof)):
        return False
    node, last, found = index, size - 1, leaf
    for other in proof:
        if last == 0:
            return False
        if node & 1 or node == last:
            found = node_hash(other, found)
            while node and not node & 1:
                node >>= 1
                last >>= 1
        else:
            found = node_hash(found, other)
        node >>= 1
        last >>= 1
    return last == 0 and found == root


def verify_consistency(old: int, new: int, old_root: bytes, new_root: bytes, proof: Sequence[bytes]) -> bool:
    """Return whether a proof shows that a tree continues an older one, RFC 9162 section 2.1.4.2.

    Parameters
    ----------
    old, new : int
        How many leaves the two have. Every tree continues the empty one, with an empty proof.
    old_root, new_root : bytes
        Their roots.
    proof : sequence of bytes
        What `consistency_proof` returned.
    """
    if not 0 <= old <= new or not _are_hashes((old_root, new_root, *proof)):
        return False
    if old == new:
        return not proof and old_root == new_root and (old > 0 or old_root == EMPTY_ROOT)
    if old == 0:
        return not proof and old_root == EMPTY_ROOT
    path = list(proof)
    if old & (old - 1) == 0:
        path.insert(0, old_root)
    if not path:
        return False
    node, last = old - 1, new - 1
    while node & 1:
        node >>= 1
        last >>= 1
    found_old = found_new = path[0]
    for other in path[1:]:
        if last == 0:
            return False
        if node & 1 or node == last:
            found_old = node_hash(other, found_old)
            found_new = node_hash(other, found_new)
            while node and not node & 1:
                node >>= 1
                last >>= 1
        else:
            found_new = node_hash(found_new, other)
        node >>= 1
        last >>= 1
    return last == 0 and found_old == old_root and found_new == new_root


def subtrees(size: int) -> list[tuple[int, int]]:
    """Return level and index of the complete subtrees that `size` leaves fall into, the largest first."""
    return _subtrees(0, size)


def _are_hashes(values: Sequence[bytes]) -> bool:
    return all(len(value) == HASH_BYTES for value in values)


def _split(count: int) -> int:
    """Return the largest power of two below `count`."""
    return 1 << ((count - 1).bit_length() - 1)


def _subtrees(start: int, stop: int) -> list[tuple[int, int]]:
    # `start` is a multiple of the first one's width wherever RFC 6962 cuts a tree.
    found = []
    while start < stop:
        level = (stop - start).bit_length() - 1
        found.append((level, start >> level))
        start += 1 << level
    return found


def _range_hash(start: int, stop: int, hash_at: HashAt) -> bytes:
    return _joined([hash_at(level, index) for level, index in _subtrees(start, stop)])


def _joined(hashes: Sequence[bytes]) -> bytes:
    if not hashes:
        return EMPTY_ROOT
    found = hashes[-1]
    for left in reversed(hashes[:-1]):
        found = node_hash(left, found)
    return found
