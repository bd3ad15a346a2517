"""Whose signatures count: of a log its owner's keys, of a witness any sealed key that is not the owner's."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from jupyter_llmops.audit.tlog.checkpoint import Checkpoint, parse_checkpoint
from jupyter_llmops.audit.tlog.cosignature import verify_cosignature
from jupyter_llmops.audit.tlog.note import (
    COSIGNATURE_KEY,
    VerifierKey,
    parse_note,
    parse_signature,
    parse_vkey,
    verify_note,
    vkey,
)
from jupyter_llmops.records.trail import Signer

ORIGIN_PREFIX = "jupyter-llmops/"


@dataclass(frozen=True)
class TrustedKeys:
    """The keys by which the logs of one user on one host are checked.

    Parameters
    ----------
    user, host : str
        Whose logs.
    own : tuple of bytes
        The user's own public keys, of logs and as a witness, 32 bytes each.
    signers : tuple of Signer
        Those that somebody of the team has named; seals are checked before.
    """

    user: str = ""
    host: str = ""
    own: tuple[bytes, ...] = ()
    signers: tuple[Signer, ...] = ()
    _known: dict[str, tuple[VerifierKey, ...]] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def log_keys(self) -> tuple[bytes, ...]:
        """The public keys that may have signed these logs, the user's own first."""
        named = [
            key.public for signer, key in self._parsed
            if signer.kind == "log" and (signer.user, signer.host) == (self.user, self.host)
        ]  # fmt: skip
        return tuple(dict.fromkeys([*self.own, *named]))

    @cached_property
    def witnesses(self) -> dict[str, tuple[VerifierKey, str]]:
        """Every witness that counts, by its key's name and id: the key, and who has it."""
        owned = {
            key.public for signer, key in self._parsed if (signer.user, signer.host) == (self.user, self.host)
        } | set(self.own)
        return {
            f"{key.name} {key.key_id.hex()}": (key, f"{signer.user}@{signer.host}")
            for signer, key in self._parsed
            if signer.kind == "witness" and key.kind == COSIGNATURE_KEY and key.public not in owned
        }

    @cached_property
    def _parsed(self) -> list[tuple[Signer, VerifierKey]]:
        found = []
        for signer in self.signers:
            try:
                found.append((signer, parse_vkey(signer.vkey)))
            except ValueError:
                continue
        return found

    def of(self, session: str) -> tuple[VerifierKey, ...]:
        """Return the keys that may have signed a session's log, under the name of that log."""
        if session not in self._known:
            name = ORIGIN_PREFIX + session
            try:
                self._known[session] = tuple(parse_vkey(vkey(name, public)) for public in self.log_keys)
            except ValueError:  # no log can have this name: it is a planted row's
                self._known[session] = ()
        return self._known[session]


def read_signed(data: bytes | str, session: str, trusted: TrustedKeys) -> Checkpoint:
    """Return the checkpoint in a note that a session's log has signed.

    Raises
    ------
    ValueError
        It is no checkpoint, one of another log, or not signed by a key of this log.
    """
    note = parse_note(data)
    checkpoint = parse_checkpoint(note.text)
    if checkpoint.origin != ORIGIN_PREFIX + session:
        raise ValueError(f"it is one of {checkpoint.origin}")
    if not verify_note(note, trusted.of(session)):
        raise ValueError("it is not signed by the key of this log")
    return checkpoint


def session_of(data: bytes) -> str:
    """Return which session's log a checkpoint is of.

    Raises
    ------
    ValueError
        It is no checkpoint of this package's logs.
    """
    origin = parse_checkpoint(parse_note(data).text).origin
    if not origin.startswith(ORIGIN_PREFIX) or not origin.removeprefix(ORIGIN_PREFIX):
        raise ValueError(f"it is one of {origin}")
    return origin.removeprefix(ORIGIN_PREFIX)


def witness_of(checkpoint_text: str, line: str, trusted: TrustedKeys) -> str | None:
    """Return who witnessed a checkpoint by a signature line, None where it is nobody who counts.

    Raises
    ------
    ValueError
        The line says to be of a witness that counts, and is not.
    """
    signature = parse_signature(line)
    found = trusted.witnesses.get(f"{signature.name} {signature.key_id.hex()}")
    if found is None:
        return None
    key, who = found
    if verify_cosignature(checkpoint_text, signature, key) is None:
        raise ValueError("its signature is false")
    return who


def witnesses_in(data: bytes, trusted: TrustedKeys) -> list[str]:
    """Return who witnessed the checkpoint in a note; signatures that are false count for nothing."""
    note = parse_note(data)
    found: list[str] = []
    for signature in note.signatures:
        try:
            who = witness_of(note.text, signature.line, trusted)
        except ValueError:
            continue
        if who is not None:
            found.append(who)
    return found


def trusted_keys(user: str, host: str, own: Iterable[bytes], signers: Sequence[Signer]) -> TrustedKeys:
    """Return the keys by which the logs of one user on one host are checked."""
    return TrustedKeys(user, host, tuple(own), tuple(signers))
