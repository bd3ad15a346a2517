"""Transparency logs in the formats of C2SP: Merkle trees, signed notes, checkpoints, cosignatures, tiles, proofs."""
