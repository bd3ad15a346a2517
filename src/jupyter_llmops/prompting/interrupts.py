"""Ctrl-C at a moment of our choice: what belongs together happens together."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType


@contextmanager
def postponed_interrupt() -> Iterator[None]:
    """Let a Ctrl-C that comes inside of the block take effect at its end.

    An answer that is paid for is stored, stamped and counted, or none of it. Only the main thread
    gets signals; in another one, and where an embedding program has its own C handler, nothing changes.
    """
    before = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or before is None:
        yield
        return
    caught: list[FrameType | None] = []
    signal.signal(signal.SIGINT, lambda _number, frame: caught.append(frame))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if caught and callable(before):
        before(signal.SIGINT, caught[0])
