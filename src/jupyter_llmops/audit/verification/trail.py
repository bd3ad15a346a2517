"""The verification of all of a user's trail; see the package for what it proves and what not."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from jupyter_llmops.audit.coverage import Coverage
from jupyter_llmops.audit.files import is_session_name, journal_path
from jupyter_llmops.audit.reading import list_journals
from jupyter_llmops.audit.running import read_running
from jupyter_llmops.audit.verification.absent import began_only, check_pruned, sessions_with_traces, whose
from jupyter_llmops.audit.verification.content import ContentCheck
from jupyter_llmops.audit.verification.deleted import DELETING, DeletionWords, late_words
from jupyter_llmops.audit.verification.findings import SHOWN, Findings, some
from jupyter_llmops.audit.verification.heads import Claims, hold_to_claims, published_claims
from jupyter_llmops.audit.verification.journal import JournalCheck
from jupyter_llmops.audit.verification.kept import KeptCheckpoint, take_kept
from jupyter_llmops.audit.verification.lines import Leaf, line_blocks
from jupyter_llmops.audit.verification.log_folder import LogFolderCheck, log_folder
from jupyter_llmops.audit.verification.signatures import ORIGIN_PREFIX, TrustedKeys
from jupyter_llmops.records.run import Problem, Verification
from jupyter_llmops.records.trail import Cosignature, Head

UNWITNESSED = (
    "verified, unwitnessed: no second key has signed these records, so their owner could have made them anew"
)
_ABSENT = {
    "pruned": "pruned, only their heads are left: {names}",
    "team": "not checked, as it lies elsewhere: {names} ({count} in all), of another home (LLMOPS_HOME) of this "
    "user, or the key of this one was replaced",
    "unknown": "not checked, as nothing here knows it: {names} ({count} in all); rows in the catalog say that it is "
    "of this user, and no key that is known here signed it: it is of another home (LLMOPS_HOME) without the team's "
    "key, or planted",
    "began": "its process was stopped in its first cell, before there was a record: {names}",
}


def verify(
    folder: Path,
    *,
    published: Mapping[str, Mapping[int, str]] | None = None,
    trusted: TrustedKeys | None = None,
    heads: Iterable[Head] = (),
    cosignatures: Iterable[Cosignature] = (),
    against: Sequence[KeptCheckpoint] = (),
    carried: Collection[str] = (),
    published_heads: Mapping[str, Collection[int]] = MappingProxyType({}),
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
    carried : collection of str
        Sessions that this home remembers to have carried into the catalog.
    published_heads : mapping of session to sizes
        Heads that this home remembers to have published.
    """
    memory = _Memory(frozenset(carried), published_heads)
    return _Trail(Path(folder), published or {}, trusted, heads, cosignatures, against, memory).run()


