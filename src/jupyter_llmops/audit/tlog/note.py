"""Signed notes: a text and signatures below it (c2sp.org/signed-note@v1.0.0)."""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Iterable
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

NOTE_KEY = 1
"""Signature type of an Ed25519 signature over the text."""
COSIGNATURE_KEY = 4
"""Signature type of a timestamped Ed25519 cosignature of a checkpoint (c2sp.org/tlog-cosignature)."""

MOST_SIGNATURES = 100
LARGEST_NOTE = 1_000_000
LATEST_TIMESTAMP = 2**63 - 1

_DASH = "— "
_CONTROL = re.compile(r"[\x00-\x09\x0b-\x1f]")
_KEY_BYTES = 32
_SIGNATURE_BYTES = 64
_FIELD = 2**255 - 19
# The y coordinates of the points of small order: under such a key anybody can sign anything.
_WEAK = {
    0,
    1,
    _FIELD - 1,
    int.from_bytes(
        bytes.fromhex("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05"), "little"
    ),
    int.from_bytes(
        bytes.fromhex("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a"), "little"
    ),
}
_TIMESTAMP_BYTES = 8


@dataclass(frozen=True, slots=True)
class Signature:
    """One signature line of a note.

    Parameters
    ----------
    name : str
        Name of the key.
    key_id : bytes
        Its id, 4 bytes.
    data : bytes
        What follows the id: 64 bytes of Ed25519, for a cosignature 8 bytes of time before them.
    """

    name: str
    key_id: bytes
    data: bytes

    @property
    def line(self) -> str:
        """The line as it stands in a note, without its newline."""
        return f"{_DASH}{self.name} {base64.b64encode(self.key_id + self.data).decode()}"


@dataclass(frozen=True, slots=True)
class Note:
    """A text, with its final newline, and what is signed below it."""

    text: str
    signatures: tuple[Signature, ...]


@dataclass(frozen=True, slots=True)
class VerifierKey:
    """A public key with the name and the type of signature that it verifies.

    Parameters
    ----------
    name : str
        Name of the key.
    key_id : bytes
        Its id, 4 bytes.
    kind : {1, 4}
        Ed25519 signatures of notes, or cosignatures of checkpoints.
    public : bytes
        The Ed25519 public key, 32 bytes (RFC 8032).
    """

    name: str
    key_id: bytes
    kind: int
    public: bytes

    def __str__(self) -> str:
        return (
            f"{self.name}+{self.key_id.hex()}+{base64.b64encode(bytes([self.kind]) + self.public).decode()}"
        )

    def made(self, signature: Signature) -> bool:
        """Return whether a signature says that it is this key's, by name and id."""
        return signature.name == self.name and signature.key_id == self.key_id

    def verifies(self, text: str, signature: Signature) -> bool:
        """Return whether a signature is this key's and holds for a text."""
        from cryptography.exceptions import InvalidSignature
        from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

        if not self.made(signature):
            return False
        message, data = text.encode(), signature.data
        if self.kind == COSIGNATURE_KEY:
            timestamp = int.from_bytes(data[:_TIMESTAMP_BYTES])
            if timestamp > LATEST_TIMESTAMP:
                return False
            message, data = cosigned_message(text, timestamp), data[_TIMESTAMP_BYTES:]
        if len(data) != _SIGNATURE_BYTES:
            return False
        try:
            Ed25519PublicKey.from_public_bytes(self.public).verify(data, message)
        except (InvalidSignature, ValueError):
            return False
        return True


def parse_note(data: bytes | str) -> Note:
    """Return the note that a file holds.

    Raises
    ------
    ValueError
        It is not, byte for byte, what `format_note` writes for it.
    """
    raw = data.encode("utf-8", "surrogatepass") if isinstance(data, str) else data
    if len(raw) > LARGEST_NOTE:
        raise ValueError(f"a note of more than {LARGEST_NOTE:,} bytes is not read")
    try:
        whole = raw.decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("the note is not valid UTF-8") from None
    if _CONTROL.search(whole):
        raise ValueError("the note holds control characters")
    # The text may hold empty lines itself: the last one is the one that counts.
    body, separator, below = whole.rpartition("\n\n")
    if not separator or not below.endswith("\n"):
        raise ValueError("the note has no signatures below an empty line, or does not end with a newline")
    lines = below[:-1].split("\n")
    if len(lines) > MOST_SIGNATURES:
        raise ValueError(f"a note with more than {MOST_SIGNATURES} signatures is not read")
    return Note(body + "\n", tuple(parse_signature(line) for line in lines))


def parse_signature(line: str) -> Signature:
    """Return the signature that a line of a note (without its newline) holds.

    Raises
    ------
    ValueError
        It is not, byte for byte, `Signature.line` of what it holds.
    """
    name, space, encoded = line.removeprefix(_DASH).partition(" ")
    if not line.startswith(_DASH) or not space:
        raise ValueError("a signature line is not a dash, a name and a signature")
    check_name(name)
    data = decode_base64(encoded)
    if len(data) < 5:
        raise ValueError("a signature is shorter than its key's id")
    return Signature(name, data[:4], data[4:])


