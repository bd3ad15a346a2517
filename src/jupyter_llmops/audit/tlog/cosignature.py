"""Cosignatures: a witness signs that a checkpoint continues all it saw (c2sp.org/tlog-cosignature, Ed25519)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from jupyter_llmops.audit.tlog.checkpoint import parse_checkpoint
from jupyter_llmops.audit.tlog.note import (
    COSIGNATURE_KEY,
    LATEST_TIMESTAMP,
    Signature,
    VerifierKey,
    check_name,
    cosigned_message,
    key_id,
    parse_vkey,
)

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey


def cosign(checkpoint_text: str, name: str, private_key: Ed25519PrivateKey, timestamp: int) -> Signature:
    """Return a witness's signature of a checkpoint.

    Whoever calls it has checked before that the checkpoint continues all that this key ever cosigned of
    its log: that is what the signature says.

    Parameters
    ----------
    checkpoint_text : str
        Text of the note, without its signatures.
    name : str
        Name of the witness's key.
    private_key : Ed25519PrivateKey
        The key.
    timestamp : int
        Now, in seconds since 1970.

    Raises
    ------
    ValueError
        The text is no checkpoint, the name can't stand in a note, or the time is none.
    """
    check_name(name)
    parse_checkpoint(checkpoint_text)
    if not 0 <= timestamp <= LATEST_TIMESTAMP:
        raise ValueError(f"{timestamp} is no time")
    signed = private_key.sign(cosigned_message(checkpoint_text, timestamp))
    identity = key_id(name, private_key.public_key(), COSIGNATURE_KEY)
    return Signature(name, identity, timestamp.to_bytes(8) + signed)


def verify_cosignature(checkpoint_text: str, signature: Signature, vkey: str | VerifierKey) -> int | None:
    """Return when a witness signed a checkpoint, in seconds since 1970; None where it did not.

    Parameters
    ----------
    checkpoint_text : str
        Text of the note, without its signatures.
    signature : Signature
        What may be its signature; `note.parse_signature` reads a line.
    vkey : str or VerifierKey
        The witness's verifier key, of type 4.

    Raises
    ------
    ValueError
        `vkey` is no verifier key.
    """
    key = parse_vkey(vkey) if isinstance(vkey, str) else vkey
    if key.kind != COSIGNATURE_KEY or not key.verifies(checkpoint_text, signature):
        return None
    return int.from_bytes(signature.data[:8])
