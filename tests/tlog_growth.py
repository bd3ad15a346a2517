"""A log that grows, also in children that die at a given moment: python tlog_growth.py, a folder and a moment a line.

The children are forked from a process of its own: a worker of the tests has gigabytes, and each fork copies their map.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from jupyter_llmops.audit.tlog.checkpoint import Checkpoint
from jupyter_llmops.audit.tlog.note import format_note, sign_note
from jupyter_llmops.audit.tlog.tiles import TileStore

KEY = Ed25519PrivateKey.from_private_bytes(b"k" * 32)
OPERATIONS = ((os, "open"), (os, "write"), (os, "link"), (Path, "unlink"), (Path, "replace"), (Path, "rmdir"))


def lines(start: int, stop: int) -> list[bytes]:
    return [b"leaf %d" % number for number in range(start, stop)]


def signed(store: TileStore, size: int) -> bytes:
    return format_note(sign_note(Checkpoint("log", size, store.root(size)).text, "log", KEY))


def grow(folder: Path) -> None:
    """From 250 leaves over a full tile to 515, with a checkpoint after each step."""
    store = TileStore(folder, sync=False)
    for stop in (250, 258, 515):
        if store.size() < stop:
            store.append(lines(store.size(), stop))
        head = store.read_checkpoint()
        if head is None or b"\n%d\n" % stop not in head:
            store.write_checkpoint(signed(store, stop))


def killed_at(folder: Path, moment: int) -> bool:
    """Grow in a child that dies without a word before its `moment`-th change of the disk."""
    child = os.fork()
    if child == 0:
        left = [moment]
        for owner, name in OPERATIONS:
            real = getattr(owner, name)

            def die(*args: Any, real: Any = real, **named: Any) -> Any:
                left[0] -= 1
                if left[0] < 0:
                    os._exit(9)
                return real(*args, **named)

            setattr(owner, name, die)
        try:
            grow(folder)
        finally:
            os._exit(0)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 9


if __name__ == "__main__":
    for line in sys.stdin:
        moment, folder = line.rstrip("\n").split(" ", 1)
        print(int(killed_at(Path(folder), int(moment))), flush=True)
