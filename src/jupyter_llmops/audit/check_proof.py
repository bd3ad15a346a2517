"""Checks a `.tlog-proof` of a run: the whole of what a third party needs, beside the log's verifier key.

It imports nothing of jupyter-llmops, only `cryptography` for Ed25519, and follows the specifications
c2sp.org/tlog-proof, tlog-checkpoint, signed-note, tlog-cosignature and RFC 9162 section 2.1.3.2::

    python check_proof.py RUN.tlog-proof VKEY [--witness VKEY]...

A verifier key is a line ``<name>+<id>+<key>``, that of one log or of all logs of its owner. Get it from whom it belongs to, not from where the proof is.
"""

from __future__ import annotations

import argparse
import base64
import json
import sys
from hashlib import sha256
from typing import Any

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

LOGS, OWNERS_KEYS = "jupyter-llmops/", "jupyter-llmops/log/"


class RefusedError(Exception):
    """The proof proves nothing, for the reason that it says."""


def check(data: bytes, log_vkey: str, witness_vkeys: tuple[str, ...] = ()) -> dict[str, Any]:
    """Return what a proof proves: the leaf, its place, the log's size and root, and witnesses with their times.

    Raises RefusedError where it proves nothing.
    """
    head, _, checkpoint = data.partition(b"\n\n")
    first, *lines = _text(head).split("\n")
    _require(first == "c2sp.org/tlog-proof@v1", "it is no proof of the version 1")
    _require(len(lines) >= 2 and lines[0].startswith("extra "), "it does not carry its leaf")
    leaf = _base64(lines[0].removeprefix("extra "))
    _require(lines[1].startswith("index "), "it names no place in the log")
    index = _number(lines[1].removeprefix("index "))
    path = [_base64(line) for line in lines[2:]]

    # The note: its text, an empty line, signatures. The text keeps its last newline.
    body, separator, below = _text(checkpoint).rpartition("\n\n")
    _require(bool(separator) and below.endswith("\n"), "its checkpoint is no signed note")
    text = body + "\n"
    signatures = [_signature(line) for line in below[:-1].split("\n")]
    origin, size_text, root_text, *rest = text.split("\n")
    _require(rest == [""], "its checkpoint is not three lines")
    size, root = _number(size_text), _base64(root_text)

    name, _, key = _vkey(log_vkey, 1)
    if name.startswith(OWNERS_KEYS) and origin.startswith(LOGS):
        # The owner's key under its general name: each of the owner's logs signs with it, under the log's own name.
        log_vkey, name = _named(origin, key), origin
    _require(origin == name, f"its checkpoint is of the log {origin}, the key of {name}")
    _require(_signed(signatures, log_vkey, text) is not None, "its checkpoint is not signed by the log's key")
    witnesses = {}
    for vkey in witness_vkeys:
        witness, _, witness_key = _vkey(vkey, 4)
        _require(witness_key != key, "the log itself is no witness")
        when = _signed(signatures, vkey, text)
        if when is not None:
            witnesses[witness] = when
    _require(_root(sha256(b"\0" + leaf).digest(), index, size, path) == root, "its leaf is not in the log")
    return {
        "leaf": _leaf(leaf), "index": index, "origin": origin, "size": size, "root": root.hex(),
        "witnesses": witnesses,
    }  # fmt: skip


def _leaf(data: bytes) -> dict[str, Any]:
    try:
        leaf = json.loads(data)
    except (ValueError, RecursionError):
        leaf = None
    if not isinstance(leaf, dict):
        raise RefusedError("its leaf is no record")
    return leaf


def _root(found: bytes, index: int, size: int, path: list[bytes]) -> bytes:
    """Follow RFC 9162, section 2.1.3.2, and return the root that the path leads to."""
    _require(0 <= index < size, "there is no such place in the log")
    node, last = index, size - 1
    for other in path:
        _require(last > 0 and len(other) == 32, "its path is too long or broken")
        if node % 2 or node == last:
            found = sha256(b"\1" + other + found).digest()
            while node % 2 == 0 and node:
                node, last = node // 2, last // 2
        else:
            found = sha256(b"\1" + found + other).digest()
        node, last = node // 2, last // 2
    _require(last == 0, "its path is too short")
    return found


