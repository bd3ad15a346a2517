"""Checkpoints: what a log signs of its tree, as the text of a note (c2sp.org/tlog-checkpoint)."""

from __future__ import annotations

import base64
from dataclasses import dataclass

from jupyter_llmops.audit.tlog.merkle import HASH_BYTES
from jupyter_llmops.audit.tlog.note import decode_base64

LARGEST_SIZE = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """The head of a log.

    Parameters
    ----------
    origin : str
        Which log.
    size : int
        How many leaves it has.
    root : bytes
        RFC 6962 root over them, 32 bytes.
    extensions : tuple of str
        Further lines; this package writes none.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The text that is signed: origin, size, root and extensions, a line each."""
        lines = (self.origin, str(self.size), base64.b64encode(self.root).decode(), *self.extensions)
        return "".join(f"{line}\n" for line in lines)


def parse_checkpoint(note_text: str) -> Checkpoint:
    """Return the checkpoint that the text of a note holds; it says nothing of signatures.

    Raises
    ------
    ValueError
        It is not, byte for byte, `Checkpoint.text` of what it holds.
    """
    lines = note_text.split("\n")
    if lines.pop() or len(lines) < 3 or not all(lines):
        raise ValueError("a checkpoint has three lines or more and none that is empty")
    origin, size, root, *extensions = lines
    if not (size.isascii() and size.isdigit()) or (size[0] == "0" and size != "0") or len(size) > 19:
        raise ValueError("its size is no number of leaves")
    if int(size) > LARGEST_SIZE:
        raise ValueError("its size is too large")
    hash_ = decode_base64(root)
    if len(hash_) != HASH_BYTES:
        raise ValueError("its root is no SHA-256 hash")
    return Checkpoint(origin, int(size), hash_, tuple(extensions))