@dataclass(frozen=True, slots=True)
class _Memory:
    """What this home remembers of its own doing, which nobody who writes to the catalog can change."""

    carried: frozenset[str]
    heads: Mapping[str, Collection[int]]


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
        memory: _Memory,
    ) -> None:
        self.folder = folder
        self.memory = memory
        self.published = published
        self.trusted = trusted
        self.findings = Findings()
        self.coverage = Coverage()
        self.words = DeletionWords(self.findings)
        # First, as a session may begin meanwhile.
        self.traces = sessions_with_traces(folder)
        self.sessions = [path.name.removesuffix(path.suffix) for path in list_journals(folder)]
        self.heads: dict[str, list[Head]] = {}
        self.cosignatures: dict[str, list[Cosignature]] = {}
        if trusted is not None:
            ours = {*self.sessions, *published, *memory.carried, *memory.heads}
            for head in heads:
                said = (head.user, head.host) == (trusted.user, trusted.host)
                if said or head.session in ours or trusted.says_own(head.session, head.checkpoint):
                    self.heads.setdefault(head.session, []).append(head)
            for one in cosignatures:
                if (
                    one.session in ours
                    or one.session in self.heads
                    or trusted.says_own(one.session, one.line)
                ):
                    self.cosignatures.setdefault(one.session, []).append(one)
        self.kept: dict[str, list[KeptCheckpoint]] = {}
        for checkpoint in against:
            self.kept.setdefault(checkpoint.session, []).append(checkpoint)
        self.counts: dict[str, int] = {}
        self.ids: set[str] = set()
        self.twice: list[tuple[str, int, str]] = []
        self.contents: list[tuple[str, ContentCheck]] = []
        self.records = self.witnessed = 0
        self.witnesses: dict[str, None] = {}
        self.partly: list[str] = []
        self.unjudged: dict[str, None] = {}

    def run(self) -> Verification:
        for session in self.sessions:
            self._check(session)
        if self.contents:
            self._hear_late_words()
        self.words.judge_weak()
        self._check_absent()
        self._name_twice()
        for session, content in self.contents:
            self.words.judge_content(session, content)
        return Verification(
            len(self.sessions),
            self.records,
            (*self.findings.problems, *self._said_of_unjudged()),
            tuple(self.findings.notes + self._said_of_witnesses() + self._disputed()),
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
            take_leaf=lambda leaf: self._take_leaf(leaf, journal),
        )  # fmt: skip
        journal.run(self.published.get(session, {}))
        self.records += journal.count
        self.counts[session] = journal.count
        self.twice += [(session, number, run_id) for number, run_id in journal.twice]
        if journal.content.deleted or journal.content.changed:
            self.contents.append((session, journal.content))
        if log.present:
            log.finish(journal.tree, self._keys_of(session))
        if claims.roots:
            hold_to_claims(session, journal.tree, claims, self.findings)
            self._check_checkpoint(session, log, claims.largest)
        self._count_witnessed(session, journal, claims)

    def _hear_late_words(self) -> None:
        """Take what was said of deletions since a journal was read: the deed was seen, and the word not yet."""
        for path in list_journals(self.folder):
            session = path.name.removesuffix(path.suffix)
            role, leaves = late_words(path, self.counts.get(session, 0))
            for leaf in leaves:
                self.words.take(leaf, session, role)

    def _claims(self, session: str) -> Claims:
        """Return what the catalog and the kept checkpoints claim of a session."""
        if self.trusted is None or self._keys_of(session) is None:
            return Claims()
        claims = published_claims(
            session,
            self.heads.get(session, []),
            self.cosignatures.get(session, []),
            self.trusted,
            self.findings,
            self.memory.heads.get(session, ()),
        )
        for kept in self.kept.get(session, []):
            take_kept(kept, self.trusted, claims, self.findings)
        return claims

    def _keys_of(self, session: str) -> TrustedKeys | None:
        """Return by what the signatures of a log are checked, None where its key can't be known; that is a problem."""
        if self.trusted is None or not self.trusted.unreadable:
            return self.trusted
        notes: list[bytes | str] = [head.checkpoint for head in self.heads.get(session, ())]
        notes += [kept.data for kept in self.kept.get(session, ())]
        with contextlib.suppress(OSError):
            notes.append((log_folder(self.folder, session) / "checkpoint").read_bytes())
        if self.trusted.judges(session, notes):
            return self.trusted
        if notes or session in self.cosignatures or session in self.memory.heads:
            self.unjudged[session] = None
        return None

    def _said_of_unjudged(self) -> list[Problem]:
        """Say of all logs at once that nobody is accused of anything, and nothing is proven, either."""
        if not (names := list(self.unjudged)):
            return []
        logs = f"{len(names)} log{'s' if len(names) > 1 else ''}"
        message = f"{logs} could not be judged, as the key that signs can't be read: {some(names)}"
        return [Problem("", None, "", message)]

    def _check_checkpoint(self, session: str, log: LogFolderCheck, largest: int) -> None:
        if log.checkpoint_data is None and largest:
            self.findings.problem(session, None, "", "the checkpoint of its log is missing")
        elif log.checkpoint is not None and log.checkpoint.size < largest:
            self.findings.problem(
                session, None, "",
                f"its log was rolled back: its checkpoint has {log.checkpoint.size} records, "
                f"a signed head {largest}",
            )  # fmt: skip

    def _take_leaf(self, leaf: Leaf, journal: JournalCheck) -> None:
        self.coverage.take(leaf)
        if leaf.get("kind") in DELETING:
            self.words.take(leaf, journal.session, str(journal.first.get("role", "")))

    def _count_witnessed(self, session: str, journal: JournalCheck, claims: Claims) -> None:
        size = min(claims.witnessed, journal.count)
        self.witnessed += size
        self.witnesses |= dict.fromkeys(claims.witnesses)
        if 0 < size < journal.count:
            who = ", ".join(name for name, seen in claims.witnesses.items() if seen == claims.witnessed)
            self.partly.append(f"session {session} up to record {size - 1} of {journal.count - 1} by {who}")

    def _said_of_witnesses(self) -> list[str]:
        if not self.records or self.findings.problems or self.unjudged:
            return []
        if not self.witnessed:
            return [UNWITNESSED]
        said = f"{self.witnessed:,} of {self.records:,} records are witnessed by {', '.join(self.witnesses)}"
        if self.witnessed < self.records:
            said += "; the others are unwitnessed, so their owner could have made them anew"
        notes = [said]
        if self.partly:
            more = f" and {len(self.partly) - SHOWN} more" if len(self.partly) > SHOWN else ""
            notes.append(f"witnessed in part: {'; '.join(self.partly[-SHOWN:])}{more}")
        return notes

    def _disputed(self) -> list[str]:
        disputed = self.trusted.disputed if self.trusted is not None and self.witnesses else {}
        return [disputed[name] for name in self.witnesses if name in disputed]

    def _check_absent(self) -> None:
        known = (
            self.traces
            | {name for name, rows in self.published.items() if rows}
            | self.heads.keys()
            | self.cosignatures.keys()
            | self.kept.keys()
            | self.words.said.pruned.keys()
            | self.memory.carried
            | self.memory.heads.keys()
        )
        said: dict[str, list[str]] = {"pruned": [], "team": [], "unknown": [], "began": []}
        for session in sorted(known - set(self.sessions)):
            if is_session_name(session) and journal_path(self.folder, session).exists():
                continue  # it began meanwhile
            if session in self.words.said.pruned:
                word = self.words.said.pruned[session]
                rows, claims = self.published.get(session, {}), self._claims(session)
                check_pruned(self.folder, session, word, rows, claims, self._keys_of(session), self.findings)
                said["pruned"].append(f"{session} ({word.size:,} records, {word.by.said})")
            else:
                self._check_missing(session, said)
        if (
            self.trusted is not None and self.trusted.unreadable
        ):  # they may be this home's, and gone from here
            self.unjudged |= dict.fromkeys([*said["team"], *said["unknown"]])
        for what, sentence in _ABSENT.items():
            if names := said[what]:
                self.findings.notes.append(sentence.format(names=some(names), count=len(names)))

    def _check_missing(self, session: str, said: dict[str, list[str]]) -> None:
        """Judge a session whose journal is not there, and no record says that it was pruned."""
        remembered, who = self._is_remembered(session), self._whose(session)
        if session in self.traces:
            known = remembered or self.published.get(session) or session in self.kept
            if not known and (self.trusted is None or who == "unknown") and began_only(self.folder, session):
                said["began"].append(session)
                return
        elif who == "unknown" and not remembered:
            for kept in self.kept.get(session, ()):
                take_kept(kept, self.trusted or TrustedKeys(), Claims(), self.findings)
            said["unknown"].append(session)
            return
        claims = self._claims(session)
        if who == "team" and session not in self.traces and not remembered:
            said["team"].append(session)
            for kept in self.kept.get(session, ()):
                self.findings.problem(
                    session, None, "",
                    f"the kept checkpoint {kept.name} can't be checked here: the log of that session is not "
                    "here, and another key of this user has signed it",
                )  # fmt: skip
        elif what := self._left_of(session, claims):
            self.findings.problem(session, None, "", f"the journal of session {session} is missing: {what}")

    def _is_remembered(self, session: str) -> bool:
        return session in self.memory.carried or session in self.memory.heads

    def _whose(self, session: str) -> str:
        notes = [kept.data for kept in self.kept.get(session, ())]
        notes += [
            f"{ORIGIN_PREFIX}{session}\n{one.size}\n{one.root}\n\n{one.line}\n".encode("utf-8", "replace")
            for one in self.cosignatures.get(session, ())
        ]
        return whose(session, self.heads.get(session, ()), notes, self.trusted)

    def _left_of(self, session: str, claims: Claims) -> str:
        """Return what tells that there was a journal, empty where nothing but planted rows does."""
        if rows := self.published.get(session):
            return f"{len(rows)} of its records are in the catalog"
        if self.kept.get(session):
            return "the checkpoint that was kept is of it"
        if claims.roots:
            return "its published heads are in the catalog"
        if session in self.traces:
            return "its other files are still here"
        if self._is_remembered(session):
            return "this home had published it, and the catalog has nothing of it any more, either"
        return ""

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
