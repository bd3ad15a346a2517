"""Reading a journal line as a leaf, strictly: it must be the RFC 8785 form of what it says."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from jupyter_llmops.audit.leaf import canonical

BLOCK_BYTES = 4 << 20
_MOST_HOLDERS = 256
# So many pay for the import of NumPy.
_MANY_LINES = 5_000
# So many fit into a processor's cache.
_TEXTS_AT_ONCE = 1024

Leaf = dict[str, Any]


def strict_reader() -> Callable[[bytes], Leaf | None]:
    """Return a function that gives the leaf of a line, None where the slow way has to decide.

    It never takes a line that `read_line` refuses (a test compares the two): orjson writes strings and
    integers as RFC 8785 does, not floats, and sorts keys by UTF-8 where RFC 8785 sorts by UTF-16, so that
    neither floats nor keys beyond ASCII are left to it.
    """
    read = _reader()
    return lambda line: read(line, True)


def strict_leaves(lines: list[bytes]) -> Iterator[Leaf | None]:
    """Yield what `strict_reader` gives for each of some lines; of many it costs less than one by one."""
    read = _reader()
    if len(lines) < _MANY_LINES:
        return (read(line, True) for line in lines)
    doubtful = _maybe_floats(lines)
    return (read(line, number in doubtful) for number, line in enumerate(lines))


def _reader() -> Callable[[bytes, bool], Leaf | None]:
    import orjson

    loads, dumps = orjson.loads, orjson.dumps
    options = orjson.OPT_SORT_KEYS | orjson.OPT_STRICT_INTEGER

    def read(line: bytes, maybe_floats: bool) -> Leaf | None:
        try:
            leaf = loads(line)
            if dumps(leaf, option=options) != line:
                return None
        except (ValueError, TypeError):  # what can't be read, and what can't be written
            return None
        if type(leaf) is not dict:
            return None
        ascii_only = line.isascii()
        return leaf if (ascii_only and not maybe_floats) or _plain(leaf, ascii_only) else None

    return read


def _maybe_floats(lines: list[bytes]) -> set[int]:
    """Return which lines may hold a float, by their text: all that do, and some with a text like ``,1.5``.

    To look for it in the text of all lines costs less than to look at each value. In a line as orjson writes it a
    number follows ``":``, a comma or a bracket, and a float has a point or an exponent.
    """
    import numpy as np

    found: set[int] = set()
    for begin in range(0, len(lines), _TEXTS_AT_ONCE):
        some = lines[begin : begin + _TEXTS_AT_ONCE]
        data = np.frombuffer(b"\n".join((*some, b"\n")), np.uint8)
        before, here, after = data[:-2], data[1:-1], data[2:]
        lead = (here == ord(",")) | (here == ord("[")) | ((here == ord(":")) & (before == ord('"')))
        # At the second byte of each number, which may be the first digit after a minus.
        places = np.flatnonzero(lead & (((after - np.uint8(ord("0"))) < 10) | (after == ord("-")))) + 3
        while len(places):  # the last byte is a newline, so none runs beyond it
            bytes_ = data[places]
            floats = places[(bytes_ == ord(".")) | ((bytes_ | 0x20) == ord("e"))]
            if len(floats):
                ends = np.cumsum([len(line) + 1 for line in some])
                found.update((begin + np.searchsorted(ends, floats, side="right")).tolist())
            places = places[(bytes_ - np.uint8(ord("0"))) < 10] + 1
    return found


def _plain(leaf: Leaf, ascii_only: bool) -> bool:
    """Return whether orjson and RFC 8785 agree on everything in a leaf; what is very large or deep is left."""
    if not ascii_only and not "".join(leaf).isascii():
        return False
    todo: list[Any] = [leaf.values()]
    for items in todo:
        for item in items:
            # One comparison after the other is faster here than a set of kinds.
            if type(item) is str or type(item) is int:
                continue
            if type(item) is list:
                todo.append(item)
            elif type(item) is dict:
                if not ascii_only and not "".join(item).isascii():
                    return False
                todo.append(item.values())
            elif type(item) is float:
                return False
        if len(todo) > _MOST_HOLDERS:
            return False
    return True


def read_line(line: bytes) -> tuple[Leaf, str]:
    """Return the leaf of a line and what is wrong with its form, empty when nothing is.

    Parameters
    ----------
    line : bytes
        Without its newline. A line that is no JSON object gives an empty leaf.
    """
    try:
        leaf = json.loads(line)
        same = isinstance(leaf, dict) and canonical(leaf) == line
    except (ValueError, RecursionError) as error:
        return {}, f"the line can't be read as a record: {error}"
    wrong = "" if same else "the line was changed: it is not in its canonical form"
    return (leaf if isinstance(leaf, dict) else {}), wrong


def line_blocks(path: Path, size: int) -> Iterator[tuple[list[bytes], bytes]]:
    """Yield the whole lines of the first `size` bytes of a file, without newlines, some megabytes at a time.

    The second value is what follows the last newline; it is empty but in the last block.

    Raises
    ------
    OSError
        The file can't be read.
    """
    parts: list[bytes] = []
    with path.open("rb", buffering=0) as file:
        while size > 0 and (data := file.read(min(BLOCK_BYTES, size))):
            size -= len(data)
            parts.append(data)
            if b"\n" in data:
                *lines, rest = b"".join(parts).split(b"\n")
                parts = [rest]
                yield lines, b""
    if rest := b"".join(parts):
        yield [], rest
