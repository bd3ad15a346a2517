"""Verifying the trail: what a workspace knows of its own logs, its catalog and its team goes into the check."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_llmops.errors import AuditError, CatalogError, TeamKeyError, UsageError
from jupyter_llmops.workspace.trail import Trail

if TYPE_CHECKING:
    from jupyter_llmops.audit.verification import TrustedKeys
    from jupyter_llmops.keys.signing import LogKeys
    from jupyter_llmops.records.run import Problem, Verification


class Verifying(Trail):
    """What a workspace says of whether its trail is whole."""

    def verify(self, against: str | Path | None = None) -> Verification:
        """Check every log of this user against itself, its contents, the catalog, its heads and witnesses.

        Parameters
        ----------
        against : str or Path, optional
            A checkpoint, or a proof of a run, that somebody kept: the log must still hold all that it covers.

        Raises
        ------
        AuditError
            `against` can't be read or is neither.
        UsageError
            `against` is no path.
        """
        from jupyter_llmops.audit.verification import UNWITNESSED, TrustedKeys, read_kept, verify
        from jupyter_llmops.audit.witnessed import refusals
        from jupyter_llmops.keys.signing import LogKeys, keys_folder, public_keys
        from jupyter_llmops.records.run import Problem

        wrong: list[Problem] = []
        found: dict[str, Any] = {"against": (read_kept(_path_of(against)),) if against else ()}
        notes: list[str] = []
        mended = self._compare_rows(found, notes)
        trusted = TrustedKeys(self.user, self.settings.site)
        try:
            keys = LogKeys.load(keys_folder())
            trusted = replace(trusted, own=(keys.log_public, keys.witness_public))
            notes += self._seal(keys)
        except AuditError as error:
            if (problem := self._unsigned()) is not None:
                wrong.append(problem)
            else:
                notes.append(f"the logs could not be sealed: {error}")
            known = public_keys(keys_folder())
            trusted = replace(trusted, own=tuple(filter(None, known)), unreadable=not known[0])
        trusted = replace(trusted, former=_former_keys(notes))
        if "published" in found:
            trusted = self._read_signed(found, trusted, notes)
        result = verify(self.audit_folder, trusted=trusted, **found)
        try:
            refused = refusals(self.audit_folder)
        except AuditError as error:
            refused = (Problem("", None, "", error.message),)
        found_wrong = [one for one in result.problems if not self._waits(one)]
        if self.settings.audit and (waiting := self.journal.waiting):
            notes.append(
                f"session {self.journal.session}: {waiting:,} {'record waits' if waiting == 1 else 'records wait'} "
                "in memory for the disk, and not checked"
            )
        problems = (*wrong, *found_wrong, *mended, *refused)
        # What is a problem here only is not known where that is said.
        said = [note for note in result.notes if not (problems and note == UNWITNESSED)]
        return replace(result, problems=problems, notes=(*said, *notes))

    def _waits(self, problem: Problem) -> bool:
        """Return whether a problem is of a record of this session whose line waits, while its content is there."""
        if not self.settings.audit or problem.session != self.journal.session or problem.seq is None:
            return False
        return self.journal.stamped - self.journal.waiting <= problem.seq < self.journal.stamped

    def _compare_rows(self, found: dict[str, Any], notes: list[str]) -> tuple[Problem, ...]:
        """Compare the catalog's rows with the journals, put right what can be, and carry what is new."""
        from jupyter_llmops.agent.carried import CarriedMemory
        from jupyter_llmops.agent.election import agent_file
        from jupyter_llmops.agent.row_checks import RowCheck

        if self.settings.audit:
            self.journal.flush()
        memory = CarriedMemory(agent_file(self.audit_folder, self.catalog.location, "carried"))
        carried = memory.read()
        notes += [f"mended by the agent on {one}" for one in memory.mended()]
        rows = RowCheck(self.audit_folder, self.catalog)
        try:
            rows.read(carried)  # before the flush, which carries again what is missing
            self._flush_or_warn()
            mended = rows.mend()
        except CatalogError as error:
            notes.append(f"only the journals were checked, as the catalog can't be read: {error.message}")
            self._flush_or_warn()
            return ()
        found |= {"published": rows.published, "carried": carried.keys()}
        return mended

    def _read_signed(self, found: dict[str, Any], trusted: TrustedKeys, notes: list[str]) -> TrustedKeys:
        """Read heads and cosignatures, and return the keys with those that the team has named."""
        from jupyter_llmops.agent.election import agent_file
        from jupyter_llmops.agent.flush import require_catalog
        from jupyter_llmops.agent.published_heads import PublishedHeads

        # First, as the agent may publish one meanwhile.
        remembered = PublishedHeads(agent_file(self.audit_folder, self.catalog.location, "heads")).read()
        try:
            require_catalog(self.catalog, remembered)
            trusted = replace(trusted, signers=tuple(self.catalog.signers.list()))
            found["heads"] = self.catalog.heads.list()
            found["cosignatures"] = self.catalog.cosignatures.list()
        except (CatalogError, TeamKeyError) as error:
            notes.append(f"signed heads and witnesses were not checked: {error.message}")
            return trusted
        found["published_heads"] = remembered
        return trusted

    def _unsigned(self) -> Problem | None:
        """Return that records are under no signed head as a key can't be read; None where none are, or there is none.

        A home that can't be written may have no key; that is a note only, as there is nothing to put right.
        """
        from jupyter_llmops.audit.files import JOURNAL_SUFFIX
        from jupyter_llmops.audit.reading import list_journals
        from jupyter_llmops.keys.signing import keys_folder, refused_key
        from jupyter_llmops.records.run import Problem

        if (error := refused_key(keys_folder())) is None:
            return None
        if self.settings.audit:
            self.journal.flush()
        count = sum(
            _beyond_checkpoint(self.audit_folder, path.name.removesuffix(JOURNAL_SUFFIX), path)
            for path in list_journals(self.audit_folder)
        )
        if not count:
            return None
        are = "record is" if count == 1 else "records are"
        return Problem(
            "", None, "", f"{count:,} {are} under no signed head, as a key that signs can't be used: {error}"
        )

    def _seal(self, keys: LogKeys) -> list[str]:
        """Sign what is not signed yet, and return why that could not be done; what is wrong is found later."""
        from jupyter_llmops.audit.files import JOURNAL_SUFFIX
        from jupyter_llmops.audit.head_links import note_handed_out
        from jupyter_llmops.audit.reading import list_journals
        from jupyter_llmops.audit.sealing import log_folder, says_sealed, seal

        if self.settings.audit:
            self.journal.flush()
        refused = []
        for path in list_journals(self.audit_folder):
            session = path.name.removesuffix(JOURNAL_SUFFIX)
            try:
                checkpoint = log_folder(self.audit_folder, session) / "checkpoint"
                newer = checkpoint.exists() and checkpoint.stat().st_mtime_ns > path.stat().st_mtime_ns
                if newer and says_sealed(self.audit_folder, session):
                    continue
                if (signed := seal(self.audit_folder, session, keys)) is not None:
                    note_handed_out(self.audit_folder, session, signed.size)
            except AuditError as error:
                refused.append(f"session {session} is not signed any further: {error.message}")
            except OSError as error:
                return [f"the logs could not be sealed: {error.strerror}"]
        return refused


