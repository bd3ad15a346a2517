r"""The bytes of an item: one header line and a body, sealed with the team's key, never a pickle.

::

    llmops-item/2 <id: 64 hex digits> <milliseconds: 12 digits> <seal: 64 hex digits>\n<body>

The seal is the keyed BLAKE2b (RFC 7693) over format, id, milliseconds and body. All but the body are of fixed
length, so no two items give the same input. What somebody without the key planted, altered, cut short
or put in another item's place does not verify. The milliseconds say what computing it took, for
whoever has to decide what may go; they stand in the header so that eviction needs no key to read them.
"""

from __future__ import annotations

import hashlib
import hmac
from typing import Final, Literal

Kind = Literal["item", "mark"]

# Of one length, as the fields behind them are found by position.
FORMATS: Final[dict[Kind, bytes]] = {"item": b"llmops-item/2", "mark": b"llmops-mark/2"}
_FORMAT_BYTES: Final = 13
_ID: Final = slice(_FORMAT_BYTES + 1, _FORMAT_BYTES + 65)
_MILLISECONDS: Final = slice(_ID.stop + 1, _ID.stop + 13)
_SEAL: Final = slice(_MILLISECONDS.stop + 1, _MILLISECONDS.stop + 65)
HEADER_BYTES: Final = _SEAL.stop + 1
_LONGEST: Final = 10**12 - 1


class ItemRejectedError(Exception):
    """An item that must not be used; the message says why, as the end of "the item …"."""


def encode_item(secret: bytes, item_id: str, body: bytes, seconds: float = 0.0, kind: Kind = "item") -> bytes:
    """Return the bytes of an item.

    Parameters
    ----------
    secret : bytes
        The team's key, 32 bytes.
    item_id : str
        64 hexadecimal digits.
    body : bytes
        What it holds.
    seconds : float
        What computing it took.
    kind : {"item", "mark"}
        An item, or the mark that one is wrong; one never verifies as the other.
    """
    milliseconds = min(max(0, round(seconds * 1000)), _LONGEST)
    start = b"%s %s %012d " % (FORMATS[kind], item_id.encode("ascii"), milliseconds)
    return b"%s%s\n%s" % (start, _seal(secret, start, body), body)


def decode_item(secret: bytes, item_id: str, data: bytes, kind: Kind = "item") -> bytes:
    """Return the body of an item after verifying it in constant time.

    Parameters
    ----------
    secret, kind
        See `encode_item`.
    item_id : str
        The item that was asked for, 64 hexadecimal digits.
    data : bytes
        The whole file.

    Raises
    ------
    ItemRejectedError
        The bytes are not this very item, or were not sealed with this key.
    """
    body, start = data[HEADER_BYTES:], data[: _SEAL.start]
    wanted = b"%s %s " % (FORMATS[kind], item_id.encode("ascii"))
    expected = _seal(secret, start, body) + b"\n"
    # Format and id are no secrets; the seal is what nobody may guess byte by byte.
    if not hmac.compare_digest(data[_SEAL.start : HEADER_BYTES], expected) or not start.startswith(wanted):
        raise ItemRejectedError(_what_is_wrong(item_id, data, kind))
    return body


def seconds_of(header: bytes) -> float:
    """Return what computing an item took, from its first `HEADER_BYTES` bytes; 0 where they are no header.

    The figure is not verified: it may decide what is evicted, and nothing else.
    """
    text = header[_MILLISECONDS]
    return int(text) / 1000 if text.isdigit() and header.startswith(FORMATS["item"]) else 0.0


def _seal(secret: bytes, start: bytes, body: bytes) -> bytes:
    digest = hashlib.blake2b(start, key=secret, person=b"llmops-item/2", digest_size=32)
    digest.update(body)
    return digest.hexdigest().encode("ascii")


def _what_is_wrong(item_id: str, data: bytes, kind: Kind) -> str:
    if not data:
        return "is empty"
    if not data.startswith(FORMATS[kind] + b" "):
        return "is not in the format of this cache (nothing in it was run)"
    if len(data) < HEADER_BYTES:
        return "is cut short"
    if data[_ID] != item_id.encode("ascii"):
        return "belongs to another request"
    return "does not fit its seal: it was altered, cut short, or made by somebody without the team's key"
