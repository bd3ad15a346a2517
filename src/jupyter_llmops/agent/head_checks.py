"""Whose heads a catalog's rows are: a row counts when its checkpoint is signed and says the same."""

from __future__ import annotations

import base64
from collections.abc import Iterable
from datetime import UTC, datetime

from jupyter_llmops.audit.sealing import origin_of
from jupyter_llmops.audit.tlog.checkpoint import Checkpoint, parse_checkpoint
from jupyter_llmops.audit.tlog.note import parse_note, verify_note
from jupyter_llmops.catalog import Catalog
from jupyter_llmops.keys.signing import LogKeys, verifier_key
from jupyter_llmops.records.trail import Head, Signer


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
        says = (checkpoint.origin, checkpoint.size, encoded(checkpoint.root))
        if says != (origin, head.size, head.root) or not head.size:
            return None
        for public in public_keys:
            if verify_note(note, [verifier_key(origin, public)]):
                return checkpoint, public
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
