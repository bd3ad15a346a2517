"""Whether a record says who deleted content, and whether that record may say it."""

from __future__ import annotations

from collections.abc import Collection
from pathlib import Path
from typing import Final

from jupyter_llmops.audit.deletions import Deletions
from jupyter_llmops.audit.verification.content import ContentCheck
from jupyter_llmops.audit.verification.findings import Findings, some
from jupyter_llmops.audit.verification.lines import Leaf, line_blocks, read_line

DELETING: Final = ("forget", "scrub", "retention")
_KINDS: Final = tuple(f'"kind":"{kind}"'.encode() for kind in DELETING)


def late_words(path: Path, count: int) -> tuple[str, list[Leaf]]:
    """Return the role of a journal's session and what it says of deletions from one record on.

    Parameters
    ----------
    path : Path
        The journal; one that can't be read says nothing.
    count : int
        How many of its records were taken before.
    """
    role, leaves, number = "", [], 0
    try:
        for lines, _ in line_blocks(path, path.stat().st_size):
            for line in lines:
                if number == 0 or (number >= count and any(kind in line for kind in _KINDS)):
                    leaf = read_line(line)[0]
                    role = role if number else str(leaf.get("role", ""))
                    if number >= count and leaf.get("kind") in DELETING:
                        leaves.append(leaf)
                number += 1
    except OSError:
        return role, []
    return role, leaves


class DeletionWords:
    """What the records of all sessions say was deleted.

    Parameters
    ----------
    findings : Findings
        Gets what does not fit.

    Attributes
    ----------
    said : Deletions
        What counts.
    """

    def __init__(self, findings: Findings) -> None:
        self.said = Deletions()
        self._findings = findings
        # Words of scrubs in sessions that are not the agent's, and in which of them a retention left no links.
        self._strange: list[tuple[str, Leaf]] = []
        self._old_retentions: set[str] = set()

    def take(self, leaf: Leaf, session: str, role: str) -> None:
        """Take a record of a kind in `DELETING` from a session of a role."""
        if leaf.get("kind") == "scrub" and role != "agent":
            self._strange.append((session, leaf))
            return
        if leaf.get("kind") == "retention":
            pruned = Deletions().read([leaf]).pruned.values()
            if any(not one.links for one in pruned):
                self._old_retentions.add(session)
        self.said.read([leaf])

    def judge_weak(self) -> None:
        """Once all are taken, judge what other sessions say of the agent.

        Older versions carried the agent's words on in the session that pruned the agent's. So a word with the
        moment at which it was said first, beside such a retention, is believed where the agent says nothing else.
        """
        carried: dict[str, int] = {}
        weak = Deletions()
        for session, leaf in self._strange:
            if leaf.get("said_at") and session in self._old_retentions:
                weak.read([leaf])
                carried[session] = carried.get(session, 0) + 1
                continue
            seq, run_id = leaf.get("seq"), str(leaf.get("id", ""))
            self._findings.problem(
                session, seq if type(seq) is int else None, run_id,
                "it says that content was scrubbed, which only the agent does, and its session is not the agent's",
            )  # fmt: skip
        for place, word in weak.scrubbed.items():
            self.said.scrubbed.setdefault(place, word)
        for session, count in carried.items():
            what = "1 record says" if count == 1 else f"{count:,} records say"
            self._findings.notes.append(
                f"session {session}: {what} that content was scrubbed, in a session that is not the agent's, as "
                "older versions carried it on beside a retention; this user could have written that, too"
            )

    def judge_content(self, session: str, content: ContentCheck) -> None:
        """Say of content that is gone or another whether a record says who did it."""
        said: dict[str, list[int]] = {}
        for seq, run_id in content.deleted:
            place = (session, seq)
            if (word := self.said.forgotten.get(place)) is not None:
                said.setdefault(f"forgotten {word.said}", []).append(seq)
            elif (word := self.said.scrubbed.get(place)) is not None:
                kinds = f" ({', '.join(word.kinds)})" if word.kinds else ""
                said.setdefault(f"deleted {word.said}, as it held secrets{kinds}", []).append(seq)
            else:
                self._findings.problem(
                    session, seq, run_id,
                    "its content was deleted without a word, or lost with a full disk or the power",
                )  # fmt: skip
        for words, seqs in said.items():
            self._findings.notes.append(
                f"session {session}: {_contents(seqs)} {words}; what it was can't be checked any more"
            )
        scrubbed: list[int] = []
        secrets: dict[str, None] = {}
        for seq, run_id, message, digests in content.changed:
            word = self.said.scrubbed.get((session, seq))
            if word is not None and digests and digests in word.digests:
                scrubbed.append(seq)
                secrets |= dict.fromkeys(word.kinds)
            else:
                self._findings.problem(session, seq, run_id, message)
        if scrubbed:
            self._findings.notes.append(
                f"session {session}: {_contents(scrubbed)} scrubbed by the agent, as it held secrets "
                f"({', '.join(secrets)}); what is left is what its record says, what was taken out can't be "
                "checked any more, and this user could have written such a record, too"
            )


def _contents(seqs: Collection[int]) -> str:
    what = "the content of 1 record" if len(seqs) == 1 else f"the contents of {len(seqs):,} records"
    verb = "was" if len(seqs) == 1 else "were"
    return f"{what} (seq {some([str(seq) for seq in seqs])}) {verb}"