def format_note(note: Note) -> bytes:
    """Return the bytes of a note.

    Raises
    ------
    ValueError
        Its text or a name can't stand in a note, or nothing is signed below it.
    """
    if not note.text.endswith("\n") or not note.signatures:
        raise ValueError("a note is a text that ends with a newline, and signatures")
    lines = [signature.line + "\n" for signature in note.signatures]
    data = f"{note.text}\n{''.join(lines)}".encode()
    if parse_note(data) != note:
        raise ValueError("the text would be read in another way than it was meant")
    return data


def sign_note(text: str, name: str, private_key: Ed25519PrivateKey) -> Note:
    """Return a text as a note with one Ed25519 signature; `format_note` makes bytes of it.

    Parameters
    ----------
    text : str
        Ends with a newline.
    name : str
        Name of the key, without spaces and plus.
    private_key : Ed25519PrivateKey
        The key.

    Raises
    ------
    ValueError
        The text does not end with a newline, or the name can't stand in a note.
    """
    check_name(name)
    if not text.endswith("\n"):
        raise ValueError("the text of a note ends with a newline")
    identity = key_id(name, private_key.public_key(), NOTE_KEY)
    return Note(text, (Signature(name, identity, private_key.sign(text.encode())),))


def verify_note(note: Note, vkeys: Iterable[str | VerifierKey]) -> tuple[str, ...]:
    """Return the names of the keys that signed a note, in the order of the signatures.

    Signatures of other keys are ignored; where one that says to be of a known key is false, nothing
    of the note is trusted and the answer is empty, as the specification asks.

    Parameters
    ----------
    note : Note
        The note.
    vkeys : iterable of str or VerifierKey
        The keys that are trusted.

    Raises
    ------
    ValueError
        One of `vkeys` is no verifier key.
    """
    keys = [parse_vkey(key) if isinstance(key, str) else key for key in vkeys]
    names: dict[str, None] = {}
    for signature in note.signatures:
        claimed = [key for key in keys if key.made(signature)]
        if not claimed:
            continue
        if not any(key.verifies(note.text, signature) for key in claimed):
            return ()
        names[signature.name] = None
    return tuple(names)


def key_id(name: str, public_key: Ed25519PublicKey | bytes, kind: int) -> bytes:
    """Return the id of a key, 4 bytes: SHA-256(name ‖ newline ‖ type ‖ public key)[:4]."""
    return sha256(name.encode() + b"\n" + bytes([kind]) + _raw(public_key)).digest()[:4]


def vkey(name: str, public_key: Ed25519PublicKey | bytes, kind: int = NOTE_KEY) -> str:
    """Return a verifier key, ``<name>+<id>+<base64 of type and key>``: what one needs to check signatures.

    Parameters
    ----------
    name : str
        Name of the key, without spaces and plus.
    public_key : Ed25519PublicKey or bytes
        The key, or its 32 bytes.
    kind : {1, 4}
        For notes, or for cosignatures.

    Raises
    ------
    ValueError
        The name can't stand in a note, or there is no such type.
    """
    check_name(name)
    if kind not in {NOTE_KEY, COSIGNATURE_KEY}:
        raise ValueError(f"{kind} is no type of an Ed25519 signature")
    return str(VerifierKey(name, key_id(name, public_key, kind), kind, _raw(public_key)))


def parse_vkey(text: str) -> VerifierKey:
    """Return the verifier key that a text holds.

    Raises
    ------
    ValueError
        It is no Ed25519 verifier key, one that anybody can sign with, or its id does not belong to it.
    """
    name, _, rest = text.partition("+")
    identity, _, encoded = rest.partition("+")
    check_name(name)
    data = decode_base64(encoded)
    if len(data) != 1 + _KEY_BYTES or data[0] not in {NOTE_KEY, COSIGNATURE_KEY}:
        raise ValueError("it holds no Ed25519 key")
    y = int.from_bytes(data[1:], "little") & (2**255 - 1)
    if y >= _FIELD or y in _WEAK:
        raise ValueError("anybody can sign with this key")
    if identity != key_id(name, data[1:], data[0]).hex():
        raise ValueError("its id does not belong to its name and key")
    return VerifierKey(name, bytes.fromhex(identity), data[0], data[1:])


def cosigned_message(text: str, timestamp: int) -> bytes:
    """Return what a cosignature of a checkpoint's text signs, c2sp.org/tlog-cosignature."""
    return f"cosignature/v1\ntime {timestamp}\n{text}".encode()


def check_name(name: str) -> None:
    """Raise ValueError where a name can't be that of a key: empty, no Unicode, or with a space, a plus or a control."""
    if (
        not name
        or "+" in name
        or any(one.isspace() or one < " " or "\ud800" <= one <= "\udfff" for one in name)
    ):
        raise ValueError(f"{name!r} can't be the name of a key")


def decode_base64(text: str) -> bytes:
    """Return what a text of base64 (RFC 4648 section 4) holds; ValueError where it has another spelling."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        raise ValueError("it is not base64") from None
    if base64.b64encode(data).decode() != text:
        raise ValueError("it is not the one way in which base64 is written")
    return data


def _raw(public_key: Ed25519PublicKey | bytes) -> bytes:
    raw = public_key if isinstance(public_key, bytes) else public_key.public_bytes_raw()
    if len(raw) != _KEY_BYTES:
        raise ValueError("an Ed25519 public key has 32 bytes")
    return raw
