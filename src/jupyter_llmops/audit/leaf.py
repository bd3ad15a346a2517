"""The leaf: one record of the trail, whose journal line is its RFC 8785 form and nothing else."""

from __future__ import annotations

import hashlib
import math
import os
from collections.abc import Mapping
from datetime import UTC, datetime
from json.encoder import encode_basestring_ascii as _quoted
from typing import Any

from jupyter_llmops.records.run import LEAF_SCHEMA

CONTENT_SCHEMA = "llmops.content/1"
HASH = "sha-256"
NO_PREVIOUS = "0" * 64
SALT_BYTES = 16
LARGEST_LEAF = 20_000
LARGEST_LINE = 60_000  # bytes; an entry of a C2SP bundle holds 65,535 at most

# What every leaf holds; a kind's own field may not take one of these names.
CORE_FIELDS = frozenset(
    {
        "schema", "hash", "seq", "prev", "session", "id", "parent", "kind", "status", "started_at",
        "microseconds", "user", "host", "digests", "redacted", "cut",
    }
)  # fmt: skip

_LARGEST_INTEGER = 2**53 - 1  # RFC 8785 numbers are IEEE 754 doubles


def canonical(value: Mapping[str, Any]) -> bytes:
    """Return the RFC 8785 bytes of a JSON object.

    Where the object holds only what orjson writes in the very same way (a test compares the two),
    it is used, as it is a hundred times faster; else the library of that RFC is.

    Parameters
    ----------
    value : mapping
        Plain JSON values; integers within ±(2**53 - 1), strings without lone surrogates.

    Raises
    ------
    ValueError
        A value has no RFC 8785 form.
    """
    if _same_in_both(value):
        import orjson

        try:
            return orjson.dumps(value, option=orjson.OPT_SORT_KEYS)
        except TypeError as error:  # a lone surrogate, or deeper than 254 levels
            raise ValueError(str(error)) from error
    import rfc8785

    return rfc8785.dumps(dict(value))


def _same_in_both(value: Any) -> bool:
    # Exact types only: a float is written differently, a subclass may encode itself. Keys must be
    # ASCII, as RFC 8785 sorts by UTF-16 units and Python by code points.
    kind = type(value)
    if kind is dict:
        for key, item in value.items():
            if type(key) is not str or not key.isascii():
                return False
            if type(item) is not str and not _same_in_both(item):
                return False
        return True
    if kind is list or kind is tuple:
        return all(type(item) is str or _same_in_both(item) for item in value)
    if kind is int:
        return bool(-_LARGEST_INTEGER <= value <= _LARGEST_INTEGER)
    return kind is str or value is None or kind is bool


def plain(value: Any, depth: int = 0, budget: list[int] | None = None) -> Any:
    """Return `value` as JSON values that have an RFC 8785 form, changing only what has none.

    Parameters
    ----------
    value : object
        What a caller wanted to record. NaN, infinities and integers beyond 2**53 become strings,
        lone surrogates become U+FFFD, and an object of any other type becomes ``<its type>``: it
        is never called, so that a strange ``__repr__`` can't break or delay a stamp.
    depth : int
        How deep it lies; below 32 levels only the type is kept (a list may hold itself).
    budget : list of one int
        How many values may still be taken before the rest is left out.
    """
    budget = budget if budget is not None else [LARGEST_LEAF]
    budget[0] -= 1
    kind = type(value)
    if value is None or kind is bool or (kind is str and value.isascii()):
        return value
    # issubclass of the type, as isinstance would ask the object for its __class__.
    if issubclass(kind, str):
        return _without_surrogates(str.__str__(value))
    if issubclass(kind, int):
        number = int.__int__(value)
        return number if abs(number) <= _LARGEST_INTEGER else f"{number:#x}"
    if issubclass(kind, float):
        real = float.__float__(value)
        return real if math.isfinite(real) else str(real)
    if depth < 32 and budget[0] > 0:
        if issubclass(kind, dict):
            items = dict.items(value)
            return {
                key if type(key) is str and key.isascii() else str(plain(key, 32)): plain(
                    item, depth + 1, budget
                )
                for key, item in items
                if budget[0] > 0
            }
        if issubclass(kind, list | tuple):
            items_ = list.__iter__(value) if issubclass(kind, list) else tuple.__iter__(value)
            return [plain(item, depth + 1, budget) for item in items_ if budget[0] > 0]
    return f"<{kind.__name__}>"


def _without_surrogates(text: str) -> str:
    if text.isascii():
        return text
    # utf-16 joins a pair that was written as two surrogates and marks a lone one.
    return text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def line_digest(line: bytes) -> str:
    """Return the SHA-256 of a journal line without its newline, 64 hexadecimal digits."""
    return hashlib.sha256(line).hexdigest()


