"""Which rows of the catalog are not what their own journal line makes of them; a million pass here in seconds.

What costs is to read each line, to hash it and to make columns of it. From some rows on a second process does a
part of them: Python runs one thread at a time. It is handed rows and answers places in them, and has no other part
in what is concluded; where it fails, this process does the work alone.
"""

from __future__ import annotations

import contextlib
import gc
import os
import struct
import subprocess
import sys
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from hashlib import sha256
from operator import itemgetter
from typing import IO, TYPE_CHECKING, Any, Self

from jupyter_llmops.records.run import LEAF_SCHEMAS

if TYPE_CHECKING:
    import pyarrow as pa

TEXTS = (
    "id", "session", "kind", "status", "user", "host", "notebook", "parent", "model", "source", "error_type",
)  # fmt: skip
"""The columns that hold texts of a line, empty where it has none."""
_NUMBERS = ("seq", "execution_count", "tokens_in", "tokens_out", "cost_millionths")
# In the order of `_made`.
_MADE = (*TEXTS, *_NUMBERS, "started_at", "seconds", "leaf_digest")
_NONE = ("",) * len(TEXTS) + (None,) * (len(_NUMBERS) + 3)
_STATES = {"ok", "error", "interrupted"}
# So many rows are a fifth of a second of work, which is what another process costs to start.
_WORTH_ROWS = 30_000
_ASKED_AT_ONCE = 2
_HELD = 8
_SECONDS_WITHOUT_AN_ANSWER = 60.0
_SIZE = struct.Struct("<Q")
# Before each answer: a word, which rows it is of (the first ones are 0), how many those are, and how many places
# follow. Something else may have written into the pipe, such as a sitecustomize that prints when Python starts.
_ANSWER = struct.Struct("<8sQQQ")
_WORD = b"\xffplaces\n"


