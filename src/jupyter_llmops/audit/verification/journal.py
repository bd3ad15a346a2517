"""Checking one journal, line by line, in blocks: its form, its chain, its head, its published rows."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from jupyter_llmops.audit.files import NOTHING, Head, Mark, head_path, journal_path
from jupyter_llmops.audit.leaf import HASH, NO_PREVIOUS
from jupyter_llmops.audit.verification.content import ContentCheck
from jupyter_llmops.audit.verification.findings import Findings
from jupyter_llmops.audit.verification.line_hashes import HashedLines, LineHasher
from jupyter_llmops.audit.verification.lines import Leaf, line_blocks, read_line
from jupyter_llmops.audit.verification.tree import LeafTree
from jupyter_llmops.records.run import LEAF_SCHEMA, LEAF_SCHEMAS

_PREFIX = "sha256:"
_READS = 5

TakeLines = Callable[[list[bytes]], None]
TakeLeaf = Callable[[Leaf], None]


class JournalCheck:
    """One journal against itself, its head, its content and its published rows.

    Parameters
    ----------
    folder : Path
        The audit folder.
    session : str
        Name of the session.
    findings : Findings
        Gets what does not fit.
    ids : set of str
        The run ids of all journals that were checked before; those of this one are added.
    take_lines : callable, optional
        Is given the lines, block by block, e.g. to compare them with the log's.
    take_leaf : callable, optional
        Is given the leaf of every record that can be read.
    """

    def __init__(
        self,
        folder: Path,
        session: str,
        findings: Findings,
        ids: set[str],
        *,
        take_lines: TakeLines | None = None,
        take_leaf: TakeLeaf = lambda _: None,
    ) -> None:
        self.folder = folder
        self.session = session
        self.count = 0
        self.first: Leaf = {}
        self.tree = LeafTree()
        self.twice: list[tuple[int, str]] = []
        self.content = ContentCheck(folder, session, findings)
        self._findings = findings
        self._ids = ids
        self._take_lines = take_lines
        self._take_leaf = take_leaf
        self._last = NO_PREVIOUS
        self._last_id = ""
        # What the chain says is wrong: record → its digest and id, where the next one links to another.
        self._breaks: dict[int, tuple[str, str]] = {}
        self._first_link: Any = NO_PREVIOUS

    def run(self, rows: Mapping[int, str]) -> None:
        """Check the whole journal.

        Parameters
        ----------
        rows : mapping of seq to ``sha256:…``
            What the catalog holds of it.
        """
        path = journal_path(self.folder, self.session)
        try:
            size, head_data = self._look()
            rest = b""
            with contextlib.closing(LineHasher(path, size)) as hasher:
                for lines, after in line_blocks(path, size):
                    self._check(lines, hasher.hash(lines), rows)
                    rest = after
        except OSError as error:
            self._problem(None, "", f"the journal can't be read: {error.strerror}")
            return
        head = self._head(head_data)
        self._check_chain(head, rows)
        if head is not None:
            self._check_head(head, rest)
        elif rest:
            self._problem(self.count, "", "the last line is not complete")
        for seq in sorted(seq for seq in rows if not 0 <= seq < self.count):
            self._problem(seq, "", "the record is in the catalog and not in the journal")
        self.content.check_strangers(self.count, closed=head is None or head.closed)

    def _look(self) -> tuple[int, bytes | None]:
        """Return the size of the journal, bytes, and the head that belongs to it; the writer may be alive."""
        head: bytes | None = None
        size = 0
        for _ in range(_READS):
            head = _bytes_of(head_path(self.folder, self.session))
            size = journal_path(self.folder, self.session).stat().st_size
            if head == _bytes_of(head_path(self.folder, self.session)):
                break
        return size, head

    def _check(self, lines: list[bytes], hashed: HashedLines, rows: Mapping[int, str]) -> None:
        # A million records pass here in seconds: what is in order is looked at as little as possible.
        ids, take_leaf = self._ids, self._take_leaf
        last, last_id, session = self._last, self._last_id, self.session
        number = self.count
        for line, digest, known in zip(lines, hashed.digests, hashed.leaves, strict=True):
            leaf = known or self._read_slowly(number, line)
            run_id = leaf.get("id", "")
            if type(run_id) is not str:
                run_id = str(run_id)
            if leaf.get("seq") != number or leaf.get("session") != session or not number:
                self._check_place(number, leaf, run_id)
            if leaf:
                if run_id in ids:
                    self.twice.append((number, run_id))
                ids.add(run_id)
                if leaf.get("digests") or leaf.get("schema") != LEAF_SCHEMA or leaf.get("hash") != HASH:
                    self._check_values(number, leaf, run_id)
                take_leaf(leaf)
            if leaf.get("prev") != last:
                self._note_break(number, leaf, last, last_id)
            if rows and (row := rows.get(number)) is not None and row != _PREFIX + digest:
                self._problem(number, run_id, "the record is not the one that the catalog holds")
            last, last_id = digest, run_id
            number += 1
        self._last, self._last_id, self.count = last, last_id, number
        self.tree.extend(hashed.leaf_hashes)
        if self._take_lines is not None:
            self._take_lines(lines)

    def _read_slowly(self, number: int, line: bytes) -> Leaf:
        leaf, wrong = read_line(line)
        if wrong:
            self._problem(number, _id_in(line), wrong)
        return leaf

    def _check_values(self, number: int, leaf: Leaf, run_id: str) -> None:
        schema = leaf.get("schema")
        if schema not in _UNDERSTOOD:
            if not isinstance(schema, str) or not schema.startswith("llmops.leaf/"):
                self._problem(number, run_id, f"not a record of this trail: schema {schema!r}")
        else:
            if leaf.get("hash") != HASH:
                self._problem(number, run_id, f"unknown hash {leaf.get('hash')!r}")
            digests = leaf.get("digests")
            if digests and type(digests) is dict:
                self.content.check(number, run_id, digests)

    def _note_break(self, number: int, leaf: Leaf, last: str, last_id: str) -> None:
        if number:
            self._breaks[number - 1] = (last, last_id)
        else:
            self._first_link = leaf.get("prev")

    def _check_place(self, number: int, leaf: Leaf, run_id: str) -> None:
        if number == 0:
            self.first = leaf
        if not leaf:
            return
        if leaf.get("session") != self.session:
            self._problem(number, run_id, f"belongs to session {leaf.get('session')!r}")
        if leaf.get("seq") != number:
            self._problem(
                number, run_id, f"its number is {leaf.get('seq')!r}: records were moved, added or removed"
            )
        if number == 0 and leaf.get("kind") != "session":
            self._problem(number, run_id, "the first record is not the session's: the beginning is missing")

    def _check_chain(self, head: Head | None, rows: Mapping[int, str]) -> None:
        """Name the record that was changed where two neighbours do not fit together.

        A record is vouched for by its successor's link, the last one by the head, any by the
        catalog. Where the successor is vouched for, its link is right and the record was changed.
        """
        end = Mark(self.count - 1, self._last)
        end_vouched = head is None or end in (head.stored, head.wanted)
        for number in sorted(self._breaks, reverse=True):
            _, run_id = self._breaks[number]
            following = number + 1
            if following == end.seq:
                sure = end_vouched or rows.get(following) == _PREFIX + end.digest
            else:
                sure = following not in self._breaks or (
                    rows.get(following) == _PREFIX + self._breaks[following][0]
                )
            fault = "it was changed" if sure else f"it or record {following} was changed"
            self._problem(number, run_id, f"{fault}: record {following} remembers another digest")
        if self.count and self._first_link != NO_PREVIOUS:
            self._problem(
                0, str(self.first.get("id", "")),
                "it does not begin the journal: the records before it are missing",
            )  # fmt: skip

    def _head(self, data: bytes | None) -> Head | None:
        if data is None:
            self._problem(
                None, "", "the head of the journal is missing: whether its end was cut can't be said"
            )
            return None
        try:
            return Head.from_bytes(data)
        except ValueError as error:
            self._problem(None, "", f"the head of the journal was changed: {error}")
            return None

    def _check_head(self, head: Head, rest: bytes) -> None:
        last = Mark(self.count - 1, self._last) if self.count else NOTHING
        open_ended = head.wanted.seq == head.stored.seq + 1 and not head.closed
        if head.wanted != head.stored and not open_ended:
            self._problem(None, "", "the head of the journal was changed: it contradicts itself")
        run_id = self._last_id
        if last not in (head.stored, head.wanted):
            if last.seq < head.stored.seq:
                self._problem(
                    last.seq + 1, "", f"records {last.seq + 1} to {head.stored.seq} are missing at the end"
                )
            elif last.seq > head.wanted.seq:
                self._problem(last.seq, run_id, f"records were added after record {head.wanted.seq}")
            else:
                self._problem(last.seq, run_id, "the last record was changed: the head has another digest")
        if rest:
            if open_ended and last == head.stored:
                self._findings.notes.append(
                    f"session {self.session}: its process was stopped while it wrote record {last.seq + 1}; "
                    "the unfinished line does not count"
                )
            else:
                self._problem(last.seq + 1, "", "something was added after the last record")

    def _problem(self, seq: int | None, run_id: str, message: str) -> None:
        self._findings.problem(self.session, seq, run_id, message)


# A tuple is searched by equality, so that a schema that is no text is just another one.
_UNDERSTOOD = tuple(sorted(LEAF_SCHEMAS, reverse=True))


def _bytes_of(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return None


def _id_in(line: bytes) -> str:
    """Return the run id that a damaged line still shows, empty where it shows none."""
    place = line.find(b'"id":"')
    found = line[place + 6 : place + 22] if place >= 0 else b""
    return found.decode("ascii") if len(found) == 16 and found.isalnum() else ""
