"""What a pruned log keeps of its smaller heads: how each leads to the one that is left.

::

    audit/log/<session>/heads    a line for each head that was published: size, root and the consistency proof
                                 from the line above (RFC 6962, section 2.1.2), hashes in base64
    audit/log/<session>/handed   sizes of the heads that a proof or a verification has signed: somebody may keep
                                 one that was never published, and it is linked as those are; goes with the tiles

So a checkpoint that somebody kept, or a witness signed, is still held against the log when its tiles are gone.
Nothing is believed for standing here: the proofs lead to the head that the retention's record names.
"""

from __future__ import annotations

import base64
import contextlib
import os
from collections.abc import Iterable
from itertools import pairwise
from pathlib import Path
from typing import Final

from jupyter_llmops.audit.files import journal_path
from jupyter_llmops.audit.sealing import log_folder, sealing
from jupyter_llmops.audit.tlog.merkle import consistency_proof, verify_consistency
from jupyter_llmops.audit.tlog.note import decode_base64
from jupyter_llmops.audit.tlog.tiles import TileStore
from jupyter_llmops.errors import AuditError

HEADS_FILE: Final = "heads"
HANDED_FILE: Final = "handed"
_MOST_BYTES = 1_000_000


def note_handed_out(folder: Path, session: str, size: int) -> None:
    """Note that a head of a log was given to somebody, so that a retention links it; no disk is an obstacle.

    Parameters
    ----------
    folder : Path
        The audit folder.
    session : str
        Name of the session.
    size : int
        Of the head.
    """
    path = log_folder(folder, session) / HANDED_FILE
    with contextlib.suppress(AuditError, OSError), sealing(Path(folder)):
        # Nothing is added to what a retention has left, which takes the same lock.
        if size not in _handed_out(path) and journal_path(Path(folder), session).exists():
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            try:
                os.write(descriptor, b"%d\n" % size)
            finally:
                os.close(descriptor)


def _handed_out(path: Path) -> set[int]:
    try:
        with path.open("rb") as file:
            lines = file.read(_MOST_BYTES).splitlines()
    except OSError:
        return set()
    return {int(line) for line in lines if line.isdigit() and len(line) < 19}


def keep_links(folder: Path, session: str, sizes: Iterable[int]) -> None:
    """Write down how heads of a log lead to its last one, while its tiles are there.

    Parameters
    ----------
    folder : Path
        The audit folder.
    session : str
        Name of the session.
    sizes : iterable of int
        Sizes of the published heads; what is larger than the log is passed over.

    Raises
    ------
    AuditError
        The log is damaged.
    OSError
        It can't be written.
    """
    store = TileStore(log_folder(folder, session))
    last = store.size()
    before, lines = 0, []
    for size in sorted({last, *sizes, *_handed_out(store.folder / HANDED_FILE)}):
        if 0 < size <= last:
            hashes = (store.root(size), *consistency_proof(before, size, store.hash_at))
            lines.append(" ".join([str(size), *(base64.b64encode(one).decode() for one in hashes)]) + "\n")
            before = size
    path = store.folder / HEADS_FILE
    unfinished = path.with_name(f".{path.name}.{os.urandom(4).hex()}")
    try:
        descriptor = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
        with os.fdopen(descriptor, "w", encoding="ascii") as file:
            file.write("".join(lines))
            file.flush()
            os.fsync(file.fileno())
        unfinished.replace(path)
    finally:
        unfinished.unlink(missing_ok=True)


def linked_heads(folder: Path, session: str, size: int, root: bytes) -> dict[int, bytes]:
    """Return the root of every smaller head that leads to the one that is left, by size; see `kept_links`."""
    return {number: found for number, found, _ in kept_links(folder, session, size, root)[:-1]}


def kept_links(folder: Path, session: str, size: int, root: bytes) -> list[tuple[int, bytes, list[bytes]]]:
    """Return the heads that lead to the one that is left, and that one: size, root, proof from the one before.

    Parameters
    ----------
    folder, session
        As for `keep_links`.
    size : int
        How many leaves the head that is left covers.
    root : bytes
        Its root.

    Raises
    ------
    ValueError
        Not all of what stands there leads to that head.
    OSError
        It can't be read.
    """
    text = (log_folder(folder, session) / HEADS_FILE).read_text("ascii")
    lines: list[tuple[int, bytes, list[bytes]]] = []
    for line in text.splitlines():
        number, *hashes = line.split(" ")
        found, *proof = [decode_base64(one) for one in hashes] or [b""]
        lines.append((int(number[:20]), found, proof))
    if not lines or lines[-1][:2] != (size, root) or lines[0][0] < 1 or lines[0][2]:
        raise ValueError("it does not end with the head that is left")
    for (old, before, _), (new, after, proof) in pairwise(lines):
        if old >= new or not verify_consistency(old, new, before, after, proof):
            raise ValueError(f"its head of {new} records does not continue the one of {old}")
    return lines
