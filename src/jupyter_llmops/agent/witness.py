"""Witnessing: the heads of colleagues' logs are countersigned when they continue all that was seen before.

A cosignature says: of this log, this key has countersigned nothing that contradicts this head. So what was
countersigned is remembered here and not in the catalog, which others write to, and it is remembered before
it is published. Where that memory was lost, what this key has signed is taken from the catalog. What contradicts it is refused, and is a problem in this user's own ``%audit verify``; its
owner sees that no cosignature comes any more.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from jupyter_llmops.agent.head_checks import cosigned_by, encoded, log_line, name_signers, signed_by
from jupyter_llmops.agent.heads import own_keys
from jupyter_llmops.audit.sealing import origin_of
from jupyter_llmops.audit.tlog.checkpoint import Checkpoint
from jupyter_llmops.audit.tlog.cosignature import cosign
from jupyter_llmops.audit.tlog.merkle import Frontier, leaf_hash, verify_consistency
from jupyter_llmops.audit.witnessed import WitnessedLog, now, read_witnessed, remember
from jupyter_llmops.catalog import Catalog
from jupyter_llmops.catalog.schemas import HEADS, RUNS, SIGNERS
from jupyter_llmops.keys.signing import LogKeys, may_sign, public_half, witness_name
from jupyter_llmops.records.trail import Cosignature, Head, Signer

SECONDS_BETWEEN_LOOKS = 5.0
BUCKET_SECONDS_BETWEEN_LOOKS = 30.0
# Rows of one log arrive in several commits: what lacks its proof may only be on its way.
PATIENCE_SECONDS = 120.0
# What lacks its proof is looked for in all lines of its log: seldomer and seldomer.
LONGEST_PAUSE_SECONDS = 300.0

_Node = tuple[int, bytes]
"""A head: size and root."""


@dataclass(slots=True)
class _Doubt:
    """A log of which a proof lacks: since when, when it is looked for again, and in which lines it was."""

    since: float
    next_look: float = 0.0
    pause: float = SECONDS_BETWEEN_LOOKS
    lines: int = -1
    said: bool = False


class Witness:
    """Countersigns the heads of others' logs in a catalog.

    Parameters
    ----------
    folder : Path
        The audit folder of this user.
    catalog : Catalog
        Whose heads.
    keys : callable
        Returns this user's keys.
    tell : callable
        Told in a sentence of a log that is not countersigned any more, once.
    patience : float
        Seconds until a head without a proof of where it comes from is said to be a problem.
    """

    def __init__(
        self, folder: Path, catalog: Catalog, *, keys: Callable[[], LogKeys] = own_keys,
        tell: Callable[[str], None] = lambda _: None, patience: float = PATIENCE_SECONDS,
    ) -> None:  # fmt: skip
        self._folder = Path(folder)
        self._catalog = catalog
        self._open_keys = keys
        self._tell = tell
        self._patience = patience
        self._marks: tuple[int, int] | None = None
        self._signers_mark = 0
        self._next_look = 0.0
        self._own: set[str] = set()
        self._fingerprints: dict[str, str] = {}
        self._seen: dict[str, set[str]] = {}
        self._recalled: set[str] = set()
        self._largest: dict[str, int] = {}
        # The heads of each log, and the line with which the log signed them where that is known.
        self._nodes: dict[str, dict[_Node, str]] = {}
        self._proven: dict[str, set[tuple[_Node, _Node]]] = {}
        self._doubts: dict[str, _Doubt] = {}
        self._named = False

    def look(self, *, at_once: bool = False) -> int:
        """Countersign what is new; return how many cosignatures were added.

        Where nothing was published since the last look it costs two file look-ups.

        Parameters
        ----------
        at_once : bool
            Do not wait for some seconds to pass since the last look.

        Raises
        ------
        CatalogError, TeamKeyError
            The catalog can't be read or written, or the team's key can't be read.
        AuditError
            What was countersigned before can't be read, so nothing is.
        OSError
            What is countersigned can't be remembered, so nothing is.
        """
        if not at_once and time.monotonic() < self._next_look:
            return 0
        local = self._catalog.location.is_local
        self._next_look = time.monotonic() + (
            SECONDS_BETWEEN_LOOKS if local else BUCKET_SECONDS_BETWEEN_LOOKS
        )
        marks = (self._catalog.mark(HEADS), self._catalog.mark(SIGNERS))
        due = self._due(at_once) if self._doubts and marks[0] else set()
        if not marks[0] or (marks == self._marks and not due):
            return 0
        if marks[1] != self._signers_mark:
            # Heads of a key that nobody had named were passed over.
            self._signers_mark, self._fingerprints, self._seen = marks[1], {}, {}
        known = read_witnessed(self._folder)
        prints = self._catalog.heads.fingerprints()
        changed = {
            session for session, fingerprint in prints.items()
            if session not in self._own and (session in due or self._is_new(session, fingerprint, known))
        }  # fmt: skip
        place = str(self._catalog.location)
        changed |= {
            session for session, log in known.items()
            if session not in prints and log.size and log.catalog == place and not log.problem
        }  # fmt: skip
        added = self._look_at(changed, prints, known) if changed else 0
        # What another catalog refused waits for that one: its sessions are none of this one's team's
        # business, and rows that name them here may be planted.
        self._publish({
            session: log for session, log in known.items()
            if log.line and (log.catalog == place or (not log.catalog and self._has_head(session, log)))
        })  # fmt: skip
        self._marks = marks
        return added

    # -- within -------------------------------------------------------------------------------

    def _due(self, at_once: bool) -> set[str]:
        """Return the logs in doubt of which there may be news."""
        moment, lines = time.monotonic(), self._catalog.mark(RUNS)
        return {
            session for session, doubt in self._doubts.items()
            if (at_once or moment >= doubt.next_look)
            and (lines != doubt.lines or (not doubt.said and moment - doubt.since >= self._patience))
        }  # fmt: skip

    def _is_new(self, session: str, fingerprint: str, known: dict[str, WitnessedLog]) -> bool:
        if session in self._fingerprints:
            return self._fingerprints[session] != fingerprint
        log = known.get(session)
        return log is None or log.heads != fingerprint

    def _look_at(self, sessions: set[str], prints: dict[str, str], known: dict[str, WitnessedLog]) -> int:
        keys, place = self._open_keys(), str(self._catalog.location)
        signers = {
            public_half(one.vkey): one for one in reversed(self._catalog.signers.list()) if one.kind == "log"
        }
        self._recall(sessions, keys)
        signed: dict[str, WitnessedLog] = {}
        for session in sorted(sessions):
            before = known.get(session, WitnessedLog())
            # The key of a log counts although somebody took its name away.
            named = {*signers, *([bytes.fromhex(before.key)] if before.key else [])}
            found = [
                (head, *one)
                for head in self._new_heads(session)
                if (one := signed_by(head, named)) is not None
            ]
            self._fingerprints[session] = prints.get(session, "")
            if any(public == keys.log_public for _, _, public in found):
                self._own.add(session)
            elif found or session in self._doubts or (before.size and before.catalog == place):
                log = self._judge(session, before, found, signers, keys)
                log = self._held_to_seen(session, log)
                unsure = session in self._doubts or log.doubt
                # What another catalog refused waits for that one, and not for this one.
                waits = bool(before.line and before.catalog) and log.line == before.line
                log = replace(
                    log, heads="" if unsure else prints[session], catalog=before.catalog if waits else place
                )
                if log != before:
                    signed[session] = log
                    if log.problem and log.problem != before.problem:
                        self._tell(log.problem)
        if signed:
            # Before anybody can see it: what is signed and forgotten could be contradicted.
            remember(self._folder, signed)
            known |= signed
        return self._publish(
            {session: log for session, log in signed.items() if log.line and log.catalog == place}
        )

    def _has_head(self, session: str, log: WitnessedLog) -> bool:
        """Return whether the catalog has the head that was countersigned: of older files that names none."""
        keys = [bytes.fromhex(log.key)]
        return any(
            head.size == log.size and head.root == log.root and signed_by(head, keys) is not None
            for head in self._catalog.heads.of([session])
        )

    def _recall(self, sessions: set[str], keys: LogKeys) -> None:
        """Take what this key has signed from the catalog, once: the memory here may be lost, or from a backup."""
        new = sessions - self._recalled
        for row in self._catalog.cosignatures.of(new) if new else ():
            checkpoint = cosigned_by(row, keys.witness_public)
            if checkpoint is not None:
                self._nodes.setdefault(row.session, {})[checkpoint.size, checkpoint.root] = ""
        self._recalled |= new

    def _new_heads(self, session: str) -> list[Head]:
        keys, seen = self._catalog.heads.keys(session), self._seen.get(session, set())
        if not seen or seen - keys:  # some are gone: which are left?
            seen, self._largest[session] = set(), 0
        heads = self._catalog.heads.by_key(keys - seen)
        self._seen[session] = keys
        return sorted(heads, key=lambda head: (head.created_at, head.size))

    def _judge(
        self, session: str, log: WitnessedLog, found: list[tuple[Head, Checkpoint, bytes]],
        signers: dict[bytes, Signer], keys: LogKeys,
    ) -> WitnessedLog:  # fmt: skip
        """Return what is known of a log now, with a cosignature of its largest head where all agree."""
        if not log.key:
            # A name that is bound says whose it is; of another one the first that signed it counts.
            public = next((one for _, _, one in found if may_sign(session, one)), None)
            if public is None:
                return log
            owner = signers[public]
            log = replace(log, key=public.hex(), user=owner.user, host=owner.host)
        strangers = {public for _, _, public in found if public.hex() != log.key}
        notes = tuple(self._takeover(session, log, signers[public]) for public in strangers)
        log = replace(log, notes=tuple(dict.fromkeys([*log.notes, *notes])))
        nodes = self._nodes.setdefault(session, {})
        if log.size:
            nodes.setdefault((log.size, base64.b64decode(log.root)), "")
        rows = [(head, checkpoint) for head, checkpoint, public in found if public.hex() == log.key]
        mine = max((node for node, line in nodes.items() if not line), default=(0, b""))
        if mine[0] > log.size:
            log = replace(log, size=mine[0], root=encoded(mine[1]))
        for head, checkpoint in rows:
            nodes[checkpoint.size, checkpoint.root] = log_line(head, bytes.fromhex(log.key))
            self._largest[session] = max(checkpoint.size, self._largest.get(session, 0))
        if log.problem and not log.doubt:
            return log  # it has contradicted itself: nothing that it says later takes that back
        verdict = self._contradiction(session, sorted(nodes), [head for head, _ in rows])
        if verdict is None:
            return self._doubted(session, log)
        self._doubts.pop(session, None)
        if verdict:
            return replace(log, problem=f"{self._whose(session, log)} {verdict}", since=now(), doubt=False)
        log = replace(log, problem="", since="", doubt=False)
        return self._countersigned(session, log, max(nodes), keys)

    def _doubted(self, session: str, log: WitnessedLog) -> WitnessedLog:
        moment = time.monotonic()
        doubt = self._doubts.setdefault(session, _Doubt(moment))
        doubt.lines, doubt.next_look = self._catalog.mark(RUNS), moment + doubt.pause
        doubt.pause = min(2 * doubt.pause, LONGEST_PAUSE_SECONDS)
        if moment - doubt.since < self._patience:
            return log
        doubt.said = True
        sentence = f"{self._whose(session, log)} can't be shown to continue what was witnessed before."
        return replace(log, problem=sentence, since=log.since or now(), doubt=True)

    def _held_to_seen(self, session: str, log: WitnessedLog) -> WitnessedLog:
        """Say it where the head that was countersigned, and all larger ones, are in the catalog no more."""
        left = self._largest.get(session, 0)
        if log.size <= left or (log.problem and not log.doubt):
            return log
        sentence = (
            f"{self._whose(session, log)}: a head of {log.size:,} records was witnessed, and the largest in the "
            f"catalog has {left:,} now. Somebody deleted heads there, or it is an older copy."
        )
        return replace(log, problem=sentence, since=log.since or now(), doubt=True)

    def _countersigned(self, session: str, log: WitnessedLog, head: _Node, keys: LogKeys) -> WitnessedLog:
        size, root = head
        if size <= log.size:
            return log
        name, text = (
            witness_name(self._catalog.user, self._catalog.site),
            Checkpoint(origin_of(session), *head).text,
        )
        line = cosign(text, name, keys.witness, int(time.time())).line
        # With the log's own signature: nobody can witness what the log never signed.
        both = f"{self._nodes[session][head]}\n{line}"
        return replace(log, size=size, root=encoded(root), line=both)

    def _contradiction(self, session: str, nodes: list[_Node], rows: list[Head]) -> str | None:
        """Return what heads say against each other, empty where each continues the last; None: not known yet."""
        proofs: dict[tuple[int, int, str], list[tuple[str, ...]]] = {}
        for head in rows:  # a row with another proof may be planted beside the true one
            proofs.setdefault((head.previous_size, head.size, head.root), []).append(head.consistency)
        proven = self._proven.setdefault(session, set())
        leaves: list[bytes] | None = None
        for old, new in pairwise(nodes):
            if old[0] == new[0]:
                return f"was rewritten: two heads of {old[0]:,} records were signed that differ."
            if (old, new) in proven:
                continue
            if not any(
                _follows(old, new, proof) for proof in proofs.get((old[0], new[0], encoded(new[1])), ())
            ):
                leaves = self._leaves(session) if leaves is None else leaves
                agree = _agree(leaves, old, new)
                if agree is None:
                    return None
                if not agree:
                    return (
                        f"was rewritten: its head of {new[0]:,} records does not continue the one of {old[0]:,} "
                        "that its owner signed before."
                    )
            proven.add((old, new))
        return ""

    def _leaves(self, session: str) -> list[bytes]:
        """Return the hashes of a log's leaves as the catalog has its lines, up to the first that is not clear."""
        lines: dict[int, set[str]] = {}
        for seq, line in self._catalog.runs.lines(session):
            lines.setdefault(seq, set()).add(line)
        hashes: list[bytes] = []
        while len(one := lines.get(len(hashes), set())) == 1:
            hashes.append(leaf_hash(next(iter(one)).encode("utf-8", "replace")))
        return hashes

    def _publish(self, logs: dict[str, WitnessedLog]) -> int:
        if not logs:
            return 0
        if not self._named:
            name_signers(self._catalog, self._open_keys())
            self._named = True
        witness, moment = witness_name(self._catalog.user, self._catalog.site), datetime.now(UTC)
        added = self._catalog.cosignatures.publish(
            [
                Cosignature(session, log.size, log.root, witness, log.line, moment)
                for session, log in logs.items()
            ]
        )
        remember(self._folder, {session: replace(log, line="") for session, log in logs.items()})
        return added

    def _whose(self, session: str, log: WitnessedLog) -> str:
        return f"{log.user}'s log of session {session} (on {log.host})"

    def _takeover(self, session: str, log: WitnessedLog, by: Signer) -> str:
        return (
            f"A head of {log.user}'s session {session} was signed by another key, of {by.user} on {by.host}: "
            "it is not countersigned."
        )


def _follows(old: _Node, new: _Node, proof: Iterable[str]) -> bool:
    try:
        hashes = [base64.b64decode(one, validate=True) for one in proof]
    except ValueError:
        return False
    return bool(hashes) and verify_consistency(old[0], new[0], old[1], new[1], hashes)


def _agree(leaves: list[bytes], old: _Node, new: _Node) -> bool | None:
    """Return whether two heads are of one log, as far as its leaves show it; None where they don't."""
    if len(leaves) < new[0]:
        return None
    frontier = Frontier()
    roots = {}
    for count, leaf in enumerate(leaves[: new[0]], 1):
        frontier.append(leaf)
        if count in (old[0], new[0]):
            roots[count] = frontier.root()
    same = (roots[old[0]] == old[1], roots[new[0]] == new[1])
    # Leaves are rows that anybody may have planted. Those that fit the newer head are true, and where they
    # do not fit the older one the log was rewritten; those that do not fit the newer one say nothing.
    return True if all(same) else (False if same[1] else None)
