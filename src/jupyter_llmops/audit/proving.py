"""Proving a run to somebody who has nothing of ours: its leaf, the way to a signed head, and who witnessed that.

The proof is a text of c2sp.org/tlog-proof@v1, whose ``extra`` is the leaf itself. With the log's verifier key
anybody can check it: hash the leaf, follow the hashes up to the root of the checkpoint, check the signatures.
"""

from __future__ import annotations

import base64
from collections.abc import Iterable, Sequence
from dataclasses import replace
from hashlib import sha256
from pathlib import Path

from jupyter_llmops.audit.sealing import log_folder, origin_of
from jupyter_llmops.audit.tlog.checkpoint import parse_checkpoint
from jupyter_llmops.audit.tlog.merkle import inclusion_proof, leaf_hash, verify_inclusion
from jupyter_llmops.audit.tlog.note import (
    Note,
    Signature,
    VerifierKey,
    format_note,
    parse_note,
    parse_vkey,
    verify_note,
)
from jupyter_llmops.audit.tlog.proof import InclusionProof, format_proof
from jupyter_llmops.audit.tlog.tiles import TileStore
from jupyter_llmops.errors import AuditError
from jupyter_llmops.records.run import Run
from jupyter_llmops.records.trail import Cosignature, Head

CHECKER = "check_proof.py"
MOST_WITNESSES = 3
GOOD_BYTES = 1024
"""So large a proof may be without its leaf before further witnesses are left out."""
_MOST_HEADS = 32
_HINT = "Type: %audit verify"


def prove(
    folder: Path,
    run: Run,
    vkeys: Iterable[str],
    *,
    heads: Sequence[Head] = (),
    cosignatures: Sequence[Cosignature] = (),
    witnesses: Iterable[str] = (),
) -> bytes:
    """Return the proof that a run is in its session's log, under the head that most witnesses have signed.

    Parameters
    ----------
    folder : Path
        The audit folder.
    run : Run
        The run; its log must lie here and be sealed up to it.
    vkeys : iterable of str
        Verifier keys of the log.
    heads, cosignatures : sequence of Head and of Cosignature
        What the catalog has of this log; nothing of it is believed that is not signed.
    witnesses : iterable of str
        Verifier keys of the witnesses that count.

    Raises
    ------
    AuditError
        The log is not here or lacks the run, or its leaf is another than the run's.
    """
    store, own = _log_of(folder, run)
    leaf = _leaf(store, run)
    keys = [parse_vkey(key) for key in vkeys]
    known = [parse_vkey(key) for key in witnesses]
    best: tuple[int, bytes] | None = None
    for note in [*_witnessed_first(run, heads, cosignatures), own]:
        proof = _under(note, store, run, leaf, keys)
        if proof is None:
            continue
        signatures = _cosigned(note, cosignatures, known)
        if best is None or len(signatures) > best[0]:
            best = (
                len(signatures),
                _written(InclusionProof(run.seq, proof, b"", leaf), note, keys, signatures),
            )
        if best[0] >= min(len(known), MOST_WITNESSES):
            break
    if best is None:
        raise AuditError(
            f"Run {run.id} is under no head of session {run.session} that its own key has signed.", _HINT
        )
    return best[1]


def checker_script() -> bytes:
    """Return the script that checks proofs and imports nothing of this package."""
    return Path(__file__).with_name(CHECKER).read_bytes()


def _written(
    proof: InclusionProof, note: Note, keys: Sequence[VerifierKey], cosigned: Sequence[Signature]
) -> bytes:
    """Return the text of a proof, with as many cosignatures as fit a kilobyte, one at least."""
    own = [one for one in note.signatures if any(key.made(one) for key in keys)]
    for count in range(len(cosigned), -1, -1):
        signed = format_note(Note(note.text, (*own, *cosigned[:count])))
        if count <= 1 or len(format_proof(replace(proof, checkpoint=signed, extra=None))) <= GOOD_BYTES:
            break
    return format_proof(replace(proof, checkpoint=signed))


