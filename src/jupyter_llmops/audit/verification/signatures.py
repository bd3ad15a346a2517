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
from jupyter_llmops.keys.signing import may_sign, witness_name
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
    former : tuple of bytes
        Public keys of this home's logs from before its key was replaced.
    unreadable : bool
        The key of this home's logs can't be read, and it is not known here which one it is.
    """

    user: str = ""
    host: str = ""
    own: tuple[bytes, ...] = ()
    signers: tuple[Signer, ...] = ()
    former: tuple[bytes, ...] = ()
    unreadable: bool = False
    _known: dict[str, tuple[VerifierKey, ...]] = field(default_factory=dict, compare=False, repr=False)

    @cached_property
    def log_keys(self) -> tuple[bytes, ...]:
        """The public keys that may have signed these logs, the user's own first."""
        named = [
            key.public for signer, key in self._parsed
            if signer.kind == "log" and (signer.user, signer.host) == (self.user, self.host)
        ]  # fmt: skip
        return tuple(dict.fromkeys([*self.own, *self.former, *named]))

    @cached_property
    def witnesses(self) -> dict[str, tuple[VerifierKey, str]]:
        """Every witness that counts, by its key's name and id: the key, and who has it.

        Whoever has the team's key can name any key as anybody's. So a key counts by the names of others
        that its own name agrees with, once however many it has; that it is named as this user's, too, takes
        nothing from it, as else a colleague could silence a witness. This home's own keys never count.
        """
        found: dict[str, tuple[VerifierKey, str]] = {}
        for key, _ in self._others:
            who = " or ".join(self._names_of(key.public))
            found[f"{key.name} {key.key_id.hex()}"] = (key, who)
        return found

    @cached_property
    def disputed(self) -> dict[str, str]:
        """Witnesses whose key is named as several people's, by how they are called: a sentence each."""
        found: dict[str, str] = {}
        for key, _ in self._others:
            names = self._names_of(key.public)
            own = any(
                one.public == key.public and (signer.user, signer.host) == (self.user, self.host)
                for signer, one in self._parsed
            )
            everybody = [*names, *([f"{self.user}@{self.host}"] if own else [])]
            if len(everybody) > 1:
                found[" or ".join(names)] = (
                    f"one witness key is named as that of {' and '.join(everybody)}: whose it is can't be proven, "
                    "as anybody who has the team's key can name it"
                )
        return found

    @cached_property
    def _others(self) -> list[tuple[VerifierKey, str]]:
        """The keys that others may witness with, under the names that agree with their owners."""
        return [
            (key, f"{signer.user}@{signer.host}")
            for signer, key in self._parsed
            if signer.kind == "witness" and key.kind == COSIGNATURE_KEY and key.public not in self.own
            and (signer.user, signer.host) != (self.user, self.host)
            and key.name == witness_name(signer.user, signer.host)
        ]  # fmt: skip

    def _names_of(self, public: bytes) -> list[str]:
        return sorted({who for key, who in self._others if key.public == public})

    def says_own(self, session: str, signed: str) -> bool:
        """Return whether a note or its lines say to be signed by a key that is this home's, or was; it is not verified.

        Parameters
        ----------
        session : str
            Whose log it is of.
        signed : str
            The note, or its signature lines.
        """
        mine = {*self.own, *self.former}
        if not mine:
            return False
        own = [key for key in self.of(session) if key.public in mine]
        for line in signed.split("\n"):
            try:
                signature = parse_signature(line)
            except ValueError:
                continue
            if any(key.made(signature) for key in own):
                return True
        return False

    @cached_property
    def _parsed(self) -> list[tuple[Signer, VerifierKey]]:
        found = []
        for signer in self.signers:
            try:
                found.append((signer, parse_vkey(signer.vkey)))
            except ValueError:
                continue
        return found

    def judges(self, session: str, notes: Iterable[bytes | str]) -> bool:
        """Return whether a key that is known here can be the one of a log; else nobody knows if it is signed.

        Parameters
        ----------
        session : str
            Whose log.
        notes : iterable of bytes or str
            What there is of it that may be signed.
        """
        keys = self.of(session)
        if not self.unreadable or (keys and not may_sign(session, b"")):
            return True  # the name of the session says that it is this one
        return any(is_signed(note, keys) for note in notes)

    def of(self, session: str) -> tuple[VerifierKey, ...]:
        """Return the keys that may have signed a session's log, under the name of that log."""
        if session not in self._known:
            name = ORIGIN_PREFIX + session
            try:
                self._known[session] = tuple(
                    parse_vkey(vkey(name, public)) for public in self.log_keys if may_sign(session, public)
                )
            except ValueError:  # no log can have this name: it is a planted row's
                self._known[session] = ()
        return self._known[session]


def is_signed(note: bytes | str, keys: Sequence[VerifierKey]) -> bool:
    """Return whether one of some keys has signed a note."""
    try:
        return bool(verify_note(parse_note(note), keys))
    except ValueError:
        return False


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
    signature = parse_signature(line.rpartition("\n")[2])  # the log's own line may stand before it
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
