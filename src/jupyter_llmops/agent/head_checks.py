"""Whose heads a catalog's rows are: a row counts when its checkpoint is signed and says the same."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from datetime import UTC, datetime

from jupyter_llmops.audit.sealing import origin_of
from jupyter_llmops.audit.tlog.checkpoint import Checkpoint, parse_checkpoint
from jupyter_llmops.audit.tlog.cosignature import verify_cosignature
from jupyter_llmops.audit.tlog.note import parse_note, parse_vkey, verify_note
from jupyter_llmops.catalog import Catalog
from jupyter_llmops.keys.signing import COSIGNATURE, LogKeys, verifier_key
from jupyter_llmops.records.trail import Cosignature, Head, Signer


def signed_by(head: Head, public_keys: Iterable[bytes]) -> tuple[Checkpoint, bytes] | None:
    """Return a head's checkpoint and which of some keys signed it, None where none did.

    Parameters
    ----------
    head : Head
        A row of the catalog.
    public_keys : iterable of bytes
        32 bytes each.
    """
    origin = origin_of(head.session)
    try:
        note = parse_note(head.checkpoint)
        checkpoint = parse_checkpoint(note.text)
        if note.text != f"{origin}\n{head.size}\n{head.root}\n" or not head.size:
            return None
        for public in public_keys:
            if verify_note(note, [verifier_key(origin, public)]):
                return checkpoint, public
    except ValueError:
        pass
    return None


def log_line(head: Head, public: bytes) -> str:
    """Return the signature line that a key has below a head's checkpoint; `signed_by` says which key has."""
    key = parse_vkey(verifier_key(origin_of(head.session), public))
    note = parse_note(head.checkpoint)
    return next(one.line for one in note.signatures if key.verifies(note.text, one))


def cosigned_by(row: Cosignature, public: bytes) -> Checkpoint | None:
    """Return the checkpoint that a witness's key signed by a row of the catalog, None where it did not.

    Parameters
    ----------
    row : Cosignature
        A row of the catalog.
    public : bytes
        The witness's key, 32 bytes, under whatever name.
    """
    try:
        note = parse_note(f"{origin_of(row.session)}\n{row.size}\n{row.root}\n\n{row.line}\n")
        for one in note.signatures:
            if verify_cosignature(note.text, one, verifier_key(one.name, public, COSIGNATURE)) is not None:
                return parse_checkpoint(note.text)
    except ValueError:
        pass
    return None


def name_signers(catalog: Catalog, keys: LogKeys) -> int:
    """Name this user's two keys to the team; return how many were not named yet.

    Raises
    ------
    TeamKeyError
        The team's key can't be read.
    CatalogError
        The catalog can't be written.
    """
    user, host, now = catalog.user, catalog.site, datetime.now(UTC)
    log, witness = keys.log_vkey(user, host), keys.witness_vkey(user, host)
    return catalog.signers.name(
        [
            Signer("log", log.partition("+")[0], log, user, host, now),
            Signer("witness", witness.partition("+")[0], witness, user, host, now),
        ]
    )


def encoded(data: bytes) -> str:
    """Return bytes as base64."""
    return base64.b64encode(data).decode()
