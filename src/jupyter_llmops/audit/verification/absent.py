"""Sessions whose journal is not there: pruned with a word, another home's, or gone without one."""

from __future__ import annotations

import base64
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Literal

from jupyter_llmops.audit.deletions import Pruned
from jupyter_llmops.audit.files import CONTENT_FOLDER, content_path, head_path
from jupyter_llmops.audit.head_links import HEADS_FILE, linked_heads
from jupyter_llmops.audit.verification.findings import Findings
from jupyter_llmops.audit.verification.heads import Claims, said_root
from jupyter_llmops.audit.verification.log_folder import LOG_FOLDER, log_folder
from jupyter_llmops.audit.verification.signatures import TrustedKeys, is_signed, read_signed
from jupyter_llmops.records.trail import Head

_FIRST_CONTENTS = {"0.json", "1.json"}


def sessions_with_traces(folder: Path) -> set[str]:
    """Return the sessions of which anything but the journal is in an audit folder."""
    traces = {path.name.removesuffix(path.suffix) for path in head_path(folder, "x").parent.glob("*.head")}
    for place in (folder / CONTENT_FOLDER, folder / LOG_FOLDER):
        traces |= {path.name for path in place.glob("*") if path.is_dir() and any(path.iterdir())}
    return traces


def check_pruned(
    folder: Path,
    session: str,
    pruned: Pruned,
    rows: Mapping[int, str],
    claims: Claims,
    trusted: TrustedKeys | None,
    findings: Findings,
) -> None:
    """Check that what a retention left of a session is what was signed of it."""
    left = {path.name for path in log_folder(folder, session).glob("*") if not path.name.endswith(".lock")}
    if head_path(folder, session).exists() or left - {"checkpoint", HEADS_FILE}:
        findings.problem(session, None, "", f"only a part of what {pruned.by.said} was to be pruned is gone")
    try:
        data = (log_folder(folder, session) / "checkpoint").read_bytes()
        if trusted is not None:
            _check_left(data, session, pruned, trusted)
    except OSError:
        findings.problem(session, None, "", "the checkpoint that its retention left is missing")
    except ValueError as error:
        findings.problem(session, None, "", f"the checkpoint that its retention left was changed: {error}")
    smaller = _smaller_heads(folder, session, pruned, findings)
    for size, said in sorted(claims.roots.items()):
        if size > pruned.size:
            findings.problem(
                session, None, "",
                f"it was pruned as if it had {pruned.size} records, and {next(iter(said.values()))} has {size}",
            )  # fmt: skip
        elif size == pruned.size and any(said_root(root) != pruned.root for root in said):
            findings.problem(session, None, "", "it was pruned under another root than the published one")
        elif size < pruned.size and smaller is not None:
            _hold_to_smaller(session, size, said, smaller.get(size), claims, pruned, findings)
    for seq in sorted(rows):
        last = seq == pruned.size - 1 and pruned.head
        if not 0 <= seq < pruned.size or (last and rows[seq] != f"sha256:{pruned.head}"):
            findings.problem(session, seq, "", "the record in the catalog is not one that was pruned")


def _smaller_heads(folder: Path, session: str, pruned: Pruned, findings: Findings) -> dict[int, bytes] | None:
    try:
        return linked_heads(folder, session, pruned.size, base64.b64decode(pruned.root))
    except OSError:
        if not pruned.links:  # an older version left none
            return {}
        findings.problem(session, None, "", "the list of heads that its retention left is missing")
    except ValueError as error:
        findings.problem(session, None, "", f"the list of heads that its retention left was changed: {error}")
    return None


def _hold_to_smaller(
    session: str,
    size: int,
    said: Mapping[bytes, str],
    root: bytes | None,
    claims: Claims,
    pruned: Pruned,
    findings: Findings,
) -> None:
    """Compare what is claimed of a pruned log's first records with what was published of them."""
    if root is None and size in claims.leading_to(pruned.size):
        return  # the catalog's own rows prove it; another root of the same size is a fork, and said
    for claimed, by in said.items():
        if root is None:
            message = (
                f"{by} of {size} records can't be checked any more: the session was pruned, and no head of as "
                "many records had been published"
            )
            if size in claims.only_kept:
                # Any head that was ever signed may be kept, and only those that were given away are linked.
                findings.notes.append(f"session {session}: {message}")
            else:
                findings.problem(session, None, "", message)
        elif claimed != root:
            findings.problem(
                session, None, "",
                f"its records were rewritten before it was pruned: what is left does not continue {by} "
                f"of {size} records",
            )  # fmt: skip


def _check_left(data: bytes, session: str, pruned: Pruned, trusted: TrustedKeys) -> None:
    checkpoint = read_signed(data, session, trusted)
    if (checkpoint.size, said_root(checkpoint.root)) != (pruned.size, pruned.root):
        raise ValueError("it is not the one that the retention's record names")


def whose(
    session: str, heads: Sequence[Head], notes: Iterable[bytes | str], trusted: TrustedKeys | None
) -> Literal["own", "team", "unknown"]:
    """Return who has signed an absent session: this home, another key that the team names for it, or nobody known.

    Two homes of one user need not share a team's key, and then neither can tell the other's rows from planted ones.

    Parameters
    ----------
    session : str
        Its name.
    heads : sequence of Head
        The catalog's rows of it.
    notes : iterable of bytes or str
        What else there is of it that may be signed by this home's key, which no other home has.
    trusted : TrustedKeys
        This home's keys, and those that the team has named for the same user and host.
    """
    if trusted is None:
        return "own"  # then only what must be here was asked for
    # A key that was replaced was this home's all the same: else moving it away would hide a loss.
    mine = {*trusted.own, *trusted.former}
    own = [key for key in trusted.of(session) if key.public in mine]
    others = [key for key in trusted.of(session) if key.public not in mine]
    signed = [*(head.checkpoint for head in heads), *notes]
    if any(is_signed(note, own) for note in signed):
        return "own"
    return "team" if any(is_signed(note, others) for note in signed) else "unknown"


def began_only(folder: Path, session: str) -> bool:
    """Return whether all that there is of a session is what a kill in its first cell leaves.

    Content is written before its line, so its journal may not have been made.
    """
    names = {path.name for path in content_path(folder, session, 0).parent.glob("*")}
    log = log_folder(folder, session)
    return (
        names <= _FIRST_CONTENTS
        and not head_path(folder, session).exists()
        and not (log.is_dir() and any(log.iterdir()))
    )