def _former_keys(notes: list[str]) -> tuple[bytes, ...]:
    from jupyter_llmops.keys.signing import keys_folder, said_keys

    try:
        return said_keys(keys_folder())
    except AuditError as error:
        notes.append(f"it is not known which keys signed before: {error}")
        return ()


def _beyond_checkpoint(folder: Path, session: str, journal: Path) -> int:
    """Return how many records a journal has that its log's checkpoint does not cover, whoever signed that."""
    from jupyter_llmops.audit.sealing import log_folder
    from jupyter_llmops.audit.tlog.checkpoint import parse_checkpoint
    from jupyter_llmops.audit.tlog.note import parse_note
    from jupyter_llmops.audit.verification.lines import line_blocks

    try:
        count = sum(len(lines) for lines, _ in line_blocks(journal, journal.stat().st_size))
    except OSError:
        return 0  # found, and said, where it is checked
    try:
        signed = parse_checkpoint(parse_note((log_folder(folder, session) / "checkpoint").read_bytes()).text)
    except (OSError, ValueError):
        return count
    return max(count - signed.size, 0)


def _path_of(against: object) -> Path:
    if not isinstance(against, str | os.PathLike):
        raise UsageError(
            f"{against!r} is not the name of a file.",
            "Name the file in which a checkpoint or a proof was kept.",
        )
    try:
        return Path(against).expanduser()
    except RuntimeError:  # ~nobody
        return Path(against)
