"""What costs most of a journal's verification, done for long journals by a second process.

Of each line that is its form and its two hashes: of the line, to which the next one links, and as a leaf of the
tree. Python runs one thread at a time, so a thread would gain nothing. The second process reads the journal for
itself and has no other part in what is concluded.
"""

from __future__ import annotations

import contextlib
import gc
import os
import struct
import subprocess
import sys
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from queue import Empty, Full, Queue
from typing import IO, Any

from jupyter_llmops.audit.verification.lines import Leaf, line_blocks, strict_leaves

# Half a second of work for one process; starting another one takes a third of that.
_WORTH_BYTES = 30 << 20
_BLOCKS_AHEAD = 3
_SECONDS_WITHOUT_A_BLOCK = 60.0
# Before each block: a word, the block's number, its lines, and how many of them are odd. Something else may have
# written into the pipe, such as a sitecustomize that prints when Python starts.
_HEAD = struct.Struct("<8sQII")
_WORD = b"\xffhashes\n"
_HEX, _HASH = 64, 32


@dataclass(slots=True)
class HashedLines:
    """Some lines of a journal, read and hashed.

    Parameters
    ----------
    leaves : iterator of dict or None
        None where a line is not, or not surely, in the form of RFC 8785. Read one by one: thousands of them at
        a time would keep Python's garbage collector busy.
    digests : list of str
        SHA-256 of the lines, hexadecimal.
    leaf_hashes : list of bytes
        Those of the tree (RFC 6962), 32 bytes each or several joined.
    """

    leaves: Iterator[Leaf | None]
    digests: list[str]
    leaf_hashes: list[bytes]


def hash_lines(lines: list[bytes]) -> HashedLines:
    """Read and hash lines in this process."""
    return HashedLines(
        strict_leaves(lines),
        [sha256(line).hexdigest() for line in lines],
        [sha256(b"\x00" + line).digest() for line in lines],
    )


class LineHasher:
    """Hashes the lines of one journal, with a second process where that pays.

    Parameters
    ----------
    path : Path
        The journal.
    size : int
        How much of it is looked at, bytes.
    """

    def __init__(self, path: Path, size: int) -> None:
        self._process: subprocess.Popen[bytes] | None = None
        self._blocks: Queue[tuple[int, bytes] | None] = Queue(_BLOCKS_AHEAD)
        if size < _WORTH_BYTES or not sys.executable:
            return
        # -P: no module of the folder in which the notebook lies is taken for one of ours.
        command = [sys.executable, "-P", "-m", __name__, str(path), str(size)]
        try:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
            )
        except OSError:
            return
        threading.Thread(target=self._receive, args=(self._process, size), daemon=True).start()

    def hash(self, lines: list[bytes]) -> HashedLines:
        """Return what is known of the next lines of the journal."""
        answer = self._next()
        if answer is None or answer[0] != len(lines):
            self.close()  # it failed, or the file was exchanged meanwhile: what it says is of other lines
            return hash_lines(lines)
        count, data = answer
        text = data[: count * _HEX].decode("ascii")
        digests = [text[place : place + _HEX] for place in range(0, count * _HEX, _HEX)]
        leaf_hashes = data[count * _HEX : count * (_HEX + _HASH)]
        return HashedLines(_read(lines, data[count * (_HEX + _HASH) :]), digests, [leaf_hashes])

    def close(self) -> None:
        """End the second process, if there is one."""
        process, self._process = self._process, None
        if process is not None:
            process.kill()
            with contextlib.suppress(Empty):
                while True:  # so that the thread which receives sees the end
                    self._blocks.get_nowait()
            process.wait()

    def _next(self) -> tuple[int, bytes] | None:
        if self._process is None:
            return None
        try:
            return self._blocks.get(timeout=_SECONDS_WITHOUT_A_BLOCK)
        except Empty:
            return None

    def _receive(self, process: subprocess.Popen[bytes], size: int) -> None:
        assert process.stdout is not None
        with process.stdout as pipe:
            try:
                for block in _blocks_of(pipe, size):
                    self._put(block, process)
            except (OSError, ValueError):  # it was killed or closed meanwhile, or another wrote
                pass
            self._put(None, process)

    def _put(self, block: tuple[int, bytes] | None, process: subprocess.Popen[bytes]) -> None:
        while self._process is process:
            with contextlib.suppress(Full):
                self._blocks.put(block, timeout=0.2)
                return


def _read(lines: list[bytes], odd: bytes) -> Iterator[Leaf | None]:
    """Return the leaves of lines, of which the other process says which ones are not in their form."""
    import orjson

    if not odd:
        return map(orjson.loads, lines)
    strange = set(struct.unpack(f"<{len(odd) // 4}I", odd))
    return (None if number in strange else orjson.loads(line) for number, line in enumerate(lines))


def _blocks_of(pipe: IO[bytes], size: int) -> Iterator[tuple[int, bytes]]:
    """Yield what `_write_blocks` wrote of a file of that many bytes; ValueError where it is something else."""
    number = 0
    while len(head := pipe.read(_HEAD.size)) == _HEAD.size:
        word, of, count, odd = _HEAD.unpack(head)
        if (word, of) != (_WORD, number) or not odd <= count <= size:
            raise ValueError("these are no hashes of the next block")
        wanted = count * (_HEX + _HASH) + odd * 4
        data = pipe.read(wanted)
        if len(data) < wanted:
            return
        yield count, data
        number += 1


def _write_blocks(path: Path, size: int, out: Any) -> None:
    """Write what a `LineHasher` reads: by block its number of lines, the hashes, and which lines are odd."""
    for number, (lines, _) in enumerate(line_blocks(path, size)):
        found = hash_lines(lines)
        odd = [place for place, leaf in enumerate(found.leaves) if leaf is None]
        parts = (
            "".join(found.digests).encode("ascii"),
            *found.leaf_hashes,
            struct.pack(f"<{len(odd)}I", *odd),
        )
        out.write(_HEAD.pack(_WORD, number, len(lines), len(odd)) + b"".join(parts))
        out.flush()


if __name__ == "__main__":
    gc.disable()  # it lives for seconds, and nothing here refers to itself
    # Nothing that is imported may write where the answers go.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with contextlib.suppress(OSError):  # who asked has gone
        _write_blocks(Path(sys.argv[1]), int(sys.argv[2]), answers)
