"""Checking a session's transparency log on disk: every tile and bundle against the journal, and the checkpoint."""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING

from jupyter_llmops.audit.head_links import HANDED_FILE, HEADS_FILE
from jupyter_llmops.audit.verification.findings import Findings
from jupyter_llmops.audit.verification.tree import LeafTree

if TYPE_CHECKING:
    from jupyter_llmops.audit.tlog.checkpoint import Checkpoint
    from jupyter_llmops.audit.verification.signatures import TrustedKeys

LOG_FOLDER = "log"
WIDTH = 256
_HASH = 32
_TILE = re.compile(r"tile/(entries|0|[1-9]\d?)/((?:x\d{3}/)*\d{3})(?:\.p/([1-9]\d{0,2}))?", re.ASCII)
_LOCK_SUFFIX = ".lock"
_BESIDE = ("checkpoint", HEADS_FILE, HANDED_FILE)


def log_folder(folder: Path, session: str) -> Path:
    """Return where a session's transparency log lies in the audit folder."""
    return folder / LOG_FOLDER / session


class LogFolderCheck:
    """The log of one session; make it before the journal is read, as the log follows the journal.

    Parameters
    ----------
    folder : Path
        The audit folder.
    session : str
        Name of the session.
    findings : Findings
        Gets what does not fit.
    """

    def __init__(self, folder: Path, session: str, findings: Findings) -> None:
        self.checkpoint: Checkpoint | None = None
        self.checkpoint_data: bytes | None = None
        self._place = log_folder(folder, session)
        self._session = session
        self._findings = findings
        # By level (-1 for the bundles of entries) and index: the widths that are there.
        self._tiles: dict[tuple[int, int], set[int]] = {}
        self._pending: list[bytes] = []
        self._index = 0
        self._list()

    @property
    def present(self) -> bool:
        """Whether there is anything of a log."""
        return self.checkpoint_data is not None or bool(self._tiles)

    def _list(self) -> None:
        try:
            self.checkpoint_data = (self._place / "checkpoint").read_bytes()
        except FileNotFoundError:
            pass
        except OSError as error:
            self._problem(None, f"the checkpoint of its log can't be read: {error.strerror}")
        for place, folders, names in os.walk(self._place):
            folders.sort()
            for name in sorted(names):
                path = (Path(place) / name).relative_to(self._place).as_posix()
                if name.startswith(".") or name.endswith(_LOCK_SUFFIX) or path in _BESIDE:
                    continue  # what a kill leaves of a file that was being written, or of a retention
                found = _TILE.fullmatch(path)
                width = int(found[3] or WIDTH) if found else 0
                if found is None or width > WIDTH or (found[3] and width == WIDTH):
                    self._problem(None, f"{path} does not belong to its log")
                    continue
                index = int(found[2].replace("x", "").replace("/", ""))
                level = -1 if found[1] == "entries" else int(found[1])
                self._tiles.setdefault((level, index), set()).add(width)

    def take_lines(self, lines: list[bytes]) -> None:
        """Compare the next lines of the journal with the log's entries."""
        self._pending += lines
        while len(self._pending) >= WIDTH:
            self._check_entries(self._pending[:WIDTH])
            del self._pending[:WIDTH]

    def finish(self, tree: LeafTree, trusted: TrustedKeys | None) -> None:
        """Check what is left: the last entries, the tiles, the checkpoint."""
        if self._pending:
            self._check_entries(self._pending)
        available = tree.size
        for level, index in sorted(self._tiles):
            if level < 0:
                if index * WIDTH >= available:
                    self._beyond(available)
                continue
            for width in sorted(self._tiles[level, index]):
                self._check_tile(tree, level, index, width)
        if self.checkpoint_data is None:
            return
        self.checkpoint = self._read_checkpoint(trusted)
        if self.checkpoint is None:
            return
        size = self.checkpoint.size
        if size > available:
            self._problem(
                available,
                f"records {available} to {size - 1} are missing at the end: the log has signed {size}",
            )
            return
        if tree.root(size) != self.checkpoint.root:
            self._problem(None, f"its first {size} records are not those that its log has signed")
        for level in range((max(size, 1).bit_length() + 7) // 8):
            self._require(level, size >> (8 * level))
        self._require(-1, size)

    def _check_entries(self, lines: list[bytes]) -> None:
        index, self._index = self._index, self._index + 1
        widths = self._tiles.get((-1, index))
        if not widths:
            return
        parts = [len(line).to_bytes(4)[2:] + line for line in lines]
        for width in sorted(widths):
            data = self._read(-1, index, width)
            if data is None:
                continue
            if width > len(parts):
                self._beyond(index * WIDTH + len(parts))
                continue
            if data != b"".join(parts[:width]):
                place, number = 0, 0
                while number < width and data[place : place + len(parts[number])] == parts[number]:
                    place += len(parts[number])
                    number += 1
                record = index * WIDTH + min(number, width - 1)
                self._problem(record, "the record is not the one that its log holds")

    def _check_tile(self, tree: LeafTree, level: int, index: int, width: int) -> None:
        data = self._read(level, index, width)
        if data is None:
            return
        expected = tree.hashes(8 * level, index * WIDTH, index * WIDTH + width)
        if len(expected) < width * _HASH:
            self._beyond(tree.size)
        elif data != expected:
            number = next(
                (n for n in range(width) if data[n * _HASH : (n + 1) * _HASH] != expected[n * _HASH : (n + 1) * _HASH]),
                width - 1,
            )  # fmt: skip
            record = (index * WIDTH + number) << (8 * level)
            what = "record" if not level else f"{1 << (8 * level):,} records"
            self._problem(record, f"its log has another hash for the {what} from here on")

    def _require(self, level: int, count: int) -> None:
        """See that every tile is there which a log with `count` hashes on this level must have."""
        missing = [
            index
            for index in range((count + WIDTH - 1) // WIDTH)
            if max(self._tiles.get((level, index), {0})) < min(WIDTH, count - index * WIDTH)
            and not self._came(level, index)
        ]
        if missing:
            kind = "entries" if level < 0 else "hashes"
            first = missing[0] * WIDTH << (8 * max(level, 0))
            self._problem(first, f"{len(missing)} files with {kind} of its log are missing, from here on")

    def _came(self, level: int, index: int) -> bool:
        # A sealer that is alive takes partial tiles away once the full one is there.
        return _tile_path(self._place, level, index, WIDTH).is_file()

    def _read(self, level: int, index: int, width: int) -> bytes | None:
        path = _tile_path(self._place, level, index, width)
        try:
            return path.read_bytes()
        except FileNotFoundError:
            self._tiles[level, index] = self._tiles[level, index] - {width}
        except OSError as error:
            self._problem(None, f"{path.name} of its log can't be read: {error.strerror}")
        return None

    def _beyond(self, available: int) -> None:
        sentence = f"records are missing from {available} on: its log holds more than the journal"
        if not any(sentence in problem.message for problem in self._findings.problems):
            self._problem(available, sentence)

    def _read_checkpoint(self, trusted: TrustedKeys | None) -> Checkpoint | None:
        from jupyter_llmops.audit.tlog.checkpoint import parse_checkpoint
        from jupyter_llmops.audit.tlog.note import parse_note
        from jupyter_llmops.audit.verification.signatures import read_signed

        assert self.checkpoint_data is not None
        try:
            if trusted is None:
                return parse_checkpoint(parse_note(self.checkpoint_data).text)
            return read_signed(self.checkpoint_data, self._session, trusted)
        except ValueError as error:
            self._problem(None, f"the checkpoint of its log was changed: {error}")
            return None

    def _problem(self, seq: int | None, message: str) -> None:
        self._findings.problem(self._session, seq, "", message)


def _tile_path(place: Path, level: int, index: int, width: int) -> Path:
    parts = [f"{index % 1000:03d}"]
    while index := index // 1000:
        parts.append(f"x{index % 1000:03d}")
    path = place / "tile" / ("entries" if level < 0 else str(level)) / "/".join(reversed(parts))
    return path if width == WIDTH else path.with_name(f"{path.name}.p") / str(width)
