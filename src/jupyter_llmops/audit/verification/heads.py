"""Checking what was published of a session's log: signed heads, and what witnesses signed of them."""

from __future__ import annotations

import base64
from collections.abc import Collection, Sequence
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
    only_kept : set of int
        Sizes of which there is only a checkpoint that somebody kept, and no witness has signed it.
    continued : dict of size to set of int
        Of a published head: which it continues, by its proof.
    """

    roots: dict[int, dict[bytes, str]] = field(default_factory=dict)
    witnessed: int = 0
    witnesses: dict[str, int] = field(default_factory=dict)
    only_kept: set[int] = field(default_factory=set)
    continued: dict[int, set[int]] = field(default_factory=dict)

    def add(self, size: int, root: bytes, by: str) -> None:
        """Add a claim; the first one who says the same is named."""
        self.roots.setdefault(size, {}).setdefault(root, by)

    def add_witness(self, who: str, size: int) -> None:
        """Add that a witness signed a head."""
        self.witnesses[who] = max(size, self.witnesses.get(who, 0))
        self.witnessed = max(size, self.witnessed)

    def leading_to(self, size: int) -> set[int]:
        """Return the sizes of the published heads that the one of `size` continues, step by step."""
        found: set[int] = set()
        next_ones = {size}
        while next_ones:
            found |= next_ones
            next_ones = {old for one in next_ones for old in self.continued.get(one, ())} - found
        return found

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
    published: Collection[int] = (),
) -> Claims:
    """Return what the heads and cosignatures of one session claim.

    Whoever may write to the catalog can plant rows there, so one that is not signed as it stands is only
    noted. That a true row is gone, or was changed, follows from what is signed: by the head that continues
    it, by who witnessed it, or by what this home remembers to have published.

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
    published : collection of int
        Sizes of the heads that this home remembers to have published.
    """
    claims = Claims()
    true: dict[int, list[tuple[Head, bytes]]] = {}
    strange = 0
    for head in sorted(heads, key=lambda one: (one.size, one.created_at)):
        try:
            checkpoint = read_signed(head.checkpoint, head.session, trusted)
        except ValueError:
            strange += 1
            continue
        claims.add(checkpoint.size, checkpoint.root, "a published head")
        if (checkpoint.size, said_root(checkpoint.root)) == (head.size, head.root):
            true.setdefault(head.size, []).append((head, checkpoint.root))
        else:
            strange += 1
    for size, said in claims.roots.items():
        if len(said) > 1:
            findings.problem(
                session, None, "", f"its log has signed {len(said)} different heads of {size} records: a fork"
            )
    missing = set(published) - true.keys()
    strange += _check_links(session, true, missing, claims, findings)
    unsigned = 0
    for one in cosignatures:
        try:
            if _take_cosignature(session, one, trusted, claims) and one.size not in true:
                missing.add(one.size)
        except ValueError:
            unsigned += 1
    for size in sorted(missing):
        findings.problem(session, None, "", f"the head of {size} records is not in the catalog any more")
    for count, what in ((strange, "heads"), (unsigned, "cosignatures")):
        if count:
            findings.notes.append(
                f"session {session}: {count} row{'s' if count > 1 else ''} of {what} in the catalog that no key "
                "of this log signed as they stand; they prove nothing, and anybody who may write there can "
                "plant them"
            )
    return claims


def _check_links(
    session: str,
    true: dict[int, list[tuple[Head, bytes]]],
    missing: set[int],
    claims: Claims,
    findings: Findings,
) -> int:
    """Check that each head continues another; return how many rows beside those that do say something else."""
    roots = {size: [root for _, root in rows] for size, rows in true.items()} | {0: [EMPTY_ROOT]}
    strange = 0
    for size, rows in true.items():
        good = [
            any(_follows(head, root, old) for old in roots.get(head.previous_size, ())) for head, root in rows
        ]
        if any(good):
            strange += good.count(False)
            pairs = zip(rows, good, strict=True)
            claims.continued[size] = {head.previous_size for (head, _), follows in pairs if follows}
            continue
        for before in sorted({head.previous_size for head, _ in rows}):
            if before not in roots:
                missing.add(before)
                continue
            findings.problem(
                session, None, "",
                f"the published head of {size} records does not continue the one of {before}",
            )  # fmt: skip
    return strange


def _follows(head: Head, root: bytes, before: bytes) -> bool:
    try:
        proof = [decode_base64(text) for text in head.consistency]
        return verify_consistency(head.previous_size, head.size, before, root, proof)
    except ValueError:
        return False


def _take_cosignature(session: str, one: Cosignature, trusted: TrustedKeys, claims: Claims) -> bool:
    """Add what a row claims; return whether its log has signed that head, by the row itself.

    A row is a whole note below its text: the line of the log and the witness's. An older one has the
    witness's alone, which counts only beside a head that the log has signed: else any witness could say
    of a log what it never said.

    Raises
    ------
    ValueError
        It is not signed as it stands.
    """
    root = decode_base64(one.root)
    text = Checkpoint(ORIGIN_PREFIX + session, one.size, root).text
    note = f"{text}\n{one.line}\n"
    lines = one.line.split("\n")
    whole = len(lines) > 1
    if whole:
        read_signed(note, session, trusted)
    elif root not in claims.roots.get(one.size, {}):
        raise ValueError("the log has signed no such head")
    who = witness_of(text, lines[-1], trusted)
    claims.add(one.size, root, f"a head that {who or 'a witness'} has signed")
    if who is not None:
        claims.add_witness(who, one.size)
    return whole


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
