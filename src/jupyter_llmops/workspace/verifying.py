"""Verifying the trail: what a workspace knows of its own logs, its catalog and its team goes into the check."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from jupyter_llmops.errors import AuditError, CatalogError, TeamKeyError
from jupyter_llmops.workspace.trail import Trail

if TYPE_CHECKING:
    from jupyter_llmops.audit.verification import TrustedKeys
    from jupyter_llmops.keys.signing import LogKeys
    from jupyter_llmops.records.run import Verification


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
        """
        from jupyter_llmops.audit.verification import TrustedKeys, read_kept, verify
        from jupyter_llmops.audit.witnessed import refusals
        from jupyter_llmops.keys.signing import LogKeys, keys_folder
        from jupyter_llmops.records.run import Problem

        kept = (read_kept(Path(against).expanduser()),) if against else ()
        notes: list[str] = []
        self._flush_or_warn()
        own: tuple[bytes, ...] = ()
        try:
            keys = LogKeys.load(keys_folder())
            own = (keys.log_public, keys.witness_public)
            notes += self._seal(keys)
        except AuditError as error:
            notes.append(f"the logs could not be sealed: {error.message}")
        found: dict[str, Any] = {"published": {}, "heads": (), "cosignatures": ()}
        trusted = TrustedKeys(self.user, self.settings.site, own)
        try:
            # Journals of other users and hosts are not here; theirs to verify.
            found["published"] = self.catalog.runs.published_by(self.user, self.settings.site)
            trusted = replace(trusted, signers=tuple(self.catalog.signers.list()))
            found["heads"] = self.catalog.heads.list()
            found["cosignatures"] = self.catalog.cosignatures.list()
            notes += self._leave_out_other_homes(found, trusted)
        except CatalogError as error:
            notes.append(f"only the journals were checked, as the catalog can't be read: {error.message}")
        except TeamKeyError as error:
            notes.append(f"signed heads and witnesses were not checked: {error.message}")
        result = verify(self.audit_folder, trusted=trusted, against=kept, **found)
        try:
            refused = refusals(self.audit_folder)
        except AuditError as error:
            refused = (Problem("", None, "", error.message),)
        return replace(result, problems=(*result.problems, *refused), notes=(*result.notes, *notes))

    def _leave_out_other_homes(self, found: dict[str, Any], trusted: TrustedKeys) -> list[str]:
        """Leave out what this user published on this host from another home, and say so."""
        from jupyter_llmops.agent.other_homes import sessions_of_other_homes

        if not trusted.own:
            return []
        others = sessions_of_other_homes(
            self.audit_folder, found["published"], found["heads"], trusted.signers, trusted.own[0]
        )
        if not others:
            return []
        for name in ("heads", "cosignatures"):
            found[name] = [one for one in found[name] if one.session not in others]
        found["published"] = {name: rows for name, rows in found["published"].items() if name not in others}
        count = (
            f"{len(others)} session{'s' if len(others) > 1 else ''} of {self.user} on {self.settings.site}"
        )
        why = "of another home (LLMOPS_HOME), or the key of this one was replaced"
        return [f"not here, and signed by another key: {count}, {why}"]

    def _seal(self, keys: LogKeys) -> list[str]:
        """Sign what is not signed yet, and return why that could not be done; what is wrong is found later."""
        from jupyter_llmops.audit.files import JOURNAL_SUFFIX
        from jupyter_llmops.audit.reading import list_journals
        from jupyter_llmops.audit.sealing import log_folder, seal

        if self.settings.audit:
            self.journal.flush()
        refused = []
        for path in list_journals(self.audit_folder):
            session = path.name.removesuffix(JOURNAL_SUFFIX)
            try:
                checkpoint = log_folder(self.audit_folder, session) / "checkpoint"
                if checkpoint.exists() and checkpoint.stat().st_mtime_ns > path.stat().st_mtime_ns:
                    continue
                seal(self.audit_folder, session, keys)
            except AuditError as error:
                refused.append(f"session {session} is not signed any further: {error.message}")
            except OSError as error:
                return [f"the logs could not be sealed: {error.strerror}"]
        return refused
