"""Checking the trail: every byte of it is covered by something, and a fault is named.

What this proves: nobody who did not also rewrite the chain, the head and the published rows has
changed, removed, added or reordered a record. What it does NOT prove:

- that the records are true: the process that writes them runs as the user, who can write others;
- that nothing was left out: a cell run without the extension leaves no record;
- anything against the owner of the files, as far as nothing was published: there is no signature and
  no witness yet, and all of an unpublished tail, chain and head can be made anew. The notes say
  "unwitnessed" for that reason;
- anything about content that was deleted: its digests can't be compared any more.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from jupyter_llmops.audit.files import (
    CONTENT_FOLDER,
    NOTHING,
    Head,
    Mark,
    content_path,
    head_path,
    journal_path,
)
from jupyter_llmops.audit.leaf import HASH, NO_PREVIOUS, canonical, content_digest, line_digest, sidecar_bytes
from jupyter_llmops.audit.reading import complete_lines, list_journals
from jupyter_llmops.records.run import LEAF_SCHEMAS, Problem, Verification

UNWITNESSED = (
    "verified, unwitnessed: no second key has signed these records, so their owner could have made them anew"
)
_PREFIX = "sha256:"
_READS = 5


def verify(folder: Path, *, published: Mapping[str, Mapping[int, str]] | None = None) -> Verification:
    """Check every journal of an audit folder and every content sidecar beside it.

    Parameters
    ----------
    folder : Path
        The audit folder.
    published : mapping of session to mapping of seq to ``sha256:…``
        What the shared catalog holds. Pass only the sessions that must lie in `folder` (those of
        this user and host): one that is not there is a problem.
    """
    folder = Path(folder)
    published = published or {}
    problems: list[Problem] = []
    notes: list[str] = []
    owners: dict[str, tuple[str, int]] = {}
    journals = list_journals(folder)
    records = 0
    for path in journals:
        check = _JournalCheck(folder, path.name.removesuffix(path.suffix), owners)
        records += check.run(published.get(check.session, {}))
        problems += check.problems
        notes += check.notes
    here = {path.name.removesuffix(path.suffix) for path in journals}
    problems += _missing_journals(folder, here, published)
    if records and not problems:
        notes.append(UNWITNESSED)
    return Verification(len(journals), records, tuple(problems), tuple(notes))


def _missing_journals(
    folder: Path, here: set[str], published: Mapping[str, Mapping[int, str]]
) -> Iterator[Problem]:
    traces = {path.name.removesuffix(path.suffix) for path in head_path(folder, "x").parent.glob("*.head")}
    traces |= {
        path.name for path in (folder / CONTENT_FOLDER).glob("*") if path.is_dir() and any(path.iterdir())
    }
    for session in sorted((traces | {name for name, rows in published.items() if rows}) - here):
        rows = published.get(session, {})
        what = f"{len(rows)} of its records are in the catalog" if rows else "its other files are still here"
        yield Problem(session, None, "", f"the journal of session {session} is missing: {what}")


class _JournalCheck:
    """One journal, line by line."""

    def __init__(self, folder: Path, session: str, owners: dict[str, tuple[str, int]]) -> None:
        self.folder = folder
        self.session = session
        self.owners = owners
        self.problems: list[Problem] = []
        self.notes: list[str] = []
        self._deleted: list[int] = []
        self._with_content: set[int] = set()

    def run(self, rows: Mapping[int, str]) -> int:
        """Check the journal against itself, its head, its content and its published rows."""
        try:
            data, head_data = self._read()
        except OSError as error:
            self._problem(None, "", f"the journal can't be read: {error.strerror}")
            return 0
        lines, rest = complete_lines(data)
        marks: list[Mark] = []
        ids: list[str] = []
        links: list[Any] = []
        for number, line in enumerate(lines):
            leaf = self._leaf(number, line)
            run_id = str(leaf.get("id", ""))
            self._check_place(number, leaf, run_id)
            if leaf and leaf.get("schema") in LEAF_SCHEMAS:
                self._check_content(number, leaf, run_id)
            marks.append(Mark(number, line_digest(line)))
            ids.append(run_id)
            links.append(leaf.get("prev"))
        head = self._head(head_data)
        self._check_chain(marks, ids, links, head, rows)
        if head is not None:
            self._check_head(head, marks, ids, rest)
        elif rest:
            self._problem(len(lines), "", "the last line is not complete")
        self._check_rows(marks, ids, rows)
        self._check_strangers(len(lines))
        if self._deleted:
            some = ", ".join(str(seq) for seq in self._deleted[:5]) + (
                ", …" if len(self._deleted) > 5 else ""
            )
            self.notes.append(
                f"session {self.session}: the content of {len(self._deleted)} records was deleted (seq {some}); "
                "what they held can't be checked any more"
            )
        return len(lines)

    def _read(self) -> tuple[bytes, bytes | None]:
        # The writer may be alive: take a journal and a head that belong together.
        head: bytes | None = None
        data = b""
        for _ in range(_READS):
            head = _bytes_of(head_path(self.folder, self.session))
            data = journal_path(self.folder, self.session).read_bytes()
            if head == _bytes_of(head_path(self.folder, self.session)):
                break
        return data, head

    def _leaf(self, number: int, line: bytes) -> dict[str, Any]:
        try:
            leaf = json.loads(line)
            same = isinstance(leaf, dict) and canonical(leaf) == line
        except (ValueError, RecursionError) as error:
            self._problem(number, _id_in(line), f"the line can't be read as a record: {error}")
            return {}
        if not same:
            self._problem(number, _id_in(line), "the line was changed: it is not in its canonical form")
        return leaf if isinstance(leaf, dict) else {}

    def _check_place(self, number: int, leaf: dict[str, Any], run_id: str) -> None:
        if not leaf:
            return
        schema = leaf.get("schema")
        if not isinstance(schema, str) or not schema.startswith("llmops.leaf/"):
            self._problem(number, run_id, f"not a record of this trail: schema {schema!r}")
        if schema in LEAF_SCHEMAS and leaf.get("hash") != HASH:
            self._problem(number, run_id, f"unknown hash {leaf.get('hash')!r}")
        if leaf.get("session") != self.session:
            self._problem(number, run_id, f"belongs to session {leaf.get('session')!r}")
        if leaf.get("seq") != number:
            self._problem(
                number, run_id, f"its number is {leaf.get('seq')!r}: records were moved, added or removed"
            )
        if number == 0 and leaf.get("kind") != "session":
            self._problem(number, run_id, "the first record is not the session's: the beginning is missing")
        owner = self.owners.setdefault(run_id, (self.session, number))
        if owner != (self.session, number):
            self._problem(number, run_id, f"its id stands in session {owner[0]}, record {owner[1]}, too")

    def _check_chain(
        self, marks: list[Mark], ids: list[str], links: list[Any], head: Head | None, rows: Mapping[int, str]
    ) -> None:
        """Name the record that was changed where two neighbours do not fit together.

        A record is vouched for by its successor's link, the last one by the head, any by the
        catalog. Where the successor is vouched for, its link is right and the record was changed.
        """
        after_vouched = True
        for mark in reversed(marks):
            number = mark.seq
            last = number == len(marks) - 1
            if last:
                vouched = head is None or mark in (head.stored, head.wanted)
            else:
                vouched = links[number + 1] == mark.digest
            if not vouched and not last:
                fault = "it was changed" if after_vouched else f"it or record {number + 1} was changed"
                self._problem(number, ids[number], f"{fault}: record {number + 1} remembers another digest")
            after_vouched = vouched or rows.get(number) == _PREFIX + mark.digest
        if marks and links[0] != NO_PREVIOUS:
            self._problem(0, ids[0], "it does not begin the journal: the records before it are missing")

    def _check_content(self, number: int, leaf: dict[str, Any], run_id: str) -> None:
        digests = leaf.get("digests")
        if not isinstance(digests, dict) or not digests:
            return
        self._with_content.add(number)
        try:
            data = _bytes_of(content_path(self.folder, self.session, number))
        except OSError as error:
            self._problem(number, run_id, f"its content can't be read: {error.strerror}")
            return
        if not data:  # deleted, or emptied by a loss of power
            self._deleted.append(number)
            return
        try:
            values = json.loads(data)
            salt, content = values["salt"], values["content"]
            whole = sidecar_bytes(self.session, number, run_id, salt, content) == data
            found = {name: content_digest(salt, name, text) for name, text in content.items()}
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError):
            whole, found = False, {}
        if found != digests:
            changed = sorted(name for name in {*found, *digests} if found.get(name) != digests.get(name))
            self._problem(number, run_id, f"its content was changed ({', '.join(changed)})")
        elif not whole:
            self._problem(number, run_id, "its content's file was changed")

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

    def _check_head(self, head: Head, marks: list[Mark], ids: list[str], rest: bytes) -> None:
        last = marks[-1] if marks else NOTHING
        open_ended = head.wanted.seq == head.stored.seq + 1 and not head.closed
        if head.wanted != head.stored and not open_ended:
            self._problem(None, "", "the head of the journal was changed: it contradicts itself")
        run_id = ids[-1] if ids else ""
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
                self.notes.append(
                    f"session {self.session}: its process was stopped while it wrote record {last.seq + 1}; "
                    "the unfinished line does not count"
                )
            else:
                self._problem(last.seq + 1, "", "something was added after the last record")

    def _check_rows(self, marks: list[Mark], ids: list[str], rows: Mapping[int, str]) -> None:
        for seq, digest in sorted(rows.items()):
            if not 0 <= seq < len(marks):
                self._problem(seq, "", "the record is in the catalog and not in the journal")
            elif _PREFIX + marks[seq].digest != digest:
                self._problem(seq, ids[seq], "the record is not the one that the catalog holds")

    def _check_strangers(self, count: int) -> None:
        # A sidecar is written before its line, so one beyond the end is what a kill leaves.
        folder = content_path(self.folder, self.session, 0).parent
        for path in sorted(folder.glob("*")) if folder.is_dir() else ():
            known = path.suffix == ".json" and path.stem.isdecimal() and str(int(path.stem)) == path.stem
            seq = int(path.stem) if known else None
            if seq is None or (seq not in self._with_content and seq != count):
                self._problem(seq, "", f"{path.name} is content that belongs to no record")

    def _problem(self, seq: int | None, run_id: str, message: str) -> None:
        where = f"session {self.session}" + (f", record {seq}" if seq is not None else "")
        where += f" (run {run_id})" if run_id else ""
        self.problems.append(Problem(self.session, seq, run_id, f"{where}: {message}"))


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
