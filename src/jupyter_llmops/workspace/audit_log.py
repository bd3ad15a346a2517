"""The logs behind the trail: proofs of single runs."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_llmops.errors import AuditError, CatalogError, TeamKeyError, UsageError
from jupyter_llmops.records.listing import Listing
from jupyter_llmops.workspace.trail import Trail

if TYPE_CHECKING:
    from jupyter_llmops.keys.signing import LogKeys
    from jupyter_llmops.records.run import Run
    from jupyter_llmops.records.trail import Cosignature, Head, Proof, Signer

PROOF_SUFFIX = ".tlog-proof"


class AuditLog(Trail):
    """What a workspace proves."""

    def prove(
        self, reference: object = "", file: str | Path | None = None, *, checker: bool = False
    ) -> Proof:
        """Write a proof that a run is in the trail, which anybody checks without this package.

        Parameters
        ----------
        reference : str, int or Completion
            As in `run`; empty means the last run.
        file : str or Path, optional
            Where it goes, a file or a folder; ``<run>.tlog-proof`` here by default. A proof that is there
            is replaced, any other file is left as it is.
        checker : bool
            Put ``check_proof.py`` beside it, the script that checks it with nothing of ours.

        Raises
        ------
        AuditError
            The run's log is not on this machine, or contradicts itself or the run.
        UsageError
            The file can't be written, or is no file's name.
        """
        from jupyter_llmops.audit.files import journal_path
        from jupyter_llmops.audit.head_links import note_handed_out
        from jupyter_llmops.audit.proving import CHECKER, checker_script, prove
        from jupyter_llmops.audit.sealing import seal
        from jupyter_llmops.audit.tlog.checkpoint import parse_checkpoint
        from jupyter_llmops.audit.tlog.note import parse_note, verify_note
        from jupyter_llmops.audit.tlog.proof import FORMAT, format_proof, parse_proof
        from jupyter_llmops.keys.signing import LogKeys, keys_folder
        from jupyter_llmops.records.trail import Proof

        run = self.run(reference)
        target = _target(file, run)
        script = checker_script() if checker else b""
        keys = LogKeys.load(keys_folder())
        try:
            if "journal" in self.__dict__:
                self.journal.flush()
            # Without its journal what is sealed of it can still be proven.
            if _is_name(run.session) and journal_path(self.audit_folder, run.session).exists():
                seal(self.audit_folder, run.session, keys)
        except OSError as error:
            raise AuditError(
                f"The log of session {run.session} can't be written: {error.strerror}.",
                f"Make {self.audit_folder} writable.",
            ) from None
        published = self._published(run, keys)
        data = prove(
            self.audit_folder,
            run,
            published.vkeys,
            heads=published.heads,
            cosignatures=published.cosignatures,
            witnesses=published.witnesses,
        )
        proof = parse_proof(data)
        note = parse_note(proof.checkpoint)
        size = parse_checkpoint(note.text).size
        vkey = next(key for key in published.vkeys if verify_note(note, [key]))
        _write(target, data, FORMAT.encode())
        if _is_name(run.session):
            note_handed_out(self.audit_folder, run.session, size)
        beside = target.with_name(CHECKER)
        if checker:
            _write(beside, script, script.partition(b"\n")[0])  # also an older or newer one
        return Proof(
            run_id=run.id,
            path=str(target),
            size_bytes=len(format_proof(type(proof)(proof.index, proof.hashes, proof.checkpoint))),
            tree_size=size,
            vkey=vkey,
            witnesses=tuple(one.name for one in note.signatures if one.name != vkey.partition("+")[0]),
            checker=str(beside) if checker else "",
        )

    def signers(self) -> Listing[Signer]:
        """Return the verifier keys of this user, then those of the team, with which proofs are checked.

        Raises
        ------
        AuditError
            An own key can't be read or made.
        """
        from jupyter_llmops.keys.signing import LogKeys, keys_folder, witness_name
        from jupyter_llmops.records.trail import Signer

        keys = LogKeys.load(keys_folder())
        user, host = self.user, self.settings.site
        made_at = datetime.fromtimestamp((keys_folder() / "log.key").stat().st_mtime, UTC)
        own_log, own_witness = keys.log_vkey(user, host), keys.witness_vkey(user, host)
        own = [
            Signer("log", own_log.partition("+")[0], own_log, user, host, made_at),
            Signer("witness", witness_name(user, host), own_witness, user, host, made_at),
        ]
        note = ""
        try:
            team = [one for one in self.catalog.signers.list() if one.vkey not in (own_log, own_witness)]
        except (CatalogError, TeamKeyError) as error:
            team, note = [], f"The team's keys are not here: {error.message}"
        return Listing("signer", [*own, *team], note=note)

    def _published(self, run: Run, keys: LogKeys) -> _Published:
        """Return what the catalog has of a run's log; where it can't be read, the own key alone."""
        from jupyter_llmops.audit.sealing import origin_of
        from jupyter_llmops.keys.signing import public_half, verifier_key

        own = keys.session_vkey(run.session)
        try:
            signers = self.catalog.signers.list()
            heads = self.catalog.heads.of([run.session])
            cosignatures = self.catalog.cosignatures.of([run.session])
        except (CatalogError, TeamKeyError):
            return _Published((own,))
        # A key that was lost and replaced still proves what it signed.
        mine = [
            public_half(one.vkey)
            for one in signers
            if one.kind == "log" and (one.user, one.host) == (run.user, run.host)
        ]
        owned = {
            keys.log_public,
            keys.witness_public,
            *(public_half(one.vkey) for one in signers if (one.user, one.host) == (run.user, run.host)),
        }
        vkeys = dict.fromkeys([own, *(verifier_key(origin_of(run.session), key) for key in mine)])
        # Nobody is a witness of the own log.
        witnesses = [
            one.vkey for one in signers if one.kind == "witness" and public_half(one.vkey) not in owned
        ]
        return _Published(tuple(vkeys), heads, cosignatures, tuple(witnesses))


@dataclass(frozen=True, slots=True)
class _Published:
    vkeys: tuple[str, ...]
    heads: Sequence[Head] = ()
    cosignatures: Sequence[Cosignature] = ()
    witnesses: tuple[str, ...] = ()


def _is_name(session: str) -> bool:
    # A row of the catalog may be planted, and its session any text.
    return bool(session) and Path(session).name == session and session[0] != "."


def _target(file: str | Path | None, run: Run) -> Path:
    if file is not None and not isinstance(file, str | Path):
        raise UsageError(f"{file!r} is not the name of a file.", "Name a file or a folder.")
    name = f"{run.id if run.id.isalnum() else 'run'}{PROOF_SUFFIX}"
    if not file:
        return Path(name)
    target = Path(file).expanduser()
    return target / name if target.is_dir() else target


def _write(target: Path, data: bytes, begins: bytes) -> None:
    """Put a file in place of nothing or of one that begins so, whole or not at all."""
    from jupyter_llmops.audit.tlog.proof import FORMAT

    unfinished = target.with_name(f".{target.name}.{os.getpid()}")
    try:
        if target.exists():
            with target.open("rb") as there:
                if there.read(len(begins)) != begins:
                    what = "proof" if begins == FORMAT.encode() else "checker of proofs"
                    raise UsageError(
                        f"{target} is there, is no {what}, and was left as it is.",
                        "Name another file or folder: %audit prove RUN -o FILE",
                    )
        unfinished.write_bytes(data)
        unfinished.replace(target)
    except OSError as error:
        unfinished.unlink(missing_ok=True)
        raise UsageError(
            f"{target} can't be written: {error.strerror}.", "Name another file: %audit prove RUN -o FILE"
        ) from None
