"""Proofs that stand alone: a leaf's inclusion in a signed checkpoint, as text (c2sp.org/tlog-proof)."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from dataclasses import dataclass

from jupyter_llmops.audit.tlog.checkpoint import LARGEST_SIZE, Checkpoint, parse_checkpoint
from jupyter_llmops.audit.tlog.merkle import HASH_BYTES, leaf_hash, verify_inclusion
from jupyter_llmops.audit.tlog.note import NOTE_KEY, decode_base64, parse_note, parse_vkey, verify_note

FORMAT = "c2sp.org/tlog-proof@v1"
MOST_HASHES = 63


@dataclass(frozen=True, slots=True)
class InclusionProof:
    """A proof, as it is written.

    Parameters
    ----------
    index : int
        The leaf, from 0.
    hashes : tuple of bytes
        From its sibling up.
    checkpoint : bytes
        The signed note, with cosignatures where there are some.
    extra : bytes, optional
        What nothing vouches for by itself; here the leaf, whose hash the proof then vouches for.
    """

    index: int
    hashes: tuple[bytes, ...]
    checkpoint: bytes
    extra: bytes | None = None


def format_proof(proof: InclusionProof) -> bytes:
    """Return the bytes of a proof."""
    lines = [FORMAT]
    if proof.extra is not None:
        lines.append(f"extra {base64.b64encode(proof.extra).decode()}")
    lines.append(f"index {proof.index}")
    lines += [base64.b64encode(one).decode() for one in proof.hashes]
    return "\n".join([*lines, "", ""]).encode() + proof.checkpoint


def parse_proof(data: bytes | str) -> InclusionProof:
    """Return the proof that a file holds; it says nothing of whether it proves anything.

    Raises
    ------
    ValueError
        It is not, byte for byte, `format_proof` of what it holds, or its checkpoint is none.
    """
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    head, separator, checkpoint = raw.partition(b"\n\n")
    if not separator or not head.isascii():
        raise ValueError("there is no checkpoint below an empty line")
    first, *lines = head.decode("ascii").split("\n")
    if first != FORMAT:
        raise ValueError(f"it does not begin with {FORMAT}")
    extra = None
    if lines and lines[0].startswith("extra "):
        extra = decode_base64(lines.pop(0).removeprefix("extra "))
    if not lines or not lines[0].startswith("index "):
        raise ValueError("it names no leaf")
    number = lines.pop(0).removeprefix("index ")
    if not number.isdigit() or (number[0] == "0" and number != "0") or len(number) > 19:
        raise ValueError("its index is no number")
    if int(number) > LARGEST_SIZE or len(lines) > MOST_HASHES:
        raise ValueError("it is too large")
    hashes = tuple(decode_base64(line) for line in lines)
    if any(len(one) != HASH_BYTES for one in hashes):
        raise ValueError("one of its lines is no SHA-256 hash")
    parse_checkpoint(parse_note(checkpoint).text)
    return InclusionProof(int(number), hashes, checkpoint, extra)


def verify_proof(proof: InclusionProof, leaf: bytes, vkeys: Iterable[str]) -> Checkpoint | None:
    """Return the checkpoint under which a proof shows a leaf, None where it shows nothing.

    Parameters
    ----------
    proof : InclusionProof
        The proof.
    leaf : bytes
        The leaf itself.
    vkeys : iterable of str
        Keys of logs; one that has the name of the proof's log must have signed its checkpoint.

    Raises
    ------
    ValueError
        The checkpoint, or one of `vkeys`, can't be read.
    """
    note = parse_note(proof.checkpoint)
    checkpoint = parse_checkpoint(note.text)
    # The name is no part of what is signed: a key that signs several logs would vouch for each under the
    # name of another one. And of a witness no log's head comes.
    keys = [key for key in map(parse_vkey, vkeys) if (key.name, key.kind) == (checkpoint.origin, NOTE_KEY)]
    if not verify_note(note, keys):
        return None
    shown = verify_inclusion(leaf_hash(leaf), proof.index, checkpoint.size, proof.hashes, checkpoint.root)
    return checkpoint if shown else None