class SuspectRows:
    """Finds rows that need a closer look, with a second process where there are many; close it.

    Parameters
    ----------
    worth : int
        From so many rows on.
    """

    def __init__(self, worth: int | None = None) -> None:
        self._left = _WORTH_ROWS if worth is None else worth
        self._second: _SecondProcess | None = None
        self._failed = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the second process, if there is one."""
        if self._second is not None:
            self._second.close()
            self._second = None

    def find(self, batches: Iterable[pa.RecordBatch]) -> Iterator[tuple[pa.RecordBatch, set[int]]]:
        """Yield each of some rows with the places of those that need a closer look, in their order."""
        held: deque[tuple[pa.RecordBatch, set[int] | Future[set[int]]]] = deque()
        for batch in batches:
            held.append((batch, self._ask(batch) or suspects(batch)))
            while held and (_is_known(held[0][1]) or len(held) >= _HELD):
                yield self._settle(*held.popleft())
        while held:
            yield self._settle(*held.popleft())

    def _ask(self, batch: pa.RecordBatch) -> Future[set[int]] | None:
        """Let the second process look at some rows; None where it has enough to do, or there is none."""
        self._left -= batch.num_rows
        if self._left > 0 or self._failed:
            return None
        if self._second is None:
            try:
                self._second = _SecondProcess()
            except OSError:
                self._failed = True
                return None
        return self._second.ask(batch)

    def _settle(
        self, batch: pa.RecordBatch, found: set[int] | Future[set[int]]
    ) -> tuple[pa.RecordBatch, set[int]]:
        if isinstance(found, set):
            return batch, found
        try:
            return batch, found.result(_SECONDS_WITHOUT_AN_ANSWER)
        except (OSError, ValueError, TimeoutError):
            self._failed = True
            self.close()  # what else it was asked for fails at once
            return batch, suspects(batch)


class _SecondProcess:
    """Another Python that runs this module; it looks at rows while this one does."""

    def __init__(self) -> None:
        if not sys.executable:
            raise FileNotFoundError("which Python this is, is not known")
        # -P: no module of the folder in which the notebook lies is taken for one of ours.
        command = [sys.executable, "-P", "-m", __name__]
        self._process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        # One writes while the other waits for an answer: the process always has its next rows.
        self._writer, self._reader = ThreadPoolExecutor(1), ThreadPoolExecutor(1)
        self._asked: deque[Future[set[int]]] = deque()
        self._count = 0

    def ask(self, batch: pa.RecordBatch) -> Future[set[int]] | None:
        """Hand it some rows; None where it has enough to do."""
        while self._asked and self._asked[0].done():
            self._asked.popleft()
        if len(self._asked) >= _ASKED_AT_ONCE:
            return None
        parts = [] if self._count else [batch.schema.serialize()]
        written = self._writer.submit(self._write, [*parts, batch.serialize()])
        self._asked.append(self._reader.submit(self._read, written, self._count, batch.num_rows))
        self._count += 1
        return self._asked[-1]

    def close(self) -> None:
        """End it."""
        self._process.kill()
        for pool in (self._writer, self._reader):
            pool.shutdown(wait=True, cancel_futures=False)
        for pipe in (self._process.stdin, self._process.stdout):
            with contextlib.suppress(OSError):
                if pipe is not None:
                    pipe.close()
        self._process.wait()

    def _write(self, parts: list[pa.Buffer]) -> None:
        pipe = self._process.stdin
        assert pipe is not None
        for part in parts:
            pipe.write(_SIZE.pack(part.size))
            pipe.write(part)
        pipe.flush()

    def _read(self, written: Future[None], number: int, rows: int) -> set[int]:
        assert self._process.stdout is not None
        written.result()
        return _places(self._process.stdout, number, rows)


def _is_known(found: set[int] | Future[set[int]]) -> bool:
    return isinstance(found, set) or found.done()


def suspects(batch: pa.RecordBatch) -> set[int]:
    """Return the places of rows that need a closer look."""
    import orjson
    import pyarrow as pa

    strange: set[int] = set()
    # One flat list: thousands of tuples at a time would make the garbage collector look at all there is.
    values: list[Any] = []
    for place, line in enumerate(batch["leaf"].cast(pa.binary()).to_pylist()):
        made = _made(line, orjson.loads)
        if made is None:
            strange.add(place)
        values += made or _NONE
    columns = {name: values[place :: len(_MADE)] for place, name in enumerate(_MADE)}
    try:
        expected = {name: pa.array(columns[name], pa.string()) for name in TEXTS}
        expected |= {name: pa.array(columns[name], pa.int64()) for name in _NUMBERS}
        expected["started_at"] = pa.array(columns["started_at"]).cast(pa.timestamp("us", tz="UTC"))
        expected["seconds"] = pa.array(columns["seconds"], pa.float64())
        expected["leaf_digest"] = pa.array(columns["leaf_digest"], pa.string())
    except (ValueError, TypeError, OverflowError, pa.ArrowException):  # a value of another type
        return set(range(batch.num_rows))
    for name, column in expected.items():
        if name in batch.schema.names and not column.equals(batch[name]):
            pairs = zip(column.to_pylist(), batch[name].to_pylist(), strict=True)
            strange |= {place for place, (one, other) in enumerate(pairs) if one != other}
    return strange


# What every line has, read at once.
_core = itemgetter(
    "id", "session", "kind", "status", "user", "host", "parent", "seq", "started_at", "microseconds", "schema"
)


def _made(line: bytes | None, loads: Callable[[bytes], Any]) -> tuple[Any, ...] | None:
    """Return what the columns of a line are, None where that is not plain."""
    try:
        leaf = loads(line or b"")
        run_id, session, kind, status, user, host, parent, seq, started_at, microseconds, schema = _core(leaf)
        if schema not in LEAF_SCHEMAS or status not in _STATES:
            return None
        get = leaf.get
        return (
            run_id, session, kind, status, user, host, get("notebook", ""), parent, get("model", ""),
            get("source", ""), get("error_type", ""), seq, get("execution_count"), get("tokens_in"),
            get("tokens_out"), get("cost_millionths"), started_at, microseconds / 1e6,
            "sha256:" + sha256(line or b"").hexdigest(),
        )  # fmt: skip
    except (ValueError, TypeError, KeyError, AttributeError):
        return None


def _message(pipe: IO[bytes]) -> bytes:
    """Return the next message of a pipe, empty at its end."""
    head = pipe.read(_SIZE.size)
    if len(head) < _SIZE.size:
        return b""
    (size,) = _SIZE.unpack(head)
    data = pipe.read(size)
    return data if len(data) == size else b""


def _places(pipe: IO[bytes], number: int, rows: int) -> set[int]:
    head = pipe.read(_ANSWER.size)
    if len(head) < _ANSWER.size:
        raise OSError("the second process has gone")
    *of, count = _ANSWER.unpack(head)
    if of != [_WORD, number, rows] or count > rows:
        raise ValueError("that is no answer for these rows")
    data = pipe.read(count * 4)
    if len(data) < count * 4:
        raise OSError("the second process has gone")
    found = set(struct.unpack(f"<{count}I", data))
    if max(found, default=-1) >= rows:
        raise ValueError("it answers for other rows")
    return found


def _answer(asked: IO[bytes], out: IO[bytes]) -> None:
    """Look at rows until there are no more; by batch the places of those that need a closer look are written."""
    import pyarrow as pa

    gc.disable()  # it lives for seconds, and nothing here refers to itself
    schema = pa.ipc.read_schema(pa.py_buffer(_message(asked)))
    for number, data in enumerate(iter(lambda: _message(asked), b"")):
        batch = pa.ipc.read_record_batch(pa.py_buffer(data), schema)
        found = sorted(suspects(batch))
        head = _ANSWER.pack(_WORD, number, batch.num_rows, len(found))
        out.write(head + struct.pack(f"<{len(found)}I", *found))
        out.flush()


if __name__ == "__main__":
    # Nothing that is imported may write where the answers go.
    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)
    with contextlib.suppress(OSError, ValueError):  # who asked has gone
        _answer(sys.stdin.buffer, answers)
