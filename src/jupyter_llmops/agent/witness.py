"""Witnessing: the heads of colleagues' logs are countersigned when they continue all that was seen before.

A cosignature says: of this log, this key has countersigned nothing that contradicts this head. So what was
countersigned is remembered here and not in the catalog, which others write to, and it is remembered before
it is published. What contradicts it is refused, and is a problem in this user's own ``%audit verify``; its
owner sees that no cosignature comes any more.
"""

from __future__ import annotations

import base64
import time
from collections.abc import Callable, Iterable
from dataclasses import replace
from datetime import UTC, datetime
from itertools import pairwise
from pathlib import Path

from jupyter_llmops.agent.head_checks import encoded, name_signers, signed_by
from jupyter_llmops.agent.heads import own_keys
from jupyter_llmops.audit.tlog.checkpoint import Checkpoint
from jupyter_llmops.audit.tlog.cosignature import cosign
from jupyter_llmops.audit.tlog.merkle import Frontier, leaf_hash, verify_consistency
from jupyter_llmops.audit.witnessed import WitnessedLog, now, read_witnessed, remember
from jupyter_llmops.catalog import Catalog
from jupyter_llmops.catalog.schemas import HEADS, SIGNERS
from jupyter_llmops.keys.signing import LogKeys, public_half, witness_name
from jupyter_llmops.records.trail import Cosignature, Head, Signer

SECONDS_BETWEEN_LOOKS = 5.0
BUCKET_SECONDS_BETWEEN_LOOKS = 30.0
# Rows of one log arrive in several commits: what lacks its proof may only be on its way.
PATIENCE_SECONDS = 120.0

_Node = tuple[int, bytes]
"""A head: size and root."""


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
        self._nodes: dict[str, dict[_Node, Checkpoint]] = {}
        self._proven: dict[str, set[tuple[_Node, _Node]]] = {}
        self._doubts: dict[str, float] = {}
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
        if not marks[0] or (marks == self._marks and not self._doubts):
            return 0
        if marks[1] != self._signers_mark:
            # Heads of a key that nobody had named were passed over.
            self._signers_mark, self._fingerprints, self._seen = marks[1], {}, {}
        known = read_witnessed(self._folder)
        prints = self._catalog.heads.fingerprints()
        changed = {
            session for session, fingerprint in prints.items()
            if session not in self._own and (session in self._doubts or self._is_new(session, fingerprint, known))
        }  # fmt: skip
        added = self._look_at(changed, prints, known) if changed else 0
        self._publish({session: log for session, log in known.items() if log.line})
        self._marks = marks
        return added

    # -- within -------------------------------------------------------------------------------

    def _is_new(self, session: str, fingerprint: str, known: dict[str, WitnessedLog]) -> bool:
        if session in self._fingerprints:
            return self._fingerprints[session] != fingerprint
        log = known.get(session)
        return log is None or log.heads != fingerprint

    def _look_at(
        self, sessions: Iterable[str], prints: dict[str, str], known: dict[str, WitnessedLog]
    ) -> int:
        keys = self._open_keys()
        signers = {
            public_half(one.vkey): one for one in reversed(self._catalog.signers.list()) if one.kind == "log"
        }
        signed: dict[str, WitnessedLog] = {}
        for session in sorted(sessions):
            new = self._new_heads(session)
            found = [(head, *one) for head in new if (one := signed_by(head, signers)) is not None]
            self._fingerprints[session] = prints[session]
            if any(public == keys.log_public for _, _, public in found):
                self._own.add(session)
            elif found or session in self._doubts:
                before = known.get(session, WitnessedLog())
                log = self._judge(session, before, found, signers, keys)
                log = replace(log, heads="" if session in self._doubts else prints[session])
                if log != before:
                    signed[session] = log
                    if log.problem and log.problem != before.problem:
                        self._tell(log.problem)
        if signed:
            # Before anybody can see it: what is signed and forgotten could be contradicted.
            remember(self._folder, signed)
            known |= signed
        return self._publish({session: log for session, log in signed.items() if log.line})

    def _new_heads(self, session: str) -> list[Head]:
        keys = self._catalog.heads.keys(session)
        heads = self._catalog.heads.by_key(keys - self._seen.get(session, set()))
        self._seen[session] = keys
        return sorted(heads, key=lambda head: (head.created_at, head.size))

    def _judge(
        self, session: str, log: WitnessedLog, found: list[tuple[Head, Checkpoint, bytes]],
        signers: dict[bytes, Signer], keys: LogKeys,
    ) -> WitnessedLog:  # fmt: skip
        """Return what is known of a log now, with a cosignature of its largest head where all agree."""
        if not log.key and found:
            _, _, public = found[0]
            owner = signers[public]
            log = replace(log, key=public.hex(), user=owner.user, host=owner.host)
        strangers = {public for _, _, public in found if public.hex() != log.key}
        notes = tuple(self._takeover(session, log, signers[public]) for public in strangers)
        log = replace(log, notes=tuple(dict.fromkeys([*log.notes, *notes])))
        nodes = self._nodes.setdefault(session, {})
        if log.size:
            root = base64.b64decode(log.root)
            nodes.setdefault((log.size, root), Checkpoint("", log.size, root))
        rows = [(head, checkpoint) for head, checkpoint, public in found if public.hex() == log.key]
        for _, checkpoint in rows:
            nodes[checkpoint.size, checkpoint.root] = checkpoint
        if log.problem and not log.doubt:
            return log  # it has contradicted itself: nothing that it says later takes that back
        verdict = self._contradiction(session, sorted(nodes), [head for head, _ in rows])
        if verdict is None:
            since = self._doubts.setdefault(session, time.monotonic())
            if time.monotonic() - since < self._patience:
                return log
            sentence = f"{self._whose(session, log)} can't be shown to continue what was witnessed before."
            return replace(log, problem=sentence, since=log.since or now(), doubt=True)
        self._doubts.pop(session, None)
        if verdict:
            return replace(log, problem=f"{self._whose(session, log)} {verdict}", since=now(), doubt=False)
        log = replace(log, problem="", since="", doubt=False)
        return self._countersigned(log, nodes[max(nodes)], keys)

    def _countersigned(self, log: WitnessedLog, head: Checkpoint, keys: LogKeys) -> WitnessedLog:
        if head.size <= log.size:
            return log
        name = witness_name(self._catalog.user, self._catalog.site)
        line = cosign(head.text, name, keys.witness, int(time.time())).line
        return replace(log, size=head.size, root=encoded(head.root), line=line)

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