def new_salt() -> str:
    """Return 16 random bytes, hexadecimal; one leaf's own, kept only in its sidecar."""
    return os.urandom(SALT_BYTES).hex()


def content_digest(salt: str, name: str, text: str) -> str:
    """Return ``sha256:…`` over salt ‖ name ‖ 0x00 ‖ text.

    Whoever deletes the sidecar deletes the salt, and then the digest says nothing about the text:
    with 128 unknown bits a guess can't be tried. The text is the REDACTED one: while the sidecar
    exists salt and digest lie side by side, and a digest over the original would let anybody try
    candidates for the secret that was cut out.

    Parameters
    ----------
    salt : str
        32 hexadecimal digits.
    name : str
        "source", "request" or "response", so that equal texts under two names differ.
    text : str
        The redacted text.
    """
    data = bytes.fromhex(salt) + name.encode() + b"\0" + text.encode("utf-8", "surrogatepass")
    return "sha256:" + hashlib.sha256(data).hexdigest()


def sidecar_bytes(session: str, seq: int, run_id: str, salt: str, content: Mapping[str, str]) -> bytes:
    """Return the one form that the content sidecar of a leaf can have.

    ASCII with sorted keys, so that any text (lone surrogates too) survives and a reader can
    compare byte by byte: nothing in the file is outside what the leaf's digests cover.
    """
    # Its few fields are put together here, as `json` would look at each of them for every cell.
    texts = ",".join(f"{_quoted(name)}:{_quoted(content[name])}" for name in sorted(content))
    return (
        f'{{"content":{{{texts}}},"id":{_quoted(run_id)},"salt":{_quoted(salt)},'
        f'"schema":"{CONTENT_SCHEMA}","seq":{seq:d},"session":{_quoted(session)}}}'
    ).encode("ascii")


def leaf_line(leaf: dict[str, Any]) -> bytes:
    """Return the journal line of a leaf, its largest fields cut where it would be too long.

    What was cut says so: its value is ``[cut: 123456 bytes]`` and the leaf's `cut` names the field and
    the SHA-256 of its canonical form.

    Parameters
    ----------
    leaf : dict
        From `new_leaf`; its own fields are cut where needed, never those that every leaf has.

    Raises
    ------
    ValueError
        Its fixed part alone is too long, or a value has no RFC 8785 form.
    """
    line = canonical(leaf)
    if len(line) <= LARGEST_LINE:
        return line
    sizes = {name: len(canonical({"": leaf[name]})) - 5 for name in leaf if name not in CORE_FIELDS}
    cut: dict[str, str] = {}
    for name in sorted(sizes, key=lambda name: -sizes[name]):
        cut[name] = hashlib.sha256(canonical({"": leaf[name]})[4:-1]).hexdigest()
        leaf[name] = f"[cut: {sizes[name]} bytes]"
        leaf["cut"] = cut
        line = canonical(leaf)
        if len(line) <= LARGEST_LINE:
            return line
    raise ValueError("a record of more than 60,000 bytes, even without its fields")


def instant(moment: datetime) -> str:
    """Return a moment as ISO 8601 in UTC with six digits, e.g. ``2026-11-03T10:15:02.123456Z``."""
    if moment.tzinfo is not UTC:
        moment = moment.astimezone(UTC)
    return moment.isoformat(timespec="microseconds").removesuffix("+00:00") + "Z"


def new_leaf(
    *, seq: int, prev: str, session: str, run_id: str, parent: str, kind: str, status: str,
    started_at: datetime, seconds: float, user: str, host: str, fields: Mapping[str, Any],
    digests: Mapping[str, str], redacted: tuple[str, ...],
) -> dict[str, Any]:  # fmt: skip
    """Return a leaf; a field whose name is taken by the leaf itself is kept as ``field.<name>``.

    Parameters
    ----------
    seq : int
        Its line in the journal, from 0.
    prev : str
        SHA-256 of the previous line, hexadecimal; zeros for the first.
    seconds : float
        Kept as whole microseconds: RFC 8785 writes a float in ways that people don't expect.
    digests : mapping of name to ``sha256:…``
        Salted digests of the redacted content.
    redacted : tuple of str
        Which kinds of secrets were cut out.
    """
    leaf: dict[str, Any] = {
        (f"field.{name}" if name in CORE_FIELDS else name): value for name, value in fields.items()
    }
    leaf.update(
        schema=LEAF_SCHEMA, hash=HASH, seq=seq, prev=prev, session=session, id=run_id, parent=parent,
        kind=kind, status=status, started_at=instant(started_at),
        microseconds=max(0, round(seconds * 1e6)), user=user, host=host, digests=dict(digests),
    )  # fmt: skip
    if redacted:
        leaf["redacted"] = sorted(set(redacted))
    return leaf