def _log_of(folder: Path, run: Run) -> tuple[TileStore, Note]:
    """Return a run's log and what it has signed last."""
    session = run.session
    # A row of the catalog may be planted, and its session name any text.
    data = None
    if session and Path(session).name == session and session[0] != ".":
        store = TileStore(log_folder(folder, session))
        data = store.read_checkpoint()
    if data is None:
        raise AuditError(
            f"The log that holds run {run.id} is not on this machine.",
            f"Only {run.user or 'who ran it'} can prove it, on {run.host or 'the machine where it ran'}.",
        )
    try:
        note = parse_note(data)
        checkpoint = parse_checkpoint(note.text)
    except ValueError as error:
        raise AuditError(f"The checkpoint of session {session} can't be read: {error}.", _HINT) from None
    if not (store.folder / "tile").is_dir():
        raise AuditError(
            f"Session {session} was pruned: only its signed head is left.",
            "A proof that was made before still holds.",
        )
    if not 0 <= run.seq < checkpoint.size:
        raise AuditError(
            f"Run {run.id} is not under a signed head yet: {checkpoint.size:,} records of its session are.",
            "Try it again in a few seconds.",
        )
    return store, note


def _leaf(store: TileStore, run: Run) -> bytes:
    (leaf,) = store.entries(run.seq, run.seq + 1)
    if f"sha256:{sha256(leaf).hexdigest()}" != run.leaf_digest:
        raise AuditError(
            f"Record {run.seq} in the log of session {run.session} is not the one that run {run.id} has.",
            _HINT,
        )
    return leaf


def _witnessed_first(run: Run, heads: Sequence[Head], cosignatures: Sequence[Cosignature]) -> list[Note]:
    """Return the newest published heads that cover a run and that somebody seems to have cosigned."""
    cosigned = {(one.size, one.root) for one in cosignatures if one.session == run.session}
    fitting = [
        head
        for head in heads
        if head.session == run.session and head.size > run.seq and (head.size, head.root) in cosigned
    ]
    notes = []
    for head in sorted(fitting, key=lambda head: head.size, reverse=True)[:_MOST_HEADS]:
        try:
            notes.append(parse_note(head.checkpoint))
        except ValueError:
            continue
    return notes


def _under(
    note: Note, store: TileStore, run: Run, leaf: bytes, keys: Sequence[VerifierKey]
) -> tuple[bytes, ...] | None:
    """Return the proof of a leaf under a head, None where the head is not signed or not one of this log."""
    try:
        checkpoint = parse_checkpoint(note.text)
    except ValueError:
        return None
    if checkpoint.origin != origin_of(run.session) or not verify_note(note, keys):
        return None
    if checkpoint.size <= run.seq:
        return None
    try:
        proof = inclusion_proof(run.seq, checkpoint.size, store.hash_at)
    except AuditError:
        return None  # it says to have more leaves than the log, or the log is damaged
    shown = verify_inclusion(leaf_hash(leaf), run.seq, checkpoint.size, proof, checkpoint.root)
    return proof if shown else None


def _cosigned(
    note: Note, cosignatures: Sequence[Cosignature], witnesses: Sequence[VerifierKey]
) -> list[Signature]:
    """Return the cosignatures of a head that verify, one for each witness."""
    checkpoint = parse_checkpoint(note.text)
    size, root = checkpoint.size, base64.b64encode(checkpoint.root).decode()
    found: dict[bytes, Signature] = {}
    for row in cosignatures:
        if (row.size, row.root) != (size, root):
            continue
        try:
            signatures = parse_note(f"{note.text}\n{row.line}\n").signatures
        except ValueError:
            continue
        for key in witnesses:
            for signature in signatures:
                if key.public not in found and key.verifies(note.text, signature):
                    found[key.public] = signature
    return list(found.values())[:MOST_WITNESSES]