def _signed(signatures: list[tuple[str, bytes, bytes]], vkey: str, text: str) -> int | None:
    """Return when a key signed the text (0 for the log's own), None where it did not."""
    kind = 4 if _kind(vkey) == 4 else 1
    name, identity, key = _vkey(vkey, kind)
    for signer, signer_id, data in signatures:
        if (signer, signer_id) != (name, identity):
            continue
        message, when, signature = text.encode(), 0, data
        if kind == 4:
            _require(len(data) == 72, f"the cosignature of {name} is broken")
            when, signature = int.from_bytes(data[:8], "big"), data[8:]
            message = f"cosignature/v1\ntime {when}\n{text}".encode()
        try:
            Ed25519PublicKey.from_public_bytes(key).verify(signature, message)
        except InvalidSignature:
            raise RefusedError(f"the signature of {name} is false") from None
        return when
    return None


def _kind(vkey: str) -> int:
    return _base64(vkey.split("+", 2)[-1])[0]


def _vkey(vkey: str, kind: int) -> tuple[str, bytes, bytes]:
    parts = vkey.split("+", 2)
    _require(len(parts) == 3, f"{vkey!r} is no verifier key")
    name, identity, encoded = parts
    material = _base64(encoded)
    _require(len(material) == 33 and material[0] == kind, f"the key of {name} is of another kind")
    expected = sha256(name.encode() + b"\n" + material).digest()[:4]
    _require(identity == expected.hex(), f"the id of the key of {name} does not belong to it")
    return name, expected, material[1:]


def _named(name: str, key: bytes) -> str:
    material = b"\1" + key
    identity = sha256(name.encode() + b"\n" + material).digest()[:4].hex()
    return f"{name}+{identity}+{base64.b64encode(material).decode()}"


def _signature(line: str) -> tuple[str, bytes, bytes]:
    words = line.split(" ")
    _require(len(words) == 3 and words[0] == "—" and bool(words[1]), "a signature line is broken")
    data = _base64(words[2])
    return words[1], data[:4], data[4:]


def _text(data: bytes) -> str:
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        raise RefusedError("it is not UTF-8") from None
    _require(all(one >= " " or one == "\n" for one in text), "it holds control characters")
    return text


def _number(text: str) -> int:
    _require(text.isascii() and text.isdigit() and text == str(int(text[:20])), f"{text!r} is no number")
    return int(text)


def _base64(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except ValueError:
        raise RefusedError("it holds what is not base64") from None
    _require(base64.b64encode(data).decode() == text and bool(data), "it holds what is not base64")
    return data


def _require(condition: bool, reason: str) -> None:
    if not condition:
        raise RefusedError(reason)


def _shown(value: object) -> str:
    """Return what a record says as it may be printed on a terminal."""
    return "".join(one if one.isprintable() else ascii(one)[1:-1] for one in str(value))


def main() -> int:
    """Say what a proof proves, and return 1 where it proves nothing."""
    parser = argparse.ArgumentParser(description="Check a proof that a run is in a transparency log.")
    parser.add_argument("file")
    parser.add_argument("vkey")
    parser.add_argument("--witness", action="append", default=[])
    arguments = parser.parse_args()
    try:
        with open(arguments.file, "rb") as file:
            found = check(file.read(), arguments.vkey, tuple(arguments.witness))
    except (RefusedError, OSError) as error:
        print(f"It proves nothing: {error}.")
        return 1
    leaf = found["leaf"]
    print(f"Record {found['index']} of {found['size']} of the log {found['origin']}:")
    kind, user, host, when = (_shown(leaf.get(name)) for name in ("kind", "user", "host", "started_at"))
    print(f"a {kind} of {user}@{host} at {when}")
    print(f"witnessed by: {', '.join(found['witnesses']) or 'nobody that you named'}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
