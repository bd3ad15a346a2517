"""RFC 6962 trees against the recursive definitions of the RFC, written down here once more."""

from hashlib import sha256

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jupyter_llmops.audit.tlog.merkle import (
    EMPTY_ROOT,
    Frontier,
    consistency_proof,
    fold,
    inclusion_proof,
    leaf_hash,
    node_hash,
    root_hash,
    subtrees,
    verify_consistency,
    verify_inclusion,
)

MOST = 130
LEAVES = [b"leaf %d" % number for number in range(MOST)]


def split(leaves):
    return 1 << ((len(leaves) - 1).bit_length() - 1)


def mth(leaves):
    """MTH of RFC 6962, section 2.1."""
    if not leaves:
        return sha256().digest()
    if len(leaves) == 1:
        return sha256(b"\0" + leaves[0]).digest()
    k = split(leaves)
    return sha256(b"\1" + mth(leaves[:k]) + mth(leaves[k:])).digest()


def path(m, leaves):
    """PATH of RFC 6962, section 2.1.1."""
    if len(leaves) == 1:
        return []
    k = split(leaves)
    if m < k:
        return [*path(m, leaves[:k]), mth(leaves[k:])]
    return [*path(m - k, leaves[k:]), mth(leaves[:k])]


def subproof(m, leaves, whole):
    """SUBPROOF of RFC 6962, section 2.1.2."""
    if m == len(leaves):
        return [] if whole else [mth(leaves)]
    k = split(leaves)
    if m <= k:
        return [*subproof(m, leaves[:k], whole), mth(leaves[k:])]
    return [*subproof(m - k, leaves[k:], False), mth(leaves[:k])]


def hash_at(level, index):
    assert (index + 1) << level <= MOST
    return mth(LEAVES[index << level : (index + 1) << level])


def test_the_hashes_of_the_rfc_are_domain_separated():
    assert leaf_hash(b"ab") == sha256(b"\0ab").digest()
    assert node_hash(b"a" * 32, b"b" * 32) == sha256(b"\1" + b"a" * 32 + b"b" * 32).digest()
    assert EMPTY_ROOT.hex() == "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"


def test_a_frontier_says_the_root_after_every_leaf_and_goes_on_from_its_hashes():
    frontier = Frontier()
    for size in range(MOST):
        assert frontier.size == size
        assert frontier.root() == mth(LEAVES[:size]) == root_hash(size, hash_at)
        again = Frontier.of(size, frontier.hashes)
        assert frontier.hashes == tuple(hash_at(*one) for one in subtrees(size))
        again.append(leaf_hash(LEAVES[size]))
        frontier.append(leaf_hash(LEAVES[size]))
        assert again.root() == frontier.root()


@pytest.mark.parametrize(("size", "count"), [(3, 1), (0, 1), (-1, 1), (4, 2)])
def test_a_frontier_of_another_number_of_hashes_is_refused(size, count):
    with pytest.raises(ValueError, match="no frontier"):
        Frontier.of(size, [b"0" * 32] * count)


def test_a_complete_subtree_is_folded():
    for level in range(8):
        hashes = b"".join(leaf_hash(leaf) for leaf in LEAVES[: 1 << level])
        assert fold(hashes) == mth(LEAVES[: 1 << level])


@pytest.mark.parametrize("size", [1, 2, 3, 7, 8, 9, 64, 65, 127, 128, 129])
def test_every_inclusion_proof_is_the_one_of_the_rfc_and_verifies_for_its_leaf_alone(size):
    root = mth(LEAVES[:size])
    for index in range(size):
        proof = inclusion_proof(index, size, hash_at)
        assert list(proof) == path(index, LEAVES[:size])
        leaf = leaf_hash(LEAVES[index])
        assert verify_inclusion(leaf, index, size, proof, root)
        assert not verify_inclusion(leaf_hash(b"another"), index, size, proof, root)
        assert not verify_inclusion(leaf, index, size, (*proof, leaf), root)
        for other in {index - 1, index + 1, size, -1} - {index}:
            assert not verify_inclusion(leaf, other, size, proof, root)
        if proof:
            assert not verify_inclusion(leaf, index, size, proof[:-1], root)


@pytest.mark.parametrize("new", [1, 2, 3, 7, 8, 9, 64, 65, 127, 128, 129])
def test_every_consistency_proof_is_the_one_of_the_rfc_and_verifies_for_its_two_trees_alone(new):
    new_root = mth(LEAVES[:new])
    for old in range(new + 1):
        proof = consistency_proof(old, new, hash_at)
        old_root = mth(LEAVES[:old])
        assert list(proof) == (subproof(old, LEAVES[:new], True) if old else [])
        assert verify_consistency(old, new, old_root, new_root, proof)
        assert not verify_consistency(old, new, mth([b"another"]), new_root, proof)
        if old:  # every tree continues the empty one
            assert not verify_consistency(old, new, old_root, mth([b"another"]), proof)
        assert not verify_consistency(old, new, old_root, new_root, (*proof, new_root))
        assert not verify_consistency(new + 1, new, old_root, new_root, proof)


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_proof_with_anything_changed_does_not_verify(data):
    size = data.draw(st.integers(2, MOST))
    index = data.draw(st.integers(0, size - 1))
    proof = list(inclusion_proof(index, size, hash_at))
    place = data.draw(st.integers(0, len(proof) - 1))
    bit = data.draw(st.integers(0, 255))
    changed = int.from_bytes(proof[place]) ^ (1 << bit)
    proof[place] = changed.to_bytes(32)
    assert not verify_inclusion(leaf_hash(LEAVES[index]), index, size, proof, mth(LEAVES[:size]))


@settings(max_examples=300, deadline=None)
@given(st.data())
def test_a_tree_that_was_rewritten_is_never_consistent(data):
    new = data.draw(st.integers(2, MOST))
    old = data.draw(st.integers(1, new - 1))
    place = data.draw(st.integers(0, old - 1))
    rewritten = [*LEAVES[:place], b"rewritten", *LEAVES[place + 1 : new]]

    def rewritten_at(level, index):
        return mth(rewritten[index << level : (index + 1) << level])

    proof = consistency_proof(old, new, rewritten_at)
    assert not verify_consistency(old, new, mth(LEAVES[:old]), mth(rewritten), proof)


@settings(max_examples=200, deadline=None)
@given(st.integers(-2, 70), st.integers(-2, 70), st.lists(st.binary(max_size=33), max_size=9), st.data())
def test_no_input_makes_a_verification_raise(first, second, proof, data):
    root = data.draw(st.binary(max_size=33))
    assert verify_inclusion(root, first, second, proof, root) in {True, False}
    assert verify_consistency(first, second, root, root, proof) in {True, False}


def test_proofs_of_what_is_not_there_are_refused():
    with pytest.raises(ValueError, match="no leaf 3"):
        inclusion_proof(3, 3, hash_at)
    with pytest.raises(ValueError, match="continues none"):
        consistency_proof(4, 3, hash_at)
