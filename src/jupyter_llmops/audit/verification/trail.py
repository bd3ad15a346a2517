"""The verification of all of a user's trail; see the package for what it proves and what not."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from jupyter_llmops.audit.coverage import Coverage
from jupyter_llmops.audit.deletions import Deletions
from jupyter_llmops.audit.files import journal_path
from jupyter_llmops.audit.reading import list_journals
from jupyter_llmops.audit.running import read_running
from jupyter_llmops.audit.verification.absent import check_pruned, is_elsewhere, sessions_with_traces
from jupyter_llmops.audit.verification.content import ContentCheck
from jupyter_llmops.audit.verification.findings import Findings
from jupyter_llmops.audit.verification.heads import Claims, hold_to_claims, published_claims
from jupyter_llmops.audit.verification.journal import JournalCheck
from jupyter_llmops.audit.verification.kept import KeptCheckpoint, take_kept
from jupyter_llmops.audit.verification.lines import Leaf, line_blocks
from jupyter_llmops.audit.verification.log_folder import LogFolderCheck
from jupyter_llmops.audit.verification.signatures import TrustedKeys
from jupyter_llmops.records.run import Verification
from jupyter_llmops.records.trail import Cosignature, Head

UNWITNESSED = (
    "verified, unwitnessed: no second key has signed these records, so their owner could have made them anew"
)
_DELETING = ("forget", "scrub", "retention")
_SHOWN = 5


def verify(
    folder: Path,
    *,
    published: Mapping[str, Mapping[int, str]] | None = None,
    trusted: TrustedKeys | None = None,
    heads: Iterable[Head] = (),
    cosignatures: Iterable[Cosignature] = (),
    against: Sequence[KeptCheckpoint] = (),
) -> Verification:
    """Check every journal of an audit folder, its transparency log, and every content sidecar.

    Parameters
    ----------
    folder : Path
        The audit folder.
    published : mapping of session to mapping of seq to ``sha256:…``
        What the shared catalog holds. Pass only the sessions that must lie in `folder` (those of
        this user and host): one that is not there is a problem.
    trusted : TrustedKeys, optional
        Whose signatures count; without it none is checked, and heads count for nothing.
    heads, cosignatures : iterable
        The catalog's rows of heads and of what witnesses signed; those of others' sessions are passed over.
    against : sequence of KeptCheckpoint
        Checkpoints that somebody kept, which the logs must still hold.
    """
    return _Trail(Path(folder), published or {}, trusted, heads, cosignatures, against).run()


class _Trail:
    """One verification."""

    def __init__(
        self,
        folder: Path,
        published: Mapping[str, Mapping[int, str]],
        trusted: TrustedKeys | None,
        heads: Iterable[Head],
        cosignatures: Iterable[Cosignature],
        against: Sequence[KeptCheckpoint],
    ) -> None:
        self.folder = folder
        self.published = published
        self.trusted = trusted
        self.findings = Findings()
        self.coverage = Coverage()
        self.deletions = Deletions()
        self.sessions = [path.name.removesuffix(path.suffix) for path in list_journals(folder)]
        self.heads: dict[str, list[Head]] = {}
        self.cosignatures: dict[str, list[Cosignature]] = {}
        if trusted is not None:
            ours = {*self.sessions, *published}
            for head in heads:
                if head.session in ours or (head.user, head.host) == (trusted.user, trusted.host):
                    self.heads.setdefault(head.session, []).append(head)
            for one in cosignatures:
                if one.session in ours or one.session in self.heads:
                    self.cosignatures.setdefault(one.session, []).append(one)
        self.kept: dict[str, list[KeptCheckpoint]] = {}
        for checkpoint in against:
            self.kept.setdefault(checkpoint.session, []).append(checkpoint)
        self.ids: set[str] = set()
        self.twice: list[tuple[str, int, str]] = []
        self.contents: list[tuple[str, ContentCheck]] = []
        self.records = self.witnessed = 0
        self.witnesses: dict[str, None] = {}
        self.partly: list[str] = []

    def run(self) -> Verification:
        for session in self.sessions:
            self._check(session)
        self._check_absent()
        self._name_twice()
        for session, content in self.contents:
            self._judge_content(session, content)
        return Verification(
            len(self.sessions),
            self.records,
            tuple(self.findings.problems),
            tuple(self.findings.notes + self._said_of_witnesses()),
            self.coverage.gaps(),
            self.witnessed,
            tuple(self.witnesses),
        )

    def _check(self, session: str) -> None:
        log = LogFolderCheck(self.folder, session, self.findings)
        claims = self._claims(session)
        self.coverage.expect(session, read_running(self.folder, session))
        journal = JournalCheck(
            self.folder, session, self.findings, self.ids,
            take_lines=log.take_lines if log.present else None,
            take_leaf=self._take_leaf,
        )  # fmt: skip
        journal.run(self.published.get(session, {}))
        self.records += journal.count
        self.twice += [(session, number, run_id) for number, run_id in journal.twice]
        if journal.content.deleted or journal.content.changed:
            self.contents.append((session, journal.content))
        if log.present:
            log.finish(journal.tree, self.trusted)
        if claims.roots:
            hold_to_claims(session, journal.tree, claims, self.findings)
            self._check_checkpoint(session, log, self.heads.get(session, []))
        self._count_witnessed(session, journal, claims)

    def _claims(self, session: str) -> Claims:
        """Return what the catalog and the kept checkpoints claim of a session."""
        if self.trusted is None:
            return Claims()
        claims = published_claims(
            session,
            self.heads.get(session, []),
            self.cosignatures.get(session, []),
            self.trusted,
            self.findings,
        )
        for kept in self.kept.get(session, []):
            take_kept(kept, self.trusted, claims, self.findings)
        return claims

    def _check_checkpoint(self, session: str, log: LogFolderCheck, heads: list[Head]) -> None:
        largest = max((head.size for head in heads), default=0)
        if log.checkpoint_data is None and largest:
            self.findings.problem(session, None, "", "the checkpoint of its log is missing")
        elif log.checkpoint is not None and log.checkpoint.size < largest:
            self.findings.problem(
                session, None, "",
                f"its log was rolled back: its checkpoint has {log.checkpoint.size} records, "
                f"a published head {largest}",
            )  # fmt: skip

    def _take_leaf(self, leaf: Leaf) -> None:
        self.coverage.take(leaf)
        if leaf.get("kind") in _DELETING:
            self.deletions.read([leaf])

    def _count_witnessed(self, session: str, journal: JournalCheck, claims: Claims) -> None:
        size = min(claims.witnessed, journal.count)
        self.witnessed += size
        self.witnesses |= dict.fromkeys(claims.witnesses)
        if 0 < size < journal.count:
            who = ", ".join(name for name, seen in claims.witnesses.items() if seen == claims.witnessed)
            self.partly.append(f"session {session} up to record {size - 1} of {journal.count - 1} by {who}")

    def _said_of_witnesses(self) -> list[str]:
        if not self.records or self.findings.problems:
            return []
        if not self.witnessed:
            return [UNWITNESSED]
        said = f"{self.witnessed:,} of {self.records:,} records are witnessed by {', '.join(self.witnesses)}"
        if self.witnessed < self.records:
            said += "; the others are unwitnessed, so their owner could have made them anew"
        notes = [said]
        if self.partly:
            more = f" and {len(self.partly) - _SHOWN} more" if len(self.partly) > _SHOWN else ""
            notes.append(f"witnessed in part: {'; '.join(self.partly[-_SHOWN:])}{more}")
        return notes

    def _check_absent(self) -> None:
        traces = sessions_with_traces(self.folder)
        known = (
            traces
            | {name for name, rows in self.published.items() if rows}
            | self.heads.keys()
            | self.kept.keys()
            | self.deletions.pruned.keys()
        )
        elsewhere = []
        pruned = []
        for session in sorted(known - set(self.sessions)):
            rows = self.published.get(session, {})
            heads = self.heads.get(session, [])
            claims = self._claims(session)
            if session in self.deletions.pruned:
                word = self.deletions.pruned[session]
                check_pruned(self.folder, session, word, rows, claims, self.trusted, self.findings)
                pruned.append(f"{session} ({word.size:,} records, {word.by.said})")
            elif session not in traces and is_elsewhere(heads, self.trusted):
                elsewhere.append(session)
            else:
                what = (
                    f"{len(rows)} of its records are in the catalog" if rows
                    else "its published heads are in the catalog" if heads
                    else "its other files are still here" if session in traces
                    else "the checkpoint that was kept is of it"
                )  # fmt: skip
                self.findings.problem(
                    session, None, "", f"the journal of session {session} is missing: {what}"
                )
        if pruned:
            self.findings.notes.append(f"pruned, only their heads are left: {_some(pruned)}")
        if elsewhere:
            self.findings.notes.append(
                f"{len(elsewhere)} sessions of this user are signed with another key and lie elsewhere, "
                f"so they were not checked here: {_some(elsewhere)}"
            )

    def _judge_content(self, session: str, content: ContentCheck) -> None:
        """Say of content that is gone or another whether a record says who did it."""
        said: dict[str, list[int]] = {}
        for seq, _ in content.deleted:
            place = (session, seq)
            if (word := self.deletions.forgotten.get(place)) is not None:
                said.setdefault(f"forgotten {word.said}", []).append(seq)
            elif (word := self.deletions.scrubbed.get(place)) is not None:
                kinds = f" ({', '.join(word.kinds)})" if word.kinds else ""
                said.setdefault(f"deleted {word.said}, as it held secrets{kinds}", []).append(seq)
            else:
                said.setdefault("", []).append(seq)
        for words, seqs in said.items():
            some = _some([str(seq) for seq in seqs])
            self.findings.notes.append(
                f"session {session}: the content of {len(seqs)} records was "
                f"{words or 'deleted'} (seq {some}); "
                + (
                    "its digests say nothing any more"
                    if words
                    else "what they held can't be checked any more"
                )
            )
        scrubbed = []
        for seq, run_id, message, digests in content.changed:
            word = self.deletions.scrubbed.get((session, seq))
            if word is not None and digests and digests == word.digests:
                scrubbed.append(f"{seq} ({', '.join(word.kinds)})")
            else:
                self.findings.problem(session, seq, run_id, message)
        if scrubbed:
            self.findings.notes.append(
                f"session {session}: the content of {len(scrubbed)} records was scrubbed, as it held secrets "
                f"(seq {_some(scrubbed)}); what is left of it is what the scrub's record says"
            )

    def _name_twice(self) -> None:
        """Say where else the id of a record stands; looked for only where there is such a record."""
        if not self.twice:
            return
        wanted = {run_id for _, _, run_id in self.twice}
        first: dict[str, tuple[str, int]] = {}
        for session in self.sessions:
            for number, run_id in _ids_of(journal_path(self.folder, session)):
                if run_id in wanted:
                    first.setdefault(run_id, (session, number))
        for session, number, run_id in self.twice:
            where = first.get(run_id, (session, number))
            self.findings.problem(
                session, number, run_id, f"its id stands in session {where[0]}, record {where[1]}, too"
            )


def _ids_of(path: Path) -> Iterable[tuple[int, str]]:
    number = 0
    try:
        for lines, _ in line_blocks(path, path.stat().st_size):
            for line in lines:
                try:
                    leaf = json.loads(line)
                except (ValueError, RecursionError):
                    leaf = None
                if isinstance(leaf, dict) and leaf:
                    yield number, str(leaf.get("id", ""))
                number += 1
    except OSError:
        return


def _some(names: list[str]) -> str:
    return ", ".join(names[:_SHOWN]) + (", …" if len(names) > _SHOWN else "")
