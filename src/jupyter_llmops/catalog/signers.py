"""Whose keys sign heads: public keys that somebody of the team has named.

The seal of a row is made with the team's key, which never lies in the catalog. So whoever can write to the
shared folder, but is not of the team, can take keys away here and name none. Within the team it proves
nothing: a colleague can name any key as anybody's, and the first one that was seen counts.
"""

from __future__ import annotations

import builtins
import hashlib
import hmac
import json
from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC
from typing import Any, Final

from jupyter_llmops.catalog.changes import SEPARATOR
from jupyter_llmops.catalog.schemas import SIGNERS, rows_of, understood
from jupyter_llmops.catalog.table import CatalogTable
from jupyter_llmops.keys.signing import public_half
from jupyter_llmops.keys.team import TeamKey, team_key
from jupyter_llmops.records.trail import Signer

_COLUMNS = ("kind", "name", "vkey", "user", "host", "seal", "created_at")
_PERSON: Final = b"llmops-signer/1"


class Signers(CatalogTable):
    """The keys of a team that sign heads."""

    def name(self, signers: Sequence[Signer]) -> int:
        """Add keys, sealed by the team's key; those that are here already are left out.

        Parameters
        ----------
        signers : sequence of Signer
            Without seals.

        Returns
        -------
        int
            How many were added.

        Raises
        ------
        TeamKeyError
            The team's key can't be read.
        CatalogError
            They can't be written.
        """
        key = self._team_key()
        # By what they say and not by the table's key alone: a row of the same key may be planted.
        known = {_said(signer) for signer in self._sealed(key)}
        missing = [signer for signer in signers if _said(signer) not in known]
        if not missing:
            return 0
        self._migrations.prepare_write()
        rows = []
        for signer in missing:
            sealed = replace(signer, seal=seal_of(signer, key))
            row = {name: getattr(sealed, name) for name in _COLUMNS}
            rows.append(row | {"key": SEPARATOR.join((sealed.vkey, sealed.seal)), "site": self._site})
        return self._connection.insert_absent(SIGNERS, rows)

    def list(self) -> list[Signer]:
        """Return the keys that somebody of the team has named, oldest first.

        Raises
        ------
        TeamKeyError
            The team's key can't be read.
        CatalogError
            The catalog can't be read.
        """
        return self._sealed(self._team_key())

    def _team_key(self) -> TeamKey:
        return team_key(str(self._connection.location))

    def _sealed(self, key: TeamKey) -> builtins.list[Signer]:
        rows = rows_of(self._connection.read(SIGNERS, _COLUMNS))
        found = [
            signer
            for signer in understood(rows, _signer)
            if public_half(signer.vkey) and hmac.compare_digest(signer.seal, seal_of(signer, key))
        ]
        return sorted(found, key=lambda signer: (signer.created_at, signer.vkey))


def seal_of(signer: Signer, key: TeamKey) -> str:
    """Return the keyed BLAKE2b of what a signer's row says, 64 hexadecimal digits."""
    moment = signer.created_at.astimezone(UTC).isoformat(timespec="microseconds")
    said = json.dumps([*_said(signer), moment]).encode()
    return hashlib.blake2b(said, key=key.secret, person=_PERSON, digest_size=32).hexdigest()


def _said(signer: Signer) -> tuple[str, ...]:
    return (signer.kind, signer.name, signer.vkey, signer.user, signer.host)


def _signer(row: Mapping[str, Any]) -> Signer:
    kind = row["kind"]
    if kind not in ("log", "witness"):
        raise ValueError("no kind of signer")
    texts = {name: row[name] or "" for name in ("name", "vkey", "user", "host", "seal")}
    if not texts["seal"].isascii() or row["created_at"] is None:
        raise ValueError("no seal")
    return Signer(kind=kind, created_at=row["created_at"], **texts)
