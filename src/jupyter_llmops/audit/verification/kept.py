"""Checkpoints that somebody kept: `%audit verify --against FILE`."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from jupyter_llmops.audit.tlog.proof import FORMAT, parse_proof
from jupyter_llmops.audit.verification.findings import Findings
from jupyter_llmops.audit.verification.heads import Claims
from jupyter_llmops.audit.verification.signatures import TrustedKeys, read_signed, session_of, witnesses_in
from jupyter_llmops.errors import AuditError

_LARGEST = 1_000_000


@dataclass(frozen=True, slots=True)
class KeptCheckpoint:
    """A checkpoint as somebody kept it.

    Parameters
    ----------
    session : str
        The session whose log it says to be of.
    data : bytes
        The signed note.
    name : str
        What to call it, e.g. its file's name.
    """

    session: str
    data: bytes
    name: str


def read_kept(path: Path) -> KeptCheckpoint:
    """Return the checkpoint in a file, which may be a proof of a run, too.

    Raises
    ------
    AuditError
        The file can't be read or holds no checkpoint of a session's log.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(_LARGEST + 1)
    except OSError as error:
        raise AuditError(
            f"{path} can't be read: {error.strerror}.", "Name the file in which the checkpoint was kept."
        ) from None
    try:
        if data.startswith(FORMAT.encode()):
            data = parse_proof(data).checkpoint
        return KeptCheckpoint(session_of(data), data, Path(path).name)
    except ValueError as error:
        raise AuditError(
            f"{path} is neither a checkpoint nor a proof: {error}.",
            "A checkpoint is the file of that name in the log's folder, audit/log/<session>/checkpoint.",
        ) from None


def take_kept(kept: KeptCheckpoint, trusted: TrustedKeys, claims: Claims, findings: Findings) -> None:
    """Hold the log to a checkpoint that its key has signed; who witnessed it counts, too."""
    try:
        checkpoint = read_signed(kept.data, kept.session, trusted)
    except ValueError as error:
        findings.problem(kept.session, None, "", f"the kept checkpoint {kept.name} proves nothing: {error}")
        return
    witnesses = witnesses_in(kept.data, trusted)
    if not witnesses and checkpoint.size not in claims.roots:
        claims.only_kept.add(checkpoint.size)
    claims.add(checkpoint.size, checkpoint.root, f"the kept checkpoint {kept.name}")
    for name in witnesses:
        claims.add_witness(name, checkpoint.size)
    findings.notes.append(f"held against {kept.name}: session {kept.session}, {checkpoint.size} records")
