"""Checking what was published of a session's log: signed heads, and what witnesses signed of them."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field

from jupyter_llmops.audit.tlog.checkpoint import Checkpoint
from jupyter_llmops.audit.tlog.merkle import verify_consistency
from jupyter_llmops.audit.tlog.note import decode_base64
from jupyter_llmops.audit.verification.findings import Findings
from jupyter_llmops.audit.verification.signatures import ORIGIN_PREFIX, TrustedKeys, read_signed, witness_of
from jupyter_llmops.audit.verification.tree import EMPTY_ROOT, LeafTree
from jupyter_llmops.records.trail import Cosignature, Head


@dataclass(slots=True)
class Claims:
    """What others may hold the log of a session to: which root it had at which size.

    Parameters
    ----------
    roots : dict of size to dict of root to str
        Who says so.
    witnessed : int
        Size of the largest head that a witness signed.
    witnesses : dict of name to size
        Who signed, up to where.
    """

    roots: dict[int, dict[bytes, str]] = field(default_factory=dict)
    witnessed: int = 0
    witnesses: dict[str, int] = field(default_factory=dict)

    def add(self, size: int, root: bytes, by: str) -> None:
        """Add a claim; the first one who says the same is named."""
        self.roots.setdefault(size, {}).setdefault(root, by)

    def add_witness(self, who: str, size: int) -> None:
        """Add that a witness signed a head."""
        self.witnesses[who] = max(size, self.witnesses.get(who, 0))
        self.witnessed = max(size, self.witnessed)

    @property
    def largest(self) -> int:
        """The largest size that is claimed, 0 for none."""
        return max(self.roots, default=0)


def published_claims(
    session: str,
    heads: Sequence[Head],
    cosignatures: Sequence[Cosignature],
    trusted: TrustedKeys,
    findings: Findings,
) -> Claims:
    """Return what the heads and cosignatures of one session claim; what of them is not signed is a problem.

    Parameters
    ----------
    session : str
        Name of the session.
    heads, cosignatures : sequence
        The catalog's rows of it, in any order.
    trusted : TrustedKeys
        Whose signatures count.
    findings : Findings
        Gets what does not fit.
    """
    claims = Claims()
    roots: dict[int, bytes] = {0: EMPTY_ROOT}
    true_heads = []
    for head in sorted(heads, key=lambda one: (one.size, one.created_at)):
        try:
            checkpoint = _read_head(head, trusted)
        except ValueError as error:
            findings.problem(
                session, None, "", f"the head of {head.size} records in the catalog was changed: {error}"
            )
            continue
        claims.add(checkpoint.size, checkpoint.root, "a published head")
        roots[checkpoint.size] = checkpoint.root
        true_heads.append(head)
    for size, said in claims.roots.items():
        if len(said) > 1:
            findings.problem(
                session, None, "", f"its log has signed {len(said)} different heads of {size} records: a fork"
            )
    for head in true_heads:
        _check_link(session, head, roots, findings)
    for one in cosignatures:
        _take_cosignature(session, one, trusted, claims, findings)
    return claims


def _read_head(head: Head, trusted: TrustedKeys) -> Checkpoint:
    checkpoint = read_signed(head.checkpoint, head.session, trusted)
    if (checkpoint.size, checkpoint.root) != (head.size, decode_base64(head.root)):
        raise ValueError("its row says something else")
    return checkpoint


def _check_link(session: str, head: Head, roots: dict[int, bytes], findings: Findings) -> None:
    before = roots.get(head.previous_size)
    if before is None:
        sentence = f"the head of {head.previous_size} records is not in the catalog any more"
        if not any(sentence in problem.message for problem in findings.problems):
            findings.problem(session, None, "", sentence)
        return
    try:
        proof = [decode_base64(text) for text in head.consistency]
        whole = verify_consistency(head.previous_size, head.size, before, roots[head.size], proof)
    except ValueError:
        whole = False
    if not whole:
        findings.problem(
            session, None, "",
            f"the published head of {head.size} records does not continue the one of {head.previous_size}",
        )  # fmt: skip


def _take_cosignature(
    session: str, one: Cosignature, trusted: TrustedKeys, claims: Claims, findings: Findings
) -> None:
    try:
        root = decode_base64(one.root)
        text = Checkpoint(ORIGIN_PREFIX + session, one.size, root).text
        who = witness_of(text, one.line, trusted)
    except ValueError as error:
        findings.problem(
            session, None, "",
            f"what {one.witness} signed of {one.size} records was changed in the catalog: {error}",
        )  # fmt: skip
        return
    if who is not None:
        claims.add(one.size, root, f"a head that {who} has witnessed")
        claims.add_witness(who, one.size)


def hold_to_claims(session: str, tree: LeafTree, claims: Claims, findings: Findings) -> None:
    """Compare a journal with all that was signed of it: a shorter one was rolled back, another one is a fork."""
    beyond = {size: said for size, said in claims.roots.items() if size > tree.size}
    if beyond:
        size = max(beyond)
        findings.problem(
            session, tree.size, "",
            f"records {tree.size} to {size - 1} are missing at the end: "
            f"{next(iter(beyond[size].values()))} has {size} records",
        )  # fmt: skip
    wrong = [
        (size, by)
        for size, said in sorted(claims.roots.items())
        if size <= tree.size
        for root, by in said.items()
        if tree.root(size) != root
    ]
    if wrong:
        size, by = wrong[0]
        good = max(
            (s for s, said in claims.roots.items() if s < size and tree.root(s) in said),
            default=0,
        )
        findings.problem(
            session, None, "",
            f"its records were rewritten: of records {good} to {size - 1}, one is not what {by} "
            f"of {size} records covers",
        )  # fmt: skip


def said_root(root: bytes) -> str:
    """Return a root as it is written in checkpoints, base64."""
    return base64.b64encode(root).decode()
