"""From the content sidecars of this user into the catalog, after a second look for secrets."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from jupyter_llmops.agent.carried import CarriedMemory
from jupyter_llmops.agent.election import agent_file
from jupyter_llmops.agent.own_journal import AgentJournal
from jupyter_llmops.audit.deletions import deleted_runs
from jupyter_llmops.audit.files import JOURNAL_SUFFIX, content_path
from jupyter_llmops.audit.leaf import CONTENT_SCHEMA, content_digest, new_salt, sidecar_bytes
from jupyter_llmops.audit.reading import list_journals, parse_run
from jupyter_llmops.audit.scrubbing import delete_unfinished, replace_content
from jupyter_llmops.audit.sealing import sealing
from jupyter_llmops.audit.sharing import may_share, searchable
from jupyter_llmops.catalog import Catalog
from jupyter_llmops.catalog.contents import RunText
from jupyter_llmops.errors import AuditError, SettingsError
from jupyter_llmops.guard.detect import Detector
from jupyter_llmops.location import Location
from jupyter_llmops.records.run import Run

ROWS_PER_COMMIT = 500
# Of the newest sessions, at the start of an agent.
MOST_COMPARED = 2_000
_SESSIONS_PER_WRITE = 500
_CHUNK = 1 << 20
# Between the tries of a scrub that the disk refuses, in seconds.
_FIRST_PAUSE = 2.0
_LONGEST_PAUSE = 300.0


@dataclass(slots=True)
class _Reading:
    """A journal, and up to where it was read."""

    offset: int = 0
    line: int = 0
    ours: bool | None = None
    shared_to: int = -1
    rows: int = 0
    whole: set[str] | None = (
        None  # the ids that are shared, while the session is looked at from its beginning
    )


@dataclass(frozen=True, slots=True)
class _Start:
    """What an agent that starts remembers of each session (its line, its rows) and finds in the catalog."""

    known: Mapping[str, tuple[int, int]]
    there: Mapping[str, int]
    differing: set[str]


class _CannotScrubError(Exception):
    """A scrub or its word could not be written; the run waits."""


@dataclass(slots=True)
class _Word:
    """What was said of a scrub that is not done yet: a retry does just that and says nothing anew."""

    salt: str
    digests: Mapping[str, str]
    journal: str
    pause: float = 0.0
    not_before: float = 0.0

    def later(self) -> _CannotScrubError:
        """Return why it waits, and have it wait longer each time."""
        self.pause = min(2 * self.pause or _FIRST_PAUSE, _LONGEST_PAUSE)
        self.not_before = time.monotonic() + self.pause
        return _CannotScrubError()


class ContentSharing:
    """Shares what runs of this user said, again and again, reading only what is new.

    Where detect-secrets finds what the kernel's redactor did not, the sidecar on the disk is scrubbed
    too: its texts are redacted and salted anew (without the old salt the digests in its leaf say nothing
    of what was cut), and before that a leaf of kind "scrub" in the agent's own journal names run, kinds
    and the new digests, so that what is left can still be proven.

    What the catalog acknowledged is remembered here. A session of which it has more rows or fewer than that,
    or of which a row says something else (an agent that starts compares those of the newest sessions), is
    looked at from its beginning: rows that say something else than its runs did, or claim to be of it, are
    planted or were forgotten on their way, and are deleted.

    Parameters
    ----------
    folder : Path
        The audit folder of this user.
    catalog : Catalog
        Where to: runs of journals whose session names it.
    journal : AgentJournal, optional
        Where scrubs are recorded; one of its own by default.
    detector : Detector, optional
        Looks.
    """

    def __init__(
        self,
        folder: Path,
        catalog: Catalog,
        journal: AgentJournal | None = None,
        detector: Detector | None = None,
    ) -> None:
        self._folder = Path(folder)
        self._catalog = catalog
        self._detector = detector or Detector()
        self._journals: dict[Path, _Reading] = {}
        self._shared = CarriedMemory(agent_file(folder, catalog.location, "shared"))
        self._rows = CarriedMemory(agent_file(folder, catalog.location, "shared-rows"))
        self._start: _Start | None = None
        self._reached: dict[str, tuple[int, int]] = {}
        self._own = journal or AgentJournal(folder, catalog)
        self._gone: set[str] = set()
        self._words: dict[tuple[str, int], _Word] = {}
        self._swept = False

    def share(self) -> int:
        """Share what is new; return how many runs.

        Raises
        ------
        CatalogError
            The catalog can't be written; what was not shared is tried again at the next call.
        """
        count = 0
        if not self._swept:
            self._sweep()
        self._delete_gone()
        try:
            for path in list_journals(self._folder):
                reading = self._journals.setdefault(path, _Reading())
                try:
                    size = path.stat().st_size
                except OSError:
                    continue
                if size < reading.offset:  # deleted and begun again
                    reading = self._journals[path] = _Reading()
                if size > reading.offset and reading.ours is not False:
                    # One that can't be read for now, or is gone again, must not keep the others waiting.
                    with contextlib.suppress(OSError):
                        count += self._share_journal(path, reading)
                if len(self._reached) >= _SESSIONS_PER_WRITE:
                    self._keep()
        finally:
            self._keep()
        return count

    def close(self) -> None:
        """Close the agent's own journal, where one was begun."""
        self._own.close()

    # -- within -------------------------------------------------------------------------------

    def _sweep(self) -> None:
        """Delete what a killed agent left of a scrub; while that can't be, the next call tries it again."""
        with contextlib.suppress(OSError, AuditError), sealing(self._folder):
            delete_unfinished(self._folder)
            self._swept = True

    def _share_journal(self, path: Path, reading: _Reading) -> int:
        session = path.name.removesuffix(JOURNAL_SUFFIX)
        texts: list[RunText] = []
        count, complete = 0, True
        offset, line = reading.offset, reading.line
        began = line
        for data in _lines_from(path, reading.offset):
            run = None
            if line > reading.shared_to or line == 0:
                run = parse_run(data, session, line)
            if line == 0:
                reading.ours = run is not None and self._is_ours(run)
                if not reading.ours:
                    return 0
                self._recall(session, path, reading)
            if run is not None and run.id and line > reading.shared_to:
                try:
                    text = self._text_of(run)
                except _CannotScrubError:
                    complete = False
                    break
                if text is not None:
                    texts.append(text)
                if run.kind == "forget":
                    self._finish(run.leaf or {})
            offset, line = offset + len(data) + 1, line + 1
            if len(texts) == ROWS_PER_COMMIT:
                count += self._append(texts, reading)
                reading.offset, reading.line, texts = offset, line, []
        count += self._append(texts, reading)
        if complete:
            self._delete_strangers(session, reading)
        if line > max(began, reading.shared_to + 1):
            self._reached[session] = reading.rows, line - 1
        reading.offset, reading.line = offset, line
        return count

    def _keep(self) -> None:
        """Remember up to where sessions were shared, many at once: the memories are written whole."""
        if self._reached:
            self._rows.keep({session: rows for session, (rows, _) in self._reached.items()})
            self._shared.keep({session: line for session, (_, line) in self._reached.items()})
            self._reached.clear()

    def _finish(self, leaf: dict[str, Any]) -> None:
        """Have deleted what a leaf says was forgotten, where the catalog refused that or has it still."""
        ids = deleted_runs(leaf)
        if leaf.get("waits") or self._catalog.contents.count(ids):
            self._gone.update(ids)

    def _append(self, texts: list[RunText], reading: _Reading) -> int:
        added = self._catalog.contents.append(texts)
        if added < len(texts):
            # Shared before, by another agent perhaps; or another's words stand under the ids of these runs.
            # Whatever session those claim: these ids stand in this user's own journal, and with one such row
            # left the true one could not be added.
            wrong = self._catalog.contents.unlike(texts)
            self._catalog.contents.delete([text.id for text in wrong])
            added += self._catalog.contents.append(wrong)
        # What was forgotten while it was on its way must not come back.
        gone = {text.id for text in texts if not content_path(self._folder, text.session, text.seq).exists()}
        self._gone |= gone
        self._delete_gone()
        reading.rows += len(texts) - len(gone)
        if reading.whole is not None:
            reading.whole |= {text.id for text in texts} - gone
        return added

    def _delete_gone(self) -> None:
        """Delete what was forgotten on its way; what the catalog refuses now is deleted at the next call."""
        if self._gone:
            self._catalog.contents.forget(sorted(self._gone))
            self._gone.clear()

    def _delete_strangers(self, session: str, reading: _Reading) -> None:
        """Delete what claims to be said by a session that never said it, or was forgotten."""
        if reading.whole is not None:
            there = self._catalog.contents.ids_of_sessions([session])
            # Only as of this session: a planted row may bear the id of a colleague's run.
            self._catalog.contents.delete(set(there) - reading.whole, session)
            reading.whole = None

    def _recall(self, session: str, path: Path, reading: _Reading) -> None:
        """Go on where the catalog has just as many rows of a session as it acknowledged."""
        start = self._start = self._start or self._look()
        shared_to, rows = start.known.get(session, (-1, 0))
        there = start.there.get(session, 0)
        same = rows == there and session not in start.differing
        if same and 0 <= shared_to < _count_lines(path):
            reading.shared_to, reading.rows = shared_to, rows
        elif there:
            reading.whole = set()

    def _look(self) -> _Start:
        """Read what is remembered and what is there, once, and compare the newest sessions in one look."""
        shared_to, rows = self._shared.read(), self._rows.read()
        known = {session: (line, rows.get(session, 0)) for session, line in shared_to.items()}
        start = _Start(known, self._catalog.contents.counts(), set())
        texts: list[RunText] = []
        left = MOST_COMPARED

        def compare() -> None:
            start.differing.update(text.session for text in self._catalog.contents.unlike(texts))
            texts.clear()

        for path in sorted(list_journals(self._folder), reverse=True):
            session = path.name.removesuffix(JOURNAL_SUFFIX)
            line, count = known.get(session, (-1, 0))
            if not count or count != start.there.get(session):
                continue
            left -= count
            if left < 0:
                break
            with contextlib.suppress(OSError):
                texts += self._shared_before(session, path, line)
            if len(texts) >= ROWS_PER_COMMIT:
                compare()
        compare()
        return start

    def _shared_before(self, session: str, path: Path, shared_to: int) -> Iterator[RunText]:
        for line, data in enumerate(_lines_from(path, 0)):
            run = parse_run(data, session, line) if line <= shared_to else None
            content = None if run is None else _content_of(content_path(self._folder, session, line), run)
            if run is not None and content and (text := self._shared_text(run, content)):
                yield text

    def _is_ours(self, run: Run) -> bool:
        named = (run.leaf or {}).get("catalog")
        if not isinstance(named, str) or not named:
            return False
        try:
            return Location.parse(named) == self._catalog.location
        except SettingsError:  # a leaf that this package did not write
            return False

    def _text_of(self, run: Run) -> RunText | None:
        """Return what is shared of a run, after scrubbing its sidecar where that is needed."""
        word = self._words.get((run.session, run.seq))
        if word is not None and time.monotonic() < word.not_before:
            raise _CannotScrubError
        path = content_path(self._folder, run.session, run.seq)
        content = _content_of(path, run)
        if content is None:
            self._words.pop((run.session, run.seq), None)
            return None
        clean, kinds = self._clean(content)
        if kinds:
            self._scrub(run, clean, kinds)
        return self._shared_text(run, clean)

    def _shared_text(self, run: Run, clean: dict[str, str]) -> RunText | None:
        if not may_share(self._folder, run.session, run.seq):
            return None
        title, text = searchable(clean)
        if not text:
            return None
        return RunText(run.id, run.session, run.seq, run.user, run.kind, title, text, run.started_at)

    def _clean(self, content: dict[str, str]) -> tuple[dict[str, str], tuple[str, ...]]:
        clean: dict[str, str] = {}
        kinds: dict[str, None] = {}
        for name, text in content.items():
            if name == "token_ids":
                continue
            clean[name], found = self._detector.redact(text)
            kinds |= dict.fromkeys(found)
            if name == "response" and found and "token_ids" in content:
                clean["token_ids"] = "[redacted: it spells the answer out]"  # noqa: S105
        if "token_ids" in content:
            clean.setdefault("token_ids", content["token_ids"])
        return clean, tuple(kinds)

    def _scrub(self, run: Run, clean: dict[str, str], kinds: tuple[str, ...]) -> None:
        place = (run.session, run.seq)
        word = self._words.get(place)
        salt = word.salt if word is not None else new_salt()
        digests = {name: content_digest(salt, name, text) for name, text in clean.items()}
        if word is None or word.digests != digests or word.journal != self._own.session:
            fields = {
                "of": run.id, "of_session": run.session, "of_seq": run.seq, "kinds": list(kinds),
                "digests": digests,
            }  # fmt: skip
            written = self._own.stamp("scrub", {"runs": [fields]})
            word = self._words[place] = _Word(salt, digests, self._own.session)
        else:
            written = self._own.flush()
        if not written:
            raise word.later()
        data = sidecar_bytes(run.session, run.seq, run.id, salt, clean)
        try:
            replace_content(self._folder, run.session, run.seq, data)
        except (OSError, AuditError) as error:
            raise word.later() from error
        del self._words[place]


def _lines_from(path: Path, offset: int) -> Iterator[bytes]:
    """Yield the complete lines of a file from an offset on, without their newlines."""
    rest = b""
    with path.open("rb") as file:
        file.seek(offset)
        while chunk := file.read(_CHUNK):
            *lines, rest = (rest + chunk).split(b"\n")
            yield from lines


def _count_lines(path: Path) -> int:
    with path.open("rb") as file:
        return sum(chunk.count(b"\n") for chunk in iter(lambda: file.read(_CHUNK), b""))


def _content_of(path: Path, run: Run) -> dict[str, str] | None:
    """Return a run's texts; None where there are none, or what is there is another's (`verify` says so)."""
    try:
        values = json.loads(path.read_bytes())
        if values["schema"] != CONTENT_SCHEMA or values["id"] != run.id:
            return None
        return {str(name): str(text) for name, text in values["content"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError, RecursionError):
        return None
