"""Answers of this process in memory, so that a repeated hit reads no file."""

from __future__ import annotations

import threading
from collections import OrderedDict
from typing import NamedTuple

from jupyter_llmops.cache.answer import StoredAnswer
from jupyter_llmops.cache.item_folder import FileMark
from jupyter_llmops.records.cache import CacheResult


class Recalled(NamedTuple):
    """A verified answer.

    Parameters
    ----------
    answer : StoredAnswer
        The answer.
    path : str
        Its file.
    mark : FileMark
        What that must still have, so that it is given out.
    result : CacheResult
        It as a hit.
    """

    answer: StoredAnswer
    path: str
    mark: FileMark
    result: CacheResult


class Recall:
    """The answers that were read or written last, each with the mark of the file it was verified from.

    An answer is given out only while that very file (device, inode, size, time of change) lies in
    place: what somebody cleared is a miss here too, and what somebody replaced is read and verified
    anew. So a hit from memory means what a hit from disk means.

    Parameters
    ----------
    most : int
        Number of answers.
    largest_bytes : int
        Bytes of their files, all together.
    """

    def __init__(self, most: int = 1024, largest_bytes: int = 32 * 2**20) -> None:
        self._most = most
        self._largest_bytes = largest_bytes
        self._held = 0
        self._answers: OrderedDict[str, Recalled] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: str) -> Recalled | None:
        """Return an answer."""
        with self._lock:
            found = self._answers.get(key)
            if found is not None:
                self._answers.move_to_end(key)
            return found

    def put(self, recalled: Recalled) -> None:
        """Keep an answer, and drop the least used ones beyond the bounds."""
        key = recalled.answer.key
        with self._lock:
            self._drop(key)
            self._answers[key] = recalled
            self._held += _bytes(recalled.mark)
            while len(self._answers) > self._most or self._held > self._largest_bytes:
                self._drop(next(iter(self._answers)))

    def drop(self, key: str) -> None:
        """Forget one answer."""
        with self._lock:
            self._drop(key)

    def clear(self) -> None:
        """Forget all."""
        with self._lock:
            self._answers.clear()
            self._held = 0

    def _drop(self, key: str) -> None:
        gone = self._answers.pop(key, None)
        if gone is not None:
            self._held -= _bytes(gone.mark)


def _bytes(mark: FileMark) -> int:
    return mark[2]
